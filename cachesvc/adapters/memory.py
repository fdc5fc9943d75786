"""The ports in plain Python: reference for the contract suites, oracle for the property tests.

Nothing is durable and everything is linear; what these say is right, the real adapters must say too.
"""

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.eviction import EvictionPolicy, rank, size_bytes, worth_usd
from cachesvc.core.selection import Selector, draft_traits, forbids, meets, score
from cachesvc.core.types import (
    Candidate,
    Change,
    CheckStep,
    Draft,
    Entry,
    Lost,
    Match,
    NamespaceUsage,
    Place,
    Receipt,
    Row,
    ScopeVectors,
    Selection,
    Snapshot,
    StoreStats,
    Use,
    Vector,
)
from cachesvc.core.warming import ScopeNote

_MAX_MADE_ROOM = 16  # as the real store does
_SLIDE_SHARE = 10  # the same


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

    def thread_s(self) -> float:
        """See ``Clock.thread_s``. Whoever runs takes all the time there is."""
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

    @property
    def is_settled(self) -> bool:
        """See ``VectorIndex.is_settled``. There is only ever one layout here."""
        return True

    def settle(self) -> Generator[None, None, None]:
        """See ``VectorIndex.settle``."""
        yield from ()

    def dump(self) -> Iterator[bytes]:
        """See ``VectorIndex.dump``."""
        with self._lock:
            rows = list(self._rows.items())
        for n, row in rows:
            yield n.to_bytes(8, "big") + row.tobytes()

    def load(self, piece: bytes) -> None:
        """See ``VectorIndex.load``."""
        if len(piece) != 8 + 4 * self._dimension:
            raise ValueError("not of a dump")
        self.add(
            np.array([int.from_bytes(piece[:8], "big")]), np.frombuffer(piece[8:], np.float32)[np.newaxis]
        )

    def ids(self) -> frozenset[int]:
        """See ``VectorIndex.ids``."""
        with self._lock:
            return frozenset(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def memory_bytes(self) -> int:
        """See ``VectorIndex.memory_bytes``."""
        return len(self._rows) * (self._dimension * 4 + 8)

    @property
    def moving_bytes(self) -> int:
        """See ``VectorIndex.moving_bytes``."""
        return 0


@dataclass(slots=True)
class _Standing:
    """What the store knows of an entry besides what it stores."""

    draft: Draft
    worth_usd: float
    size_bytes: int
    used_ms: int
    hits: int = 0
    rank: float = 0.0


class MemorySnapshots:
    """``SnapshotStore`` in a dict."""

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[int, list[bytes]]] = {}

    def load(self, scope: bytes) -> Snapshot | None:
        """See ``SnapshotStore.load``."""
        held = self._held.get(scope)
        return None if held is None else Snapshot(held[0], iter(held[1]))

    def save(self, scope: bytes, snapshot: Snapshot) -> None:
        """See ``SnapshotStore.save``."""
        self._held[scope] = snapshot.sequence, list(snapshot.pieces)

    def scopes(self) -> list[bytes]:
        """See ``SnapshotStore.scopes``."""
        return list(self._held)

    def forget(self, scope: bytes) -> None:
        """See ``SnapshotStore.forget``."""
        self._held.pop(scope, None)


class MemoryNotes:
    """``ScopeNotes`` in a list."""

    def __init__(self) -> None:
        self._notes: list[ScopeNote] = []

    def load(self) -> list[ScopeNote]:
        """See ``ScopeNotes.load``."""
        return list(self._notes)

    def save(self, notes: Sequence[ScopeNote]) -> None:
        """See ``ScopeNotes.save``."""
        self._notes = list(notes)


