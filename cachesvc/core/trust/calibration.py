"""Calibration: values of a rule brought to probabilities, by isotonic regression on the namespace's own labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.trust.rules import Calibration

MIN_LABELS = 1_000
"""Below, there is no confidence: better absent than invented."""

_BINS = 10
_MIN_STEP = 20
_BLOCKS = 5
_ROUNDING = 1e-6


def calibrate(
    values: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> Calibration | None:
    """From values (n,), the oldest first, that were made without knowing whether they are right; None where there are
    too few. ``weights`` (n,): how many requests each stands for; one each by default.

    The error is measured forward in time: each fifth of the labels but the first is judged by what those before it
    come to. Then all of them make the calibration.
    """
    if len(values) < MIN_LABELS:
        return None
    stands_for = np.ones(len(values)) if weights is None else weights
    _, *later = np.array_split(np.arange(len(values)), _BLOCKS)
    foretold = [
        np.interp(values[block], *_isotonic(values[:start], right[:start], stands_for[:start]))
        for block in later
        for start in (block[0],)
    ]
    first = later[0][0]
    error = expected_calibration_error(np.concatenate(foretold), right[first:], stands_for[first:])
    knots, levels = _isotonic(values, right, stands_for)
    return Calibration(tuple(knots.tolist()), tuple(levels.tolist()), error)


def expected_calibration_error(
    confidences: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> float:
    """How far confidence and share of right ones lie apart, over ten bins of equal width, by how many are in each
    (Guo et al., "On calibration of modern neural networks", 2017).
    """
    stands_for = np.ones(len(right)) if weights is None else weights
    places = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
    apart = np.bincount(places, stands_for * (confidences - right), _BINS)
    return float(np.abs(apart).sum() / max(stands_for.sum(), np.finfo(float).tiny))


@dataclass(frozen=True, slots=True)
class _Pool:
    """Labels side by side, summed up by weight."""

    weight: float
    squares: float
    value: float
    right: float

    def plus(self, other: "_Pool") -> "_Pool":
        return _Pool(
            self.weight + other.weight,
            self.squares + other.squares,
            self.value + other.value,
            self.right + other.right,
        )

    @property
    def count(self) -> float:
        """Labels of equal weight that tell as much (Kish, "Survey sampling", 1965)."""
        return self.weight**2 / self.squares

    @property
    def share(self) -> float:
        """Of right ones."""
        return self.right / self.weight

    @property
    def level(self) -> float:
        """The same, half a label towards the middle, so that no probability is 0 or 1."""
        return (self.share * self.count + 0.5) / (self.count + 1)


def _isotonic(
    values: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pool adjacent violators (Ayer et al., 1955). Returns the mean value and the level of each pool; both rise."""
    pools: list[_Pool] = []
    for run in _runs(values, right, weights):
        pools.append(run)
        while len(pools) > 1 and pools[-2].share >= pools[-1].share - _ROUNDING:
            last = pools.pop()
            pools.append(pools.pop().plus(last))
    knots = np.array([pool.value / pool.weight for pool in pools])
    return np.maximum.accumulate(knots), np.maximum.accumulate([pool.level for pool in pools])


def _runs(values: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64]) -> list[_Pool]:
    """The labels by value, as many together as tell as much as ``_MIN_STEP`` of equal weight, so that no step rests on a
    few; labels of one value are never apart.
    """
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(values[order]) > 0))
    sums = np.add.reduceat(
        np.stack([weights, weights**2, weights * values, weights * right])[:, order], starts, axis=1
    )
    runs: list[_Pool] = []
    rest: _Pool | None = None
    for column in sums.T.tolist():
        group = _Pool(*column)
        rest = group if rest is None else rest.plus(group)
        if rest.count >= _MIN_STEP - _ROUNDING:
            runs.append(rest)
            rest = None
    if rest is not None:
        runs.append(rest if not runs else runs.pop().plus(rest))
    return runs
