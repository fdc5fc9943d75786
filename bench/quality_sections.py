"""The sections of ``bench.quality``: each measures one promise, and gives figures with their targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import (
    confidence,
    engine_quality,
    labelled,
    learned,
    online,
    quality_cost,
    quality_default,
    trust_sim,
)
from bench.quality_default import LEAST_GAIN, MAX_ERROR, MIX, KeptResult, KindResult, StreamResult
from bench.report import Figure
from cachesvc.core.policy import Policy
from cachesvc.core.ports import Embedder
from cachesvc.core.trust.calibration import MIN_LABELS

MAX_COST_US = 150.0
_TRAPS, _QUICK_TRAPS = 80, 30
_QUICK_RUNS = 40
_LABELLED: Mapping[str, float] = {"stream_mix": 0.11, "stream_t2s_atis": 0.11, "stream_t2s_advising": 0.17}
_ORDERS, _QUICK_ORDERS = 5, 2


@dataclass(frozen=True, slots=True)
class Work:
    """What is measured with: ``most`` requests of each stream at most."""

    embedder: Embedder
    policy: Policy
    streams: Sequence[Path]
    pairs: Sequence[Path]
    quick: bool
    most: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a section came to."""

    figures: Sequence[Figure]
    notes: Sequence[str] = ()
    streams: Sequence[StreamResult] = field(default=())


def default(work: Work) -> Found:
    """The default policy without labels: wrong hits on every stream, right hits beside the plain cosine."""
    results = quality_default.streams(work.embedder, work.streams, work.policy, work.most)
    wrong = [
        Figure(
            f"default policy, {_short(result.name)}: wrong hits ÷ requests",
            "%",
            [result.policy.wrong.share * 100],
            at_most=MAX_ERROR * 100 if result.targeted else None,
        )
        for result in results
    ]
    gains = [
        Figure(
            f"default policy, {_short(result.name)}: right hits ÷ those of the plain cosine at the same error",
            "",
            [result.gain],
            at_least=LEAST_GAIN if result.name == MIX else None,
        )
        for result in results
    ]
    right = [
        Figure(
            f"default policy, {_short(result.name)}: right hits ÷ requests",
            "%",
            [result.policy.useful.share * 100],
        )
        for result in results
    ]
    return Found([*wrong, *gains, *right], streams=results)


def kinds(work: Work) -> Found:
    """Minimal pairs and traps, by kind: none of the guarded kinds may be served."""
    of_pairs, kept_pairs = quality_default.pairs(work.embedder, work.pairs, work.policy)
    of_traps, kept_traps = quality_default.traps(
        work.embedder, work.policy, _QUICK_TRAPS if work.quick else _TRAPS
    )
    return Found(
        [
            *(_of_kind(result) for result in (*of_pairs, *of_traps)),
            *(_kept(result) for result in (*kept_pairs, *kept_traps) if result.near),
        ]
    )


def cost(work: Work) -> Found:
    """What gates and the decision add to a lookup."""
    rounds = quality_cost.cost_us(work.embedder, work.streams, work.policy)
    name = f"gates and decision of a lookup, {quality_cost.COUNT} candidates, 20 tokens: p50"
    return Found([Figure(name, "µs", rounds, at_most=MAX_COST_US)] if rounds else [])


def own_labels(work: Work) -> Found:
    """With a namespace's own labels: right hits at 1 % of errors, how often that breaks, and what confidence is worth."""
    files = [file for file in work.streams if file.stem in _LABELLED]
    if work.quick:
        files = [file for file in files if file.stem != MIX]
    streams = [labelled.stream(work.embedder, file) for file in files]
    found = learned.figures(streams, learned.LEAST_REDRAWS if work.quick else None)
    figures: list[Figure] = []
    for one in found:
        name = f"own labels, {_short(one.stream)}, promise: {one.promise.value}"
        counts = one.promise is learned.Promise.SEEN
        least = _LABELLED[one.stream] * 100 if counts else None
        figures += [
            Figure(
                f"{name}: wrong hits ÷ requests",
                "%",
                [100 * one.error_share],
                at_most=1.0 if counts else None,
            ),
            Figure(f"{name}: right hits ÷ requests", "%", [100 * one.useful_share], at_least=least),
            Figure(
                f"{name}: held-out runs over the bound",
                "%",
                [100 * one.broken_share],
                at_most=5.0 if counts else None,
            ),
        ]
        if one.calibration_error is not None and counts:
            figures.append(
                Figure(
                    f"{name}: expected calibration error of confidence",
                    "",
                    [one.calibration_error],
                    at_most=0.05,
                )
            )
    return Found(figures)


