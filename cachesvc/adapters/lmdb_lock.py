"""The lock of a store's directory: one server each, and let go of however its process ends.

The file says who holds it, and how many starts in a row no clean stop followed: so many are a reason to look,
before the store is opened once more, whether it is what the process dies of.
"""

import fcntl
import os
from pathlib import Path

from cachesvc.core.errors import CacheError, Kind

_FILE = "server.lock"


class DirectoryLock:
    """Held from its making to ``release``. ``crashes`` is how many starts before this one ended without it."""

    def __init__(self, path: Path) -> None:
        """Take the directory for this process. Raises LOCKED naming who has it, or UNAVAILABLE."""
        file = path / _FILE
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CacheError(Kind.UNAVAILABLE, f"{file} cannot be opened: {error.strerror}") from None
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
        self.note(self.crashes + 1)

    def note(self, crashes: int) -> None:
        """What the next start will see, should this be the last that this process says."""
        text = f"{os.getpid()} {crashes}\n".encode()
        os.ftruncate(self._descriptor, len(text))
        os.pwrite(self._descriptor, text, 0)

    def release(self, *, stopped: bool) -> None:
        """Let go. ``stopped``: the store was opened and closed as it should be; else nothing is known of it."""
        self.note(0 if stopped else self.crashes)
        os.close(self._descriptor)

    def leave(self) -> None:
        """In a forked child: it does not hold what its parent holds, nor keep it when the parent ends."""
        os.close(self._descriptor)

    def _said(self) -> list[str]:
        return os.pread(self._descriptor, 64, 0).decode("ascii", "replace").split()
