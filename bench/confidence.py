"""``python -m bench.confidence``: how far the confidence of replies and the share of right reuses lie apart.

Namespaces begin with no label. From the 1,000th on each request's candidate has a confidence, made of the labels before
it as the service makes it, and remade as they grow; it is held against whether the candidate is right, labelled or not.
Under the policy's threshold in shadow, under the same where hits are served and a few audited, and under votes whose
threshold is controlled. Exits 1 when a target is missed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import labelled
from bench.calls import say
from bench.online import MAX_ERROR_RATE, REQUESTS
from bench.online_sim import Near, Pick, Play, play, shuffled
from cachesvc.core.policy import Policy
from cachesvc.core.trust.calibration import expected_calibration_error
from cachesvc.core.trust.confidence import UNKNOWN, Picked, is_due, made
from cachesvc.core.trust.control import ControlTerms
from cachesvc.core.trust.rules import Rule
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

MAX_ERROR = 0.05
STREAMS = (
    "stream_mix",
    "stream_banking77",
    "stream_clinc150",
    "stream_qqp",
    "stream_t2s_advising",
    "stream_t2s_atis",
)
SEEDS = 3

_POLICY = Policy()
_THRESHOLD = ControlTerms(MAX_ERROR_RATE, _POLICY.min_score)
_ANY = np.arange(0)
_PLAYS: Mapping[str, Play] = {
    # All that would hit is held back.
    "threshold, in shadow": Play(_ANY, replace(_THRESHOLD, hold_back_share=1.0), 0, votes=False, frozen_at=0),
    "threshold, audited": Play(
        _ANY, replace(_THRESHOLD, hold_back_share=0.0), 0, votes=False, frozen_at=0, audit_share=0.1
    ),
    "votes": Play(_ANY, _THRESHOLD, 0),
}


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A stream under a rule. ``labels``: of requests that had something near that no gate refuses, in the run with the
    fewest. By run: the expected calibration error of all such requests after the first 1,000 labels, and of those
    among them that were served or would have been; ``foretold`` is what the service itself said of it in the end. Empty
    where there were never labels enough: replies then have no confidence.
    """

    stream: str
    rule: str
    labels: int
    judged: int
    error: Sequence[float]
    hits: int
    error_of_hits: Sequence[float]
    foretold: Sequence[float]

    @property
    def is_met(self) -> bool:
        """In the median of the runs."""
        return not self.error or float(np.median(self.error)) <= MAX_ERROR


def main() -> int:
    """Print the table."""
    embedder = make_embedder(EmbedderSettings(), say)
    files = [file for file in map(labelled.find, STREAMS) if file is not None]
    found = figures([labelled.stream(embedder, file) for file in files], SEEDS)
    Console(width=180).print(_table(found))
    return 0 if all(one.is_met for one in found) else 1


def figures(streams: Sequence[labelled.Stream], seeds: int) -> list[Calibrated]:
    """Serve each stream in so many orders under each rule."""
    found = []
    for stream in streams:
        say(f"serving {stream.name} {len(_PLAYS) * seeds} times")
        near = Near(stream)
        for name, how in _PLAYS.items():
            runs = [_judged(near, how, seed) for seed in range(seeds)]
            found.append(
                Calibrated(
                    stream=stream.name,
                    rule=name,
                    labels=min(run.labels for run in runs),
                    judged=min(run.judged for run in runs),
                    error=[run.error for run in runs if run.judged],
                    hits=min(run.hits for run in runs),
                    error_of_hits=[run.error_of_hits for run in runs if run.hits],
                    foretold=[run.foretold for run in runs if run.foretold is not None],
                )
            )
    return found


@dataclass(frozen=True, slots=True)
class _Run:
    labels: int
    judged: int
    error: float
    hits: int
    error_of_hits: float
    foretold: float | None


def _judged(near: Near, how: Play, seed: int) -> _Run:
    course = play(near, replace(how, order=shuffled(near, seed)[:REQUESTS], seed=seed))
    rule, known = Rule(0, how.terms.start), UNKNOWN
    told: list[Pick] = []
    foretold: list[tuple[float, Pick]] = []
    for pick in course.picks:
        if known.calibration is not None:
            foretold.append((known.calibration.confidence(pick.value), pick))
        if pick.stands_for:
            told.append(pick)
            known = replace(known, told=known.told + 1)
            if is_due(known, rule):
                known = made(known, rule, _picked(told))
    hits = [one for one in foretold if one[1].would_hit]
    calibration = known.calibration
    return _Run(
        labels=len(told),
        judged=len(foretold),
        error=_error(foretold),
        hits=len(hits),
        error_of_hits=_error(hits),
        foretold=None if calibration is None else calibration.error,
    )


def _picked(told: Sequence[Pick]) -> Picked:
    return Picked(
        np.array([pick.value for pick in told]),
        np.array([pick.right for pick in told]),
        np.array([pick.stands_for for pick in told]),
        np.arange(len(told)),
    )


def _error(foretold: Sequence[tuple[float, Pick]]) -> float:
    confidences = np.array([confidence for confidence, _ in foretold])
    return expected_calibration_error(confidences, np.array([pick.right for _, pick in foretold], bool))


def _table(found: Sequence[Calibrated]) -> Table:
    table = Table(
        *(
            "stream",
            "rule",
            "labels",
            "requests",
            "error",
            "target",
            "hits",
            "error of hits",
            "as the service said",
        ),
        title="Expected calibration error of confidence: least / median / greatest of the orders",
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for one in found:
        table.add_row(
            one.stream.removeprefix("stream_"),
            one.rule,
            f"{one.labels:,}",
            f"{one.judged:,}",
            _spread(one.error),
            f"≤ {MAX_ERROR} {'met' if one.is_met else 'MISSED'}" if one.error else "absent",
            f"{one.hits:,}",
            _spread(one.error_of_hits),
            _spread(one.foretold),
        )
    return table


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return " / ".join(f"{value:.3f}" for value in (min(values), float(np.median(values)), max(values)))


if __name__ == "__main__":
    raise SystemExit(main())
