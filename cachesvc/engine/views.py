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

import sys
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np

from cachesvc.core.errors import CacheError
from cachesvc.core.events import ScopesChanged
from cachesvc.core.ports import Clock, Observer, ResponseStore, VectorIndex
from cachesvc.core.types import Candidate, Change, Vector
from cachesvc.core.warming import ScopeNote, WarmStep
from cachesvc.engine.settling import NOTHING_BEHIND, Behind, Settling
from cachesvc.engine.snapshots import Snapshots
from cachesvc.engine.view import Part, View

_FOLLOW_COUNT = 1024
_PART_COUNT = 256  # vectors read at once: about 3 ms, by which a caller may overrun its time
_MORE_ATTEMPTS = 2
_MAX_WAIT_S = 5.0  # at most, deadline or none: some 400,000 vectors are read in that time


class ScopeTooLargeError(Exception):
    """The vectors of a scope do not fit the memory bound even alone."""


class ScopeLoadingError(Exception):
    """A scope was not loaded within the caller's time. The next caller goes on with it."""


class Views:
    """Searches scopes. Thread-safe."""

    def __init__(
        self,
        store: ResponseStore,
        make_index: Callable[[bytes], VectorIndex],
        *,
        row_bytes: int,
        max_bytes: int,
        clock: Clock,
        observer: Observer,
        behind: Behind = NOTHING_BEHIND,
    ) -> None:
        """``make_index`` makes an empty one for a scope."""
        self._snapshots = behind.snapshots
        self._settler = behind.settler
        self._store = store
        self._make_index = make_index
        self._max_rows = max(max_bytes - make_index(b"").memory_bytes, 0) // row_bytes
        self._max_bytes = max_bytes
        self._clock = clock
        self._observer = observer
        self._lock = threading.Lock()
        self._views: OrderedDict[bytes, View] = OrderedDict()  # least recently used first
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

    def warm(self, scope: bytes, size_bytes: int) -> WarmStep:
        """Read the next part of a scope that nobody has asked for, as the least recently used of all.

        ``size_bytes`` is what it took when it was last in memory: where there is no room for it, nothing is read.
        """
        with self._lock:
            view = self._views.get(scope)
            if view is None:
                if self._memory_bytes + size_bytes > self._max_bytes:
                    return WarmStep(0, is_without_room=True)
                view = self._views[scope] = View()
                self._views.move_to_end(scope, last=False)
        try:
            index = view.index
            rows = len(self._load(scope, view, self._clock.monotonic_s()) if index is None else index)
        except ScopeLoadingError:
            part = view.part
            rows = 0 if part is None else len(part.index)
            return WarmStep(rows, is_without_room=self._views.get(scope) is not view)
        except ScopeTooLargeError:
            return WarmStep(0, is_without_room=True)
        is_held = self._views.get(scope) is view  # else it grew, and was the first to go
        return WarmStep(rows, is_loaded=is_held, is_without_room=not is_held)

    def in_use(self, limit: int) -> list[ScopeNote]:
        """The scopes in memory, the most recently used first, at most ``limit``."""
        with self._lock:
            views = list(islice(reversed(self._views.items()), limit))
        loaded = ((scope, view.index) for scope, view in views)
        return [
            ScopeNote(scope, len(index), index.memory_bytes)
            for scope, index in loaded
            if index is not None and len(index)
        ]

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
            part = self._store.scope_vectors(scope, sys.maxsize, after_id=after_id, limit=_PART_COUNT)
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

    def _view(self, scope: bytes) -> View:
        with self._lock:
            view = self._views.get(scope)
            if view is None:
                view = self._views[scope] = View()
            else:
                self._views.move_to_end(scope)
            return view

    def _load(self, scope: bytes, view: View, until_s: float) -> VectorIndex:
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
                    if part.restoring is not None and self._snapshots is not None:
                        self._snapshots.forget(scope)
            return index
        finally:
            view.loading.release()

    def _read_on(self, scope: bytes, view: View, until_s: float) -> Part:
        """Read what is still missing of a scope, as far as the time allows and a step at least."""
        if view.is_too_large:
            raise ScopeTooLargeError
        part = view.part
        if part is None:
            part = view.part = self._begun(scope)
        while self._read_some(scope, view, part):
            with self._lock:
                self._count(scope, view)
                unloaded = self._shed()
            self._report(unloaded)
            if self._clock.monotonic_s() >= until_s:
                raise ScopeLoadingError
        return part

    def _begun(self, scope: bytes) -> Part:
        part = Part(self._make_index(scope), self._store.sequence(), self._clock.monotonic_s())
        found = None if self._snapshots is None else self._snapshots.begin(scope)
        if found is not None:
            part.sequence, part.restoring = found
            part.saved_at = part.restoring.saved_at
        return part

    def _read_some(self, scope: bytes, view: View, part: Part) -> bool:
        """Read the next rows of a scope. Whether there may be more."""
        if part.restoring is not None and self._snapshots is not None:
            try:
                return self._snapshots.restore(scope, part.restoring, part.index, self._max_bytes)
            except ValueError:
                part.begin_anew(self._make_index(scope), self._store.sequence())
        held = self._store.scope_vectors(scope, self._max_rows, after_id=part.last_id, limit=_PART_COUNT)
        if held is None:
            view.part, view.too_large_at = None, part.sequence
            raise ScopeTooLargeError
        if len(held.ids):
            part.index.add(held.ids, held.vectors)
            part.last_id = int(held.ids[-1])
        return len(held.ids) == _PART_COUNT

    def save_snapshots(self) -> None:
        """Drop snapshots of no use, and save large indexes that changed since they were saved.

        One that could not be saved is tried again once it has changed as much anew: each attempt writes until
        the disk is full, and takes from the store what room is left. Raises FULL when all others were tried.
        """
        if self._snapshots is None:
            return
        self._snapshots.sweep()  # first, for it makes room
        with self._lock:
            loaded = [(scope, view) for scope, view in self._views.items() if view.index is not None]
        failure: CacheError | None = None
        for scope, view in loaded:
            try:
                self._save_snapshot(scope, view, self._snapshots)
            except CacheError as error:
                failure = error
        if failure is not None:
            raise failure

    def _save_snapshot(self, scope: bytes, view: View, snapshots: Snapshots) -> None:
        with self._lock:
            index, sequence, changes, moves = view.index, self._sequence, view.changes, view.moves
        if index is None or not snapshots.is_due(index, view.saved_at, changes):
            return
        try:
            snapshots.save(scope, index, sequence)
        finally:
            with self._lock:
                view.saved_at, view.changes = sequence if view.moves == moves else -1, view.changes - changes

    def _publish(self, scope: bytes, view: View, part: Part) -> bool:
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
            view.saved_at, view.changes = part.saved_at, part.changes
            self._views[scope] = view  # in its place by use, which is the last one only if it had none
            self._count(scope, view)
            unloaded = self._shed()
        load_us = int((self._clock.monotonic_s() - part.started_s) * 1e6)
        self._observer.on(ScopesChanged(loaded=1, unloaded=unloaded, load_us=load_us))
        return True

    def _catch_up(self, scope: bytes, part: Part) -> bool:
        while part.sequence < self._sequence:
            changes = self._store.changes(part.sequence, _FOLLOW_COUNT)
            if not changes:
                return False
            told = [change for change in changes if change.scope == scope]
            self._apply(part.index, scope, told)
            part.sequence, part.changes = changes[-1].sequence, part.changes + len(told)
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
                new = [one for one in told if one.sequence > view.sequence]
                self._apply(view.index, scope, new)
                view.changes += len(new)
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

    def _count(self, scope: bytes, view: View) -> None:
        """Bring the account up to date with a view, unless it was dropped meanwhile."""
        if self._views.get(scope) is view:
            held_bytes = view.memory_bytes
            self._memory_bytes += held_bytes - view.counted_bytes
            view.counted_bytes = held_bytes
            index, room_bytes = view.index, self._max_bytes - self._memory_bytes
            if self._settler is not None and index is not None and view.may_move(room_bytes):
                sized, moved = partial(self._recount, scope, view), partial(self._note_moved, view)
                self._settler.offer(Settling(index, partial(view.wants_moved, index), sized, moved))

    def _note_moved(self, view: View) -> None:
        """What is on disk is of the layout before, and would be moved once more after a restart."""
        with self._lock:
            view.moves += 1
            view.saved_at = -1

    def _shed(self) -> int:
        """Unload least recently used views until the bound is kept; of one that is being moved the move goes first,
        or it would be loaded and moved and unloaded for ever. A search under way keeps its index.
        """
        unloaded = 0
        while self._memory_bytes > self._max_bytes and self._views:
            scope, view = next(iter(self._views.items()))
            if view.give_up_move():
                self._count(scope, view)
            else:
                unloaded += self._drop(self._views.pop(scope))
        return unloaded

    def _drop(self, view: View) -> bool:
        """Let go of an index and of a part of one. Whether it was loaded."""
        loaded = view.index is not None
        self._memory_bytes -= view.counted_bytes
        view.index, view.part, view.counted_bytes = None, None, 0
        return loaded

    def _report(self, unloaded: int) -> None:
        if unloaded:
            self._observer.on(ScopesChanged(loaded=0, unloaded=unloaded, load_us=0))

    def _recount(self, scope: bytes, view: View) -> None:
        """A view's index has another size than when it was counted last."""
        with self._lock:
            self._count(scope, view)
            unloaded = self._shed()
        self._report(unloaded)
