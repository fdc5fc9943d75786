"""Confidence: what labels say of the values of whatever rule is in force."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesvc.core.gates import Gate
from cachesvc.core.policy import Policy, TrustTerms
from cachesvc.core.trust.calibration import MIN_LABELS, calibrate, expected_calibration_error
from cachesvc.core.trust.confidence import (
    MOST_LABELS,
    NOTHING_PICKED,
    UNKNOWN,
    Confidence,
    Picked,
    is_due,
    made,
    picked,
)
from cachesvc.core.trust.features import NAMES, VERSION
from cachesvc.core.trust.labels import NOTHING, Comparator, Label, LabelledCandidate, Origin
from cachesvc.core.trust.life import VOTING, advance, calibrated, deciding, is_calibration_due, stance
from cachesvc.core.trust.records import state_of, state_record
from cachesvc.core.trust.rules import Calibration, Rule
from cachesvc.core.trust.state import TrustState
from cachesvc.core.trust.votes import Voting

COSINE = Rule(0, 0.95)
VOTES = Rule(VOTING, 0.95, model=Voting())
PLAIN = Policy()
CONTROLLED = Policy(trust=TrustTerms(max_error_rate=0.01))

quick = settings(max_examples=15, deadline=None)


def candidate(
    score: float, *, same: bool | None = True, gate: Gate | None = None, agreeing: int = 0
) -> LabelledCandidate:
    row = np.zeros(len(NAMES), np.float32)
    row[NAMES.index("score")] = row[NAMES.index("over_dissent")] = score
    row[NAMES.index("agreeing")] = agreeing
    return LabelledCandidate(row, score, gate, same)


def label(*candidates: LabelledCandidate, number: int = 1, **changes: object) -> Label:
    made_up = Label(
        number.to_bytes(16, "big"),
        number,
        Origin.MISS,
        Comparator.TEXT,
        1.0,
        0,
        VERSION,
        None,
        candidates,
    )
    return replace(made_up, **changes)  # type: ignore[arg-type]  # the names of the fields


def many(count: int, first: int = 1) -> list[tuple[int, Label]]:
    """Of scores from .6 to 1: the higher the likelier right."""
    draw = np.random.default_rng(first)
    return [
        (number, label(candidate(score, same=bool(draw.random() < (score - 0.6) / 0.4)), number=number))
        for number, score in enumerate(draw.uniform(0.6, 1.0, count).tolist(), first)
    ]


def pick(one: Label, rule: Rule) -> tuple[float, bool, float] | None:
    found = picked([(7, one)], rule, 0.6)
    if not len(found.values):
        return None
    return round(float(found.values[0]), 4), bool(found.right[0]), float(found.weights[0])


def numbered(count: int) -> Picked:
    """Picks whose values are their sequences, from 0 on."""
    numbers = np.arange(count)
    return Picked(numbers.astype(np.float64), numbers % 2 == 0, np.ones(count), numbers)


HIGH, LOW, WRONG = candidate(0.9), candidate(0.7), candidate(0.8, same=False)


@pytest.mark.parametrize(
    ("one", "rule", "expected"),
    [
        pytest.param(label(HIGH, LOW), COSINE, (0.9, True, 1.0), id="the best score"),
        pytest.param(
            label(HIGH, candidate(0.88, same=False, agreeing=2)), VOTES, (0.98, False, 1.0), id="the best by votes"
        ),
        pytest.param(
            label(candidate(0.95, gate=Gate.NUMBER), WRONG), COSINE, (0.8, False, 1.0), id="not what a gate refused"
        ),
        pytest.param(label(candidate(0.55)), COSINE, None, id="nothing below the floor"),
        pytest.param(label(candidate(0.9, same=None), LOW), COSINE, None, id="the pick could not be told"),
        pytest.param(
            label(HIGH, WRONG, served=1, origin=Origin.AUDIT, share=0.1),
            COSINE,
            (0.8, False, 10.0),
            id="what was served, for all like it",
        ),
        pytest.param(
            label(HIGH, WRONG, served=1, rule_version=3, origin=Origin.HELD_BACK, share=0.5),
            COSINE,
            (0.9, True, 2.0),
            id="what another rule chose",
        ),
        pytest.param(label(HIGH, origin=Origin.SHADOW, served=0), COSINE, (0.9, True, 1.0), id="shadow"),
        pytest.param(label(HIGH, origin=Origin.FEEDBACK, served=0), COSINE, None, id="a verdict"),
        pytest.param(label(HIGH, origin=Origin.IMPORT), COSINE, None, id="an import"),
        pytest.param(label(HIGH, share=0.0), COSINE, None, id="by no chance that is known"),
        pytest.param(label(HIGH, features_version=VERSION - 1), VOTES, None, id="features of yesterday"),
        pytest.param(
            label(HIGH, features_version=VERSION - 1), COSINE, (0.9, True, 1.0), id="scores need no features"
        ),
        pytest.param(label(HIGH), replace(VOTES, made_ms=2), None, id="what the rule was learned from"),
        pytest.param(label(), VOTES, None, id="nothing was near"),
    ],
)  # fmt: skip
def test_what_a_label_says(one: Label, rule: Rule, expected: tuple[float, bool, float] | None) -> None:
    """The value of the rule's pick, whether it is right, and for how many requests that stands."""
    assert pick(one, rule) == expected


