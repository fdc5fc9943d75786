"""Intervals of a share that was counted: Clopper–Pearson for errors, Wilson for the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from math import lgamma, log, log1p, sqrt
from typing import Literal

import numpy as np

_Z = 1.959963984540054  # 95 %, two-sided
_STEPS = 60


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with a 95 % interval."""

    count: int
    of: int
    share: float
    low: float
    high: float
    method: Literal["clopper-pearson", "wilson"]


def wilson(count: int, of: int) -> Share:
    """E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927)."""
    if of == 0:
        return Share(0, 0, 0.0, 0.0, 1.0, "wilson")
    share = count / of
    middle = (share + _Z**2 / (2 * of)) / (1 + _Z**2 / of)
    half = _Z / (1 + _Z**2 / of) * sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    low = 0.0 if count == 0 else max(middle - half, 0.0)
    high = 1.0 if count == of else min(middle + half, 1.0)
    return Share(count, of, share, low, high, "wilson")


def clopper_pearson(count: int, of: int) -> Share:
    """C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits", Biometrika 26 (1934): never covers
    less than it says, whatever the share is.
    """
    if of == 0:
        return Share(0, 0, 0.0, 0.0, 1.0, "clopper-pearson")
    tail = 0.025
    low = 0.0 if count == 0 else _edge(lambda p: 1 - _at_most(count - 1, of, p) >= tail)
    high = 1.0 if count == of else _edge(lambda p: _at_most(count, of, p) <= tail)
    return Share(count, of, count / of, low, high, "clopper-pearson")


def _edge(is_past: Callable[[float], bool]) -> float:
    """The least share for which it holds; it holds for all above."""
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_past(middle) else (middle, high)
    return high


def _at_most(count: int, of: int, share: float) -> float:
    """The chance of at most so many, each having that chance."""
    if share <= 0 or share >= 1:
        return 1.0 if share <= 0 else 0.0
    terms = np.array(
        [
            lgamma(of + 1) - lgamma(k + 1) - lgamma(of - k + 1) + k * log(share) + (of - k) * log1p(-share)
            for k in range(count + 1)
        ]
    )
    top = float(terms.max())
    return min(float(np.exp(terms - top).sum() * np.exp(top)), 1.0)
