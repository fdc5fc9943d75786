"""Gives pages of the store's map that this process has read back to the page cache, where they stay.

Every page that was ever read through the map counts as this process's memory (``VmRSS``, and what the kernel's OOM
killer goes by), and Linux maps the fifteen around it too: in time the whole file, however little is in use. Giving
them back drops no data and no cache; a page that is read again costs a minor fault, about a microsecond. Linux only.
"""

import ctypes
import mmap
import os
import threading
from pathlib import Path

_MAX_MAPS_BYTES = 4 << 20
_LOOK_S = 1.0
_PART_BYTES = 64 << 20  # given back at once: a millisecond at most, in which others cannot map memory
_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class MappedPages:
    """Of one file, looked at every second by a thread of its own: housekeeping may be busy for minutes, with saving a
    large index say. Safe beside readers and the writer: what they touch meanwhile is simply mapped again.
    """

    def __init__(self, data: Path, max_bytes: int) -> None:
        """``data`` is mapped already; up to ``max_bytes`` (0: any number) may count as this process's."""
        self._data = data
        self._ranges = _ranges_of(data) if max_bytes else []
        self._max_bytes = max_bytes
        self._others_bytes = _file_bytes()  # of libraries; little of the store was read by now
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachesvc-pages", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        if self._ranges:
            self._thread.start()

    def stop(self) -> None:
        """End the thread: before the store is closed, for its address may be another's then."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            self.give_back()

    def give_back(self) -> None:
        """Give them all back if they are too many."""
        if not self._ranges or _file_bytes() - self._others_bytes <= self._max_bytes:
            return
        used_bytes = self._data.stat().st_size  # the map is larger
        for start, size_bytes in self._ranges:
            for at in range(start, start + min(size_bytes, used_bytes), _PART_BYTES):
                # a shared map of a file, of which nothing is lost
                _libc.madvise(at, min(_PART_BYTES, start + size_bytes - at), mmap.MADV_DONTNEED)
        # What counts still is of others, who may have come since: another model say. Else it would be given back in vain.
        self._others_bytes = _file_bytes()


def _ranges_of(data: Path) -> list[tuple[int, int]]:
    """Where a file is mapped, shared: by address and size."""
    found = []
    named = str(data.resolve())
    for line in _read("/proc/self/maps").splitlines():
        place, mode, *_, name = line.split(maxsplit=5) if line.count(" ") > 5 else (line, "", "")
        if name == named and mode.endswith("s"):
            first, _, end = place.partition("-")
            found.append((int(first, 16), int(end, 16) - int(first, 16)))
    return found


def _file_bytes() -> int:
    """Pages of files that count as this process's."""
    fields = _read("/proc/self/statm").split()
    return int(fields[2]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 2 else 0


def _read(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_MAPS_BYTES)
    except OSError:
        return ""
