"""Stances, counts and rounds: what lookups go by, who makes it, and what a failing store of trust costs."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from cachesvc.adapters.memory import ManualClock, MemoryStore
from cachesvc.adapters.memory_trust import MemoryTrust
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Event, TaskFailed, TrustChanged, TrustStands
from cachesvc.core.policy import Policy, PolicyBook
from cachesvc.core.trust.labels import (
    NOTHING,
    Comparator,
    Label,
    LabelledCandidate,
    News,
    Origin,
    Tally,
)
from cachesvc.core.trust.life import Advance, Audited
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import Stance, Step, TrustState
from cachesvc.engine.analyses import Analyses
from cachesvc.engine.trust import Changed, Errands, Trust, TrustOptions
from cachesvc.engine.trust_parts import TrustParts

ROUND_S = 5.0
LABELS = 3


class ToldTrust(MemoryTrust):
    """Fails by the names of methods."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()
        self.put = 0

    def _fail(self, name: str) -> None:
        if name in self.failing:
            raise CacheError(Kind.UNAVAILABLE, f"{name} fails as told")

    def give_up(self, namespace: str) -> None:
        """As where there are too many."""
        self._sequence += 1
        for held in (self._labels, self._tallies, self._states):
            held.pop(namespace, None)

    def add_all(self, news: Sequence[News]) -> None:
        self._fail("add_all")
        super().add_all(news)

    def sequence(self) -> int:
        self._fail("sequence")
        return super().sequence()

    def state(self, namespace: str) -> TrustState | None:
        self._fail("state")
        return super().state(namespace)

    def put_state(self, state: TrustState) -> bool:
        self._fail("put_state")
        self.put += 1
        return super().put_state(state)


class CountingLife:
    """Every label lowers the threshold by a hundredth; each that is wrong is a step."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.stances = 0
        self.failing: set[str] = set()

    def advance(
        self,
        state: TrustState,
        labels: Sequence[tuple[int, Label]],
        tally: Tally,
        policy: Policy,
        now_ms: int,
    ) -> Advance:
        self.rounds.append(len(labels))
        rule = Rule(state.active + len(labels), policy.min_score - 0.01 * (state.active + len(labels)))
        applied = labels[-1][0] if labels else state.applied
        steps = [Step(now_ms, "wrong") for _, label in labels if not label.candidates[0].same]
        changed = replace(state, applied=applied, rules=(rule,), active=rule.version, tally=tally)
        return Advance(changed, tuple(steps))

    def stance(self, state: TrustState, policy: Policy) -> Stance:
        self.stances += 1
        if state.namespace in self.failing:
            raise ValueError
        return Stance(state.rules[-1] if state.rules else Rule(0, policy.min_score))

    def audited(self, state: TrustState, policy: Policy) -> Audited | None:
        return None

    def is_challenge_due(self, state: TrustState, policy: Policy) -> bool:
        return state.active >= 2 and not state.challenger

    def is_calibration_due(self, state: TrustState, policy: Policy) -> bool:
        return state.active >= 2 and state.confidence.calibration is None


class Bench:
    """A process, or several, over one store of trust."""

    def __init__(self) -> None:
        self.trust = ToldTrust()
        self.clock = ManualClock()
        self.seen: list[Event] = []
        self.book = PolicyBook(Policy(min_score=0.9), {})
        self.life = CountingLife()
        self.parts = TrustParts(
            trust=self.trust,
            store=MemoryStore(),
            policies=lambda: self.book,
            analyses=Analyses(100),
            clock=self.clock,
            observer=self,
        )

    def on(self, event: Event) -> None:
        self.seen.append(event)

    def process(self, *, leads: bool = True, max_namespaces: int = 10) -> Trust:
        return Trust(self.parts, self.life, TrustOptions(ROUND_S, LABELS, max_namespaces), lambda: leads)

    def round(self, *processes: Trust) -> None:
        self.clock.advance(int(ROUND_S * 1000))
        for process in processes:
            process.tick()

    def threshold(self, process: Trust, namespace: str = "n") -> float:
        return round(process.stance(namespace, self.book.of(namespace)).rule.threshold, 4)

    def failed(self) -> list[str]:
        return [event.task for event in self.seen if isinstance(event, TaskFailed)]


def label(n: int, *, same: bool = True) -> Label:
    candidate = LabelledCandidate(np.zeros(1, np.float32), 0.9, None, same)
    return Label(n.to_bytes(16, "big"), n, Origin.MISS, Comparator.TEXT, 1.0, 0, 1, None, (candidate,))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_without_labels_the_policy_decides(bench: Bench) -> None:
    """A namespace of which nothing is known goes by its policy, also by a new one."""
    trust = bench.process()
    assert bench.threshold(trust) == 0.9
    bench.book = PolicyBook(Policy(min_score=0.8), {})
    assert bench.threshold(trust) == 0.8


def test_a_round_makes_of_labels_what_lookups_go_by(bench: Bench) -> None:
    """Labels are folded in once, in order, some at a time, and each step is told; without news nothing is done."""
    trust = bench.process()
    bench.trust.add("n", [label(n, same=n != 2) for n in range(2 * LABELS + 1)], NOTHING)
    trust.tick()
    assert bench.threshold(trust) == 0.9, "no round is due yet"
    bench.round(trust)
    assert bench.threshold(trust) == 0.83
    assert bench.life.rounds == [LABELS, LABELS, 1]
    assert [event for event in bench.seen if isinstance(event, TrustChanged)] == [TrustChanged("n", "wrong")]
    bench.round(trust)
    assert bench.life.rounds == [LABELS, LABELS, 1]
    bench.trust.add("n", [label(99)], NOTHING)
    bench.round(trust)
    assert bench.threshold(trust) == 0.82


def test_who_does_not_lead_follows(bench: Bench) -> None:
    """All processes count; one does the rounds; the others go by what it made within a tick."""
    leader, other = bench.process(), bench.process(leads=False)
    assert bench.threshold(other) == 0.9
    other.count("n", Tally(searched=2))
    leader.count("n", Tally(searched=1, near=1))
    bench.trust.add("n", [label(1)], NOTHING)
    bench.round(other)
    assert bench.life.rounds == []
    assert bench.threshold(other) == 0.9
    bench.round(leader, other)
    assert (bench.threshold(leader), bench.threshold(other)) == (0.89, 0.89)
    assert bench.trust.tally("n") == Tally(searched=3, near=1)


def test_a_change_by_hand_is_not_undone_by_a_round_that_did_not_see_it(bench: Bench) -> None:
    """An operator changes the state through another process; the leader's next round builds on that."""
    leader, other = bench.process(), bench.process(leads=False)
    bench.trust.add("n", [label(1)], NOTHING)
    bench.round(leader)
    changed = other.change("n", lambda state: Changed(replace(state, pinned=True)))
    assert changed.pinned
    bench.trust.add("n", [label(2)], NOTHING)
    bench.round(leader)
    state = bench.trust.state("n")
    assert state is not None
    assert (state.pinned, state.active) == (True, 2)


