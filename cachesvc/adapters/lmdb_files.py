"""Whether the files of an environment that is open are still where the next process will look for them.

LMDB works on with files that were removed, or that others were moved over: what it commits then is acknowledged and gone with
the process, and a process that comes later shares neither data nor lock with it. Called by ``lmdb_store`` and
``lmdb_trust`` before each commit.
"""

from pathlib import Path

from cachesvc.core.errors import CacheError, Kind

_NAMES = ("data.mdb", "lock.mdb")


class OpenFiles:
    """Those of one environment, as they are when this is made: after it was opened."""

    def __init__(self, directory: Path, whose: str) -> None:
        """``whose`` they are, for people."""
        self._paths = [directory / name for name in _NAMES]
        self._whose = whose
        self._opened = [_numbers(path) for path in self._paths]

    @property
    def in_place(self) -> bool:
        """Whether both are where they were. A few microseconds."""
        now = [_numbers(path) for path in self._paths]
        return None not in now and now == self._opened

    def refuse_removed(self) -> None:
        """Raises UNAVAILABLE where they are not: nothing may be acknowledged any more."""
        if not self.in_place:
            raise CacheError(
                Kind.UNAVAILABLE,
                f"the files of {self._whose} were removed or replaced while the server ran, or cannot be looked at: it takes nothing more, for that "
                "would be lost. What it holds can still be read: take a backup (cachesvc backup), then restart the server",
            )


def _numbers(path: Path) -> tuple[int, int] | None:
    """Device and inode; None for a file that cannot be found, or not be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
