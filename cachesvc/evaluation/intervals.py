"""Intervals of a share that was counted: Clopper–Pearson for errors, Wilson for the rest."""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

from cachesvc.core.trust.operating import clopper_pearson_upper

_Z = 1.959963984540054  # 95 %, two-sided
_ONE_SIDED = 0.975


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
    low = 1 - clopper_pearson_upper(of - count, of, _ONE_SIDED)
    return Share(count, of, count / of, low, clopper_pearson_upper(count, of, _ONE_SIDED), "clopper-pearson")
