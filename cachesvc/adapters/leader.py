"""Which of several processes does what only one may do: whoever holds a file's lock, until its process ends."""

import fcntl
import os
from pathlib import Path


class Leader:
    """A candidate. ``leads`` may be asked from one thread at a time; once true it stays so until ``resign``."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._leads = False

    def leads(self) -> bool:
        """Whether this process is the one. Asks anew each time it was not: another may have died. Never blocks."""
        if not self._leads:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._leads = True
            except OSError:
                return False
        return self._leads

    @property
    def holds(self) -> bool:
        """Whether it led when it was asked last. Takes nothing over."""
        return self._leads

    def resign(self) -> None:
        """Let another one have it."""
        os.close(self._descriptor)
