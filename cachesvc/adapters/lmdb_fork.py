"""Keeps a forked child from its parent's store. LMDB lets it read and write there, and is ruined by it (lmdb.h)."""

from typing import Any, NoReturn

from cachesvc.core.errors import CacheError, Kind


class Forsaken:
    """Stands, in the child, where the environment and its writer were; ``kept`` are those, never to be closed."""

    alive = False

    def __init__(self, *kept: Any) -> None:
        self._kept = kept

    def __getattr__(self, name: str) -> NoReturn:
        """Whatever is asked of it."""
        raise CacheError(
            Kind.UNAVAILABLE, "a forked process cannot use the store of its parent: open it where it is used"
        )
