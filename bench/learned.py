"""What a namespace's own labels buy: useful hits at a promised error rate, how often the promise breaks, calibration.

``python -m bench.learned`` prints it for the streams with tight answers. Every request of a stream has its five nearest
earlier requests for candidates, as in shadow mode, where everything is stored; requests are split at random into labels
and test, so that both are exchangeable. The rule is made from the labels alone: model, threshold (cross-fitted), curve of
confidence. It is then measured on the test part twice: over the same candidates, and served in order, where a hit stores
nothing. The promise is measured over many more splits, with a model from a third of the requests that is in neither part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench import labelled
from cachesvc.core.gates import DEFAULT_GATES, Analysis, analyse, first_veto
from cachesvc.core.trust.calibration import calibrate, expected_calibration_error
from cachesvc.core.trust.features import NAMES, features
from cachesvc.core.trust.learn import FOLDS, Examples, Picks, cross_fitted, picks, train
from cachesvc.core.trust.operating import Choice, choose
from cachesvc.core.trust.rules import Model
from cachesvc.evaluation.simulate import Neighbours, simulate
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

STREAMS = ("stream_mix", "stream_t2s_atis", "stream_t2s_advising")
MAX_ERROR_RATE = 0.01
FLOOR = 0.6
REDRAWS = 1_000
RUNS = 5
COUNT = 5


class Promise(Enum):
    """What is promised to be at most the error rate that was asked for."""

    RATE = "the rate"
    SEEN = "what is seen"

    def horizon(self, requests: int) -> int | None:
        """For how many requests to come; None for the rate behind them all."""
        return None if self is Promise.RATE else requests


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one stream and promise. Shares of requests, means over the runs; ``best_useful_share`` is at the threshold that is
    best in hindsight. ``broken_share``: of re-draws whose test part, as large as the labels, errs above the bound.
    """

    stream: str
    promise: Promise
    requests: int
    useful_share: float
    error_share: float
    served_useful_share: float
    served_error_share: float
    best_useful_share: float
    broken_share: float
    calibration_error: float | None
    importance: Sequence[str]


@dataclass(frozen=True, slots=True)
class Shadow:
    """A stream with its candidates and what is known of them, made once."""

    stream: labelled.Stream
    analyses: Sequence[Analysis]
    examples: Examples


def shadow(stream: labelled.Stream) -> Shadow:
    """What shadow mode sees of a stream: each request with the nearest before it."""
    analyses = [analyse(text) for text in stream.texts]
    rows, same, is_open, request = [np.zeros((0, len(NAMES)), np.float32)], [], [], []
    for place in range(1, len(stream)):
        near = _near(stream.vectors, place)
        kept = near.scores >= FLOOR
        if not kept.any():
            continue
        rows.append(_features(analyses, place, near)[kept])
        for other in near.places[kept].tolist():
            same.append(stream.answers[other] == stream.answers[place])
            is_open.append(first_veto(analyses[place], analyses[other], DEFAULT_GATES) is None)
            request.append(place)
    fold = np.random.default_rng(0).integers(0, FOLDS, len(stream))
    known = np.ones(len(same), bool)
    made = Examples(
        np.concatenate(rows),
        np.array(same),
        known,
        np.array(is_open),
        np.array(request, np.intp),
        fold.astype(np.intp),
        np.ones(len(stream)),
    )
    return Shadow(stream, analyses, made)


def figures(streams: Sequence[labelled.Stream]) -> list[Figures]:
    """Of each stream, by either promise."""
    made = []
    for stream in streams:
        seen = shadow(stream)
        halves = [_half(seen, seed) for seed in range(RUNS)]
        made += [_figures(seen, halves, promise) for promise in Promise]
    return made


def _figures(seen: Shadow, halves: Sequence["_Half"], promise: Promise) -> Figures:
    runs = [_run(seen, half, promise) for half in halves]
    errors = [half.calibration_error for half in halves if half.calibration_error is not None]
    return Figures(
        seen.stream.name,
        promise,
        len(seen.stream),
        float(np.mean([run.useful for run in runs])),
        float(np.mean([run.error for run in runs])),
        float(np.mean([run.served_useful for run in runs])),
        float(np.mean([run.served_error for run in runs])),
        float(np.mean([_best(half.ahead, half.requests) for half in halves])),
        _broken(seen.examples, promise),
        float(np.mean(errors)) if errors else None,
        [name for name, _ in sorted(halves[0].model.importance.items(), key=lambda item: -item[1])[:5]],
    )


@dataclass(frozen=True, slots=True)
class _Half:
    """What one half taught, and what it makes of the other, which has ``requests``."""

    is_label: NDArray[np.bool_]
    model: Model
    own: Picks
    ahead: Picks
    requests: int
    calibration_error: float | None


