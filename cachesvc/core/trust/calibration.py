"""Calibration: values of a rule brought to probabilities, by isotonic regression on the namespace's own labels."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.trust.rules import Calibration

MIN_LABELS = 1_000
"""Below, there is no confidence: better absent than invented."""

_BINS = 10
_MIN_STEP = 20


def calibrate(
    values: NDArray[np.float64], right: NDArray[np.bool_], shares: NDArray[np.float64] | None = None
) -> Calibration | None:
    """From values (n,) that were made without knowing whether they are right; None where there are too few. A label that
    was drawn with a chance (``shares``, 1 where not given) stands for 1 ÷ chance requests.

    The error is measured by halves, each by a calibration made from the other.
    """
    if len(values) < MIN_LABELS:
        return None
    weights = np.ones(len(values)) if shares is None else 1 / shares
    even = np.arange(len(values)) % 2 == 0
    confidences = np.zeros(len(values))
    for judged in (even, ~even):
        made = _isotonic(values[~judged], right[~judged], weights[~judged])
        confidences[judged] = np.interp(values[judged], *made)
    error = expected_calibration_error(confidences, right, weights)
    knots, levels = _isotonic(values, right, weights)
    return Calibration(tuple(knots.tolist()), tuple(levels.tolist()), error)


def expected_calibration_error(
    confidences: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> float:
    """How far confidence and share of right ones lie apart, over ten bins of equal width, by how many are in each
    (Guo et al., "On calibration of modern neural networks", 2017).
    """
    weights = np.ones(len(confidences)) if weights is None else weights
    places = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
    apart = np.bincount(places, weights * (confidences - right), _BINS)
    return float(np.abs(apart).sum() / (weights.sum() or 1.0))


def _isotonic(
    values: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pool adjacent violators (Ayer et al., 1955) over runs of ``_MIN_STEP`` labels, so that no step rests on a few.

    Returns the mean value and the share of right ones of each pool; both rise.
    """
    order = np.argsort(values, kind="stable")
    pools: list[_Pool] = []
    for start in range(0, len(order), _MIN_STEP):
        run = order[start : start + _MIN_STEP]
        weight = weights[run]
        pools.append(_Pool(float(weight @ values[run]), float(weight @ right[run]), float(weight.sum())))
        while len(pools) > 1 and pools[-2].right * pools[-1].weight >= pools[-1].right * pools[-2].weight:
            last, before = pools.pop(), pools.pop()
            pools.append(_Pool(*(one + other for one, other in zip(last, before, strict=True))))
    knots = np.array([pool.total / pool.weight for pool in pools])
    # Half a label towards the middle, so that no probability is 0 or 1.
    label = float(weights.mean())
    levels = np.array([(pool.right + label / 2) / (pool.weight + label) for pool in pools])
    return np.maximum.accumulate(knots), np.maximum.accumulate(levels)


class _Pool(NamedTuple):
    """Sums over labels, each times its weight."""

    total: float
    right: float
    weight: float