@pytest.mark.parametrize("failing", ["state", "sequence", "put_state", "add_all"])
def test_a_failing_store_of_trust_costs_trust_only(bench: Bench, failing: str) -> None:
    """Lookups go on by the stance last known, or by the policy; it is told, and made good when it works again."""
    trust = bench.process()
    bench.trust.add("n", [label(1)], NOTHING)
    bench.round(trust)
    assert bench.threshold(trust) == 0.89
    bench.trust.failing = {failing}
    bench.trust.add("n", [label(2)], NOTHING)
    trust.count("n", Tally(searched=1))
    assert bench.threshold(bench.process()) in (0.89, 0.9)
    bench.round(trust)
    assert bench.threshold(trust) in (0.88, 0.89)
    assert bench.failed()
    bench.trust.failing = set()
    bench.round(trust)
    bench.round(trust)
    assert bench.threshold(trust) == 0.88
    assert bench.trust.tally("n") == Tally(searched=1)


def test_how_a_namespace_stands_is_told_when_it_is_another(bench: Bench) -> None:
    """Once when it is first asked for, then with each change."""
    trust = bench.process()
    for _ in range(3):
        bench.threshold(trust)
        bench.round(trust)
    bench.trust.add("n", [label(1)], NOTHING)
    bench.round(trust)
    stood = [event for event in bench.seen if isinstance(event, TrustStands)]
    assert [(event.rule_version, round(event.threshold, 2)) for event in stood] == [(0, 0.9), (1, 0.89)]


def test_memory_is_bounded(bench: Bench) -> None:
    """Namespaces beyond the bound push out others, whose stance is read again, and are not counted."""
    trust = bench.process(max_namespaces=2)
    for name in ("a", "b", "c"):
        bench.threshold(trust, name)
        trust.count(name, Tally(searched=1))
    assert [event.namespace for event in bench.seen if isinstance(event, TrustStands)] == ["a", "b", "c"]
    bench.threshold(trust, "a")
    assert isinstance(bench.seen[-1], TrustStands), "it had to go"
    trust.tick()
    assert bench.trust.namespaces() == ["a", "b"]