@dataclass(frozen=True)
class Coins:
    """Chances that a hit is withheld, that one that is served is audited, that such an audit is answered, and that it can be
    told what the answer says.
    """

    withheld: float
    audited: float
    answered: float = 1.0
    clear: float = 1.0
    origin: Origin = Origin.HELD_BACK


def of_hits(count: int, coins: Coins) -> Iterator[Label]:
    """Labels of so many hits of one value, all right, as lookups throw coins."""
    draw = np.random.default_rng(count)
    for number in range(count):
        if draw.random() < coins.withheld:
            yield label(HIGH, number=number, origin=coins.origin, share=coins.withheld, served=0)
        elif draw.random() < coins.audited * coins.answered:
            pick = HIGH if draw.random() < coins.clear else candidate(0.9, same=None)
            yield label(pick, number=number, origin=Origin.AUDIT, share=coins.audited, served=0)


COINS = {
    "both": Coins(0.3, 0.4),
    "mostly held back": Coins(0.5, 0.05),
    "mostly audited": Coins(0.05, 0.4),
    "audits that few answer": Coins(0.3, 0.4, answered=0.1),
    "audits that can seldom be told": Coins(0.3, 0.4, clear=0.1),
    "a canary": Coins(0.9, 0.4, origin=Origin.SHADOW),
    "held back alone": Coins(0.3, 0.0),
    "audits alone": Coins(0.0, 0.3),
}


@pytest.mark.parametrize("coins", COINS.values(), ids=COINS.keys())
def test_a_hit_counts_once_beside_misses_of_its_value(coins: Coins) -> None:
    """Whether a coin held it back or another had it audited: as many hits that are right as misses that are wrong are a half."""
    misses = (label(candidate(0.9, same=False), number=number) for number in range(10_000))
    told = [*of_hits(10_000, coins), *misses]
    found = picked(list(enumerate(told)), COSINE, 0.6)
    share = float(found.weights @ found.right / found.weights.sum())
    assert share == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("of", ["values", "sequences"])
