"""When a stored response may be served, for how long, and by whose terms."""

from collections.abc import Mapping

import pytest

from cachesvc.core.policy import Policy, PolicyBook, Terms, decide, eligible, lifetime_ms, refuse
from cachesvc.core.types import Ask, Candidate, Entry, Lost, Outcome, Payload, Request, Row

NOW_MS = 1_000_000


def entry(entry_id: int, created_ms: int = NOW_MS - 100, expires_ms: int = NOW_MS + 100) -> Entry:
    return Entry(
        id=entry_id,
        namespace="n",
        model="m",
        context=b"c",
        scope=b"s",
        exact_key=b"k",
        prompt="p",
        payload=Payload(b"r"),
        created_ms=created_ms,
        expires_ms=expires_ms,
    )


def terms(threshold: float = 0.9, max_age_ms: int | None = None) -> Terms:
    return Terms(threshold, NOW_MS, max_age_ms, {})


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
def test_who_is_eligible(scores: list[float], threshold: float, count: int) -> None:
    """Candidates at or above the threshold are worth reading, in their order."""
    candidates = [Candidate(n, score) for n, score in enumerate(scores)]
    assert eligible(candidates, terms(threshold)) == candidates[:count]


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
    candidates = [Candidate(entry_id, score) for entry_id, score in scores.items()]
    decision = decide("what is asked", candidates, rows, terms())
    assert decision.outcome is outcome
    assert decision.entry is served
    assert decision.score == (scores[served.id] if served is not None else None)
    assert decision.best_score == (candidates[0].score if candidates else None)


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
    ask = Ask(Request("n", (), "m", {}), min_score=asked, max_age_ms=7, sources={"doc": "2"})
    assert Terms.of(Policy(min_score=floor), ask, NOW_MS) == Terms(threshold, NOW_MS, 7, {"doc": "2"})


_DEFAULT = Policy()
_PATTERNS = ("*", "support-*", "support-??", "support-de", "s*-de", "a?c", "ab*")
_BOOK = PolicyBook(_DEFAULT, {pattern: Policy(ttl_ms=n) for n, pattern in enumerate(_PATTERNS)})


@pytest.mark.parametrize(
    ("namespace", "pattern"),
    [
        pytest.param("support-de", "support-de", id="its own name"),
        pytest.param("support-fr", "support-*", id="the first of patterns as specific"),
        pytest.param("support-fra", "support-*", id="the longer one does not match"),
        pytest.param("sales-de", "s*-de", id="literals at both ends"),
        pytest.param("other", "*", id="everything"),
        pytest.param("Support-de", "*", id="case counts"),
        pytest.param("abc", "a?c", id="as specific: configured first"),
    ],
)
def test_the_most_specific_policy_is_used(namespace: str, pattern: str) -> None:
    """An exact name, then most literal characters, then the order of configuration."""
    assert _BOOK.of(namespace) is _BOOK.by_pattern[pattern]


@pytest.mark.parametrize(
    "book",
    [
        pytest.param(PolicyBook(_DEFAULT, {}), id="no patterns"),
        pytest.param(PolicyBook(_DEFAULT, {"support-*": Policy(ttl_ms=1)}), id="none matches"),
    ],
)
def test_a_namespace_without_a_policy_has_the_default(book: PolicyBook) -> None:
    """What no pattern names is served by the default."""
    assert book.of("other") is _DEFAULT


@pytest.mark.parametrize(
    ("asked_ms", "lives_ms"),
    [
        pytest.param(None, 100, id="the policy's"),
        pytest.param(50, 50, id="shorter"),
        pytest.param(200, 200, id="longer than the default"),
        pytest.param(1000, 1000, id="the maximum"),
        pytest.param(1001, 1000, id="capped"),
        pytest.param(0, 0, id="nothing"),
    ],
)
def test_lifetime(asked_ms: int | None, lives_ms: int) -> None:
    """An entry lives as long as was asked, never longer than the policy's maximum."""
    assert lifetime_ms(Policy(ttl_ms=100, max_ttl_ms=1000), asked_ms) == lives_ms


def test_the_maximum_caps_the_policys_own_lifetime() -> None:
    """A default lifetime above the maximum is cut too."""
    assert lifetime_ms(Policy(ttl_ms=5000, max_ttl_ms=1000), None) == 1000
