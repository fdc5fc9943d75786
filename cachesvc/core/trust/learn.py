"""Training a model from a namespace's labels: ridge-penalised logistic regression of ``core.trust.models.Additive``.

Pure numpy and deterministic; a second or so for ten thousand requests. Values to choose a threshold by are made by
cross-fitting: each label's by a model that has not seen it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.gates.profile import CODES
from cachesvc.core.trust.features import DIFFERING, MEASURES, NAMES, VERSION
from cachesvc.core.trust.labels import Label
from cachesvc.core.trust.models import BINS, Additive, places
from cachesvc.core.trust.rules import Model

FOLDS = 5

_MAX_WEIGHT = 10.0
_PENALTIES = (10.0, 20.0, 5.0, 15.0)  # of slopes, of steps, of words that differ, of words that are shared
_FREE = 1e-6
_ITERATIONS = 150
_REMEMBERED = 8
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Examples:
    """Candidates in rows, those of a request one after the other. ``request`` (n,) counts up from 0; ``fold`` and ``share``
    are by request. ``is_open``: a rule may serve it: no gate refused it and its score is not below the floor.
    """

    features: NDArray[np.float32]
    same: NDArray[np.bool_]
    is_known: NDArray[np.bool_]
    is_open: NDArray[np.bool_]
    request: NDArray[np.intp]
    fold: NDArray[np.intp]
    share: NDArray[np.float64]

    @property
    def requests(self) -> int:
        """How many are labelled."""
        return len(self.fold)

    def of(self, chosen: NDArray[np.bool_]) -> "Examples":
        """Those of some of the requests, numbered anew."""
        rows = chosen[self.request]
        return Examples(
            self.features[rows],
            self.same[rows],
            self.is_known[rows],
            self.is_open[rows],
            (np.cumsum(chosen) - 1)[self.request[rows]],
            self.fold[chosen],
            self.share[chosen],
        )


@dataclass(frozen=True, slots=True)
class Picks:
    """By request that has an open candidate: the one of highest value, and whether it is right. What could not be told
    counts as wrong.
    """

    values: NDArray[np.float64]
    right: NDArray[np.bool_]
    share: NDArray[np.float64]


def examples(labels: Iterable[Label], floor: float) -> Examples:
    """Of labels whose features are of this version and that count requests."""
    used = [label for label in labels if label.features_version == VERSION and label.origin.counts_requests]
    candidates = [candidate for label in used for candidate in label.candidates]
    return Examples(
        np.array([candidate.features for candidate in candidates], np.float32).reshape(-1, len(NAMES)),
        np.array([candidate.same is True for candidate in candidates], bool),
        np.array([candidate.same is not None for candidate in candidates], bool),
        np.array([c.gate is None and c.score >= floor for c in candidates], bool),
        np.repeat(np.arange(len(used)), [len(label.candidates) for label in used]).astype(np.intp),
        np.array([int.from_bytes(label.key[:4], "big") % FOLDS for label in used], np.intp),
        np.array([label.share for label in used], np.float64),
    )


def train(labels: Sequence[Label] | Examples, floor: float = 0.0) -> Model | None:
    """A model, or None where the labels are all alike."""
    given = labels if isinstance(labels, Examples) else examples(labels, floor)
    rows = given.is_open & given.is_known
    same = given.same[rows]
    if not len(same) or same.all() or not same.any():
        return None
    weights = np.minimum(1 / given.share[given.request[rows]], _MAX_WEIGHT)
    return _fit(given.features[rows], same.astype(np.float64), weights)


def cross_fitted(given: Examples) -> NDArray[np.float64] | None:
    """The value of every candidate (n,) by a model that knows nothing of its request; None where one cannot be made."""
    values = np.zeros(len(given.request))
    for fold in range(FOLDS):
        own = given.fold == fold
        if not own.any():
            continue
        model = train(given.of(~own))
        if model is None:
            return None
        rows = own[given.request]
        values[rows] = model.values(given.features[rows])
    return values


def picks(given: Examples, values: NDArray[np.float64]) -> Picks:
    """The open candidate of highest value of every request that has one; the first of those of equal value."""
    best = picked_rows(given, values)
    return Picks(values[best], given.same[best], given.share[given.request[best]])


def picked_rows(given: Examples, values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Their rows."""
    rows = np.flatnonzero(given.is_open)
    order = rows[np.lexsort((rows, -values[rows], given.request[rows]))]
    first = np.append(True, np.diff(given.request[order]) > 0) if len(order) else np.zeros(0, bool)
    best: NDArray[np.intp] = order[first]
    return best


