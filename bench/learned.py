"""What a namespace's own labels buy: useful hits at a promised error rate, how often the promise breaks, calibration.

``python -m bench.learned`` prints it for the streams with tight answers. Every request of a stream has its five nearest
earlier requests for candidates, as in shadow mode, where everything is stored; requests are split at random into two
thirds that are labels and a third to test with, so that both are exchangeable. The rule is made from the labels alone, and as
adoption makes it: model, threshold on cross-fitted values, curve of confidence. It is then measured on the test part: over
the same candidates in each of the re-draws, which count how often the promise breaks, and in some of them served in
order, too, where a hit stores nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench import labelled
from bench.simulate import Neighbours, Searched, nearest, simulate
from cachesvc.core.gates import DEFAULT_GATES, Analysis, analyse, first_veto
from cachesvc.core.trust.adoption import AHEAD, Terms, choose_for
from cachesvc.core.trust.calibration import calibrate, expected_calibration_error
from cachesvc.core.trust.compare import digest
from cachesvc.core.trust.features import NAMES, features
from cachesvc.core.trust.learn import FOLDS, Examples, Picks, cross_fitted, picks, train
from cachesvc.core.trust.rules import Model
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

STREAMS = ("stream_mix", "stream_t2s_atis", "stream_t2s_advising")
MAX_ERROR_RATE = 0.01
FLOOR = 0.6
COUNT = 5
LABELLED = 2 / 3
LEAST_REDRAWS = 100
SERVED_RUNS = 5

_REDRAWN = 500_000  # requests; the shorter the stream, the more re-draws


class Promise(Enum):
    """What is promised to be at most the error rate that was asked for."""

    RATE = "the rate"
    SEEN = "what is seen"

    @property
    def ahead(self) -> float:
        """As in ``core.trust.adoption.Terms``."""
        return 0.0 if self is Promise.RATE else AHEAD


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one stream and promise. Shares of requests, means over the re-draws, ``served_`` over the first of them;
    ``best_useful_share`` is at the threshold that is best in hindsight. ``broken_share``: of re-draws whose test part errs
    above the bound. ``calibration_error`` is of the confidences of all test parts; None where there are too few labels.
    """

    stream: str
    promise: Promise
    requests: int
    redraws: int
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
    digests: Sequence[bytes]
    examples: Examples


def shadow(stream: labelled.Stream) -> Shadow:
    """What shadow mode sees of a stream: each request with the nearest before it."""
    analyses = [analyse(text) for text in stream.texts]
    digests = [digest(answer.encode()) for answer in stream.answers]
    rows, same, is_open, request = [np.zeros((0, len(NAMES)), np.float32)], [], [], []
    for place in range(1, len(stream)):
        near = nearest(stream.vectors[:place], stream.vectors[place], COUNT)
        kept = near.scores >= FLOOR
        if not kept.any():
            continue
        rows.append(_features(analyses, digests, place, near)[kept])
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
    return Shadow(stream, analyses, digests, made)


