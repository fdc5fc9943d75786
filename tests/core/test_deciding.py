"""When a stored response may be served, which of several, by whose terms, and why none."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from cachesvc.core.deciding import (
    Bar,
    Beside,
    Known,
    Terms,
    closed,
    decide,
    refuse,
    served_share,
    withheld,
)
from cachesvc.core.gates import DEFAULT_GATES, analyse
from cachesvc.core.policy import Mode, Policy, TrustTerms
from cachesvc.core.trust.rules import Calibration, Rule
from cachesvc.core.trust.state import Brake
from cachesvc.core.types import (
    Ask,
    Candidate,
    Decision,
    Entry,
    Identity,
    Lost,
    Outcome,
    Payload,
    Request,
    Row,
)

NOW_MS = 1_000_000


def entry(
    entry_id: int, created_ms: int = NOW_MS - 100, expires_ms: int = NOW_MS + 100, prompt: str = "p"
) -> Entry:
    return Entry(
        id=entry_id,
        namespace="n",
        model="m",
        context=b"c",
        scope=b"s",
        exact_key=b"k",
        prompt=prompt,
        payload=Payload(b"r"),
        created_ms=created_ms,
        expires_ms=expires_ms,
    )


def terms(max_age_ms: int | None = None) -> Terms:
    return Terms(NOW_MS, max_age_ms, {})


def bar(threshold: float = 0.9, rule: Rule | None = None, grey: float | None = None) -> Bar:
    """The bar of a policy with this threshold, or with a floor of 0.6 under a rule."""
    policy = Policy(min_score=threshold, trust=TrustTerms(verify_min_score=grey))
    return Bar.of(policy, ask(), rule or Rule(0, threshold), verifies=True)


def ask(min_score: float | None = None) -> Ask:
    return Ask(Request("n", (), "m", {}), min_score=min_score, max_age_ms=7, sources={"doc": "2"})


def beside(text: str = "what is asked", vetoed: frozenset[int] = frozenset()) -> Beside:
    identity = Identity("n", "m", b"c", b"s", b"asked", text)
    known = Known(
        lambda row: analyse(row.prompt), lambda row: row.payload.response, lambda row: row.id in vetoed
    )
    return Beside(identity, terms(), DEFAULT_GATES, known)


def decided(
    scores: Mapping[int, float], rows: Mapping[int, Row], bar: Bar, beside: Beside
) -> tuple[Decision, list[int]]:
    """The decision, and the rows that were read for it."""
    read: list[int] = []

    def row_of(candidate: Candidate) -> Row:
        read.append(candidate.entry_id)
        return rows[candidate.entry_id]

    candidates = [Candidate(entry_id, score) for entry_id, score in scores.items()]
    return decide(candidates, bar, beside, row_of), list(dict.fromkeys(read))


GOOD, OTHER = entry(1), entry(2)
EXPIRED = entry(3, expires_ms=NOW_MS)
GONE, CORRUPT = Lost(4, corrupt=False), Lost(5, corrupt=True)


@pytest.mark.parametrize(
    ("row", "max_age_ms", "reason"),
    [
        pytest.param(GOOD, None, None, id="good"),
        pytest.param(entry(1, expires_ms=NOW_MS + 1), None, None, id="expires next"),
        pytest.param(EXPIRED, None, Outcome.MISS_EXPIRED, id="expires now"),
        pytest.param(entry(1, expires_ms=NOW_MS - 1), None, Outcome.MISS_EXPIRED, id="expired"),
        pytest.param(GOOD, 100, None, id="as old as allowed"),
        pytest.param(GOOD, 99, Outcome.MISS_TOO_OLD, id="older than allowed"),
        pytest.param(GOOD, 0, Outcome.MISS_TOO_OLD, id="no age allowed"),
        pytest.param(entry(1, created_ms=NOW_MS), 0, None, id="made this instant"),
        pytest.param(EXPIRED, 1, Outcome.MISS_EXPIRED, id="expired goes before too old"),
        pytest.param(GONE, None, Outcome.MISS_ENTRY_GONE, id="gone"),
        pytest.param(CORRUPT, None, Outcome.MISS_CORRUPT, id="corrupt"),
    ],
)
def test_why_a_row_is_refused(row: Row, max_age_ms: int | None, reason: Outcome | None) -> None:
    """A row that matches is served unless it is lost, expired or too old."""
    assert refuse(row, terms(max_age_ms=max_age_ms)) is reason


@pytest.mark.parametrize(
    ("scores", "threshold", "count"),
    [
        pytest.param([], 0.9, 0, id="none"),
        pytest.param([0.95, 0.9, 0.89], 0.9, 2, id="the threshold itself is enough"),
        pytest.param([0.5], 0.9, 0, id="below"),
        pytest.param([1.0000001, 0.2], 1.0, 1, id="rounding above one"),
        pytest.param([0.3, -0.9], -1.0, 2, id="everything"),
        pytest.param([float("nan")], -1.0, 0, id="not a number"),
    ],
)
def test_whose_rows_are_worth_reading(scores: list[float], threshold: float, count: int) -> None:
    """Candidates at or above the threshold are worth reading, in their order."""
    candidates = [Candidate(n, score) for n, score in enumerate(scores)]
    assert bar(threshold).in_reach(candidates) == candidates[:count]


@pytest.mark.parametrize(
    ("scores", "rows", "outcome", "served"),
    [
        pytest.param({}, {}, Outcome.MISS_EMPTY, None, id="nothing stored"),
        pytest.param({1: 0.89}, {}, Outcome.MISS_BELOW_THRESHOLD, None, id="too far"),
        pytest.param({1: 0.9}, {1: GOOD}, Outcome.HIT_SEMANTIC, GOOD, id="at the threshold"),
        pytest.param({2: 0.99, 1: 0.95}, {1: GOOD, 2: OTHER}, Outcome.HIT_SEMANTIC, OTHER, id="best first"),
        pytest.param({3: 0.99, 1: 0.95}, {3: EXPIRED, 1: GOOD}, Outcome.HIT_SEMANTIC, GOOD, id="next best"),
        pytest.param({3: 0.99, 1: 0.5}, {3: EXPIRED}, Outcome.MISS_EXPIRED, None, id="next is too far"),
        pytest.param(
            {4: 0.99, 5: 0.98}, {4: GONE, 5: CORRUPT}, Outcome.MISS_ENTRY_GONE, None, id="the best's reason"
        ),
        pytest.param(
            {5: 0.99, 3: 0.98}, {5: CORRUPT, 3: EXPIRED}, Outcome.MISS_CORRUPT, None, id="the corrupt one's"
        ),
    ],
)
def test_what_is_decided(
    scores: Mapping[int, float], rows: Mapping[int, Row], outcome: Outcome, served: Entry | None
) -> None:
    """The best candidate that may be served is; else the best one's reason is given."""
    decision, _ = decided(scores, rows, bar(), beside())
    assert decision.outcome is outcome
    assert decision.entry is served
    assert decision.score == (scores[served.id] if served is not None else None)
    assert decision.best_score == next(iter(scores.values()), None)