def _fit(features: NDArray[np.float32], same: NDArray[np.float64], weights: NDArray[np.float64]) -> Additive:
    many = len(MEASURES)
    measures = features[:, :many].astype(np.float64)
    means, scales = measures.mean(0), measures.std(0) + 1e-6
    edges = np.quantile(measures, np.arange(1, BINS) / BINS, axis=0).T
    dense = (measures - means) / scales
    codes = features[:, many:].astype(np.intp)
    # Every column that names a thing - a step of a curve, a word - is an index into one table of weights.
    table = many * BINS + 2 * CODES
    index = np.hstack([places(measures, edges), codes + many * BINS])
    index[:, many + DIFFERING :] += CODES
    penalties = np.repeat([_FREE, *_PENALTIES], [1, many, many * BINS, CODES, CODES])
    no_word = [-2 * CODES, -CODES]

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total = point[0] + dense @ point[1 : many + 1] + point[many + 1 :][index].sum(1)
        error = weights * (1 / (1 + np.exp(-np.clip(total, -40, 40))) - same)
        lost = float(weights @ (np.logaddexp(0, total) - same * total))
        spread = np.bincount(index.ravel(), np.repeat(error, index.shape[1]), table)
        slope = np.concatenate([[error.sum()], error @ dense, spread])
        slope += penalties * point
        slope[no_word] = 0.0  # its weight stays 0
        return lost + float(penalties @ point**2) / 2, slope

    point = _least(loss, np.zeros(len(penalties)))
    point[np.abs(point) < 1e-9] = 0.0
    steps = point[many + 1 :][: many * BINS].reshape(many, BINS)
    words = point[-2 * CODES :].reshape(2, CODES)
    words[:, 0] = 0.0
    slopes = point[1 : many + 1] / scales
    parts = dense * point[1 : many + 1] + steps.ravel()[index[:, :many]]
    alone, both = words[0][codes[:, :DIFFERING]].sum(1), words[1][codes[:, DIFFERING:]].sum(1)
    spreads = [float(spread) for spread in (*parts.std(0), alone.std(), both.std())]
    whole = sum(spreads) or 1.0
    return Additive(
        float(point[0] - means @ slopes + steps[:, 0].sum()),
        slopes,
        edges,
        np.diff(steps, axis=1),
        words,
        {
            name: spread / whole
            for name, spread in zip((*MEASURES, "differing", "shared"), spreads, strict=True)
        },
    )


def _least(
    loss: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]], point: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where a smooth convex loss is least: L-BFGS (Nocedal and Wright, "Numerical Optimization", algorithm 7.5)."""
    value, slope = loss(point)
    moves: list[tuple[NDArray[np.float64], NDArray[np.float64], float]] = []
    for _ in range(_ITERATIONS):
        if np.abs(slope).max() < _TOLERANCE * max(1.0, abs(value)):
            break
        direction = _downhill(slope, moves)
        gain = float(slope @ direction)
        step = 1.0 if moves else 1.0 / max(float(np.abs(slope).sum()), 1e-12)
        while True:
            after, after_slope = loss(point + step * direction)
            if after <= value + 1e-4 * step * gain or step < 1e-10:
                break
            step /= 2
        moved, turned = step * direction, after_slope - slope
        curved = float(moved @ turned)
        if curved > 1e-12:
            moves = [*moves[-_REMEMBERED + 1 :], (moved, turned, 1 / curved)]
        point, value, slope = point + moved, after, after_slope
    return point


def _downhill(
    slope: NDArray[np.float64], moves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64], float]]
) -> NDArray[np.float64]:
    direction = -slope
    parts = []
    for moved, turned, scale in reversed(moves):
        part = scale * float(moved @ direction)
        direction = direction - part * turned
        parts.append(part)
    if moves:
        moved, turned, scale = moves[-1]
        direction = direction / (scale * float(turned @ turned))
    for (moved, turned, scale), part in zip(moves, reversed(parts), strict=True):
        direction = direction + (part - scale * float(turned @ direction)) * moved
    return direction