def figures(streams: Sequence[labelled.Stream], redraws: int | None = None) -> list[Figures]:
    """Of each stream, by either promise. By default a short stream is drawn anew more often than a long one."""
    made = []
    for stream in streams:
        seen = shadow(stream)
        many = max(LEAST_REDRAWS, _REDRAWN // len(stream)) if redraws is None else redraws
        drawn = [_drawn(seen.examples, seed) for seed in range(many)]
        made += [_figures(seen, drawn, promise) for promise in Promise]
    return made


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One re-draw: what the labels taught, and what that makes of the test part, which has ``requests``.
    ``confidences`` are of the test part's picks.
    """

    is_label: NDArray[np.bool_]
    model: Model
    own: Picks
    ahead: Picks
    requests: int
    confidences: NDArray[np.float64] | None


def _drawn(given: Examples, seed: int) -> _Drawn:
    is_label = np.zeros(given.requests, bool)
    random = np.random.default_rng(seed)
    is_label[random.permutation(given.requests)[: round(given.requests * LABELLED)]] = True
    labels, test = given.of(is_label), given.of(~is_label)
    model, values = train(labels), cross_fitted(labels)
    assert model is not None
    assert values is not None
    own, ahead = picks(labels, values), picks(test, model.values(test.features))
    curve = calibrate(own.values, own.right, 1 / own.share)
    confidences = None if curve is None else np.interp(ahead.values, curve.values, curve.confidences)
    return _Drawn(is_label, model, own, ahead, test.requests, confidences)


def _figures(seen: Shadow, drawn: Sequence[_Drawn], promise: Promise) -> Figures:
    hits = [one.ahead.values >= _threshold(one, promise) for one in drawn]
    wrong = np.array(
        [(hit & ~one.ahead.right).sum() / one.requests for hit, one in zip(hits, drawn, strict=True)]
    )
    right = [(hit & one.ahead.right).sum() / one.requests for hit, one in zip(hits, drawn, strict=True)]
    served = [_served(seen, one, promise) for one in drawn[:SERVED_RUNS]]
    return Figures(
        seen.stream.name,
        promise,
        len(seen.stream),
        len(drawn),
        float(np.mean(right)),
        float(wrong.mean()),
        float(np.mean([one.right for one in served])),
        float(np.mean([one.wrong for one in served])),
        float(np.mean([_best(one.ahead, one.requests) for one in drawn])),
        float((wrong > MAX_ERROR_RATE).mean()),
        _calibration_error(drawn),
        [name for name, _ in sorted(drawn[0].model.importance.items(), key=lambda item: -item[1])[:5]],
    )


def _calibration_error(drawn: Sequence[_Drawn]) -> float | None:
    """The mean of those of the re-draws, each by its own test part."""
    errors = [
        expected_calibration_error(one.confidences, one.ahead.right)
        for one in drawn
        if one.confidences is not None
    ]
    return float(np.mean(errors)) if errors else None


def _threshold(one: _Drawn, promise: Promise) -> float:
    labels = int(one.is_label.sum())
    terms = Terms(MAX_ERROR_RATE, FLOOR, requests=labels, now_ms=0, version=1, ahead=promise.ahead)
    choice = choose_for(one.own, terms)
    return np.inf if choice is None else choice.threshold


@dataclass(frozen=True, slots=True)
class _Served:
    right: float
    wrong: float


def _served(seen: Shadow, one: _Drawn, promise: Promise) -> _Served:
    rule = _Learned(seen, one.model, _threshold(one, promise), one.is_label)
    run = simulate(seen.stream.answers, Searched(seen.stream.vectors), rule, COUNT)
    hit = (run.served >= 0) & ~one.is_label
    return _Served(
        float((hit & run.right).sum() / one.requests), float((hit & ~run.right).sum() / one.requests)
    )


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
        values = self.model.values(_features(analyses, self.seen.digests, place, near))
        for best in np.argsort(-values, kind="stable").tolist():
            if values[best] < self.threshold:
                return None
            other = int(near.places[best])
            if near.scores[best] >= FLOOR and not first_veto(analyses[place], analyses[other], DEFAULT_GATES):
                return other
        return None

    def learn(self, place: int) -> None:
        """Learns nothing more."""


def _best(ahead: Picks, requests: int) -> float:
    order = np.argsort(-ahead.values, kind="stable")
    right = ahead.right[order]
    served = int(np.searchsorted(np.cumsum(~right), MAX_ERROR_RATE * requests, side="right"))
    return float(right[:served].sum() / requests)


def _features(
    analyses: Sequence[Analysis], digests: Sequence[bytes], place: int, near: Neighbours
) -> NDArray[np.float32]:
    others = near.places.tolist()
    return features(
        analyses[place],
        [analyses[other] for other in others],
        near.scores.tolist(),
        answers=[digests[other] for other in others],
    )


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
        "re-draws",
        "over %",
        "ECE",
        "goes by",
        title=f"own labels, two thirds of each stream; wrong ÷ requests ≤ {MAX_ERROR_RATE:.0%}",
    )
    for made in figures([labelled.stream(embedder, file) for file in files]):
        shares = (
            made.error_share,
            made.useful_share,
            made.served_error_share,
            made.served_useful_share,
            made.best_useful_share,
        )
        error = "-" if made.calibration_error is None else f"{made.calibration_error:.3f}"
        table.add_row(
            made.stream,
            made.promise.value,
            *(f"{100 * share:.2f}" for share in shares),
            str(made.redraws),
            f"{100 * made.broken_share:.1f}",
            error,
            ", ".join(made.importance),
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
