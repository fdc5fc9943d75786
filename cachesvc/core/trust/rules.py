"""A rule says which of a request's candidates may be served: whose value reaches a threshold.

The value of a candidate is its score (rule ``cosine``) or what a model makes of its features (rule ``learned``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


class Model(Protocol):
    """Features to a value that grows with the chance that the reuse is right. Pure and quick."""

    @property
    def kind(self) -> Literal["votes", "learned"]:
        """Whether it was made from labels."""

    def values(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of candidates (n, features): (n,), each 0 to 1."""

    def to_record(self) -> dict[str, object]:
        """As plain data, which ``core.trust.records`` reads back."""

    @property
    def importance(self) -> Mapping[str, float]:
        """How much each feature counts, by name; they sum up to 1."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Value to confidence: a monotone, piecewise linear function through ``values`` and ``confidences``, both rising.

    ``error`` is the expected calibration error on labels that it was not made from.
    """

    values: tuple[float, ...]
    confidences: tuple[float, ...]
    error: float

    def confidence(self, value: float) -> float:
        """The calibrated probability that a candidate of this value is right."""
        return float(np.interp(value, self.values, self.confidences))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a rule was chosen by: of so many requests it would have served so many, and so many of them wrongly.

    ``error_bound`` is the most errors per request that this defends with confidence ``level``.
    """

    requests: int
    served: int
    wrong: int
    error_bound: float
    level: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, versioned within its namespace. Version 0 is the policy's threshold on the score."""

    version: int
    threshold: float
    made_ms: int = 0
    model: Model | None = None
    calibration: Calibration | None = None
    evidence: Evidence | None = None
    note: str = ""
    features_version: int = field(default=0)

    @property
    def kind(self) -> Literal["cosine", "votes", "learned"]:
        """By what it judges."""
        return "cosine" if self.model is None else self.model.kind

    def values(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of candidates (n, features): (n,), what the threshold is set against. The score is the first feature."""
        return features[:, 0].astype(np.float64) if self.model is None else self.model.values(features)

    def confidence(self, value: float) -> float | None:
        """The calibrated probability that a candidate of this value is right; None while there are too few labels."""
        return None if self.calibration is None else self.calibration.confidence(value)
