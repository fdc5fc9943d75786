"""The lock of a store's directory: one server each, and let go of however its process ends.

The file says who holds it, and how many starts in a row no clean stop followed: so many are a reason to look,
before the store is opened once more, whether it is what the process dies of.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from cachesvc.core.errors import CacheError, Kind

_FILE = "server.lock"


class DirectoryLock:
    """Held from its making to ``release``. ``crashes`` is how many starts before this one ended without it, and what
    the next one is told where the store was not opened.
    """

    def __init__(self, path: Path) -> None:
        """Take the directory for this process. Raises LOCKED naming who has it, UNAVAILABLE or FULL."""
        self._file = path / _FILE
        try:
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CacheError(Kind.UNAVAILABLE, f"{self._file} cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = (self._said() or ["unknown"])[0]
            os.close(self._descriptor)
            raise CacheError(
                Kind.LOCKED,
                f"the store at {path} is in use by process {holder}: one server per store; "
                "stop that one or set store.path to another directory",
            ) from None
        said = self._said()
        self.crashes = int(said[1]) if len(said) > 1 and said[1].isdecimal() else 0
        try:
            self.note(self.crashes + 1)
        except CacheError:
            os.close(self._descriptor)
            raise

    def note(self, crashes: int) -> None:
        """What the next start will see, should this be the last that this process says. Raises FULL."""
        text = f"{os.getpid()} {crashes}\n".encode()
        try:
            os.ftruncate(self._descriptor, len(text))
            os.pwrite(self._descriptor, text, 0)
        except OSError as error:
            raise CacheError(
                Kind.FULL, f"{self._file} cannot be written: {error.strerror}; is there room on the disk?"
            ) from None

    def release(self, *, stopped: bool) -> None:
        """Let go. ``stopped``: the store was opened and closed as it should be; else nothing is known of it."""
        with suppress(CacheError):  # the lock must go, whatever the disk says
            self.note(0 if stopped else self.crashes)
        os.close(self._descriptor)

    def leave(self) -> None:
        """In a forked child: it does not hold what its parent holds, nor keep it when the parent ends."""
        os.close(self._descriptor)

    @property
    def descriptor(self) -> int:
        """What it is held by, for processes of this server: see ``LentLock``."""
        return self._descriptor

    def _said(self) -> list[str]:
        return os.pread(self._descriptor, 64, 0).decode("ascii", "replace").split()


class LentLock:
    """In a worker: the lock that its supervisor took, by the descriptor that the worker was started with. Both hold
    it, so that nobody else gets the directory before the last of them has ended.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        """Raises LOCKED when that descriptor is not the directory's lock."""
        try:
            lent, there = os.fstat(descriptor), (path / _FILE).stat()
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held already by whom it was lent from
            is_lent = (lent.st_dev, lent.st_ino) == (there.st_dev, there.st_ino)
        except OSError:
            is_lent = False
        if not is_lent:
            raise CacheError(
                Kind.LOCKED, f"the store at {path} was not handed to this process by a supervisor"
            )
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor

    def release(self, *, stopped: bool) -> None:
        """Have no part in it any more; what is noted of the server's end is its supervisor's to say."""
        os.close(self._descriptor)

    def leave(self) -> None:
        """In a forked child: as ``DirectoryLock.leave``."""
        os.close(self._descriptor)
