"""The ports in plain Python: reference for the contract suites, oracle for the property tests.

Nothing is durable and everything is linear; what these say is right, the real adapters must say too.
"""

import threading
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.types import (
    Candidate,
    Change,
    Draft,
    Entry,
    Lost,
    Receipt,
    Row,
    ScopeVectors,
    StoreStats,
    Vector,
)


class ManualClock:
    """``Clock`` that a test moves. ``now_ms`` never goes back, as the port promises."""

    def __init__(self, now_ms: int = 1_000_000_000_000) -> None:
        self._now_ms = now_ms

    def advance(self, milliseconds: int) -> None:
        """Let time pass."""
        self._now_ms += max(milliseconds, 0)

    def now_ms(self) -> int:
        """See ``Clock.now_ms``."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """See ``Clock.monotonic_s``."""
        return self._now_ms / 1000


class MemoryIndex:
    """``VectorIndex`` by brute force."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._rows: dict[int, Vector] = {}
        self._lock = threading.Lock()

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See ``VectorIndex.add``."""
        with self._lock:
            self._rows.update(zip(ids.tolist(), vectors, strict=True))

    def remove(self, ids: NDArray[np.int64]) -> None:
        """See ``VectorIndex.remove``."""
        with self._lock:
            for entry_id in ids.tolist():
                self._rows.pop(entry_id, None)

    def search(self, vector: Vector, count: int) -> list[Candidate]:
        """See ``VectorIndex.search``."""
        with self._lock:
            scored = [Candidate(entry_id, float(row @ vector)) for entry_id, row in self._rows.items()]
        return sorted(scored, key=lambda candidate: -candidate.score)[:count]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def memory_bytes(self) -> int:
        """See ``VectorIndex.memory_bytes``."""
        return len(self._rows) * (self._dimension * 4 + 8)


class MemoryStore:
    """``ResponseStore`` in dicts under one lock."""

    def __init__(self, max_bytes: int = 1 << 40) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._entries: dict[int, Entry] = {}
        self._vectors: dict[int, Vector] = {}
        self._exact: dict[bytes, int] = {}
        self._used_ms: dict[int, int] = {}
        self._log: list[Change] = []
        self._next_id = 1

    def put(self, drafts: Sequence[Draft], wait_s: float | None) -> list[Receipt]:
        """See ``ResponseStore.put``."""
        with self._lock:
            return [self._put(draft) for draft in drafts]

    def _put(self, draft: Draft) -> Receipt:
        identity = draft.identity
        replaced_id = self._exact.get(identity.exact_key)
        if replaced_id is not None:
            self._remove(replaced_id)
        entry_id, self._next_id = self._next_id, self._next_id + 1
        self._entries[entry_id] = Entry(
            id=entry_id,
            namespace=identity.namespace,
            model=identity.model,
            context=identity.context,
            scope=identity.scope,
            exact_key=identity.exact_key,
            prompt=draft.prompt,
            payload=draft.payload,
            created_ms=draft.created_ms,
            expires_ms=draft.expires_ms,
        )
        self._exact[identity.exact_key] = entry_id
        self._used_ms[entry_id] = draft.created_ms
        if draft.vector is not None:
            self._vectors[entry_id] = draft.vector
        self._log.append(Change(len(self._log) + 1, identity.scope, entry_id, added=True))
        return Receipt(entry_id, replaced_id, len(self._log))

    def remove(self, entry_ids: Sequence[int]) -> int:
        """See ``ResponseStore.remove``."""
        with self._lock:
            return sum(self._remove(entry_id) for entry_id in entry_ids)

    def _remove(self, entry_id: int) -> bool:
        entry = self._entries.pop(entry_id, None)
        if entry is None:
            return False
        self._vectors.pop(entry_id, None)
        self._used_ms.pop(entry_id, None)
        if self._exact.get(entry.exact_key) == entry_id:
            del self._exact[entry.exact_key]
        self._log.append(Change(len(self._log) + 1, entry.scope, entry_id, added=False))
        return True

    def find(self, scope: bytes, exact_key: bytes) -> Row | None:
        """See ``ResponseStore.find``."""
        with self._lock:
            entry_id = self._exact.get(exact_key)
            return None if entry_id is None else self._row(scope, entry_id)

    def fetch(self, scope: bytes, entry_ids: Sequence[int]) -> list[Row]:
        """See ``ResponseStore.fetch``."""
        with self._lock:
            return [self._row(scope, entry_id) for entry_id in entry_ids]

    def _row(self, scope: bytes, entry_id: int) -> Row:
        entry = self._entries.get(entry_id)
        if entry is None:
            return Lost(entry_id, corrupt=False)
        return entry if entry.scope == scope else Lost(entry_id, corrupt=True)

    def namespace_of(self, entry_id: int) -> str | None:
        """See ``ResponseStore.namespace_of``."""
        with self._lock:
            entry = self._entries.get(entry_id)
        return None if entry is None else entry.namespace

    def get(self, entry_id: int) -> Row | None:
        """See ``ResponseStore.get``."""
        with self._lock:
            return self._entries.get(entry_id)

    def sequence(self) -> int:
        """See ``ResponseStore.sequence``."""
        return len(self._log)

    def changes(self, after: int, limit: int) -> list[Change] | None:
        """See ``ResponseStore.changes``."""
        with self._lock:
            return self._log[after : after + limit]

    def vectors(self, scope: bytes, entry_ids: Sequence[int]) -> list[Vector | None]:
        """See ``ResponseStore.vectors``."""
        with self._lock:
            return [
                self._vectors.get(n) if n in self._entries and self._entries[n].scope == scope else None
                for n in entry_ids
            ]

    def scope_vectors(
        self, scope: bytes, max_count: int, *, after_id: int = 0, limit: int | None = None
    ) -> ScopeVectors | None:
        """See ``ResponseStore.scope_vectors``."""
        with self._lock:
            ids = sorted(n for n in self._vectors if self._entries[n].scope == scope)
            if len(ids) > max_count and not after_id:
                return None
            ids = [n for n in ids if n > after_id][:limit]
            vectors = np.stack([self._vectors[n] for n in ids]) if ids else np.empty((0, 0), np.float32)
            return ScopeVectors(len(self._log), np.array(ids, dtype=np.int64), vectors)

    def touch(self, used_ms: Mapping[int, int]) -> None:
        """See ``ResponseStore.touch``."""
        with self._lock:
            for entry_id, when_ms in used_ms.items():
                if entry_id in self._used_ms:
                    self._used_ms[entry_id] = max(self._used_ms[entry_id], when_ms)

    def expire(self, now_ms: int, limit: int) -> int:
        """See ``ResponseStore.expire``."""
        with self._lock:
            due = sorted((e.expires_ms, n) for n, e in self._entries.items() if e.expires_ms <= now_ms)
            return sum(self._remove(entry_id) for _, entry_id in due[:limit])

    def evict(self, limit: int) -> int:
        """See ``ResponseStore.evict``."""
        with self._lock:
            oldest = sorted((when_ms, n) for n, when_ms in self._used_ms.items())
            return sum(self._remove(entry_id) for _, entry_id in oldest[:limit])

    def stats(self) -> StoreStats:
        """See ``ResponseStore.stats``."""
        with self._lock:
            used = sum(len(entry.payload.response) for entry in self._entries.values())
            return StoreStats(len(self._entries), used, self._max_bytes, len(self._log))

    def check(self) -> list[str]:
        """See ``ResponseStore.check``."""
        return []
