"""The vector indexes of the scopes in use, kept in step with the store's log.

The store is the truth; an index here is a view of one scope, built from the store when the scope is
first used. Before each search the log is followed to its last record, so what was acknowledged is
found, and what was deleted is not, whoever wrote it. Views live under a memory bound; the least
recently used goes first.

Locks: ``_lock`` guards the map, the log position and every change of an index, and is not held while
a view is read from the store; a view's ``loading`` lets one thread load it. Order: ``loading``, ``_lock``.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from cachesvc.core.events import ScopesChanged
from cachesvc.core.ports import Clock, Observer, ResponseStore, VectorIndex
from cachesvc.core.types import Candidate, Change, Vector

_FOLLOW_COUNT = 1024
_MORE_ATTEMPTS = 2


class ScopeTooLargeError(Exception):
    """The vectors of a scope do not fit the memory bound even alone."""


class _View:
    def __init__(self) -> None:
        self.loading = threading.Lock()
        self.index: VectorIndex | None = None  # None until loaded, and again once dropped
        self.sequence = 0  # the log position it was built at


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
    ) -> None:
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

    def search(self, scope: bytes, vector: Vector, count: int) -> list[Candidate]:
        """The nearest entries of a scope, best first. Raises ScopeTooLargeError."""
        index = self._fresh(scope)
        for _ in range(_MORE_ATTEMPTS):
            if self._view(scope).index is index:
                break
            index = self._fresh(scope)  # it was dropped meanwhile, and may be behind
        return index.search(vector, count)

    def _fresh(self, scope: bytes) -> VectorIndex:
        index = self._view(scope).index
        if index is None:  # an empty index is false
            index = self._load(scope)
        self._follow()
        return index

    def forget(self, scope: bytes, entry_id: int) -> None:
        """Drop an entry that the store no longer has, should the log not have told."""
        with self._lock:
            view = self._views.get(scope)
            if view is not None and view.index is not None:
                gone = Change(view.sequence, scope, entry_id, added=False)
                self._memory_bytes += self._apply(view.index, gone)

    @property
    def memory_bytes(self) -> int:
        """Held by all views."""
        return self._memory_bytes

    @property
    def loaded_count(self) -> int:
        """Scopes in memory."""
        return len(self._views)

    def _view(self, scope: bytes) -> _View:
        with self._lock:
            view = self._views.get(scope)
            if view is None:
                view = self._views[scope] = _View()
            else:
                self._views.move_to_end(scope)
            return view

    def _load(self, scope: bytes) -> VectorIndex:
        view = self._view(scope)
        with view.loading:
            if view.index is not None:  # somebody else was first
                return view.index
            started_s = self._clock.monotonic_s()
            index, sequence = self._build(scope)
            with self._lock:
                while not self._catch_up(scope, index, sequence):
                    index, sequence = self._build(scope)
                view.sequence = max(sequence, self._sequence)
                view.index = index
                self._memory_bytes += index.memory_bytes
                displaced = self._views.get(scope)
                if displaced is not None and displaced is not view and displaced.index is not None:
                    self._memory_bytes -= displaced.index.memory_bytes
                    displaced.index = None
                self._views[scope] = view
                self._views.move_to_end(scope)
                unloaded = self._shed()
        load_us = int((self._clock.monotonic_s() - started_s) * 1e6)
        self._observer.on(ScopesChanged(loaded=1, unloaded=unloaded, load_us=load_us))
        return index

    def _build(self, scope: bytes) -> tuple[VectorIndex, int]:
        held = self._store.scope_vectors(scope, self._max_rows)
        if held is None:
            raise ScopeTooLargeError
        index = self._make_index()
        if len(held.ids):
            index.add(held.ids, held.vectors)
        return index, held.sequence

    def _catch_up(self, scope: bytes, index: VectorIndex, after: int) -> bool:
        """Bring an index that was read at ``after`` to where the others are; False when the log cannot."""
        while after < self._sequence:
            changes = self._store.changes(after, _FOLLOW_COUNT)
            if not changes:
                return False
            for change in changes:
                if change.sequence <= self._sequence and change.scope == scope:
                    self._apply(index, change)
            after = changes[-1].sequence
        return True

    def _follow(self) -> None:
        """Apply what was logged since. Cheap when nothing was."""
        last = self._store.sequence()
        if self._sequence >= last:
            return
        unloaded = 0
        with self._lock:
            while self._sequence < last:
                changes = self._store.changes(self._sequence, _FOLLOW_COUNT)
                if not changes:  # trimmed or damaged: every view is built anew
                    unloaded += self._drop_all()
                    self._sequence = last
                    break
                for change in changes:
                    view = self._views.get(change.scope)
                    if view is not None and view.index is not None and change.sequence > view.sequence:
                        self._memory_bytes += self._apply(view.index, change)
                self._sequence = changes[-1].sequence
            unloaded += self._shed()
        if unloaded:
            self._observer.on(ScopesChanged(loaded=0, unloaded=unloaded, load_us=0))

    def _apply(self, index: VectorIndex, change: Change) -> int:
        """Make one change to an index. By how many bytes it grew."""
        before_bytes = index.memory_bytes
        ids = np.array([change.entry_id], dtype=np.int64)
        if not change.added:
            index.remove(ids)
        else:
            vector = self._store.vector(change.scope, change.entry_id)
            if vector is not None:  # None: exact tier only, or removed by a later change
                index.add(ids, vector[np.newaxis, :])
        return index.memory_bytes - before_bytes

    def _shed(self) -> int:
        """Unload least recently used views until the bound is kept. A search under way keeps its index."""
        unloaded = 0
        while self._memory_bytes > self._max_bytes and self._views:
            _, view = self._views.popitem(last=False)
            if view.index is not None:
                self._memory_bytes -= view.index.memory_bytes
                view.index = None
                unloaded += 1
        return unloaded

    def _drop_all(self) -> int:
        unloaded = sum(view.index is not None for view in self._views.values())
        for view in self._views.values():
            view.index = None
        self._views.clear()
        self._memory_bytes = 0
        return unloaded
