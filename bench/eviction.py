"""Policies of eviction against what could be had: hits beside Belady's optimum, money beside an upper bound.

``python -m bench.eviction [--seeds 3] [--quick] [--publish]``. A simulation: no server, no clock, the same figures on every
machine. Every cache stores what it misses. Hits are of caches bounded in entries, for which Belady's MIN is optimal;
money is of caches bounded in bytes, for which no optimum can be computed: shares are of an upper bound.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from bench.eviction_sim import (
    Admitting,
    Cache,
    Housekeeping,
    Room,
    at_random,
    belady,
    by_policy,
    by_textbook,
    clairvoyant_greedy_usd,
    density,
    most_saved_usd,
    replay,
)
from bench.eviction_streams import REAL, Random, Stream, exact_repeats, made, real
from bench.prompts import SHARED

RESULTS = Path(__file__).parent / "results"
SHARES = (0.01, 0.02, 0.05, 0.10, 0.20, 0.50)
TABLE_SHARES = (0.01, 0.10)
FEW_REPEATS = 100
# As the service does under load: use is noted once a second, eviction frees from 95 % to 90 %.
SERVED = Housekeeping(noted_after=1000, freed_share=0.05)
GREEDY = "clairvoyant greedy"
POLICIES: Mapping[str, Callable[[Stream, Room, int], Cache]] = {
    "gdsf": lambda stream, room, seed: Cache(stream, room, by_policy("gdsf", stream), inflates=True),
    "gdsf as served": lambda stream, room, seed: Cache(
        stream, room, by_policy("gdsf", stream), inflates=True, house=SERVED
    ),
    "gdsf, textbook": lambda stream, room, seed: Cache(stream, room, by_textbook(stream), inflates=True),
    "lru": lambda stream, room, seed: Cache(stream, room, by_policy("lru", stream)),
    "lfu": lambda stream, room, seed: Cache(stream, room, by_policy("lfu", stream)),
    "random": lambda stream, room, seed: Cache(
        stream, room, at_random(np.random.default_rng(seed)), inflates=True
    ),
    "gdsf + admission": lambda stream, room, seed: Admitting(
        stream, room, by_policy("gdsf", stream), density(stream), inflates=True
    ),
    "lru + admission": lambda stream, room, seed: Admitting(
        stream, room, by_policy("lru", stream), [1.0] * len(stream.worths_usd), inflates=False
    ),
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a policy came to on one stream with one seed, in a cache of a share of all that is asked for."""

    stream: str
    seed: int
    share: float
    policy: str
    hit_rate: float | None
    hits_of_optimum: float | None
    saved_of_bound: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, short streams, two sizes")
    parser.add_argument("--data", type=Path, default=SHARED, help="where the streams of real prompts are")
    parser.add_argument(
        "--publish", action="store_true", help="write eviction.md, .json and .svg to bench/results"
    )
    arguments = parser.parse_args()
    seeds, shares = (1, TABLE_SHARES) if arguments.quick else (arguments.seeds, SHARES)
    makers = dict(made(requests=6000, items=1000) if arguments.quick else made())
    notes = list(_add_real(makers, arguments.data))
    results = [
        result
        for name, make in makers.items()
        for seed in range(1, seeds + 1)
        for result in _measure(name, make(np.random.default_rng(seed)), seed, shares)
    ]
    table = "\n".join([*tables(results), *notes, ""])
    print(table)
    if arguments.publish:
        from bench.eviction_plot import plot  # noqa: PLC0415 - only here is matplotlib needed

        (RESULTS / "eviction.md").write_text(table)
        rows = ",\n".join(json.dumps(row) for row in summary(results))
        (RESULTS / "eviction.json").write_text(f"[\n{rows}\n]\n")
        plot(results, RESULTS / "eviction.svg")


