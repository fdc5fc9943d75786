"""Snapshots of large indexes: which are worth saving, which can be used, and which are of no use any more.

Called by ``views``. A snapshot is a shortcut: whatever is wrong with one, its scope is read from the store.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cachesvc.core.events import SnapshotDone
from cachesvc.core.ports import Observer, ResponseStore, SnapshotStore, VectorIndex
from cachesvc.core.types import Snapshot

_SAVE_SHARE = 10


@dataclass(slots=True)
class Restoring:
    """A snapshot on its way into an index, piece by piece."""

    pieces: Iterator[bytes]
    saved_at: int  # -1 when it is to be saved anew
    size_bytes: int = 0


class Snapshots:
    """Thread-safe."""

    def __init__(
        self, held: SnapshotStore, store: ResponseStore, observer: Observer, *, min_rows: int
    ) -> None:
        self._held = held
        self._store = store
        self._observer = observer
        self._min_rows = min_rows

    def begin(self, scope: bytes) -> tuple[int, Restoring] | None:
        """The log sequence of a scope's snapshot, and what is in it; None when there is none to be used."""
        held = self._held.load(scope)
        if held is None:
            return None
        if held.sequence <= self._store.sequence() and self._is_in_reach(held.sequence):
            return held.sequence, Restoring(held.pieces, -1 if held.is_ageing else held.sequence)
        self._give_up(scope, "stale", 0)
        return None

    def restore(self, scope: bytes, restoring: Restoring, index: VectorIndex, max_bytes: int) -> bool:
        """Read the next piece. Whether there may be more. Raises ValueError when it is of no use after all."""
        try:
            piece = next(restoring.pieces, None)
            if piece is not None:
                index.load(piece)
        except ValueError:
            self._give_up(scope, "rejected", restoring.size_bytes)
            raise
        if piece is None:
            self._observer.on(SnapshotDone("loaded", restoring.size_bytes))
            return False
        restoring.size_bytes += len(piece)
        if index.memory_bytes > max_bytes:  # the bound was made smaller since
            self._give_up(scope, "stale", restoring.size_bytes)
            raise ValueError("too large")
        return True

    def forget(self, scope: bytes) -> None:
        """Keep none of this scope."""
        self._held.forget(scope)

    def is_due(self, index: VectorIndex, saved_at: int, changes: int) -> bool:
        """Whether an index is to be saved that was last at a log sequence (-1: never), so many changes ago."""
        if len(index) < self._min_rows:
            return False
        return saved_at < 0 or changes > len(index) // _SAVE_SHARE or not self._is_in_reach(saved_at)

    def save(self, scope: bytes, index: VectorIndex, sequence: int) -> None:
        """Save an index. Raises FULL.

        The sequence is read before the index: what it has beyond that is applied once more when it is loaded.
        """
        size_bytes = 0

        def counted() -> Iterator[bytes]:
            nonlocal size_bytes
            for piece in index.dump():
                size_bytes += len(piece)
                yield piece

        self._held.save(scope, Snapshot(sequence, counted()))
        self._observer.on(SnapshotDone("saved", size_bytes))

    def sweep(self) -> None:
        """Drop those of scopes that have no vectors: what was removed, or brought to another embedder."""
        for scope in self._held.scopes():
            first = self._store.scope_vectors(scope, sys.maxsize, limit=1)
            if first is not None and not len(first.ids):
                self._held.forget(scope)

    def _is_in_reach(self, sequence: int) -> bool:
        """Whether the log leads on from there."""
        return self._store.changes(sequence, 1) is not None

    def _give_up(self, scope: bytes, why: Literal["stale", "rejected"], size_bytes: int) -> None:
        self._held.forget(scope)
        self._observer.on(SnapshotDone(why, size_bytes))
