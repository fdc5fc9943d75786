"""Bounds on error rates, and the threshold that they defend."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesvc.core.trust.operating import (
    choose,
    clopper_pearson_upper,
    predicted_upper,
    weighted_upper,
)

quick = settings(deadline=None, derandomize=True, database=None, max_examples=60)


@pytest.mark.parametrize(
    ("wrong", "requests", "bound"),
    [
        pytest.param(0, 300, 0.009936, id="none in three hundred: the rule of three"),
        pytest.param(4, 1022, 0.008934, id="four in a thousand"),
        pytest.param(29, 3972, 0.009942, id="some in four thousand"),
        pytest.param(400, 10_000, 0.043374, id="many"),
        pytest.param(0, 0, 1.0, id="nothing to go by"),
        pytest.param(7, 7, 1.0, id="all wrong"),
    ],
)
def test_clopper_pearson_is_that_of_the_tables(wrong: int, requests: int, bound: float) -> None:
    """The bound equals the quantile of the beta distribution."""
    assert clopper_pearson_upper(wrong, requests) == pytest.approx(bound, abs=1e-6)


@quick
@given(st.integers(1, 60), st.floats(0.001, 0.999))
def test_clopper_pearson_covers(requests: int, rate: float) -> None:
    """Enumerated: the chance that the bound lies below the true rate is at most one in twenty."""
    missed = sum(
        comb(requests, wrong) * rate**wrong * (1 - rate) ** (requests - wrong)
        for wrong in range(requests + 1)
        if clopper_pearson_upper(wrong, requests) < rate
    )
    assert missed <= 0.05 + 1e-9


@quick
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_predictions_cover(requests: int, horizon: int, data: st.DataObject) -> None:
    """Enumerated over every way to split the wrong ones: what comes exceeds the bound one time in twenty at most."""
    total = data.draw(st.integers(0, requests + horizon))
    ways = comb(requests + horizon, total)
    missed = sum(
        comb(requests, wrong) * comb(horizon, total - wrong) / ways
        for wrong in range(max(0, total - horizon), min(total, requests) + 1)
        if predicted_upper(wrong, requests, horizon) < (total - wrong) / horizon - 1e-12
    )
    assert missed <= 0.05 + 1e-9


@pytest.mark.parametrize("wrong", [0, 3, 30])
def test_betting_is_no_tighter_than_the_exact_bound(wrong: int) -> None:
    """Where every label counts once the bet bounds the same rate, a little more loosely."""
    exact, bet = clopper_pearson_upper(wrong, 5_000), weighted_upper(np.ones(wrong), 1.0, 5_000)
    assert exact <= bet <= 2.5 * exact + 0.001


def test_betting_hardly_pays_for_not_knowing_its_stake() -> None:
    """Without a single wrong label the bound is at most a third above that of the best stake."""
    best = 20 * -np.log(0.05) / 10_000
    assert best <= weighted_upper(np.zeros(0), 20.0, 10_000) <= 4 / 3 * best


def test_betting_covers_what_is_sampled() -> None:
    """Labels drawn by known chances bound the true rate in all but one of twenty simulations at most."""
    random = np.random.default_rng(5)
    requests, rate, missed = 2_000, 0.02, 0
    for _ in range(200):
        share = np.where(random.random(requests) < 0.5, 1.0, 0.1)
        wrong = (random.random(requests) < rate) & (random.random(requests) < share)
        missed += weighted_upper(1 / share[wrong], 10.0, requests) < rate
    assert missed <= 10


def test_the_threshold_keeps_its_promise() -> None:
    """Requests like those of the labels err more than was allowed in at most one of twenty re-draws, about."""
    random = np.random.default_rng(11)
    broken = 0
    for _ in range(200):
        values = random.random(4_000)
        right = random.random(4_000) < values**0.1
        choice = choose(values[:2_000], right[:2_000], 2_000, 0.01)
        if choice is not None:
            above = choice.threshold
            # The share of values above the threshold that are wrong, exactly.
            broken += (1 - above) - (1 - above**1.1) / 1.1 > 0.01
    assert broken <= 16


def test_the_horizon_keeps_its_promise_to_those_who_count() -> None:
    """What the next requests show stays within the bound, the noise of so few of them included."""
    random = np.random.default_rng(12)
    broken = 0
    for _ in range(200):
        values = random.random(2_000)
        right = random.random(2_000) < values**0.1
        choice = choose(values[:1_000], right[:1_000], 1_000, 0.01, horizon=1_000)
        if choice is not None:
            broken += ((values[1_000:] >= choice.threshold) & ~right[1_000:]).sum() > 10
    assert broken <= 16


@quick
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40), st.integers(0, 1_000))
def test_the_loosest_of_all_is_found(labels: list[tuple[int, bool]], more: int) -> None:
    """Halving finds the threshold that trying all of them finds; ties are served together or not at all."""
    values = np.array([value for value, _ in labels], float)
    right = np.array([is_right for _, is_right in labels], bool)
    requests = len(labels) + more
    choice = choose(values, right, requests, 0.02)
    defended = [
        value
        for value in set(values.tolist())
        if (right & (values == value)).any()
        and clopper_pearson_upper(int((~right & (values >= value)).sum()), requests) <= 0.02
    ]
    assert (choice.threshold if choice else None) == (min(defended) if defended else None)


def test_more_labels_than_requests_is_a_mistake() -> None:
    """The caller has mixed something up, and is told."""
    with pytest.raises(ValueError, match="more labels than requests"):
        choose(np.ones(2), np.ones(2, bool), 1, 0.01)
