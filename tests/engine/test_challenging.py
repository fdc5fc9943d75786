"""Challengers: trained behind the rounds, one at a time; in force when they win, noted when they do not."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from cachesvc.adapters.lmdb_preflight import is_readable
from cachesvc.adapters.memory import ManualClock, MemoryStore
from cachesvc.adapters.memory_trust import MemoryTrust
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Event, TaskFailed
from cachesvc.core.gates import Gate
from cachesvc.core.policy import Policy, PolicyBook, TrustTerms
from cachesvc.core.trust import features as feature_set
from cachesvc.core.trust.labels import NOTHING, Comparator, Label, LabelledCandidate, Origin, Tally
from cachesvc.core.trust.learn import examples
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import TrustState
from cachesvc.engine.analyses import Analyses
from cachesvc.engine.challenging import Challenger, Exercise
from cachesvc.engine.trust import Changed
from cachesvc.engine.trust_parts import TrustParts
from cachesvc.training import Trainer, packed, trained, unpacked

POLICY = Policy(trust=TrustTerms(max_error_rate=0.01))
STATE = TrustState("n", tally=Tally(searched=40, near=20))


def label(n: int, *, same: bool = True) -> Label:
    """Its features tell whether it is right."""
    row = np.zeros(len(feature_set.NAMES), np.float32)
    row[:] = np.random.default_rng(n).normal(size=len(row)) / 10
    row[: len(feature_set.MEASURES)] += 1.0 if same else -1.0
    row[len(feature_set.MEASURES) :] = 0
    candidate = LabelledCandidate(row, 0.8, None, same)
    return Label(
        n.to_bytes(16, "big"),
        n,
        Origin.MISS,
        Comparator.TEXT,
        1.0,
        0,
        feature_set.VERSION,
        None,
        (candidate,),
    )


class Bench:
    def __init__(
        self, train: Callable[[Exercise], Rule | str], let_go: Callable[[], None] = lambda: None
    ) -> None:
        self.trust = MemoryTrust()
        self.clock = ManualClock()
        self.seen: list[Event] = []
        self.state = STATE
        parts = TrustParts(
            trust=self.trust,
            store=MemoryStore(),
            policies=lambda: PolicyBook(POLICY, {}),
            analyses=Analyses(10),
            clock=self.clock,
            observer=self,
        )
        self.challenger = Challenger(parts, train, max_labels=2500, let_go=let_go)

    def on(self, event: Event) -> None:
        self.seen.append(event)

    def apply(self, namespace: str, change: Callable[[TrustState], Changed]) -> None:
        assert namespace == "n"
        self.state = change(self.state).state

    def challenge(self) -> TrustState:
        self.challenger.challenge(self.state, POLICY, self.apply)
        self.challenger.wait()
        return self.state


def test_who_wins_is_put_in_force() -> None:
    """It gets all labels, in order, and how many requests they stand for; its version is the next."""
    asked: list[Exercise] = []

    def wins(exercise: Exercise) -> Rule:
        asked.append(exercise)
        return Rule(exercise.version, 0.9, note="won")

    bench = Bench(wins)
    bench.trust.add("n", [label(n) for n in range(2100)], NOTHING)
    state = bench.challenge()
    assert (state.active, state.rules[-1].note, state.challenger) == (2, "won", "won")
    assert [one.at_ms for one in asked[0].labels] == list(range(2100))
    assert (asked[0].requests, asked[0].max_error_rate, asked[0].version) == (4200, 0.01, 2)
    assert bench.challenge().active == 3


def test_who_does_not_win_is_noted() -> None:
    """The rule stays, and the operator sees why."""
    state = Bench(lambda exercise: "no better").challenge()
    assert (state.active, state.challenger) == (0, "no better")


@pytest.mark.parametrize("error", [CacheError(Kind.UNAVAILABLE, "too slow"), ValueError()], ids=repr)
def test_failures_change_nothing(error: Exception) -> None:
    """They are told; the namespace, which is due in each round, rests for a while, and is trained again then."""

    def fails(exercise: Exercise) -> Rule:
        raise error

    bench = Bench(fails)
    assert bench.challenge() == STATE
    bench.clock.advance(10_000)
    assert bench.challenge() == STATE
    assert [event.task for event in bench.seen if isinstance(event, TaskFailed)] == ["trust_train"]
    bench.clock.advance(3_600_000)
    assert bench.challenge() == STATE
    assert [event.task for event in bench.seen if isinstance(event, TaskFailed)] == ["trust_train"] * 2


def test_one_at_a_time() -> None:
    """While one is trained nobody else's turn comes, and nobody waits."""
    gate, count = threading.Event(), []

    def waits(exercise: Exercise) -> str:
        count.append(1)
        assert gate.wait(10)
        return "no"

    bench = Bench(waits)
    for _ in range(3):
        bench.challenger.challenge(bench.state, POLICY, bench.apply)
    gate.set()
    bench.challenger.wait()
    assert len(count) == 1