@pytest.mark.parametrize(
    ("floor", "asked", "threshold"),
    [
        pytest.param(0.95, None, 0.95, id="not asked"),
        pytest.param(0.95, 0.99, 0.99, id="tighter"),
        pytest.param(0.95, 1.0, 1.0, id="identical only"),
        pytest.param(0.95, 0.5, 0.95, id="looser is ignored"),
        pytest.param(0.95, 0.0, 0.95, id="zero is looser"),
        pytest.param(0.95, -1.0, 0.95, id="least"),
        pytest.param(0.95, float("nan"), 0.95, id="not a number"),
        pytest.param(0.0, 0.5, 0.5, id="tighter than zero"),
        pytest.param(-0.5, 0.0, 0.0, id="zero tightens a negative floor"),
        pytest.param(-1.0, None, -1.0, id="no floor"),
    ],
)
def test_a_caller_only_tightens(floor: float, asked: float | None, threshold: float) -> None:
    """The threshold is the higher of the policy's and the caller's."""
    made = Bar.of(Policy(min_score=floor), ask(asked), Rule(0, floor), verifies=True)
    assert (made.threshold, made.least_score) == (threshold, threshold)


def test_terms_are_the_requests() -> None:
    """How old an entry may be, and from which sources, says who asks."""
    assert Terms.of(ask(), NOW_MS) == Terms(NOW_MS, 7, {"doc": "2"})