def test_names_of_which_nothing_is_known_cost_no_commit(bench: Bench) -> None:
    """Callers choose names: a round puts a state where labels, an operator or the brake made one, and nowhere else."""
    trust = bench.process()
    for n in range(8):
        trust.count(f"n{n}", Tally(searched=1))
    bench.round(trust)
    bench.round(trust)
    assert bench.trust.put == 0
    bench.trust.add("n3", [label(1)], NOTHING)
    bench.round(trust)
    assert bench.trust.put == 1


def test_following_costs_what_changed_only(bench: Bench) -> None:
    """Counts change each second; what a namespace goes by is made anew when its state, or policy, is another."""
    trust = bench.process()
    for n in range(5):
        bench.threshold(trust, f"n{n}")
    made = bench.life.stances
    trust.count("n1", Tally(searched=1))
    trust.tick()
    trust.tick()
    assert bench.life.stances == made
    bench.process().change("n2", lambda state: Changed(replace(state, pinned=True)))
    made = bench.life.stances
    trust.tick()
    assert bench.life.stances == made + 1


def test_what_the_store_gave_up_begins_anew(bench: Bench) -> None:
    """A namespace that had to go from the store of trust goes by its policy, and is not brought back from memory."""
    trust = bench.process(max_namespaces=100)
    bench.trust.add("n", [label(1)], NOTHING)
    bench.round(trust)
    assert bench.threshold(trust) == 0.89
    bench.trust.give_up("n")
    bench.round(trust)
    assert bench.threshold(trust) == 0.9
    bench.trust.add("n", [label(k) for k in range(3)], NOTHING)
    bench.round(trust)
    state = bench.trust.state("n")
    assert state is not None
    assert state.active == 3


def test_whatever_fails_there_costs_trust_and_no_lookup(bench: Bench) -> None:
    """A stance that cannot be made is told once, and the policy decides; others are followed, and so is it, later."""
    trust = bench.process()
    bench.threshold(trust, "m")
    bench.life.failing = {"n"}
    assert [bench.threshold(trust) for _ in range(3)] == [0.9] * 3
    assert bench.failed() == ["trust_stance"]
    bench.trust.add("n", [label(1)], NOTHING)
    bench.trust.add("m", [label(1)], NOTHING)
    bench.round(bench.process(), trust)
    assert (bench.threshold(trust), bench.threshold(trust, "m")) == (0.9, 0.89)
    assert set(bench.failed()) == {"trust_stance", "trust_follow", "trust_fold"}
    bench.life.failing = set()
    bench.round(trust)
    assert bench.threshold(trust) == 0.89


def test_a_stance_that_failed_once_is_made_anew(bench: Bench) -> None:
    """Though nothing in the store changes meanwhile."""
    trust = bench.process()
    bench.life.failing = {"n"}
    bench.threshold(trust)
    bench.life.failing = set()
    trust.tick()
    made = bench.life.stances
    assert (bench.threshold(trust), bench.failed(), bench.life.stances) == (0.9, ["trust_stance"], made)


def test_its_thread_ends_and_keeps_what_was_counted(bench: Bench) -> None:
    """Stopping loses no count."""
    trust = bench.process()
    trust.start()
    trust.count("n", Tally(searched=1))
    trust.stop()
    assert bench.trust.tally("n") == Tally(searched=1)
    assert not any(thread.name == "cachesvc-trust" for thread in threading.enumerate())


def test_a_challenger_is_trained_when_one_is_due(bench: Bench) -> None:
    """What comes of it is put in force, and is not undone by the round that called for it."""

    def challenge(state: TrustState, policy: Policy, apply: Callable[..., object]) -> None:
        step = Step(1, "tried")
        apply(state.namespace, lambda now: Changed(replace(now, challenger="lost"), [step]))

    trust = Trust(
        bench.parts, bench.life, TrustOptions(ROUND_S, LABELS, 10), lambda: True, Errands(challenge)
    )
    bench.trust.add("n", [label(1), label(2)], NOTHING)
    bench.round(trust)
    bench.trust.add("n", [label(3)], NOTHING)
    bench.round(trust)
    state = bench.trust.state("n")
    assert state is not None
    assert (state.active, state.challenger) == (3, "lost")
    assert [event for event in bench.seen if isinstance(event, TrustChanged)] == [TrustChanged("n", "tried")]
