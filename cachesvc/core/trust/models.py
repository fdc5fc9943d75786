"""The learned model: a sum of one curve for each measure and one weight for each word code, put through a logistic.

Additive, so that it can be read: how much a feature counts is how much its part varies. Evaluated in a few numpy calls;
stored as plain numbers. Training is ``core.trust.learn``'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.gates.profile import CODES
from cachesvc.core.trust.features import DIFFERING, MEASURES, NAMES, SHARED

Record: TypeAlias = dict[str, object]
"""Plain data: what JSON can hold."""

BINS = 8
"""A measure's curve is a slope and as many steps."""

_MOST = 1e6


_OF_GROUP = np.repeat([0, CODES], [DIFFERING, SHARED])


@dataclass(frozen=True, slots=True)
class Additive:
    """A measure adds ``slopes`` times itself (measures,) and those of its ``jumps`` whose ``edges`` it is above, both
    (measures, BINS - 1), edges rising. ``words`` (2, CODES): of those that differ and those that are shared, each with 0
    first, for none. ``weight_of`` says how much each feature counts.
    """

    kind: ClassVar[Literal["learned"]] = "learned"

    bias: float
    slopes: NDArray[np.float64]
    edges: NDArray[np.float64]
    jumps: NDArray[np.float64]
    words: NDArray[np.float64]
    weight_of: Mapping[str, float]

    def values(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of candidates (n, features): (n,), each 0 to 1."""
        measures = features[:, : len(MEASURES)].astype(np.float64)
        codes = features[:, len(MEASURES) :].astype(np.intp)
        codes += _OF_GROUP
        above = (measures[:, :, None] > self.edges).reshape(len(features), -1).astype(np.float64)
        total = measures @ self.slopes
        total += above @ self.jumps.ravel()
        total += self.words.ravel()[codes].sum(1)
        total += self.bias
        chances: NDArray[np.float64] = 1 / (1 + np.exp(-total))
        return chances

    @property
    def importance(self) -> Mapping[str, float]:
        """How much each feature counts, by name; they sum up to 1."""
        return self.weight_of

    def to_record(self) -> Record:
        """As plain data; weights of words only where they are not 0."""
        return {
            "kind": "additive",
            "features": list(NAMES),
            "bias": self.bias,
            "slopes": self.slopes.tolist(),
            "edges": self.edges.tolist(),
            "jumps": self.jumps.tolist(),
            "differing": _sparse(self.words[0]),
            "shared": _sparse(self.words[1]),
            "importance": dict(self.weight_of),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> "Additive":
        """Read one back. Raises ValueError where it is not one of these features, or not of finite numbers."""
        if record.get("kind") != "additive" or record.get("features") != list(NAMES):
            raise ValueError("the model is not of these features")
        many = len(MEASURES)
        edges = _array(record.get("edges"), (many, BINS - 1))
        if (np.diff(edges, axis=1) < 0).any():
            raise ValueError("a curve's edges do not rise")
        importance = record.get("importance")
        if not isinstance(importance, Mapping):
            raise ValueError("the importance is missing")  # noqa: TRY004 - one error for all that is wrong
        return cls(
            float(_array(record.get("bias"), ())),
            _array(record.get("slopes"), (many,)),
            edges,
            _array(record.get("jumps"), (many, BINS - 1)),
            np.stack([_dense(record.get("differing")), _dense(record.get("shared"))]),
            {str(name): float(_array(part, ())) for name, part in importance.items()},
        )


def places(measures: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.intp]:
    """Which step of its curve each measure is on: indices into the steps of all measures in a row, (n, measures)."""
    steps: NDArray[np.intp] = (measures[:, :, None] > edges).sum(2)
    return steps + np.arange(len(edges)) * BINS


def _sparse(weights: NDArray[np.float64]) -> list[list[float]]:
    found = np.flatnonzero(weights)
    return [found.tolist(), weights[found].tolist()]


def _dense(stored: object) -> NDArray[np.float64]:
    weights = np.zeros(CODES)
    if not isinstance(stored, Sequence) or len(stored) != 2 or not isinstance(stored[0], Sequence):
        raise ValueError("the weights of words are missing")
    codes = np.array(stored[0], dtype=np.int64)
    if codes.ndim != 1 or (len(codes) and (codes.min() < 1 or codes.max() >= CODES)):
        raise ValueError("a word has a code that there is not")
    weights[codes] = _array(stored[1], codes.shape)
    return weights


def _array(stored: object, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        numbers = np.array(stored, dtype=np.float64)
    except (TypeError, ValueError) as why:
        raise ValueError("the model holds what is no number") from why
    if numbers.shape != shape:
        raise ValueError(f"the model has {numbers.shape} numbers where {shape} belong")
    if not np.isfinite(numbers).all() or (np.abs(numbers) > _MOST).any():
        raise ValueError("the model holds a number that is none to reckon with")
    return numbers


assert len(NAMES) == len(MEASURES) + DIFFERING + SHARED