class Told:
    """A model that gives candidates the values told, by place."""

    kind: Literal["learned"] = "learned"
    importance: Mapping[str, float] = {}

    def __init__(self, *values: float) -> None:
        self._values = np.array(values)
        self.shown: list[NDArray[np.float32]] = []

    def values(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        self.shown.append(features)
        return self._values[: len(features)]

    def to_record(self) -> dict[str, object]:
        raise NotImplementedError  # nobody keeps this one


@pytest.mark.parametrize(
    ("rule", "asked", "threshold", "least_score"),
    [
        pytest.param(Rule(0, 0.9), None, 0.9, 0.9, id="the policy's threshold"),
        pytest.param(Rule(0, 0.97), None, 0.97, 0.9, id="tightened by the brake"),
        pytest.param(Rule(0, 0.5), None, 0.9, 0.9, id="never below the policy's"),
        pytest.param(Rule(3, 0.8), None, 0.8, 0.6, id="a rule that was made goes below it"),
        pytest.param(Rule(3, 0.4), None, 0.6, 0.6, id="never below the floor"),
        pytest.param(Rule(3, 0.8), 0.99, 0.99, 0.99, id="the caller tightens"),
        pytest.param(Rule(3, 0.8), 0.1, 0.8, 0.6, id="and never loosens"),
        pytest.param(Rule(4, 0.3, model=Told()), None, 0.3, 0.6, id="a learned value is no score"),
        pytest.param(Rule(4, 0.3, model=Told()), 0.95, 0.3, 0.95, id="the caller's score beside it"),
    ],
)
def test_what_a_candidate_must_reach(
    rule: Rule, asked: float | None, threshold: float, least_score: float
) -> None:
    """The rule in force decides, within what policy and caller allow."""
    made = Bar.of(Policy(min_score=0.9), ask(asked), rule, verifies=False)
    assert (made.threshold, made.least_score) == (threshold, least_score)


def test_a_learned_rule_serves_the_best_value_first() -> None:
    """Its own order decides, not the score's; what it gives and how sure that is comes with the hit."""
    rule = Rule(2, 0.5, model=Told(0.6, 0.9, 0.2), calibration=Calibration((0.0, 1.0), (0.0, 1.0), 0.01))
    decision, _ = decided(
        {1: 0.9, 2: 0.8, 6: 0.7}, {1: GOOD, 2: OTHER, 6: entry(6)}, bar(rule=rule), beside()
    )
    assert decision.entry is OTHER
    assert (decision.score, decision.best_score, decision.value) == (0.8, 0.9, 0.9)
    assert decision.confidence == pytest.approx(0.9)


def test_a_learned_rule_never_serves_below_the_floor() -> None:
    """A score under floor_score is out of its reach, whatever the value; it is not even shown."""
    model = Told(0.1, 0.9)
    decision, read = decided(
        {1: 0.61, 2: 0.59}, {1: GOOD, 2: OTHER}, bar(rule=Rule(2, 0.5, model=model)), beside()
    )
    assert decision.outcome is Outcome.MISS_BELOW_THRESHOLD
    assert read == [1]
    assert [len(shown) for shown in model.shown] == [1]


def test_a_caller_tightens_a_learned_rule() -> None:
    """Whatever its value, who scores below what the caller asks is not served; the next may be."""
    rule = Rule(2, 0.5, model=Told(0.9, 0.8))
    policy, scores, rows = Policy(), {1: 0.97, 2: 0.96}, {1: GOOD, 2: OTHER}
    for asked, served in ((None, GOOD), (0.965, GOOD), (0.98, None)):
        made = Bar.of(policy, ask(asked), rule, verifies=False)
        assert decided(scores, rows, made, beside())[0].entry is served


def test_a_model_is_shown_what_is_learned_from() -> None:
    """What is lost, expired or the identical request's is no candidate of a label, and none here."""
    identical = replace(entry(7), exact_key=b"asked")
    model = Told(0.1)
    rows: Mapping[int, Row] = {3: EXPIRED, 4: GONE, 7: identical, 1: GOOD}
    decided({3: 0.95, 4: 0.94, 7: 0.93, 1: 0.92}, rows, bar(rule=Rule(2, 0.5, model=model)), beside())
    assert [len(shown) for shown in model.shown] == [1]
    nothing, _ = decided({4: 0.94}, rows, bar(rule=Rule(2, 0.5, model=model)), beside())
    assert nothing.outcome is Outcome.MISS_BELOW_THRESHOLD


def test_confidence_is_absent_where_nothing_is_known() -> None:
    """Without a calibration none is made up."""
    decision, _ = decided({1: 0.95}, {1: GOOD}, bar(), beside())
    assert (decision.confidence, decision.value) == (None, None)


TWO, THREE = entry(11, prompt="two eggs"), entry(12, prompt="three eggs, boiled 3 minutes")


def test_a_gate_refuses_and_is_named() -> None:
    """When all fail the best one's reason is given, with the gate."""
    decision, _ = decided({12: 0.99, 4: 0.95}, {12: THREE, 4: GONE}, bar(), beside("boil for 4 minutes"))
    assert decision.outcome is Outcome.MISS_GATED
    assert decision.gate is not None
    assert decision.entry is None


def test_the_second_may_pass_where_the_best_does_not() -> None:
    """Over the top candidates, not only the first; and no row is read that is not needed."""
    same = entry(13, prompt="boil them for 4 minutes")
    rows = {12: THREE, 13: same, 1: GOOD}
    decision, read = decided({12: 0.99, 13: 0.97, 1: 0.96}, rows, bar(), beside("boil for 4 minutes"))
    assert (decision.entry, decision.score, decision.gate) == (same, 0.97, None)
    assert read == [12, 13]


def test_gates_that_are_off_refuse_nothing() -> None:
    """A policy without gates serves by its rule alone."""
    identity = Identity("n", "m", b"c", b"s", b"asked", "boil for 4 minutes")
    never = Known(lambda row: pytest.fail("nothing is analysed"), lambda row: b"", lambda row: False)
    decision, _ = decided({12: 0.99}, {12: THREE}, bar(), Beside(identity, terms(), frozenset(), never))
    assert decision.outcome is Outcome.HIT_SEMANTIC


def test_feedback_vetoes_before_the_gates_are_asked() -> None:
    """A vetoed reuse is refused, and the next is looked at."""
    told = beside(vetoed=frozenset({1}))
    decision, _ = decided({1: 0.99}, {1: GOOD}, bar(), told)
    assert decision.outcome is Outcome.MISS_VETOED
    decision, _ = decided({1: 0.99, 2: 0.98}, {1: GOOD, 2: OTHER}, bar(), told)
    assert decision.entry is OTHER


@pytest.mark.parametrize(
    ("scores", "doubtful", "outcome"),
    [
        pytest.param({1: 0.85}, 1, Outcome.MISS_BELOW_THRESHOLD, id="in the grey band"),
        pytest.param({1: 0.8}, 1, Outcome.MISS_BELOW_THRESHOLD, id="at its lower end"),
        pytest.param({1: 0.79}, None, Outcome.MISS_BELOW_THRESHOLD, id="below it"),
        pytest.param(
            {12: 0.85, 1: 0.84}, 1, Outcome.MISS_BELOW_THRESHOLD, id="what a gate refuses is not asked about"
        ),
        pytest.param({3: 0.85, 1: 0.84}, 1, Outcome.MISS_BELOW_THRESHOLD, id="nor what has expired"),
        pytest.param({3: 0.95, 1: 0.84}, 1, Outcome.MISS_EXPIRED, id="the best above failed"),
        pytest.param({2: 0.95, 1: 0.84}, None, Outcome.HIT_SEMANTIC, id="a hit asks nobody"),
    ],
)
def test_who_is_doubtful(scores: Mapping[int, float], doubtful: int | None, outcome: Outcome) -> None:
    """The best candidate between verify_min_score and the threshold that passes all else may be asked about."""
    rows: Mapping[int, Row] = {1: GOOD, 2: OTHER, 3: EXPIRED, 12: THREE}
    calibrated = Rule(0, 0.9, calibration=Calibration((0.0, 1.0), (0.0, 1.0), 0.01))
    decision, _ = decided(scores, rows, bar(rule=calibrated, grey=0.8), beside())
    assert decision.outcome is outcome
    found = decision.doubtful
    assert (None if found is None or found.entry is None else found.entry.id) == doubtful
    assert found is None or (found.outcome, found.confidence) == (Outcome.HIT_SEMANTIC, None)


def test_nobody_is_doubtful_without_a_verifier() -> None:
    """The grey band is there only where somebody can be asked, and a caller narrows it."""
    policy = Policy(min_score=0.9, trust=TrustTerms(verify_min_score=0.8))
    assert Bar.of(policy, ask(), Rule(0, 0.9), verifies=False).grey_score is None
    assert Bar.of(policy, ask(0.85), Rule(0, 0.9), verifies=True).grey_score == 0.85


def test_what_is_near_enough_to_be_learned_from() -> None:
    """From floor_score on, and whatever the rule could serve."""
    candidates = [Candidate(1, 0.95), Candidate(2, 0.6), Candidate(3, 0.59), Candidate(4, 0.3)]
    assert bar(0.9).near(candidates) == tuple(candidates[:2])
    assert bar(0.59).near(candidates) == tuple(candidates[:3])
    assert bar(0.9, grey=0.2).near(candidates) == tuple(candidates)


def test_what_is_withheld_is_a_miss_that_knows_what_it_was() -> None:
    """Nothing is served of it: no entry, no score, no confidence."""
    hit = Decision(Outcome.HIT_SEMANTIC, GOOD, 0.95, 0.97, value=0.4, confidence=0.9)
    assert withheld(hit, Outcome.MISS_SHADOW) == Decision(
        Outcome.MISS_SHADOW, best_score=0.97, value=0.4, withheld=GOOD
    )


@pytest.mark.parametrize(
    ("serves", "brake", "outcome"),
    [
        pytest.param(True, Brake.OPEN, None, id="served"),
        pytest.param(True, Brake.TIGHT, None, id="tight is in the rule"),
        pytest.param(True, Brake.EXACT_ONLY, Outcome.MISS_BRAKED, id="braked"),
        pytest.param(False, Brake.OPEN, Outcome.MISS_SHADOW, id="shadowed"),
        pytest.param(False, Brake.EXACT_ONLY, Outcome.MISS_SHADOW, id="shadowed and braked"),
    ],
)
def test_who_closes_the_semantic_tier(*, serves: bool, brake: Brake, outcome: Outcome | None) -> None:
    """The mode, or else the brake."""
    assert closed(brake, serves=serves) is outcome


@pytest.mark.parametrize(
    ("mode", "share"), [(Mode.OFF, 0.0), (Mode.SHADOW, 0.0), (Mode.CANARY, 0.25), (Mode.ON, 1.0)]
)
def test_the_share_that_is_served(mode: Mode, share: float) -> None:
    """By the mode."""
    assert served_share(Policy(mode=mode, canary_share=0.25)) == share
