"""The operating point: the loosest threshold whose errors per request the labels defend.

A request errs when the best of its candidates reaches the threshold and is wrong, so that errors only grow as the
threshold falls. Testing one threshold after the other from the strictest on, each at the full level, and stopping at the
first that fails, therefore keeps the level for all of them, wherever the thresholds come from: this is fixed-sequence
testing (Angelopoulos et al., "Learn then Test", 2021) of a monotone risk (Bates et al., "Distribution-free, risk-
controlling prediction sets", 2021). It holds for requests like those of the labels, and for no others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import lgamma, log

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.trust.rules import Evidence

LEVEL = 0.95

_BETS = np.geomspace(1e-3, 1.0, 24)
# High stakes pay where hardly anything is wrong, which is what bounds this low are asked for.
_BET_WEIGHTS = _BETS / _BETS.sum()
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, and what speaks for it."""

    threshold: float
    evidence: Evidence


def choose(
    values: NDArray[np.float64],
    right: NDArray[np.bool_],
    requests: int,
    max_error_rate: float,
    *,
    shares: NDArray[np.float64] | None = None,
    level: float = LEVEL,
    horizon: int | None = None,
) -> Choice | None:
    """The loosest threshold whose error is at most ``max_error_rate`` with confidence ``level``, or None.

    ``values`` (n,) are those of the candidate that each labelled request would be served, ``right`` whether that
    would be right, ``shares`` the chance with which such a request is labelled (1 where not given). ``requests``
    counts all that were searched: those without a candidate or a label, too, of which none can err or count twice.
    With a ``horizon``, the bound is on what the next so many requests will show, not on the rate behind them; it is left
    aside where shares differ, whose bound is the looser one anyway.
    The threshold is the value of a right candidate, or of none.
    """
    if len(values) > requests:
        raise ValueError("there are more labels than requests")
    order = np.argsort(-values, kind="stable")
    values, right = values[order], right[order]
    weights = np.ones(len(values)) if shares is None else 1.0 / shares[order]
    ends = np.append(np.flatnonzero(np.diff(values)), len(values) - 1) if len(values) else np.zeros(0, int)
    # Below the last right candidate of a stretch there is nothing to win.
    ends = ends[np.logical_or.reduceat(right, np.append(0, ends[:-1] + 1))] if len(ends) else ends
    best: Choice | None = None
    bound_of = _Bounds(right, weights, requests, level, horizon)
    low, high = 0, len(ends)
    while low < high:
        # The bound grows with every step, so that halving finds what walking would.
        middle = (low + high) // 2
        end = int(ends[middle])
        bound = bound_of(end + 1)
        if bound <= max_error_rate:
            wrong = int((~right[: end + 1]).sum())
            best = Choice(float(values[end]), Evidence(requests, end + 1, wrong, bound, level))
            low = middle + 1
        else:
            high = middle
    return best


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The bound when the first so many would be served."""

    right: NDArray[np.bool_]
    weights: NDArray[np.float64]
    requests: int
    level: float
    horizon: int | None

    def __call__(self, served: int) -> float:
        weights = self.weights[:served][~self.right[:served]]
        if (self.weights == 1.0).all():
            if self.horizon is not None:
                return predicted_upper(len(weights), self.requests, self.horizon, self.level)
            return clopper_pearson_upper(len(weights), self.requests, self.level)
        return weighted_upper(weights, float(self.weights.max()), self.requests, self.level)


def clopper_pearson_upper(wrong: int, requests: int, level: float = LEVEL) -> float:
    """The greatest rate under which so few wrong in so many are no less likely than 1 - level (Clopper and Pearson, 1934).

    One-sided and exact; 1 where there is nothing to go by.
    """
    if requests <= 0 or wrong >= requests:
        return 1.0
    counts = np.arange(wrong + 1)
    ways = np.array([_log_ways(requests, int(count)) for count in counts])

    def too_few(rate: float) -> bool:
        terms = ways + counts * log(rate) + (requests - counts) * np.log1p(-rate)
        return float(np.exp(terms).sum()) < 1 - level

    return _first(too_few, wrong / requests)


def predicted_upper(wrong: int, requests: int, horizon: int, level: float = LEVEL) -> float:
    """The share of the next ``horizon`` requests that go wrong is at most this with confidence ``level``.

    Exact for exchangeable requests: of all that are wrong, in the labels and after, each is as likely to be any one of
    ``requests + horizon``; the number in the labels is hypergeometric.
    """
    if requests <= 0:
        return 1.0
    low, high = 0, horizon
    while low < high:
        # The greatest number ahead with which so few in the labels are not yet too unlikely.
        middle = (low + high + 1) // 2
        if _few_in_labels(wrong, middle, requests, horizon) < 1 - level:
            high = middle - 1
        else:
            low = middle
    return low / horizon if horizon else 1.0


def _few_in_labels(wrong: int, ahead: int, requests: int, horizon: int) -> float:
    total = wrong + ahead
    everything = _log_ways(requests + horizon, total)
    counts = range(max(0, total - horizon), min(wrong, requests) + 1)
    terms = [_log_ways(requests, n) + _log_ways(horizon, total - n) - everything for n in counts]
    return float(np.exp(terms).sum())


def weighted_upper(
    weights: NDArray[np.float64], greatest: float, requests: int, level: float = LEVEL
) -> float:
    """A bound on the error rate where labels are drawn by chances that are known, and count 1 ÷ chance each.

    ``weights`` are those of the labels that are wrong, ``greatest`` the most that one can weigh; requests without a label
    count nothing. It is the rate from which on a bet against it, spread over fixed stakes, has grown 1 ÷ (1 - level)
    fold, which happens to a true rate with a chance of 1 - level at most (Waudby-Smith and Ramdas, "Estimating means of
    bounded random variables by betting", 2023; Markov). Looser than Clopper-Pearson where all weigh 1.
    """
    if requests <= 0:
        return 1.0
    parts = weights / greatest

    def too_high(mean: float) -> bool:
        stakes = _BETS / (1 - mean)
        gains = (requests - len(parts)) * np.log1p(stakes * mean)
        gains += np.log(np.maximum(1 + stakes[:, None] * (mean - parts), 1e-300)).sum(1)
        top = gains.max()
        return bool(top + np.log((_BET_WEIGHTS * np.exp(gains - top)).sum()) >= -log(1 - level))

    return min(1.0, greatest * _first(too_high, float(parts.sum()) / requests))


def _first(holds: Callable[[float], bool], low: float) -> float:
    low, high = max(low, 0.0), 1.0 - 1e-12
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if middle > 0 and holds(middle):
            high = middle
        else:
            low = middle
    return high


def _log_ways(of: int, count: int) -> float:
    return lgamma(of + 1) - lgamma(count + 1) - lgamma(of - count + 1)
