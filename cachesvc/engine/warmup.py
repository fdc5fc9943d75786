"""Loads the scopes that were in memory before a restart, the most recently used first, behind the requests.

Which those were is noted now and then, and at the end; a process that was killed left a note that is a little old.
A note is a hint: a scope that it lacks is loaded when it is first asked for, and one that is gone costs a look.

Must never hold up lookups for long: it goes in steps of some milliseconds, rests between them, and who asks for the
scope that is being loaded goes on with it at full speed.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachesvc.core.errors import CacheError
from cachesvc.core.events import IndexWarmed, TaskFailed
from cachesvc.core.ports import Clock, Observer, ScopeNotes
from cachesvc.core.warming import ScopeNote, Warming
from cachesvc.engine.views import Views

_NOTE_S = 10.0  # between two notes: what a kill may lose of the order
_MAX_REST_S = 0.25


@dataclass(frozen=True, slots=True)
class WarmupOptions:
    """At most so many scopes are noted and loaded. Loading takes ``share`` of a core and leaves the rest to others."""

    max_scopes: int
    share: float


class Warmup:
    """Owns the thread that warms. ``note`` is a chore of housekeeping. Thread-safe."""

    def __init__(
        self,
        views: Views,
        notes: ScopeNotes,
        options: WarmupOptions,
        *,
        leads: Callable[[], bool] = lambda: True,
        clock: Clock,
        observer: Observer,
    ) -> None:
        """``leads`` tells which of several processes notes what is in memory."""
        self._views = views
        self._notes = notes
        self._options = options
        self._leads = leads
        self._clock = clock
        self._observer = observer
        self._stopping = threading.Event()
        self._noting = threading.Lock()
        self._noted: Sequence[ScopeNote] = ()
        self._noted_s = clock.monotonic_s()
        self._wanted: Sequence[ScopeNote] = notes.load()[: options.max_scopes]
        self._looked_count = 0  # at so many of those, the first
        self._loaded_count = 0
        self._rows_before = 0  # of those that are in
        self._rows = 0  # the same, with the one under way
        self._began_s = clock.monotonic_s()
        self._ended_s: float | None = None if self._wanted else self._began_s
        self._thread = threading.Thread(target=self.warm, name="cachesvc-warmup", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and note what is in memory."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self._leads():
            return
        with self._noting:
            try:
                self._save(self._current())
            except CacheError as error:  # housekeeping, which would tell, has had its last round
                self._observer.on(TaskFailed.of("note", error))

    def note(self) -> None:
        """Keep which scopes are in memory, in order of use, when that changed and was not noted just now."""
        with self._noting:
            if self._clock.monotonic_s() - self._noted_s >= _NOTE_S:
                self._noted_s = self._clock.monotonic_s()
                self._save(self._current())

    def progress(self) -> Warming:
        """How far it is."""
        until_s = self._clock.monotonic_s() if self._ended_s is None else self._ended_s
        return Warming(
            is_done=self._ended_s is not None,
            scopes=self._loaded_count,
            scopes_total=len(self._wanted),
            rows=self._rows,
            rows_total=sum(note.rows for note in self._wanted),
            elapsed_s=until_s - self._began_s,
        )

    def warm(self) -> None:
        """Load them all, one after the other, on the caller's thread."""
        for note in self._wanted:
            rows = self._load(note)
            if self._stopping.is_set():
                return  # what is left is noted once more
            self._looked_count += 1
            self._loaded_count += rows is not None
            self._rows = self._rows_before = self._rows_before + (rows or 0)
        self._ended_s = self._clock.monotonic_s()
        told = self.progress()
        if told.scopes_total:
            self._observer.on(IndexWarmed(told.scopes, told.scopes_total, told.rows, told.elapsed_s))

    def _load(self, note: ScopeNote) -> int | None:
        """Load a scope. Its rows, or None where there was no room for it, or it could not be read."""
        try:
            while not self._stopping.is_set():
                began_s = self._clock.thread_s()
                step = self._views.warm(note.scope, note.size_bytes)
                self._rows = self._rows_before + step.rows
                self._rest(self._clock.thread_s() - began_s)
                if step.is_without_room:
                    return None
                if step.is_loaded:
                    return step.rows
        except Exception as error:  # noqa: BLE001 - the edge of the worker: counted, and the others are loaded
            self._observer.on(TaskFailed.of("warm", error))
        return None

    def _rest(self, worked_s: float) -> None:
        """Leave the others their share of a core."""
        share = self._options.share
        self._stopping.wait(min(worked_s * (1 - share) / share, _MAX_REST_S))

    def _current(self) -> list[ScopeNote]:
        """What is in memory, and after it what is to be loaded still: a kill while it warms loses neither."""
        pending = self._wanted[self._looked_count :] if self._ended_s is None else []
        held = self._views.in_use(self._options.max_scopes)
        known = {note.scope for note in held}
        return [*held, *(note for note in pending if note.scope not in known)][: self._options.max_scopes]

    def _save(self, notes: Sequence[ScopeNote]) -> None:
        if notes != self._noted:
            self._notes.save(notes)
            self._noted = notes
