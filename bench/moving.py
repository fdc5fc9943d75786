"""``python -m bench.moving [--entries 100000]``: lookups over gRPC while the index they search moves to another layout.

A whole server on a store of ``bench.scale``, started without what is kept of indexes: it reads the vectors of the large
scope and has outgrown its layout by then. One caller asks by meaning and to the letter, in turns, as long as the move
goes on, and as often again when it is over.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench import scale_store
from bench.calls import say
from bench.embedded import Prompts, embedded
from bench.report import Figure, Measured, report
from bench.scale import (
    Site,
    await_moves,
    by_meaning,
    exact,
    gauges_of,
    hit,
    is_moving,
    moves,
    running,
    site_of,
    timed_ms,
)
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

_TURN = 20  # lookups of each kind between two looks at the metrics
_LEAST_TURNS = 10
_MOST_S = 15.0  # of lookups beside the move
_BEGIN_S = 60.0
_PAUSE_S = 0.05
_AT_MOST = 3.0


@dataclass(frozen=True, slots=True)
class _Taken:
    """Milliseconds of each lookup, by kind."""

    by_kind: Mapping[str, list[float]]

    def p99_ms(self, kind: str) -> float:
        return float(np.percentile(self.by_kind[kind], 99))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.moving", description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = measure(options.entries, options.rounds)
    report(found.figures, found.notes, mode="full", publish=False)


def measure(entries: int, rounds: int) -> Measured:
    """A start and a move in each round. Raises RuntimeError when a move was too short to be seen."""
    embedder = make_embedder(EmbedderSettings(), say)
    prompts = embedded(embedder, scale_store.PROMPTS)
    site = _forgetful(site_of(entries, prompts, embedder.fingerprint))
    del embedder
    taken = []
    for number in range(rounds):
        say(f"lookups beside a move of {entries:,} entries, round {number + 1} of {rounds}")
        taken.append(_round(site, prompts))
    notes = [
        f"beside a move: one caller, one scope with nine tenths of {entries:,} entries, each round a start"
    ]
    return Measured(list(_figures(entries, taken)), notes)


def _forgetful(site: Site) -> Site:
    """The same store, by a server that keeps no indexes on disk and finds none."""
    config = site.config.with_name("moving.toml")
    config.write_text(site.config.read_text() + "[index]\nsnapshot_min_vectors = 0\n")
    return replace(site, config=config)


def _round(site: Site, prompts: Prompts) -> tuple[_Taken, _Taken]:
    with running(site, prompts) as (_, stub):
        hit(stub, by_meaning(prompts, 0))  # the scope is in
        _await_begin(site)
        beside: dict[str, list[float]] = {}
        turns, until_s = 0, time.perf_counter() + _MOST_S
        while time.perf_counter() < until_s and is_moving(site):
            _turn(stub, prompts, turns, beside)
            turns += 1
        if turns < _LEAST_TURNS:
            raise RuntimeError(f"the move was over after {turns} turns: take more entries")
        await_moves(site)
        idle: dict[str, list[float]] = {}
        for turn in range(turns):
            gauges_of(site)  # as beside the move
            _turn(stub, prompts, turn, idle)
    return _Taken(beside), _Taken(idle)


def _await_begin(site: Site) -> None:
    until_s = time.perf_counter() + _BEGIN_S
    while not moves(site, "started"):
        if time.perf_counter() > until_s:
            raise RuntimeError("the index does not move")
        time.sleep(_PAUSE_S)


def _turn(stub: CacheServiceStub, prompts: Prompts, turn: int, taken: dict[str, list[float]]) -> None:
    for n in range(turn * _TURN, (turn + 1) * _TURN):
        taken.setdefault("semantic", []).append(timed_ms(stub, by_meaning(prompts, n)))
        taken.setdefault("exact", []).append(timed_ms(stub, exact(prompts, n)))


def _figures(entries: int, rounds: Sequence[tuple[_Taken, _Taken]]) -> Iterator[Figure]:
    for kind in ("semantic", "exact"):
        beside, idle = ([one[n].p99_ms(kind) for one in rounds] for n in (0, 1))
        yield Figure(
            f"p99 of {kind} lookups over gRPC beside a move of {entries:,} entries ÷ idle p99",
            "",
            [b / i for b, i in zip(beside, idle, strict=True)],
            at_most=_AT_MOST,
        )
        yield Figure(f"{entries:,} entries: p99 of {kind} lookups beside a move", "ms", beside)
        yield Figure(f"{entries:,} entries: p99 of {kind} lookups, idle", "ms", idle)
    calls = [float(sum(map(len, one.by_kind.values()))) for one, _ in rounds]
    yield Figure(f"{entries:,} entries: lookups beside a move", "calls", calls)


if __name__ == "__main__":
    main()