def test_only_the_newest_are_kept(of: str) -> None:
    """However many pages are read, memory is bounded."""
    given = numbered(MOST_LABELS // 2 + 1)
    both = getattr(given.plus(given), of)
    assert (len(both), both[0], both[-1]) == (MOST_LABELS, 2, MOST_LABELS // 2)


@quick
@given(st.integers(0, 10_000), st.integers(MIN_LABELS, 3 * MIN_LABELS))
def test_confidence_rises_within_0_and_1(seed: int, count: int) -> None:
    """Whatever the values, the answers and the weights are."""
    draw = np.random.default_rng(seed)
    values = np.round(draw.normal(size=count), int(draw.integers(0, 6)))
    made_of = calibrate(values, draw.random(count) < 0.5, 1 / draw.uniform(0.01, 1.0, count))
    assert made_of is not None
    asked = np.sort(np.concatenate([values, draw.normal(scale=3, size=50)]))
    confidences = np.array([made_of.confidence(value) for value in asked])
    assert (np.diff(confidences) >= 0).all()
    assert 0 < confidences[0] <= confidences[-1] < 1
    assert 0 <= made_of.error <= 1


@quick
@given(st.integers(0, MIN_LABELS - 1), st.floats(1, 100))
def test_weights_do_not_make_up_for_labels(count: int, weight: float) -> None:
    """Below 1,000 labels there is none, for however many requests they stand."""
    assert calibrate(np.ones(count), np.ones(count, bool), np.full(count, weight)) is None


@quick
@given(st.integers(0, 10_000))
def test_a_weight_is_a_repetition(seed: int) -> None:
    """A label that stands for three says what three labels say; but for the half label towards the middle."""
    draw = np.random.default_rng(seed)
    values = draw.integers(0, 12, 1_500) / 12  # a step for each
    right = draw.random(1_500) < values
    weights = draw.integers(1, 4, 1_500)
    weighted = calibrate(values, right, weights.astype(np.float64))
    repeated = calibrate(np.repeat(values, weights), np.repeat(right, weights))
    assert weighted is not None
    assert repeated is not None
    assert weighted.values == pytest.approx(repeated.values)
    assert weighted.confidences == pytest.approx(repeated.confidences, abs=0.02)
    assert expected_calibration_error(values, right, weights.astype(np.float64)) == pytest.approx(
        expected_calibration_error(np.repeat(values, weights), np.repeat(right, weights))
    )


@quick
@given(st.integers(0, 10_000), st.floats(0.1, 50))
def test_weights_that_are_all_alike_say_nothing(seed: int, weight: float) -> None:
    """They are shares, not evidence."""
    draw = np.random.default_rng(seed)
    values = draw.random(1_200)
    right = draw.random(1_200) < values
    plain, weighted = calibrate(values, right), calibrate(values, right, np.full(1_200, weight))
    assert plain is not None
    assert weighted is not None
    assert weighted.confidences == pytest.approx(plain.confidences)
    assert weighted.error == pytest.approx(plain.error)


def test_hits_that_are_seldom_labelled_count_for_all() -> None:
    """Where served hits are right and misses of the same value are wrong, one audit in ten weighs as ten misses."""
    hits, misses = 500, 5_000
    values = np.full(hits + misses, 0.9)
    right = np.arange(hits + misses) % 11 == 0
    weights = np.where(right, 10.0, 1.0)
    made_of = calibrate(values, right, weights)
    assert made_of is not None
    assert made_of.confidence(0.9) == pytest.approx(0.5, abs=0.01)


def test_the_error_is_measured_on_what_came_later() -> None:
    """Values that told in the first half and lie in the second are found out."""
    draw = np.random.default_rng(1)
    values = draw.random(4_000)
    right = draw.random(4_000) < values
    steady = calibrate(values, right)
    turned = calibrate(values, np.where(np.arange(4_000) < 2_000, right, ~right))
    assert steady is not None
    assert turned is not None
    assert steady.error < 0.05
    assert turned.error > 0.15


@pytest.mark.parametrize(
    ("told", "made_at", "version", "due"),
    [
        pytest.param(MIN_LABELS - 1, 0, 0, False, id="too few"),
        pytest.param(MIN_LABELS, 0, 0, True, id="enough for the first time"),
        pytest.param(1_249, 1_000, 0, False, id="not a quarter more"),
        pytest.param(1_250, 1_000, 0, True, id="a quarter more"),
        pytest.param(1_001, 1_000, 2, True, id="of another rule"),
        pytest.param(104_999, 100_000, 0, False, id="not a quarter of what it is made from"),
        pytest.param(105_000, 100_000, 0, True, id="a quarter of what it is made from"),
    ],
)
def test_when_it_is_made_anew(told: int, made_at: int, version: int, *, due: bool) -> None:
    """When labels have grown by a quarter, or the rule is another."""
    assert is_due(Confidence(told, made_at, version), COSINE) is due


def test_what_is_too_old_is_not_read_again() -> None:
    """Once there are more labels than count, reading begins at the first that does."""
    given = NOTHING_PICKED.plus(numbered(MOST_LABELS + 11))
    assert made(UNKNOWN, COSINE, given).after == 10
    assert made(UNKNOWN, COSINE, picked(many(1_000), COSINE, 0.6)).after == 0


def round_of(state: TrustState, labels: Sequence[tuple[int, Label]], policy: Policy) -> TrustState:
    """Fold labels in, and calibrate where that is due."""
    after = advance(state, labels, NOTHING, policy, 5).state
    rule = deciding(after, policy)
    if not is_calibration_due(after, policy):
        return after
    return calibrated(after, rule, picked(labels, rule, policy.trust.floor_score))


@pytest.mark.parametrize("policy", [PLAIN, CONTROLLED], ids=["rule 0", "votes"])
def test_any_rule_has_confidence_once_there_are_labels(policy: Policy) -> None:
    """From 1,000 labels on, that of its own values, near what is true of them; before there is none."""
    few = round_of(TrustState("shop"), many(999), policy)
    assert stance(few, policy).rule.confidence(0.9) is None
    enough = round_of(TrustState("shop"), many(2_000), policy)
    rule = stance(enough, policy).rule
    assert rule.version == (0 if policy is PLAIN else VOTING)
    assert rule.confidence(0.8) == pytest.approx(0.5, abs=0.12)
    assert not is_calibration_due(enough, policy)
    assert state_of(json.loads(json.dumps(state_record(enough)))) == enough


def test_confidence_is_of_the_rule_that_decides() -> None:
    """What was known of scores says nothing of votes; no label is counted twice."""
    scores = round_of(TrustState("shop"), many(2_000), PLAIN)
    assert stance(scores, CONTROLLED).rule.calibration is None
    assert is_calibration_due(scores, CONTROLLED)
    votes = round_of(scores, many(1_000, first=3_000), CONTROLLED)
    assert votes.confidence.rule_version == VOTING
    assert votes.confidence.told == 3_000
    assert stance(votes, CONTROLLED).rule.calibration is not None
    assert stance(votes, PLAIN).rule.calibration is None


def test_a_learned_rule_brings_its_own_until_more_is_known() -> None:
    """Labels that it was learned from say nothing of it."""
    own = Calibration((0.5,), (0.7,), 0.01)
    learned = replace(VOTES, version=2, made_ms=10_000, calibration=own)
    state = replace(round_of(TrustState("shop"), many(2_000), CONTROLLED), rules=(learned,), active=2)
    assert stance(state, CONTROLLED).rule.calibration == own
    seen = calibrated(state, learned, picked(many(2_000), learned, 0.6))
    assert seen.confidence.calibration is None
    assert stance(seen, CONTROLLED).rule.calibration == own
    later = calibrated(state, learned, picked(many(2_000, first=10_000), learned, 0.6))
    assert stance(later, CONTROLLED).rule.calibration == later.confidence.calibration
    assert later.confidence.calibration is not None


def test_verdicts_and_a_state_from_before_count_for_nothing() -> None:
    """What is no sample does not bring confidence nearer; a state without confidence is read as one of which nothing is known."""
    verdicts = [(number, replace(one, origin=Origin.FEEDBACK)) for number, one in many(50)]
    after = round_of(TrustState("shop"), verdicts, PLAIN)
    assert after.confidence == UNKNOWN
    record = state_record(after)
    del record["confidence"]
    assert state_of(record) == after


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param("much", id="in words"),
        pytest.param({"told": 1}, id="half of it"),
        pytest.param(
            {"told": 1.5, "made_at": 0, "rule_version": 0, "calibration": None, "after": 0}, id="half a label"
        ),
        pytest.param(
            {"told": 1, "made_at": 0, "rule_version": 0, "calibration": {"values": [0]}, "after": 0},
            id="values without confidences",
        ),
    ],
)
def test_broken_confidence_is_refused(broken: object) -> None:
    """What a store gives back is believed only when it makes sense."""
    with pytest.raises(ValueError, match=r"."):
        state_of({**state_record(TrustState("shop")), "confidence": broken})
