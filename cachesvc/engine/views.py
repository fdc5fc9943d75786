"""The vector indexes of the scopes in use, kept in step with the store's log.

The store is the truth; an index here is a view of one scope, built from the store when the scope is
first used. Before each search the log is followed to its last record, so what was acknowledged is
found, and what was deleted is not, whoever wrote it. Views live under a memory bound; the least
recently used goes first.

A scope is read in parts, each at its own moment, so that a caller whose time is up can leave and the
next goes on from there. Replaying the log from the first part on makes one moment of them: a change
may be applied twice, or to a row that was read after it.

Locks: ``_lock`` guards the map, the log position and every change of a published index, and is not
held while a scope is read from the store; a view's ``loading`` lets one thread load it. Order:
``loading``, ``_lock``.
"""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cachesvc.core.events import ScopesChanged, SnapshotDone
from cachesvc.core.ports import Clock, Observer, ResponseStore, SnapshotStore, VectorIndex
from cachesvc.core.types import Candidate, Change, Snapshot, Vector

_FOLLOW_COUNT = 1024
_SAVE_SHARE = 10
_PART_COUNT = 1024  # vectors read at once: about 10 ms, by which a caller may overrun its time
_MORE_ATTEMPTS = 2
_MAX_WAIT_S = 5.0  # at most, deadline or none: some 400,000 vectors are read in that time


class ScopeTooLargeError(Exception):
    """The vectors of a scope do not fit the memory bound even alone."""


class ScopeLoadingError(Exception):
    """A scope was not loaded within the caller's time. The next caller goes on with it."""


