"""How the store is read: in one transaction for the time of a call."""

from types import TracebackType

import lmdb

from cachesvc.core.errors import CacheError, Kind


class Reading:
    """A read transaction for the time of a call; LMDB's errors become ours. (A generator costs more.)"""

    __slots__ = ("_env", "_txn")

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env

    def __enter__(self) -> lmdb.Transaction:
        try:
            self._txn = self._env.begin()
        except lmdb.Error as error:
            raise _unreadable(error) from None
        return self._txn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._txn.abort()
        if isinstance(error, lmdb.Error):
            raise _unreadable(error) from None


def _unreadable(error: lmdb.Error) -> CacheError:
    return CacheError(Kind.UNAVAILABLE, f"the store could not be read: {type(error).__name__}")
