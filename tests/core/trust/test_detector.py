"""Is a rate credibly above, or below, a target?"""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesvc.core.trust.detector import UNSEEN, Detector, above, below, detector_of, observe

_TARGETS = st.floats(0.001, 0.9)


def _after(target: float, *wrongs: bool, alternatives: tuple[float, ...] | None = None) -> Detector:
    detector = UNSEEN
    for wrong in wrongs:
        detector = observe(detector, target, alternatives or above(target), wrong=wrong)
    return detector


@given(_TARGETS)
def test_alternatives_lie_on_their_side(target: float) -> None:
    """What is staked on is a rate, above or below the target."""
    assert all(target < rate < 1 for rate in above(target))
    assert all(0 <= rate < target for rate in below(target))


@given(_TARGETS, st.lists(st.booleans(), max_size=50))
def test_at_the_target_nothing_is_gained_on_average(target: float, wrongs: list[bool]) -> None:
    """After anything that went before, what is staked is the same on average at the target, but for the part added."""
    for alternatives in (above(target), below(target)):
        before = _after(target, *wrongs, alternatives=alternatives)
        mean = target * observe(before, target, alternatives, wrong=True).evidence
        mean += (1 - target) * observe(before, target, alternatives, wrong=False).evidence
        assert mean <= before.evidence + 0.5 / (before.seen + 1) + 2e-4 + 1e-6 * before.evidence


@pytest.mark.parametrize(
    ("good", "bad", "at_most"),
    [(0, 0.5, 12), (500, 0.5, 60), (5_000, 0.5, 60), (500, 0.2, 400)],
    ids=["bad from the start", "after 500", "after 5,000: hardly later", "a fifth wrong"],
)
def test_a_change_is_noticed(good: int, bad: float, at_most: int) -> None:
    """However long all went well before."""
    rng = np.random.default_rng(3)
    detector = _after(0.05, *[False] * good)
    took = 0
    while detector.evidence < 100:
        detector = observe(detector, 0.05, above(0.05), wrong=bool(rng.random() < bad))
        took += 1
    assert took <= at_most


def test_what_is_told_is_of_late() -> None:
    """Words speak of the last 50 to 100, whatever was before."""
    detector = _after(0.05, *[True] * 200, *[False] * 100)
    assert (detector.seen, detector.wrong) == (300, 200)
    assert 50 <= detector.recent_seen <= 100
    assert detector.recent_wrong == 0


@given(st.lists(st.booleans(), max_size=200))
def test_records_come_back(wrongs: list[bool]) -> None:
    """A detector survives being made plain."""
    detector = _after(0.05, *wrongs)
    assert detector_of({**asdict(detector), "stakes": list(detector.stakes)}) == detector


@pytest.mark.parametrize("record", [{}, {"stakes": 1}, {"stakes": [], "more": 1}], ids=str)
def test_other_records_are_refused(record: dict[str, object]) -> None:
    """A record that is none is an error, not a guess."""
    with pytest.raises(ValueError, match="not a record"):
        detector_of(record)
