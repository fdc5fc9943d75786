"""The thread that moves indexes: what it does with what it is offered, and what it tells."""

import threading
import weakref
from collections.abc import Generator, Iterator

import numpy as np
import pytest

from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.faiss_index import FaissIndex, Growing
from cachesvc.adapters.memory import MemoryIndex, MemorySnapshots, MemoryStore
from cachesvc.core.events import Event, IndexSettled, TaskFailed
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Message, Payload, Request, Vector
from cachesvc.engine.settling import Behind, Settler, Settling
from cachesvc.engine.snapshots import Snapshots
from cachesvc.engine.views import Views

DIMENSION = 16
WAIT_S = 20.0


class Events:
    """An Observer that can be waited for."""

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self._changed = threading.Condition()

    def on(self, event: Event) -> None:
        """See ``Observer.on``."""
        with self._changed:
            self.seen.append(event)
            self._changed.notify_all()

    def results(self) -> list[str]:
        return [event.result for event in self.seen if isinstance(event, IndexSettled)]

    def wait_for(self, result: str, times: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.results().count(result) >= times, WAIT_S)


class Gated(MemoryIndex):
    """An index whose move waits in the middle for a gate, or fails there."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__(DIMENSION)
        self.begun, self.gate, self.fails, self.settled = threading.Event(), threading.Event(), fails, False

    @property
    def is_settled(self) -> bool:
        return self.settled

    def settle(self) -> Generator[None, None, None]:
        self.begun.set()
        if self.fails:
            raise RuntimeError
        yield
        self.gate.wait(WAIT_S)
        yield
        self.settled = True


def offer(index: Gated, dropped: threading.Event | None = None) -> Settling:
    """It is wanted until it is dropped."""
    return Settling(index, lambda: dropped is None or not dropped.is_set(), lambda: None, lambda: None)


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def settler(events: Events) -> Iterator[Settler]:
    """One that runs."""
    made = Settler(SystemClock(0), events, lambda: None)
    made.start()
    yield made
    made.stop()


def test_what_is_offered_is_moved_once_and_told(settler: Settler, events: Events) -> None:
    """Offered again while it waits or moves it is not moved again; the next one follows."""
    first, second = Gated(), Gated()
    for index in (first, first, second, second, first):
        settler.offer(offer(index))
    first.begun.wait(WAIT_S)
    settler.offer(offer(first))
    first.gate.set()
    second.gate.set()
    events.wait_for("finished", 2)
    settler.stop()
    assert events.results() == ["started", "finished"] * 2


def test_an_index_that_is_let_go_of_is_not_moved_further(settler: Settler, events: Events) -> None:
    """Nor is one that is no longer wanted when its turn comes."""
    under_way, waiting, dropped = Gated(), Gated(), threading.Event()
    settler.offer(offer(under_way, dropped))
    settler.offer(offer(waiting, dropped))
    under_way.begun.wait(WAIT_S)
    dropped.set()
    under_way.gate.set()
    events.wait_for("abandoned")
    settler.stop()
    assert events.results() == ["started", "abandoned"]


def test_it_stops_in_the_middle_of_a_move(settler: Settler, events: Events) -> None:
    """Stopping waits for a step, not for the rest."""
    index = Gated()
    settler.offer(offer(index))
    index.begun.wait(WAIT_S)
    index.gate.set()
    settler.stop()
    assert events.results()[-1] in ("abandoned", "finished")
    settler.offer(offer(Gated()))  # is not an error


def test_a_failed_move_is_told_and_the_thread_lives_on(settler: Settler, events: Events) -> None:
    """The failure has its event, and it can be stopped while it pauses after it."""
    settler.offer(offer(Gated(fails=True)))
    events.wait_for("failed")
    settler.stop()
    assert events.results() == ["started", "failed"]
    assert [event.task for event in events.seen if isinstance(event, TaskFailed)] == ["settle"]


def test_an_index_that_was_moved_is_not_held(settler: Settler, events: Events) -> None:
    """What is unloaded leaves memory at once, not when the next index is moved."""
    index, gone = Gated(), threading.Event()
    held = weakref.ref(index, lambda _: gone.set())
    index.gate.set()
    settler.offer(offer(index))
    del index
    events.wait_for("finished")
    assert gone.wait(WAIT_S)
    assert held() is None


class Long(Gated):
    """Its move has many steps."""

    def settle(self) -> Generator[None, None, None]:
        """See ``VectorIndex.settle``."""
        yield from super().settle()
        for _ in range(100):
            yield


def test_an_index_that_is_let_go_of_is_not_held_while_another_moves(settler: Settler, events: Events) -> None:
    """It need not wait for its turn to leave memory."""
    under_way, waiting, gone, dropped = Long(), Gated(), threading.Event(), threading.Event()
    settler.offer(offer(under_way))
    under_way.begun.wait(WAIT_S)
    held = weakref.ref(waiting, lambda _: gone.set())
    settler.offer(offer(waiting, dropped))
    del waiting
    dropped.set()
    under_way.gate.set()
    assert gone.wait(WAIT_S)
    assert held() is None
    events.wait_for("finished")
    assert events.results() == ["started", "finished"]


def vector(number: int) -> Vector:
    row = np.random.default_rng(number).normal(size=DIMENSION).astype(np.float32)
    unit: Vector = row / np.linalg.norm(row)
    return unit


def draft(number: int) -> Draft:
    identity = identify(Request("n", (Message("user", f"question {number}"),), "m", {}), "e")
    return Draft(identity, Payload(b"r"), identity.text, vector(number), number, 1 << 50)


def test_a_scope_that_grows_is_moved_behind_its_searches(settler: Settler, events: Events) -> None:
    """Every entry is found before, meanwhile and after; the account has its new size; a restart finds lists."""
    store, snapshots = MemoryStore(), MemorySnapshots()
    scope = draft(0).identity.scope

    def views() -> Views:
        return Views(
            store,
            lambda scope: FaissIndex(DIMENSION, Growing(lambda ids: store.vectors(scope, ids), 300)),
            row_bytes=DIMENSION * 2 + 8,
            max_bytes=1 << 20,
            clock=SystemClock(0),
            observer=events,
            behind=Behind(Snapshots(snapshots, store, events, min_rows=100), settler),
        )

    grown = views()
    for first in range(0, 600, 50):
        store.put([draft(n) for n in range(first, first + 50)], None)
        for n in range(first, first + 50, 7):
            (best,) = grown.search(scope, vector(n), 1, None)
            assert best.score == pytest.approx(1, abs=1e-3)
    events.wait_for("finished")
    grown.save_snapshots()
    assert events.results() == ["started", "finished"]
    again = views()
    assert again.search(scope, vector(5), 1, None) == grown.search(scope, vector(5), 1, None)
    assert again.memory_bytes == pytest.approx(grown.memory_bytes, rel=0.2)
    assert list(again.disagreements()) == []
    assert events.results() == ["started", "finished"]
