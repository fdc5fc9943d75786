"""Calibration: values of a rule brought to probabilities, by isotonic regression on the namespace's own labels."""

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.trust.rules import Calibration

MIN_LABELS = 1_000
"""Below, there is no confidence: better absent than invented."""

_BINS = 10
_MIN_STEP = 20


def calibrate(values: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration | None:
    """From values (n,) that were made without knowing whether they are right; None where there are too few.

    The error is measured by halves, each by a calibration made from the other.
    """
    if len(values) < MIN_LABELS:
        return None
    even = np.arange(len(values)) % 2 == 0
    both = np.concatenate(
        [
            np.stack([np.interp(values[judged], *_isotonic(values[~judged], right[~judged])), right[judged]])
            for judged in (even, ~even)
        ],
        axis=1,
    )
    error = expected_calibration_error(both[0], both[1] > 0)
    knots, levels = _isotonic(values, right)
    return Calibration(tuple(knots.tolist()), tuple(levels.tolist()), error)


def expected_calibration_error(confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """How far confidence and share of right ones lie apart, over ten bins of equal width, by how many are in each
    (Guo et al., "On calibration of modern neural networks", 2017).
    """
    places = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
    apart = np.bincount(places, confidences - right, _BINS)
    return float(np.abs(apart).sum() / max(len(confidences), 1))


def _isotonic(
    values: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pool adjacent violators (Ayer et al., 1955) over runs of ``_MIN_STEP`` labels, so that no step rests on a few.

    Returns the mean value and the share of right ones of each pool; both rise.
    """
    order = np.argsort(values, kind="stable")
    pools: list[tuple[float, float, int]] = []
    for start in range(0, len(order), _MIN_STEP):
        run = order[start : start + _MIN_STEP]
        pools.append((float(values[run].sum()), float(right[run].sum()), len(run)))
        while len(pools) > 1 and pools[-2][1] * pools[-1][2] >= pools[-1][1] * pools[-2][2]:
            last, before = pools.pop(), pools.pop()
            pools.append((last[0] + before[0], last[1] + before[1], last[2] + before[2]))
    knots = np.array([total / count for total, _, count in pools])
    # Half a label towards the middle, so that no probability is 0 or 1.
    levels = np.array([(hits + 0.5) / (count + 1) for _, hits, count in pools])
    return np.maximum.accumulate(knots), np.maximum.accumulate(levels)
