"""A copy of the store being written below the backup directory, on a thread of its own.

It is written under a name that says it is not whole, and renamed when it is whole and on disk.
"""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import Failpoint, no_failpoint

PART = ".part"  # of the names of copies that are not whole


class Copying:
    """One copy, under way from construction on. Raises INVALID when the name is taken."""

    def __init__(
        self,
        back_up: Callable[[Path], None],
        directory: Path,
        name: str,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        self._back_up = back_up
        self._failpoint = failpoint
        self._target = directory / name
        self._part = directory / (name + PART)
        self._error: CacheError | None = None
        self._done = threading.Event()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._target.exists():
                raise CacheError.invalid("name", f"{self._target} exists already")
            self._begin()
        except OSError as error:
            raise CacheError(
                Kind.FULL, f"admin.backup_dir {directory} cannot be written: {error.strerror}"
            ) from None
        threading.Thread(target=self._run, name="cachesvc-backup", daemon=True).start()

    def _begin(self) -> None:
        """Make the part's directory, which also keeps two copies of one name apart."""
        try:
            self._part.mkdir(mode=0o700)
        except FileExistsError:
            raise CacheError.invalid(
                "name", f"{self._part} exists: a copy is under way, or one was cut off; remove it then"
            ) from None

    @property
    def written_bytes(self) -> int:
        """So far."""
        try:
            return (self._part / "data.mdb").stat().st_size
        except FileNotFoundError:
            return 0

    def wait(self, wait_s: float) -> bool:
        """Whether it has ended by then."""
        return self._done.wait(wait_s)

    def result(self) -> Path:
        """Where the copy is. Raises what it failed of."""
        if self._error is not None:
            raise self._error
        return self._target

    def _run(self) -> None:
        try:
            self._failpoint("backup.before_copy")
            self._back_up(self._part)
            self._failpoint("backup.before_rename")
            self._part.rename(self._target)
            descriptor = os.open(self._target.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except CacheError as error:
            self._fail(error)
        except OSError as error:
            self._fail(CacheError(Kind.FULL, f"the copy failed: {error.strerror}"))
        finally:
            self._done.set()  # whatever happened, who waits goes on

    def _fail(self, error: CacheError) -> None:
        self._error = error
        shutil.rmtree(self._part, ignore_errors=True)