def audits(work: Work) -> Found:
    """Audits and the brake, simulated: how often the interval holds, and what drift does with the brake on and off."""
    found = trust_sim.measure(_QUICK_RUNS, 1) if work.quick else trust_sim.measure()
    covered = [
        Figure(
            f"audits, true rate {one.name}: runs whose interval held at every audit",
            "%",
            [100 * min(one.rate_covered, one.share_covered) / one.runs],
            at_least=None if work.quick else 100 * trust_sim.LEAST_COVERAGE,
        )
        for one in found.coverage
    ]
    drifts = [
        Figure(
            f"brake, {drift.scenario.name}: wrong hits with it ÷ without it",
            "",
            [drift.mean(drift.on, "wrong") / max(drift.mean(drift.off, "wrong"), 1.0)],
        )
        for drift in found.drifts
    ]
    return Found([*covered, *drifts])


def from_nothing(work: Work) -> Found:
    """Namespaces that begin without a label and bear 1 % of errors: misses label themselves."""
    files = [file for file in work.streams if file.stem in online.STREAMS]
    if work.quick:
        files = [file for file in files if file.stem in online.TARGETS]
    streams = [labelled.stream(work.embedder, file) for file in files]
    found = online.figures(streams, _QUICK_ORDERS if work.quick else _ORDERS)
    figures: list[Figure] = []
    for one in found.voting:
        name = f"from nothing, {_short(one.stream)}, {one.requests:,} requests"
        figures += [
            Figure(
                f"{name}: runs of {one.runs} whose error was ever credibly above 1 %",
                "",
                [one.credibly_over],
                at_most=0,
            ),
            Figure(f"{name}: wrong hits ÷ requests", "%", _percent(one.error)),
            Figure(
                f"{name}: right hits ÷ requests",
                "%",
                _percent(one.useful),
                at_least=None if one.target is None else one.target * 100,
            ),
        ]
    return Found(figures)


def confidences(work: Work) -> Found:
    """What confidence is worth once there are labels enough, whatever rule is in force."""
    files = [file for file in work.streams if file.stem in confidence.STREAMS]
    streams = [labelled.stream(work.embedder, file) for file in files]
    found = confidence.figures(streams, 1 if work.quick else confidence.SEEDS)
    told = [one for one in found if one.error]
    return Found(
        [
            Figure(
                f"confidence, {_short(one.stream)}, {one.rule}: expected calibration error of what came after",
                "",
                one.error,
                at_most=confidence.MAX_ERROR,
            )
            for one in told
        ]
        + [
            Figure(
                f"confidence, {_short(one.stream)}, {one.rule}: the same of the hits alone",
                "",
                one.error_of_hits,
            )
            for one in told
            if one.error_of_hits
        ],
        [
            f"confidence, {_short(one.stream)}, {one.rule}: absent, there were {one.labels:,} labels of the {MIN_LABELS:,} that it takes"
            for one in found
            if not one.error
        ],
    )


def _percent(spread: online.Spread) -> list[float]:
    return [100 * spread.least, 100 * spread.median, 100 * spread.greatest]


def engine(work: Work) -> Found:
    """The compiled engine tells the same from the different as well as the model in full precision.

    A quick run takes as many pairs as a full one: of a hundred a set the loss that is looked for is not told from chance.
    """
    losses = engine_quality.losses(work.pairs)
    return Found(
        [
            Figure(
                f"AUC lost by the int8 engine, {loss.name}",
                "",
                [abs(loss.difference)],
                at_most=engine_quality.MAX_LOSS if loss.counts else None,
            )
            for loss in losses
        ]
    )


SECTIONS: Mapping[str, Callable[[Work], Found]] = {
    "default": default,
    "kinds": kinds,
    "own-labels": own_labels,
    "from-nothing": from_nothing,
    "confidence": confidences,
    "audits": audits,
    "cost": cost,
    "engine": engine,
}
"""By name, in the order of the table."""


def _short(name: str) -> str:
    return name.removeprefix("stream_")


def _of_kind(result: KindResult) -> Figure:
    return Figure(
        f"{result.source}, {result.kind}: served wrongly of {result.wrong.of} (cosine alone: {result.cosine})",
        "",
        [result.wrong.count],
        at_most=0 if result.guarded else None,
    )


def _kept(result: KeptResult) -> Figure:
    return Figure(
        f"{result.source}: served of {result.near} edits that keep the meaning and reach the threshold",
        "%",
        [100 * result.served / result.near],
    )