def test_nothing_is_touched_after_it_stopped() -> None:
    """What is being trained is let go of and waited for; that it fails is no failure, and nothing more is begun."""
    begun, gate = threading.Event(), threading.Event()

    def hangs(exercise: Exercise) -> Rule:
        begun.set()
        assert gate.wait(10)
        raise CacheError(Kind.UNAVAILABLE, "let go of")

    bench = Bench(hangs, let_go=gate.set)
    bench.challenger.challenge(bench.state, POLICY, bench.apply)
    assert begun.wait(10)
    bench.challenger.stop()
    assert gate.is_set()
    begun.clear()
    assert bench.challenge() == STATE
    assert (begun.is_set(), bench.seen) == (False, [])


def trainers() -> list[str]:
    """Processes of ours that train."""
    children = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split()
    commands = [Path(f"/proc/{child}/cmdline") for child in children]
    return [text for one in commands if "cachesvc.training" in (text := one.read_text())]


def test_a_process_that_trains_is_ended() -> None:
    """At once, and no other one is begun."""
    many = [label(n, same=n % 2 == 0) for n in range(20_000)]
    exercise = Exercise(many, Rule(0, 0.95), 0.01, 0.6, 20_000, 1, 2)
    trainer, kinds = Trainer(), list[Kind]()

    def ask() -> None:
        with pytest.raises(CacheError) as raised:
            trainer(exercise)
        kinds.append(raised.value.kind)

    asking = threading.Thread(target=ask)
    asking.start()
    while not (children := trainers()) and asking.is_alive():
        """Until it was begun."""
    trainer.stop()
    asking.join(10)
    assert children
    assert not trainers()
    assert not asking.is_alive()
    ask()
    assert kinds == [Kind.UNAVAILABLE] * 2


def test_the_working_directory_is_no_place_for_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies where a server was started is not run by its children, though it has the name of a library."""
    for name in ("lmdb", "numpy", "cachesvc"):
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(9)\n")
    (tmp_path / "data.mdb").write_bytes(bytes(100))
    monkeypatch.chdir(tmp_path)
    few = Exercise([label(1)], Rule(0, 0.95), 0.01, 0.6, 20, 1, 2)
    assert Trainer()(few) == "1 labels of 600"
    assert not is_readable(tmp_path / "data.mdb"), "as damaged, and not as what could not be told"


def test_training_is_done_in_a_process_of_its_own() -> None:
    """What it comes to there is what it comes to here: too few labels are told, and enough make a rule or a reason."""
    few = Exercise([label(n) for n in range(10)], Rule(0, 0.95), 0.01, 0.6, 20, 1, 2)
    train = Trainer()
    assert train(few) == "10 labels of 600"
    many = replace(few, labels=[label(n, same=n % 2 == 0) for n in range(1200)], requests=1200)
    assert told(train(many)) == told(trained(many))


def told(outcome: Rule | str) -> tuple[int, float] | str:
    return outcome if isinstance(outcome, str) else (outcome.version, outcome.threshold)


def test_no_request_is_counted_twice() -> None:
    """Hits that were held back stand for all hits; those that were audited stand for the same ones once more."""
    asked: list[Exercise] = []

    def loses(exercise: Exercise) -> Rule | str:
        asked.append(exercise)
        return "no better"

    bench = Bench(loses)
    misses = [label(n) for n in range(100)]
    held_back = [replace(label(n), origin=Origin.HELD_BACK, share=0.1, served=0) for n in range(100, 140)]
    audited = [replace(label(n), origin=Origin.AUDIT, share=0.1, served=0) for n in range(140, 176)]
    bench.trust.add("n", [*misses, *held_back, *audited], NOTHING)
    bench.state = replace(STATE, tally=Tally(searched=1000, near=500, would_hit=400, held_back=40))
    bench.challenge()
    assert asked[0].requests == 1000
    assert examples(asked[0].labels, 0.6).requests == 140


def test_an_exercise_arrives_as_it_was() -> None:
    """Packed small and some at a time, so that requests have their turns meanwhile; labels of any shape."""
    labels = [label(n, same=n % 3 == 0) for n in range(450)]
    labels[7] = replace(labels[7], candidates=())
    short = LabelledCandidate(np.ones(3, np.float32), 0.5, Gate.NUMBER, None)
    labels[8] = replace(labels[8], served=1, candidates=(*labels[8].candidates, short))
    sent = Exercise(labels, Rule(0, 0.95), 0.01, 0.6, 20, 1, 2)
    received = unpacked(BytesIO(packed(sent)))
    assert replace(received, labels=()) == replace(sent, labels=())
    assert list(map(plain, received.labels)) == list(map(plain, sent.labels))
    assert unpacked(BytesIO(packed(replace(sent, labels=())))).labels == []


def plain(one: Label) -> tuple[object, ...]:
    """Arrays have no equality of their own."""
    seen = [(each.features.tolist(), each.score, each.gate, each.same) for each in one.candidates]
    return replace(one, candidates=()), seen


_SERVER = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "cachesvc.training", str(os.getpid())])
print("up", file=sys.stderr, flush=True)
child.wait()
"""


def test_training_ends_with_its_server() -> None:
    """A server that is killed leaves nobody behind who takes a core, and waits for what will not come."""
    here, there = os.pipe()  # nothing comes from there
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stderr is not None
        assert server.stdout is not None
        assert server.stderr.readline() == b"up\n"
        server.send_signal(signal.SIGKILL)
        readable, _, _ = select.select([server.stdout], [], [], 20.0)
        os.close(there)
        os.close(here)
    assert readable, "its output is open as long as it lives"
