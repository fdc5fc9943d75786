"""``python -m bench.online``: useful and wrong hits of namespaces that begin with no label and bear 1 % of errors.

Each stream is served whole, in several orders by chance (``bench.online_sim``). Wrong hits are held against the
rate that is borne at every moment of a run, not only at its end. Exits 1 when a target is missed or a run's errors were
credibly above that rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench import labelled
from bench.calls import say
from bench.online_sim import Course, Near, Play, play, shuffled
from cachesvc.core.trust.control import ControlTerms
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

TARGETS: Mapping[str, float] = {"stream_mix": 0.06, "stream_banking77": 0.30, "stream_clinc150": 0.45}
"""Useful hits ÷ requests."""

MAX_ERROR_RATE = 0.01
REQUESTS = 10_000
"""A longer stream is served so far; a shorter one whole."""

STREAMS = (
    "stream_mix",
    "stream_banking77",
    "stream_clinc150",
    "stream_t2s_atis",
    "stream_t2s_advising",
    "stream_gsmplus",
    "stream_t2s_scholar",
    "stream_t2s_small",
    "stream_qqp",
    "stream_chat",
)
SEEDS = 10

_LEVEL = 0.95
_STAKES = np.geomspace(0.5, 60.0, 12)


@dataclass(frozen=True, slots=True)
class Spread:
    """The least, the median and the greatest of the runs."""

    least: float
    median: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value or more."""
        return cls(float(np.min(values)), float(np.median(values)), float(np.max(values)))


@dataclass(frozen=True, slots=True)
class Figure:
    """One stream. Shares are of requests; ``late`` is useful in the last quarter. ``over`` counts runs that end with
    more errors than are borne, ``credibly_over`` those whose errors so far were credibly more at any moment:
    the bet against "no more than borne until now" grew twentyfold, which it does in 5 % of runs that keep to it.
    """

    stream: str
    requests: int
    runs: int
    useful: Spread
    late: Spread
    error: Spread
    over: int
    credibly_over: int

    @property
    def target(self) -> float | None:
        """What the median of ``useful`` is to reach."""
        return TARGETS.get(self.stream)

    @property
    def is_met(self) -> bool:
        """Useful as was aimed at, and no run credibly above."""
        return self.credibly_over == 0 and (self.target is None or self.useful.median >= self.target)


@dataclass(frozen=True, slots=True)
class Figures:
    """All streams, by votes on scores and by cosine alone."""

    voting: Sequence[Figure]
    cosine: Sequence[Figure]

    @property
    def are_met(self) -> bool:
        """By the service as it is."""
        return all(figure.is_met for figure in self.voting)


def main() -> int:
    """Print the table."""
    embedder = make_embedder(EmbedderSettings(), say)
    files = [file for file in map(labelled.find, STREAMS) if file is not None]
    found = figures([labelled.stream(embedder, file) for file in files], SEEDS)
    console = Console(width=140)
    console.print(_table("From nothing, by votes on scores", found.voting))
    console.print(_table("The same where stored answers cannot be told apart: by cosine alone", found.cosine))
    return 0 if found.are_met else 1


def figures(streams: Sequence[labelled.Stream], seeds: int) -> Figures:
    """Serve each stream in so many orders. A minute or two for ten of each."""
    voting, cosine = [], []
    for stream in streams:
        say(f"serving {stream.name} {2 * seeds} times")
        near = Near(stream)
        voting.append(_figure(near, [_course(near, seed, votes=True) for seed in range(seeds)]))
        cosine.append(_figure(near, [_course(near, seed, votes=False) for seed in range(seeds)]))
    return Figures(voting, cosine)


def _course(near: Near, seed: int, *, votes: bool) -> Course:
    return play(near, Play(shuffled(near, seed)[:REQUESTS], ControlTerms(MAX_ERROR_RATE), seed, votes=votes))


def _figure(near: Near, courses: Sequence[Course]) -> Figure:
    return Figure(
        stream=near.name,
        requests=len(courses[0].right),
        runs=len(courses),
        useful=Spread.of([course.right.mean() for course in courses]),
        late=Spread.of([course.right[-(len(course.right) // 4) :].mean() for course in courses]),
        error=Spread.of([course.wrong.mean() for course in courses]),
        over=sum(course.wrong.mean() > MAX_ERROR_RATE for course in courses),
        credibly_over=sum(is_credibly_above(course.wrong, MAX_ERROR_RATE) for course in courses),
    )


def is_credibly_above(wrong: NDArray[np.bool_], rate: float) -> bool:
    """Whether at any moment the errors until then were credibly more than the rate, at 95 % for all moments at once.

    A bet at fixed stakes on each request being wrong, fair at the rate: wherever the mean of the chances so far does not
    pass it, the wealth is at most that of a fair game, so that it reaches 20 in 5 % of courses at most (Ville; Waudby-Smith
    and Ramdas, "Estimating means of bounded random variables by betting", 2023). Several stakes share the wealth.
    """
    count = np.cumsum(wrong)[:, None]
    rest = np.arange(1, len(wrong) + 1)[:, None] - count
    gains = count * np.log1p(_STAKES * (1 - rate)) + rest * np.log1p(-_STAKES * rate)
    top = gains.max(axis=1, keepdims=True)
    wealth = top[:, 0] + np.log(np.exp(gains - top).mean(axis=1))
    return bool(wealth.max() >= -np.log(1 - _LEVEL))


def _table(title: str, found: Sequence[Figure]) -> Table:
    table = Table(
        "stream", "requests", "error %", "over", "credibly", "useful %", "target", "last quarter", title=title
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for figure in found:
        target = figure.target
        table.add_row(
            figure.stream.removeprefix("stream_"),
            f"{figure.requests:,}",
            _spread(figure.error, 2),
            f"{figure.over} of {figure.runs}",
            f"{figure.credibly_over} of {figure.runs}",
            _spread(figure.useful, 1),
            "" if target is None else f"≥ {target:.0%} {'met' if figure.is_met else 'MISSED'}",
            _spread(figure.late, 1),
        )
    return table


def _spread(spread: Spread, digits: int) -> str:
    parts = (spread.least, spread.median, spread.greatest)
    return " / ".join(f"{100 * part:.{digits}f}" for part in parts)


if __name__ == "__main__":
    raise SystemExit(main())
