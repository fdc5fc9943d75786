"""The brake: when it closes, when it opens, and that it does not flap."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cachesvc.core.gates import Gate
from cachesvc.core.policy import TrustTerms
from cachesvc.core.trust import brake
from cachesvc.core.trust.brake import MAX_WAIT_MS, WAIT_MS, Turn
from cachesvc.core.trust.detector import UNSEEN
from cachesvc.core.trust.labels import Origin
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import Brake, Braking, Stance, Step
from tests.labels import make_label

_RULE = Rule(0, 0.95)
_TERMS = TrustTerms()
_OPEN = Stance(_RULE, audit_share=0.01)
_TIGHT_SCORE, _LOOSE_SCORE = 0.98, 0.96
_DAY_MS = 86_400_000


class _Driven:
    """A brake that labels are folded into."""

    def __init__(self, terms: TrustTerms = _TERMS) -> None:
        self.terms = terms
        self.braking = Braking()
        self.steps: list[Step] = []
        self.now_ms = 0

    def told(self, *, same: bool, origin: Origin = Origin.AUDIT, score: float = _TIGHT_SCORE) -> None:
        label = make_label(same=same, origin=origin, score=score, at_ms=self.now_ms)
        self._take(brake.fold(self.braking, label, _RULE, self.terms))

    def waits(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        self._take(brake.tick(self.braking, self.terms, self.now_ms))

    def is_at(self, level: Brake) -> bool:
        return self.braking.level is level

    def until(self, level: Brake, *, same: bool, origin: Origin = Origin.AUDIT) -> int:
        for count in range(1, 1000):
            self.told(same=same, origin=origin)
            if self.braking.level is level:
                return count
        raise AssertionError(level)

    def _take(self, turn: Turn) -> None:
        self.braking = turn.braking
        if turn.step is not None:
            self.steps.append(turn.step)


def test_wrong_hits_close_it_step_by_step_and_right_ones_open_it() -> None:
    """Open, tight, exact-only, and back the same way, each by evidence of its own."""
    driven = _Driven()
    driven.until(Brake.TIGHT, same=False)
    driven.until(Brake.EXACT_ONLY, same=False)
    driven.until(Brake.TIGHT, same=True, origin=Origin.SHADOW)
    driven.until(Brake.OPEN, same=True)
    words = [step.what.split(":")[0] for step in driven.steps]
    assert words == [
        "brake open → tight",
        "brake tight → exact_only",
        "brake exact_only → tight",
        "brake tight → open",
    ]


def test_every_step_says_why() -> None:
    """Counts, interval and target, in words."""
    driven = _Driven()
    count = driven.until(Brake.TIGHT, same=False)
    what = driven.steps[0].what
    assert f"{count} of the last {count}" in what
    assert "with 95 % confidence" in what
    assert "above the target of 5.00%" in what


def test_one_wrong_hit_closes_nothing() -> None:
    """Neither the first, nor the second: evidence takes more."""
    driven = _Driven()
    driven.told(same=False)
    driven.told(same=False)
    assert driven.is_at(Brake.OPEN)


def test_in_exact_only_misses_that_label_themselves_are_the_evidence() -> None:
    """What would have been served is judged by the fresh answers, and it opens in less than the shortest wait."""
    driven = _Driven()
    driven.until(Brake.TIGHT, same=False)
    driven.until(Brake.EXACT_ONLY, same=False)
    assert driven.until(Brake.TIGHT, same=True, origin=Origin.SHADOW) < 200
    assert driven.now_ms == 0


def test_while_tight_what_only_the_open_rule_would_serve_is_judged_too() -> None:
    """Right hits above the tight threshold do not open it while the misses below it would be wrong hits."""
    driven = _Driven()
    driven.until(Brake.TIGHT, same=False)
    for _ in range(300):
        driven.told(same=True)
        driven.told(same=False, origin=Origin.MISS, score=_LOOSE_SCORE)
    assert driven.is_at(Brake.TIGHT)


def test_late_labels_of_looser_hits_do_not_close_further() -> None:
    """What was served before it was tightened says nothing of what is served since."""
    driven = _Driven()
    driven.until(Brake.TIGHT, same=False)
    for _ in range(50):
        driven.told(same=False, score=_LOOSE_SCORE)
    assert driven.is_at(Brake.TIGHT)


def test_what_nothing_bears_out_opens_after_a_bounded_time() -> None:
    """Without any evidence a level lasts for its wait, which doubles with each trip up to its most."""
    driven = _Driven()
    driven.until(Brake.TIGHT, same=False)
    driven.waits(WAIT_MS - 1)
    assert driven.is_at(Brake.TIGHT)
    driven.waits(1)
    assert driven.is_at(Brake.OPEN)
    driven.until(Brake.TIGHT, same=False)
    assert brake.wait_ms(driven.braking) == 2 * WAIT_MS
    for _ in range(10):
        driven.until(Brake.EXACT_ONLY, same=False)
        driven.waits(MAX_WAIT_MS)
    assert brake.wait_ms(driven.braking) == MAX_WAIT_MS


def test_what_is_borne_out_does_not_open_by_time() -> None:
    """While would-be hits go on being wrong the wait begins anew each time that is credible."""
    driven = _Driven()
    driven.until(Brake.TIGHT, same=False)
    driven.until(Brake.EXACT_ONLY, same=False)
    for _ in range(200):
        for _ in range(20):
            driven.told(same=False, origin=Origin.SHADOW)
        driven.waits(WAIT_MS // 2)
    assert driven.is_at(Brake.EXACT_ONLY)


def test_trips_are_forgotten_after_a_calm_day() -> None:
    """A brake that stayed open long enough waits as shortly as the first time."""
    driven = _Driven()
    driven.until(Brake.TIGHT, same=False)
    driven.waits(WAIT_MS)
    driven.waits(_DAY_MS)
    assert (driven.braking.level, driven.braking.trips) == (Brake.OPEN, 0)


@pytest.mark.parametrize("origin", [Origin.FEEDBACK, Origin.IMPORT])
def test_complaints_do_not_close_it(origin: Origin) -> None:
    """Those who complain are no sample; one caller could close a namespace."""
    driven = _Driven()
    for _ in range(100):
        driven.told(same=False, origin=origin)
    assert driven.is_at(Brake.OPEN)


def test_gated_candidates_say_nothing() -> None:
    """What a gate refuses would not have been served."""
    tight = Braking(Brake.TIGHT, target=0.05)
    gated = make_label(origin=Origin.MISS, same=False, score=_LOOSE_SCORE, gate=Gate.NUMBER)
    assert brake.fold(tight, gated, _RULE, _TERMS).braking == tight


def test_another_target_begins_anew() -> None:
    """Evidence against one target is none against another."""
    driven = _Driven()
    driven.told(same=False)
    driven.terms = TrustTerms(max_false_hit_rate=0.2)
    driven.waits(1)
    assert driven.braking.worse == UNSEEN


@pytest.mark.parametrize(
    ("level", "threshold", "audit_share"),
    [(Brake.OPEN, 0.95, 0.01), (Brake.TIGHT, 0.975, 0.2), (Brake.EXACT_ONLY, 0.975, 0.0)],
    ids=str,
)
def test_what_lookups_go_by(level: Brake, threshold: float, audit_share: float) -> None:
    """Tight: half as far from certain, and audited as much as may be. Exact-only: judged by the tight rule."""
    stance = brake.braked(_OPEN, Braking(level), _TERMS)
    assert (stance.brake, stance.audit_share) == (level, audit_share)
    assert stance.rule.threshold == pytest.approx(threshold)


@pytest.mark.parametrize("threshold", [-0.5, 0.6, 0.95, 1.0, 2.0])
def test_tightened_is_never_looser(threshold: float) -> None:
    """Whatever the threshold, and on a rule that serves nothing."""
    assert brake.tightened(Rule(0, threshold)).threshold >= threshold


def test_false_alarms_are_rare() -> None:
    """At the target itself, of 80 runs of 1,000 audits each, no more close than 1.2 in 100 and chance."""
    rng = np.random.default_rng(5)
    closed = 0
    for _ in range(80):
        driven = _Driven()
        for wrong in (rng.random(1_000) < _TERMS.max_false_hit_rate).tolist():
            driven.told(same=not wrong)
        closed += bool(driven.steps)
    assert closed <= 4


@pytest.mark.parametrize("times", [1.0, 1.5, 4.0], ids=lambda times: f"{times} times the target")
def test_it_does_not_flap(times: float) -> None:
    """Ten days at a rate that stays where it is: two steps a day or fewer, once the first waits are over."""
    rng = np.random.default_rng(11)
    driven = _Driven()
    for _ in range(10 * 24):
        for wrong in (rng.random(20) < _TERMS.max_false_hit_rate * times).tolist():
            origin = Origin.SHADOW if driven.braking.level is Brake.EXACT_ONLY else Origin.AUDIT
            driven.told(same=not wrong, origin=origin)
        driven.waits(3_600_000)
    assert len(driven.steps) <= 20


class BrakeMachine(RuleBasedStateMachine):
    """Whatever is told in whatever order: one level at a time, and never stuck."""

    def __init__(self) -> None:
        super().__init__()
        self.driven = _Driven()
        self.levels = [Brake.OPEN]

    @rule(
        count=st.integers(1, 30),
        same=st.booleans(),
        origin=st.sampled_from(list(Origin)),
        score=st.sampled_from([0.9, _LOOSE_SCORE, _TIGHT_SCORE]),
    )
    def tell(self, count: int, origin: Origin, score: float, *, same: bool) -> None:
        for _ in range(count):
            self.driven.told(same=same, origin=origin, score=score)
            self.levels.append(self.driven.braking.level)

    @rule(passed_ms=st.integers(0, _DAY_MS))
    def wait(self, passed_ms: int) -> None:
        self.driven.waits(passed_ms)
        self.levels.append(self.driven.braking.level)

    @invariant()
    def changes_one_level_at_a_time(self) -> None:
        order = list(Brake)
        places = [order.index(level) for level in self.levels]
        assert all(abs(one - other) <= 1 for one, other in pairwise(places))

    @invariant()
    def has_a_step_for_every_change(self) -> None:
        changes = sum(one is not other for one, other in pairwise(self.levels))
        assert changes == len(self.driven.steps)

    @invariant()
    def survives_its_record(self) -> None:
        braking = self.driven.braking
        assert brake.from_record(json.loads(json.dumps(brake.to_record(braking)))) == braking

    @invariant()
    def opens_at_last(self) -> None:
        left = _Driven()
        left.braking, left.now_ms = self.driven.braking, self.driven.now_ms
        left.waits(MAX_WAIT_MS)
        left.waits(MAX_WAIT_MS)
        assert left.braking.level is Brake.OPEN


TestBrakeMachine = BrakeMachine.TestCase
TestBrakeMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("record", [{}, {"level": "ajar"}, {"worse": 1}], ids=str)
def test_other_records_are_refused(record: dict[str, object]) -> None:
    """A record that is none is an error, not a guess."""
    with pytest.raises(ValueError, match=r"not a record|ajar"):
        brake.from_record(record)


def test_a_clock_that_was_set_back_does_not_lock_it() -> None:
    """A level that began in what is the future now waits from now on, and says so once."""
    braking = Braking(level=Brake.EXACT_ONLY, since_ms=10**15, trips=1, target=_TERMS.max_false_hit_rate)
    noticed = brake.tick(braking, _TERMS, 5)
    assert noticed.step is not None
    assert noticed.braking.since_ms == 5
    assert brake.tick(noticed.braking, _TERMS, 6).step is None
    assert brake.tick(noticed.braking, _TERMS, 5 + WAIT_MS).braking.level is Brake.TIGHT


def test_hits_that_were_served_below_the_threshold_close_it_too() -> None:
    """A second opinion may have let them pass: while it is open, whatever was served is judged."""
    driven = _Driven()
    for _ in range(100):
        driven.told(same=False, score=_RULE.threshold - 0.1)
    assert driven.is_at(Brake.TIGHT)
