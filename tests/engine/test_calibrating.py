"""Calibration behind the rounds: pages of labels are read once that is due, and what they come to is put in force."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from cachesvc.adapters.memory import ManualClock, MemoryStore
from cachesvc.adapters.memory_trust import MemoryTrust
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Event, TaskFailed, TrustStands
from cachesvc.core.policy import Policy, PolicyBook
from cachesvc.core.trust import life
from cachesvc.core.trust.labels import NOTHING, Comparator, Label, LabelledCandidate, Origin, Tally
from cachesvc.core.trust.rules import Rule
from cachesvc.engine.analyses import Analyses
from cachesvc.engine.calibrating import Calibrator
from cachesvc.engine.trust import Errands, Trust, TrustOptions
from cachesvc.engine.trust_parts import TrustParts

ROUND_S = 5.0


class PagedTrust(MemoryTrust):
    """Notes what the calibrator reads; reading may be held up, and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def labels(self, namespace: str, after: int, limit: int) -> list[tuple[int, Label]]:
        if threading.current_thread().name == "cachesvc-calibrate":
            assert self.gate.wait(10)
            if self.error is not None:
                raise self.error
            self.pages.append(after)
        return super().labels(namespace, after, limit)


class Bench:
    """A process that leads, with the true life of a namespace."""

    def __init__(self) -> None:
        self.trust = PagedTrust()
        self.clock = ManualClock()
        self.seen: list[Event] = []
        self.book = PolicyBook(Policy(), {})
        parts = TrustParts(
            trust=self.trust,
            store=MemoryStore(),
            policies=lambda: self.book,
            analyses=Analyses(10),
            clock=self.clock,
            observer=self,
        )
        self.calibrator = Calibrator(parts)
        options = TrustOptions(ROUND_S, 300, 10)
        errands = Errands(calibrate=self.calibrator.calibrate)
        self.process = Trust(parts, life, options, lambda: True, errands)

    def on(self, event: Event) -> None:
        self.seen.append(event)

    def round(self) -> None:
        self.clock.advance(int(ROUND_S * 1000))
        self.process.tick()

    def rounds(self, count: int = 1) -> None:
        for _ in range(count):
            self.round()
            self.calibrator.wait()

    def rule(self, namespace: str = "n") -> Rule:
        return self.process.stance(namespace, self.book.of(namespace)).rule

    def failed(self) -> list[tuple[str, Kind]]:
        return [(event.task, event.kind) for event in self.seen if isinstance(event, TaskFailed)]


def labels(count: int, first: int = 0) -> Sequence[Label]:
    """Of a score of .9, nine of ten right."""
    return [
        Label(
            number.to_bytes(16, "big"),
            number,
            Origin.MISS,
            Comparator.TEXT,
            1.0,
            0,
            1,
            None,
            (LabelledCandidate(np.zeros(1, np.float32), 0.9, None, number % 10 != 0),),
        )
        for number in range(first, first + count)
    ]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_namespace_comes_to_confidence(bench: Bench) -> None:
    """None at 999 labels; from 1,000 on the share of right ones, told with its error; read page by page, once."""
    bench.trust.add("n", labels(999), NOTHING)
    bench.rounds(2)
    assert bench.rule().calibration is None
    assert bench.trust.pages == []
    bench.trust.add("n", labels(1, first=999), NOTHING)
    bench.rounds(3)
    assert bench.rule().confidence(0.9) == pytest.approx(0.9, abs=0.01)
    assert len(bench.trust.pages) == 3
    errors = [event.calibration_error for event in bench.seen if isinstance(event, TrustStands)]
    assert errors[0] is None
    assert errors[-1] is not None
    assert errors[-1] < 0.05
    bench.trust.add("n", labels(249, first=1_000), Tally(searched=1))
    bench.rounds(2)
    assert len(bench.trust.pages) == 3
    bench.trust.add("n", labels(1, first=1_249), NOTHING)
    bench.rounds(2)
    assert len(bench.trust.pages) == 6
    state = bench.trust.state("n")
    assert state is not None
    assert (state.confidence.told, state.confidence.made_at) == (1_250, 1_250)


def test_labels_that_come_meanwhile_are_not_lost(bench: Bench) -> None:
    """A round folds on while labels are read; neither undoes what the other made."""
    bench.trust.gate.clear()
    bench.trust.add("n", labels(1_000), NOTHING)
    bench.round()
    bench.trust.add("n", labels(10, first=1_000), NOTHING)
    bench.round()
    bench.trust.gate.set()
    bench.rounds(2)
    state = bench.trust.state("n")
    assert state is not None
    assert (state.applied, state.confidence.told) == (bench.trust.labels("n", 1_009, 9)[-1][0], 1_010)
    assert bench.rule().calibration is not None


def test_namespaces_take_turns(bench: Bench) -> None:
    """Who finds it busy is calibrated in a later round, without further news."""
    bench.trust.gate.clear()
    for name in ("a", "b"):
        bench.trust.add(name, labels(1_000), NOTHING)
    bench.round()
    bench.trust.gate.set()
    bench.calibrator.wait()
    bench.rounds(2)
    assert bench.rule("a").calibration is not None
    assert bench.rule("b").calibration is not None


@pytest.mark.parametrize(
    ("error", "kind"),
    [(CacheError(Kind.UNAVAILABLE, "no"), Kind.UNAVAILABLE), (ValueError(), Kind.INTERNAL)],
    ids=["the store", "a mistake of ours"],
)
def test_a_failure_costs_confidence_only(bench: Bench, error: Exception, kind: Kind) -> None:
    """It is told, and tried again."""
    bench.trust.error = error
    bench.trust.add("n", labels(1_000), NOTHING)
    bench.rounds()
    assert bench.rule().calibration is None
    assert bench.failed() == [("trust_calibrate", kind)]
    bench.trust.error = None
    bench.rounds()
    assert bench.rule().calibration is not None


def test_stopping_leaves_what_is_being_read(bench: Bench) -> None:
    """Nothing is put in force after that, and nothing begun."""
    bench.trust.gate.clear()
    bench.trust.add("n", labels(1_000), NOTHING)
    bench.round()
    stopping: Callable[[], None] = bench.calibrator.stop
    thread = threading.Thread(target=stopping)
    thread.start()
    while not bench.calibrator.is_stopped:
        thread.join(0.001)
    bench.trust.gate.set()
    thread.join()
    bench.rounds()
    assert bench.rule().calibration is None
    assert len(bench.trust.pages) == 1