class _Part:
    """An index that has the vectors up to ``last_id`` so far, and has still to follow the log.

    ``whole``: it came from a snapshot, and has all vectors that there were at its sequence.
    """

    def __init__(self, index: VectorIndex, sequence: int, started_s: float, *, whole: bool = False) -> None:
        self.index = index
        self.sequence = sequence
        self.started_s = started_s
        self.whole = whole
        self.last_id = 0


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Where indexes are kept between restarts, from how many rows on, and how they are made from bytes again.

    ``restore`` raises ValueError.
    """

    store: SnapshotStore
    min_rows: int
    restore: Callable[[bytes], VectorIndex]


class _View:
    def __init__(self) -> None:
        self.loading = threading.Lock()
        self.part: _Part | None = None  # a load under way, or left by a caller whose time was up
        self.index: VectorIndex | None = None  # None until loaded, and again once dropped
        self.sequence = 0  # the log position that the index had when it was loaded
        self.counted_bytes = 0  # its share of the account
        self.removed_at = 0  # the last removal the log told of
        self.too_large_at = -1  # the log position when it was last found too large
        self.saved_at = -1  # the log position of its last snapshot

    @property
    def is_too_large(self) -> bool:
        return self.too_large_at >= self.removed_at

    @property
    def memory_bytes(self) -> int:
        held = self.part.index if self.part is not None else self.index
        return 0 if held is None else held.memory_bytes


class Views:
    """Searches scopes. Thread-safe."""

    def __init__(
        self,
        store: ResponseStore,
        make_index: Callable[[], VectorIndex],
        *,
        row_bytes: int,
        max_bytes: int,
        clock: Clock,
        observer: Observer,
        snapshots: Snapshots | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._store = store
        self._make_index = make_index
        self._max_rows = max(max_bytes - make_index().memory_bytes, 0) // row_bytes
        self._max_bytes = max_bytes
        self._clock = clock
        self._observer = observer
        self._lock = threading.Lock()
        self._views: OrderedDict[bytes, _View] = OrderedDict()  # least recently used first
        self._sequence = store.sequence()
        self._memory_bytes = 0

    def search(self, scope: bytes, vector: Vector, count: int, wait_s: float | None) -> list[Candidate]:
        """The nearest entries of a scope, best first.

        Waits at most ``wait_s`` (None: some seconds) for a scope that is not in memory. Raises
        ScopeLoadingError when that was not enough, ScopeTooLargeError.
        """
        until_s = self._clock.monotonic_s() + min(_MAX_WAIT_S if wait_s is None else wait_s, _MAX_WAIT_S)
        index = self._fresh(scope, until_s)
        for _ in range(_MORE_ATTEMPTS):
            if self._view(scope).index is index:
                break
            index = self._fresh(scope, until_s)  # it was dropped meanwhile, and may be behind
        return index.search(vector, count)

    def _fresh(self, scope: bytes, until_s: float) -> VectorIndex:
        view = self._view(scope)
        index = view.index
        if index is None:  # an empty index is false
            if view.is_too_large:
                self._follow()  # something may have been removed
            index = self._load(scope, view, until_s)
        self._follow()
        return index

    def forget(self, scope: bytes, entry_id: int) -> None:
        """Drop an entry that the store no longer has, should the log not have told."""
        with self._lock:
            view = self._views.get(scope)
            if view is not None and view.index is not None:
                view.index.remove(np.array([entry_id], dtype=np.int64))
                self._count(scope, view)

    def disagreements(self) -> Iterator[str]:
        """Where a loaded index and the store differ, a sentence for each. Slow; lookups go on meanwhile."""
        with self._lock:
            loaded = [(scope, view.index) for scope, view in self._views.items() if view.index is not None]
        for scope, index in loaded:
            suspects = index.ids() ^ self._stored_ids(scope)
            self._follow()  # what came or went while they were read is told by the log
            held = index.ids()
            for entry_id in sorted(suspects):
                (stored,) = self._store.vectors(scope, [entry_id])
                if (stored is not None) != (entry_id in held) and self._is_loaded(scope, index):
                    yield f"index: entry {entry_id} is {'missing' if stored is not None else 'there for nothing'}"

    def _stored_ids(self, scope: bytes) -> frozenset[int]:
        ids: list[int] = []
        while True:
            after_id = ids[-1] if ids else 0
            part = self._store.scope_vectors(scope, self._max_rows, after_id=after_id, limit=_PART_COUNT)
            if part is None or not len(part.ids):
                return frozenset(ids)
            ids += part.ids.tolist()

    def _is_loaded(self, scope: bytes, index: VectorIndex) -> bool:
        view = self._views.get(scope)
        return view is not None and view.index is index

    @property
    def memory_bytes(self) -> int:
        """Held by all views, those half loaded too."""
        return self._memory_bytes

    @property
    def loaded_count(self) -> int:
        """Scopes in memory."""
        with self._lock:
            return sum(view.index is not None for view in self._views.values())

    def _view(self, scope: bytes) -> _View:
        with self._lock:
            view = self._views.get(scope)
            if view is None:
                view = self._views[scope] = _View()
            else:
                self._views.move_to_end(scope)
            return view

    def _load(self, scope: bytes, view: _View, until_s: float) -> VectorIndex:
        if not view.loading.acquire(timeout=max(until_s - self._clock.monotonic_s(), 0.0)):
            raise ScopeLoadingError
        try:
            index = view.index  # not None when somebody else was first
            while index is None:
                part = self._read_on(scope, view, until_s)
                if self._publish(scope, view, part):
                    index = part.index
                else:
                    view.part = None  # read it again
                    if part.whole and self._snapshots is not None:
                        self._snapshots.store.forget(scope)
            return index
        finally:
            view.loading.release()

    def _read_on(self, scope: bytes, view: _View, until_s: float) -> _Part:
        """Read what is still missing of a scope, as far as the time allows and a step at least."""
        if view.is_too_large:
            raise ScopeTooLargeError
        part = view.part
        if part is None:
            part = view.part = self._restored(scope) or _Part(
                self._make_index(), self._store.sequence(), self._clock.monotonic_s()
            )
        while not part.whole:
            held = self._store.scope_vectors(scope, self._max_rows, after_id=part.last_id, limit=_PART_COUNT)
            if held is None:
                view.part, view.too_large_at = None, part.sequence
                raise ScopeTooLargeError
            if len(held.ids):
                part.index.add(held.ids, held.vectors)
                part.last_id = int(held.ids[-1])
            if len(held.ids) < _PART_COUNT:
                return part
            with self._lock:
                self._count(scope, view)
                unloaded = self._shed()
            self._report(unloaded)
            if self._clock.monotonic_s() >= until_s:
                raise ScopeLoadingError
        return part

    def _restored(self, scope: bytes) -> _Part | None:
        """An index from its snapshot, where there is one that the log can bring up to date."""
        if self._snapshots is None:
            return None
        started_s = self._clock.monotonic_s()
        held = self._snapshots.store.load(scope)
        if held is None:
            return None
        result: Literal["loaded", "stale", "rejected"] = "stale"
        part = None
        if held.sequence <= self._store.sequence() and self._store.changes(held.sequence, 1) is not None:
            try:
                index = self._snapshots.restore(held.payload)
                result, part = "loaded", _Part(index, held.sequence, started_s, whole=True)
            except ValueError:
                result = "rejected"
        if part is None:
            self._snapshots.store.forget(scope)
        self._observer.on(SnapshotDone(result, len(held.payload)))
        return part

    def save_snapshots(self) -> None:
        """Save large indexes that changed by a tenth since they were saved. Raises FULL.

        The sequence is read before the index: what it has beyond that is applied once more when it is loaded.
        """
        if self._snapshots is None:
            return
        with self._lock:
            loaded = [(scope, view) for scope, view in self._views.items() if view.index is not None]
        for scope, view in loaded:
            index, sequence = view.index, self._sequence
            if index is None or len(index) < self._snapshots.min_rows:
                continue
            if view.saved_at < 0 or sequence - view.saved_at > len(index) // _SAVE_SHARE:
                self._snapshots.store.save(scope, Snapshot(sequence, index.dump()))
                view.saved_at = sequence

    def _publish(self, scope: bytes, view: _View, part: _Part) -> bool:
        """Let an index be searched. False when the log cannot bring it to where the others are."""
        if not self._catch_up(scope, part):  # most of the way without the lock
            return False
        with self._lock:
            if not self._catch_up(scope, part):
                return False
            displaced = self._views.get(scope)
            if displaced is not None and displaced is not view:
                self._drop(displaced)
            view.part, view.index, view.sequence = None, part.index, part.sequence
            view.saved_at = part.sequence if part.whole else -1
            self._views[scope] = view
            self._views.move_to_end(scope)
            self._count(scope, view)
            unloaded = self._shed()
        load_us = int((self._clock.monotonic_s() - part.started_s) * 1e6)
        self._observer.on(ScopesChanged(loaded=1, unloaded=unloaded, load_us=load_us))
        return True

    def _catch_up(self, scope: bytes, part: _Part) -> bool:
        while part.sequence < self._sequence:
            changes = self._store.changes(part.sequence, _FOLLOW_COUNT)
            if not changes:
                return False
            self._apply(part.index, scope, [change for change in changes if change.scope == scope])
            part.sequence = changes[-1].sequence
        return True

    def _follow(self) -> None:
        """Apply what was logged since. Cheap when nothing was."""
        last = self._store.sequence()
        while self._sequence < last:
            with self._lock:
                unloaded = self._follow_some(last)
            self._report(unloaded)

    def _follow_some(self, last: int) -> int:
        """Let every view hear of the next changes. How many were unloaded."""
        if self._sequence >= last:  # another thread was faster
            return 0
        changes = self._store.changes(self._sequence, _FOLLOW_COUNT)
        if not changes:  # trimmed or damaged: every view is built anew
            unloaded = sum(self._drop(view) for view in self._views.values())
            self._views.clear()
            self._sequence = last
            return unloaded
        by_scope: dict[bytes, list[Change]] = defaultdict(list)
        for change in changes:
            by_scope[change.scope].append(change)
        for scope, told in by_scope.items():
            view = self._views.get(scope)
            if view is None:
                continue
            view.removed_at = max([view.removed_at, *(one.sequence for one in told if not one.added)])
            if view.index is not None:
                self._apply(view.index, scope, [one for one in told if one.sequence > view.sequence])
                self._count(scope, view)
        self._sequence = changes[-1].sequence
        return self._shed()

    def _apply(self, index: VectorIndex, scope: bytes, changes: list[Change]) -> None:
        """Make changes to an index all at once: each removal, however large, scans it."""
        outcome = {change.entry_id: change.added for change in changes}  # the last of an id counts
        added = [entry_id for entry_id, there in outcome.items() if there]
        vectors = self._store.vectors(scope, added) if added else []
        # None: exact tier only, or removed by a later change
        rows = {n: vector for n, vector in zip(added, vectors, strict=True) if vector is not None}
        if len(added) < len(outcome):
            gone = [entry_id for entry_id, there in outcome.items() if not there]
            index.remove(np.array(gone, dtype=np.int64))
        if rows:
            index.add(np.array(list(rows), dtype=np.int64), np.stack(list(rows.values())))

    def _count(self, scope: bytes, view: _View) -> None:
        """Bring the account up to date with a view, unless it was dropped meanwhile."""
        if self._views.get(scope) is view:
            held_bytes = view.memory_bytes
            self._memory_bytes += held_bytes - view.counted_bytes
            view.counted_bytes = held_bytes

    def _shed(self) -> int:
        """Unload least recently used views until the bound is kept. A search under way keeps its index."""
        unloaded = 0
        while self._memory_bytes > self._max_bytes and self._views:
            _, view = self._views.popitem(last=False)
            unloaded += self._drop(view)
        return unloaded

    def _drop(self, view: _View) -> bool:
        """Let go of an index and of a part of one. Whether it was loaded."""
        loaded = view.index is not None
        self._memory_bytes -= view.counted_bytes
        view.index, view.part, view.counted_bytes = None, None, 0
        return loaded

    def _report(self, unloaded: int) -> None:
        if unloaded:
            self._observer.on(ScopesChanged(loaded=0, unloaded=unloaded, load_us=0))