def _add_real(makers: dict[str, Callable[[Random], Stream]], data: Path) -> Iterator[str]:
    """Add the streams of real prompts that can tell policies apart. Notes on the others."""
    absent, few, repeats = [], [], 0
    for name in REAL:
        make = real(data, name)
        if make is None:
            absent.append(name)
            continue
        repeats += exact_repeats(data, name) or 0
        stream = make(np.random.default_rng(0))
        if stream.repeats < FEW_REPEATS:
            few.append(f"{name} ({stream.repeats} of {len(stream.requests):,})")
        else:
            makers[stream.name] = make
    if absent:
        yield f"Not there, so not replayed: {', '.join(absent)}."
    if few:
        yield f"Too few repeats to replay: {', '.join(few)}."
    if len(absent) < len(REAL):
        yield (
            f"Real prompts: repeats to the letter in all streams together: {repeats}; so an item is a group of prompts "
            "with the same label, as if every one of them hit. They were shuffled once, so that recency tells nothing."
        )


def _measure(name: str, stream: Stream, seed: int, shares: Sequence[float]) -> Iterator[Result]:
    print(
        f"  {name}, seed {seed}: {len(stream.requests):,} requests, {stream.distinct:,} items",
        file=sys.stderr,
    )
    for share in shares:
        entries, in_bytes = (Room.of(stream, share, in_bytes=so) for so in (False, True))
        optimum, bound_usd = belady(stream, entries.capacity), most_saved_usd(stream, in_bytes)
        yield Result(name, seed, share, "optimum, bound", optimum / len(stream.requests), 1.0, 1.0)
        greedy_usd = clairvoyant_greedy_usd(stream, in_bytes)
        yield Result(name, seed, share, GREEDY, None, None, greedy_usd / bound_usd)
        for policy, make in POLICIES.items():
            hits = replay(stream, make(stream, entries, seed)).hits
            saved_usd = replay(stream, make(stream, in_bytes, seed)).saved_usd
            yield Result(
                name, seed, share, policy, hits / len(stream.requests), hits / optimum, saved_usd / bound_usd
            )


def summary(results: Sequence[Result]) -> list[dict[str, str | float | list[float]]]:
    """A row for each stream, size and policy: least, median and greatest of the seeds."""
    groups: dict[tuple[str, float, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.stream, result.share, result.policy), []).append(result)
    rows: list[dict[str, str | float | list[float]]] = []
    for (stream, share, policy), group in groups.items():
        row: dict[str, str | float | list[float]] = {"stream": stream, "share": share, "policy": policy}
        for name in ("hit_rate", "hits_of_optimum", "saved_of_bound"):
            values = [value for result in group if (value := getattr(result, name)) is not None]
            if values:
                row[name] = [round(value, 4) for value in (min(values), median(values), max(values))]
        rows.append(row)
    return rows


def tables(results: Sequence[Result]) -> Iterator[str]:
    """Hits and money at two sizes, per cent, each the median of the seeds and the least and greatest."""
    for share in TABLE_SHARES:
        yield f"**Hits, % of Belady's optimum**, room for {share:.0%} of the distinct items\n"
        yield from _table(results, share, tuple(POLICIES), lambda result: result.hits_of_optimum)
        yield f"\n**Money saved, % of an upper bound**, room for {share:.0%} of their bytes\n"
        yield from _table(results, share, (GREEDY, *POLICIES), lambda result: result.saved_of_bound)
        yield ""


def _table(
    results: Sequence[Result], share: float, policies: Sequence[str], figure: Callable[[Result], float | None]
) -> Iterator[str]:
    yield f"| stream | {' | '.join(policies)} |"
    yield "|---" * (len(policies) + 1) + "|"
    figures: dict[tuple[str, str], list[float]] = {}
    for result in results:
        value = figure(result)
        if result.share == share and value is not None:
            figures.setdefault((result.stream, result.policy), []).append(value)
    for stream in dict.fromkeys(stream for stream, _ in figures):
        cells = (_spread(figures[stream, policy]) for policy in policies)
        yield f"| {stream} | {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    least, most = f"{min(values):.0%}"[:-1], f"{max(values):.0%}"[:-1]
    middle = f"{median(values) * 100:.1f}"
    return middle if least == most else f"{middle} ({least}–{most})"


if __name__ == "__main__":
    main()