class MemoryStore:
    """``ResponseStore`` in dicts under one lock."""

    def __init__(self, max_bytes: int = 1 << 40, eviction: EvictionPolicy = "gdsf") -> None:
        self._max_bytes = max_bytes
        self._eviction = eviction
        self._lock = threading.RLock()
        self._entries: dict[int, Entry] = {}
        self._vectors: dict[int, Vector] = {}
        self._exact: dict[bytes, int] = {}
        self._standing: dict[int, _Standing] = {}
        self._bans: list[Selector] = []
        self._inflation = 0.0
        self._log: list[Change] = []
        self._next_id = 1

    def put(self, drafts: Sequence[Draft], wait_s: float | None) -> list[Receipt | None]:
        """See ``ResponseStore.put``."""
        with self._lock:
            return [self._put(draft) for draft in drafts]

    def _put(self, draft: Draft) -> Receipt | None:
        identity = draft.identity
        missed = [] if draft.epoch is None else self._bans[draft.epoch :]
        if any(forbids(ban, draft) for ban in missed):
            return None
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
            sliding_ms=draft.sliding_ms,
            latest_ms=draft.latest_ms,
        )
        self._exact[identity.exact_key] = entry_id
        size = size_bytes(draft.prompt, draft.payload, draft.vector)
        standing = _Standing(draft, worth_usd(draft.payload), size, draft.created_ms)
        self._standing[entry_id] = standing
        self._rank(standing)
        if draft.vector is not None:
            self._vectors[entry_id] = draft.vector
        self._log.append(Change(len(self._log) + 1, identity.scope, entry_id, added=True))
        sequence = len(self._log)
        return Receipt(entry_id, replaced_id, sequence, self._make_room(draft, entry_id))

    def _rank(self, standing: _Standing) -> None:
        standing.rank = rank(
            self._eviction, standing.worth_usd, standing.size_bytes, standing.hits, self._inflation
        )

    def _make_room(self, draft: Draft, entry_id: int) -> int:
        evicted = 0
        while evicted < _MAX_MADE_ROOM:
            (held,) = (one for one in self.usage(1 << 30) if one.namespace == draft.identity.namespace)
            too_many = draft.quota.max_entries is not None and held.entries > draft.quota.max_entries
            too_large = draft.quota.max_bytes is not None and held.size_bytes > draft.quota.max_bytes
            victims = [n for n in self._ordered(draft.identity.namespace) if n != entry_id]
            if not (victims and (too_many or too_large)):
                break
            evicted += self._evict_one(victims[0])
        return evicted

    def remove(self, entry_ids: Sequence[int]) -> int:
        """See ``ResponseStore.remove``."""
        with self._lock:
            return sum(self._remove(entry_id) for entry_id in entry_ids)

    def _remove(self, entry_id: int) -> bool:
        entry = self._entries.pop(entry_id, None)
        if entry is None:
            return False
        self._vectors.pop(entry_id, None)
        del self._standing[entry_id]
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

    def touch(self, uses: Mapping[int, Use]) -> None:
        """See ``ResponseStore.touch``."""
        with self._lock:
            for entry_id, use in uses.items():
                standing = self._standing.get(entry_id)
                if standing is not None:
                    standing.used_ms = max(standing.used_ms, use.last_ms)
                    standing.hits += use.count
                    self._rank(standing)
                    self._slide(entry_id, standing.draft, use)

    def _slide(self, entry_id: int, draft: Draft, use: Use) -> None:
        entry = self._entries[entry_id]
        expires_ms = min(use.last_ms + draft.sliding_ms, draft.latest_ms)
        if draft.sliding_ms and expires_ms - entry.expires_ms >= draft.sliding_ms // _SLIDE_SHARE:
            self._entries[entry_id] = replace(entry, expires_ms=expires_ms)

    def expire(self, now_ms: int, limit: int) -> int:
        """See ``ResponseStore.expire``."""
        with self._lock:
            due = sorted((e.expires_ms, n) for n, e in self._entries.items() if e.expires_ms <= now_ms)
            return sum(self._remove(entry_id) for _, entry_id in due[:limit])

    def evict(self, limit: int, namespace: str | None = None) -> int:
        """See ``ResponseStore.evict``."""
        with self._lock:
            return sum(self._evict_one(entry_id) for entry_id in self._ordered(namespace)[:limit])

    def _ordered(self, namespace: str | None) -> list[int]:
        """Ids by rank, least first."""
        places = [
            (standing.rank, standing.used_ms, entry_id)
            for entry_id, standing in self._standing.items()
            if namespace in (None, standing.draft.identity.namespace)
        ]
        return [entry_id for _, _, entry_id in sorted(places)]

    def _evict_one(self, entry_id: int) -> bool:
        if self._eviction == "gdsf":
            self._inflation = max(self._inflation, self._standing[entry_id].rank)
        return self._remove(entry_id)

    def reorder(self, limit: int) -> int:
        """See ``ResponseStore.reorder``. There is only ever one policy here."""
        return 0

    def epoch(self) -> int:
        """See ``ResponseStore.epoch``."""
        return len(self._bans)

    def forbid(self, selector: Selector) -> int:
        """See ``ResponseStore.forbid``."""
        with self._lock:
            self._bans.append(selector)
            return len(self._bans)

    def next_id(self) -> int:
        """See ``ResponseStore.next_id``."""
        return self._next_id

    def select(self, selector: Selector, after: Place | None, limit: int, first_id: int = 0) -> Selection:
        """See ``ResponseStore.select``."""
        with self._lock:
            meant = sorted(
                (standing.draft.identity.namespace, entry_id)
                for entry_id, standing in self._standing.items()
                if entry_id >= first_id and self._means(selector, entry_id, standing.draft)
            )
            start = None if after is None else (after.namespace, after.entry_id)
            rest = [place for place in meant if start is None or place > start]
            matches = tuple(self._match(selector, entry_id) for _, entry_id in rest[:limit])
            return Selection(matches, Place(*rest[limit - 1]) if len(rest) > limit else None)

    def _means(self, selector: Selector, entry_id: int, draft: Draft) -> bool:
        return meets(selector, draft_traits(draft, selector.source_id), self._vectors.get(entry_id))

    def _match(self, selector: Selector, entry_id: int) -> Match:
        standing, vector = self._standing[entry_id], self._vectors.get(entry_id)
        nearness = None if selector.near is None or vector is None else score(selector.near, vector)
        namespace = standing.draft.identity.namespace
        return Match(entry_id, namespace, standing.hits, vector is not None, nearness)

    def usage(self, limit: int) -> list[NamespaceUsage]:
        """See ``ResponseStore.usage``."""
        with self._lock:
            held: dict[str, list[int]] = {}
            for standing in self._standing.values():
                held.setdefault(standing.draft.identity.namespace, []).append(standing.size_bytes)
            usages = [NamespaceUsage(name, len(sizes), sum(sizes)) for name, sizes in held.items()]
            return sorted(usages, key=lambda one: (-one.size_bytes, one.namespace))[:limit]

    def stats(self) -> StoreStats:
        """See ``ResponseStore.stats``."""
        with self._lock:
            used = sum(len(entry.payload.response) for entry in self._entries.values())
            return StoreStats(len(self._entries), used, self._max_bytes, len(self._log))

    def ids(self, after_id: int, limit: int) -> list[int]:
        """See ``ResponseStore.ids``."""
        with self._lock:
            return [entry_id for entry_id in sorted(self._entries) if entry_id > after_id][:limit]

    def checking(self) -> Iterator[CheckStep]:
        """See ``ResponseStore.checking``."""
        yield CheckStep(len(self._entries), len(self._entries), ())