def _half(seen: Shadow, seed: int) -> _Half:
    given = seen.examples
    is_label = np.zeros(given.requests, bool)
    is_label[np.random.default_rng(seed).permutation(given.requests)[: given.requests // 2]] = True
    labels, test = given.of(is_label), given.of(~is_label)
    model, values = train(labels), cross_fitted(labels)
    assert model is not None
    assert values is not None
    own, ahead = picks(labels, values), picks(test, model.values(test.features))
    curve = calibrate(own.values, own.right)
    error = None
    if curve is not None:
        error = expected_calibration_error(
            np.interp(ahead.values, curve.values, curve.confidences), ahead.right
        )
    return _Half(is_label, model, own, ahead, test.requests, error)


@dataclass(frozen=True, slots=True)
class _Run:
    useful: float
    error: float
    served_useful: float
    served_error: float


def _run(seen: Shadow, half: _Half, promise: Promise) -> _Run:
    choice = _choice(half.own, int(half.is_label.sum()), promise)
    threshold = choice.threshold if choice else np.inf
    served = simulate(
        seen.stream.answers,
        seen.stream.vectors,
        _Learned(seen, half.model, threshold, half.is_label),
        count=COUNT,
    )
    hit = half.ahead.values >= threshold
    counts = (
        hit & half.ahead.right,
        hit & ~half.ahead.right,
        served.right & ~half.is_label,
        (served.served >= 0) & ~served.right & ~half.is_label,
    )
    return _Run(*(float(count.sum() / half.requests) for count in counts))


@dataclass(frozen=True, slots=True)
class _Learned:
    """Serves the test part by the rule; the labels' part only asks and stores, as it did in shadow mode."""

    seen: Shadow
    model: Model
    threshold: float
    is_label: NDArray[np.bool_]

    def choose(self, place: int, near: Neighbours) -> int | None:
        """The open candidate of highest value that reaches the threshold."""
        if self.is_label[place] or not len(near.places) or near.scores[0] < FLOOR:
            return None
        analyses = self.seen.analyses
        values = self.model.values(_features(analyses, place, near))
        for best in np.argsort(-values, kind="stable").tolist():
            if values[best] < self.threshold:
                return None
            other = int(near.places[best])
            if near.scores[best] >= FLOOR and not first_veto(analyses[place], analyses[other], DEFAULT_GATES):
                return other
        return None

    def learn(self, place: int, near: Neighbours, served: int | None) -> None:
        """Learns nothing more."""


def _broken(given: Examples, promise: Promise) -> float:
    """Over re-draws: the share whose test part errs above the bound."""
    order = np.random.default_rng(99).permutation(given.requests)
    is_taught = np.zeros(given.requests, bool)
    is_taught[order[: given.requests // 3]] = True
    model, rest = train(given.of(is_taught)), given.of(~is_taught)
    assert model is not None
    best = picks(rest, model.values(rest.features))
    request = np.unique(rest.request[rest.is_open])
    random = np.random.default_rng(7)
    broken = 0
    for _ in range(REDRAWS):
        is_label = np.zeros(rest.requests, bool)
        is_label[random.permutation(rest.requests)[: rest.requests // 2]] = True
        own = is_label[request]
        choice = _choice(_some(best, own), int(is_label.sum()), promise)
        if choice is not None:
            wrong = (best.values >= choice.threshold) & ~best.right & ~own
            broken += int(wrong.sum()) > MAX_ERROR_RATE * (~is_label).sum()
    return broken / REDRAWS


def _choice(own: Picks, requests: int, promise: Promise) -> Choice | None:
    return choose(own.values, own.right, requests, MAX_ERROR_RATE, horizon=promise.horizon(requests))


def _some(given: Picks, chosen: NDArray[np.bool_]) -> Picks:
    return Picks(given.values[chosen], given.right[chosen], given.share[chosen])


def _best(ahead: Picks, requests: int) -> float:
    order = np.argsort(-ahead.values, kind="stable")
    right = ahead.right[order]
    served = int(np.searchsorted(np.cumsum(~right), MAX_ERROR_RATE * requests, side="right"))
    return float(right[:served].sum() / requests)


def _features(analyses: Sequence[Analysis], place: int, near: Neighbours) -> NDArray[np.float32]:
    return features(
        analyses[place], [analyses[other] for other in near.places.tolist()], near.scores.tolist()
    )


def _near(vectors: NDArray[np.float32], place: int) -> Neighbours:
    scores = vectors[:place] @ vectors[place]
    top = np.argpartition(scores, -COUNT)[-COUNT:] if place > COUNT else np.arange(place)
    top = top[np.argsort(-scores[top], kind="stable")]
    return Neighbours(top, scores[top])


def main() -> None:
    embedder = make_embedder(EmbedderSettings(), print)
    files = [file for name in STREAMS if (file := labelled.find(name)) is not None]
    table = Table(
        "stream",
        "promised",
        "wrong %",
        "useful %",
        "served: wrong %",
        "useful %",
        "in hindsight %",
        "runs over %",
        "ECE",
        "goes by",
        title=f"own labels, half of each stream; wrong ÷ requests ≤ {MAX_ERROR_RATE:.0%}",
    )
    for made in figures([labelled.stream(embedder, file) for file in files]):
        shares = (
            made.error_share,
            made.useful_share,
            made.served_error_share,
            made.served_useful_share,
            made.best_useful_share,
            made.broken_share,
        )
        error = "-" if made.calibration_error is None else f"{made.calibration_error:.3f}"
        table.add_row(
            made.stream,
            made.promise.value,
            *(f"{100 * share:.2f}" for share in shares),
            error,
            ", ".join(made.importance),
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
