"""A restart loads what was in memory, the most recently used first, and says how far it is."""

from collections.abc import Callable

import numpy as np
import pytest

from cachesvc.adapters.memory import ManualClock, MemoryIndex, MemoryNotes, MemoryStore
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Event, IndexWarmed, ScopesChanged, TaskFailed
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Identity, Message, Payload, Request, ScopeVectors, Vector
from cachesvc.engine.views import ScopeLoadingError, Views
from cachesvc.engine.warmup import Warmup, WarmupOptions

DIMENSION = 8
ROW_BYTES = DIMENSION * 4 + 8
PART_COUNT = 256
NOTE_MS = 10_000


class Disk(MemoryStore):
    """Tells which scopes are read, may fail once for one, and calls a hook before each part is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[bytes] = []
        self.fails = b""
        self.before_part: Callable[[], None] = lambda: None

    def scope_vectors(
        self, scope: bytes, max_count: int, *, after_id: int = 0, limit: int | None = None
    ) -> ScopeVectors | None:
        self.before_part()
        if not after_id:
            self.read.append(scope)
        if scope == self.fails:
            self.fails = b""
            raise CacheError(Kind.UNAVAILABLE, "down")
        return super().scope_vectors(scope, max_count, after_id=after_id, limit=limit)


class Service:
    """Views with their warm-up, as a process has them. Stores and notes outlive it."""

    def __init__(
        self, disk: Disk, notes: MemoryNotes, *, max_rows: int = 10_000, max_scopes: int = 100
    ) -> None:
        self.events: list[Event] = []
        self.clock = ManualClock()
        self.views = Views(
            disk,
            make_index,
            row_bytes=ROW_BYTES,
            max_bytes=max_rows * ROW_BYTES,
            clock=self.clock,
            observer=self,
        )
        options = WarmupOptions(max_scopes, share=1.0)
        self.warmup = Warmup(self.views, notes, options, clock=self.clock, observer=self)

    def on(self, event: Event) -> None:
        self.events.append(event)

    def use(self, *names: str) -> None:
        for name in names:
            self.views.search(scope_of(name), vector(0), 1, None)

    def noted(self) -> None:
        """Housekeeping comes by, a while after the last time."""
        self.clock.advance(NOTE_MS)
        self.warmup.note()


def make_index(*of: bytes) -> MemoryIndex:
    return MemoryIndex(DIMENSION)


def vector(seed: int) -> Vector:
    drawn = np.random.default_rng(seed).normal(size=DIMENSION)
    scaled: Vector = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    return scaled


def identity(name: str, number: int) -> Identity:
    return identify(Request(name, (Message("user", f"text {number}"),), "m", {}), "engine:test")


def scope_of(name: str) -> bytes:
    return identity(name, 0).scope


def fill(disk: Disk, name: str, count: int) -> None:
    drafts = [
        Draft(identity(name, n), Payload(b"r"), f"text {n}", vector(n), 0, 1 << 40) for n in range(count)
    ]
    disk.put(drafts, None)


def names(scopes: list[bytes]) -> str:
    return "".join(next(name for name in "abcdxyz" if scope_of(name) == scope) for scope in scopes)


@pytest.fixture
def disk() -> Disk:
    """Four scopes of three entries."""
    disk = Disk()
    for name in "abcd":
        fill(disk, name, 3)
    return disk


@pytest.fixture
def notes() -> MemoryNotes:
    """None yet."""
    return MemoryNotes()


@pytest.fixture
def after_use(disk: Disk, notes: MemoryNotes) -> MemoryNotes:
    """Notes of a process that used a, b, c and again a, and was stopped."""
    before = Service(disk, notes)
    before.use("a", "b", "c", "a")
    before.warmup.stop()
    disk.read.clear()
    return notes


def test_the_most_recently_used_scope_is_loaded_first(disk: Disk, after_use: MemoryNotes) -> None:
    """And scopes that were not in memory are not loaded."""
    service = Service(disk, after_use)
    assert not service.warmup.progress().is_done
    service.warmup.warm()
    assert names(disk.read) == "acb"
    told = service.warmup.progress()
    assert (told.is_done, told.scopes, told.scopes_total, told.rows, told.rows_total) == (True, 3, 3, 9, 9)
    assert IndexWarmed(3, 3, 9, told.elapsed_s) in service.events
    service.use("a", "b", "c")
    assert names(disk.read) == "acb", "they are in"


def test_warming_is_no_use(disk: Disk, after_use: MemoryNotes) -> None:
    """The order of use is after the start what it was before: what was used longest ago goes first, and a scope that
    somebody asks for goes before all that are only warm.
    """
    service = Service(disk, after_use, max_rows=12)
    service.warmup.warm()
    service.use("d")
    assert names([note.scope for note in service.views.in_use(10)]) == "dacb"
    fill(disk, "x", 3)
    service.use("x")
    assert names([note.scope for note in service.views.in_use(10)]) == "xdac"


def test_what_there_is_no_room_for_is_left_out(disk: Disk, after_use: MemoryNotes) -> None:
    """The most recently used are in, nothing was unloaded for the others, and that is told."""
    service = Service(disk, after_use, max_rows=7)
    service.warmup.warm()
    assert names(disk.read) == "ac"
    told = service.warmup.progress()
    assert (told.is_done, told.scopes, told.scopes_total) == (True, 2, 3)
    assert IndexWarmed(2, 3, 6, told.elapsed_s) in service.events
    assert not any(isinstance(event, ScopesChanged) and event.unloaded for event in service.events)


def test_a_scope_that_outgrew_its_note_pushes_out_no_other(disk: Disk, after_use: MemoryNotes) -> None:
    """It was small when it was noted, and there is no room for it now: it is let go, and the next one has its turn."""
    fill(disk, "c", 9)
    service = Service(disk, after_use, max_rows=10)
    service.warmup.warm()
    assert service.warmup.progress().scopes == 2
    assert names([note.scope for note in service.views.in_use(10)]) == "ab"


def test_progress_counts_scopes_and_rows(disk: Disk, notes: MemoryNotes) -> None:
    """Part by part, while it goes on; the time runs until it is over."""
    fill(disk, "x", 2 * PART_COUNT + 1)
    before = Service(disk, notes)
    before.use("a", "x")
    before.warmup.stop()
    service = Service(disk, notes)
    seen: list[tuple[int, int, float]] = []

    def look() -> None:
        service.clock.advance(1000)
        told = service.warmup.progress()
        assert not told.is_done
        seen.append((told.scopes, told.rows, told.elapsed_s))

    disk.before_part = look
    service.warmup.warm()
    rows = 2 * PART_COUNT + 1
    assert seen == [(0, 0, 1.0), (0, PART_COUNT, 2.0), (0, 2 * PART_COUNT, 3.0), (1, rows, 4.0)]
    service.clock.advance(1000)
    assert service.warmup.progress().elapsed_s == 4.0


def test_who_asks_for_a_scope_goes_on_with_it(disk: Disk, notes: MemoryNotes) -> None:
    """What warming has read of it is not read again, and it is the most recently used from then on."""
    fill(disk, "x", 2 * PART_COUNT)
    service = Service(disk, notes)
    first = service.views.warm(scope_of("a"), 0)
    assert (first.rows, first.is_loaded) == (3, True)
    half = service.views.warm(scope_of("x"), 0)
    assert (half.rows, half.is_loaded) == (PART_COUNT, False)
    service.use("x")
    assert names(disk.read) == "ax"
    assert names([note.scope for note in service.views.in_use(10)]) == "xa"
    assert service.views.warm(scope_of("x"), 0).is_loaded


def test_a_lookup_waits_for_no_more_than_a_part(disk: Disk, notes: MemoryNotes) -> None:
    """With no time left it leaves at once, whoever loads the scope."""
    fill(disk, "x", 3 * PART_COUNT)
    service = Service(disk, notes)
    service.views.warm(scope_of("x"), 0)
    with pytest.raises(ScopeLoadingError):
        service.views.search(scope_of("x"), vector(0), 1, 0.0)
    assert service.views.warm(scope_of("x"), 0).rows == 3 * PART_COUNT


def test_a_kill_while_it_warms_keeps_the_order(disk: Disk, after_use: MemoryNotes) -> None:
    """Whenever it comes, the next start knows what was in and what was still to be loaded, in order of use."""
    service = Service(disk, after_use)
    seen: list[str] = []

    def note() -> None:
        service.noted()
        seen.append(names([note.scope for note in after_use.load()]))

    disk.before_part = note
    service.warmup.warm()
    assert seen == ["acb"] * 3


def test_what_is_used_while_it_warms_goes_first(disk: Disk, after_use: MemoryNotes) -> None:
    """A note in the middle has what was asked for, then what is in, then what is to be loaded."""
    service = Service(disk, after_use)
    service.views.warm(scope_of("a"), 0)
    service.use("d")
    service.noted()
    assert names([note.scope for note in after_use.load()]) == "dacb"


def test_notes_are_made_now_and_then_and_at_the_end(disk: Disk, notes: MemoryNotes) -> None:
    """Not in each round of housekeeping; at most so many, the most recently used."""
    service = Service(disk, notes, max_scopes=2)
    service.warmup.warm()
    service.use("a")
    service.warmup.note()
    assert notes.load() == []
    service.noted()
    assert names([note.scope for note in notes.load()]) == "a"
    service.use("b", "c")
    service.warmup.note()
    assert names([note.scope for note in notes.load()]) == "a"
    service.warmup.stop()
    assert names([note.scope for note in notes.load()]) == "cb"
    assert [note.rows for note in notes.load()] == [3, 3]


def test_a_scope_that_is_empty_now_is_forgotten(disk: Disk, after_use: MemoryNotes) -> None:
    """All its entries were removed meanwhile: it costs a look, and the next start none."""
    disk.remove([entry_id for entry_id in disk.ids(0, 100) if disk.namespace_of(entry_id) == "a"])
    service = Service(disk, after_use)
    service.warmup.warm()
    service.noted()
    assert names([note.scope for note in after_use.load()]) == "cb"


def test_a_failure_is_told_and_the_others_are_loaded(disk: Disk, after_use: MemoryNotes) -> None:
    """One scope that cannot be read keeps no other from being loaded, and is loaded when it is asked for."""
    disk.fails = scope_of("c")
    service = Service(disk, after_use)
    service.warmup.warm()
    assert names(disk.read) == "acb"
    assert TaskFailed("warm", Kind.UNAVAILABLE, "down") in service.events
    assert service.warmup.progress().is_done
    service.use("c")
    assert names(disk.read) == "acbc"


def test_turned_off_it_loads_and_notes_nothing(disk: Disk, after_use: MemoryNotes) -> None:
    """With ``warm_max_scopes`` at 0 a start is over at once."""
    service = Service(disk, after_use, max_scopes=0)
    assert service.warmup.progress().is_done
    service.warmup.warm()
    assert disk.read == []
    assert service.events == []
