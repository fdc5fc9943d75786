"""Many callers: calls a second of the echo, of exact and semantic hits, of the bare engine and of the peers.

Callers are threads of two client processes, which share the machine with the server; so does the echo's. The bare
engine runs in a process of its own, without either. A peer's callers are threads of its own process, since that is
where its users have it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence

from bench import load, peers
from bench.calls import say
from bench.engine_alone import EngineAlone, engine_alone
from bench.latency import by_round
from bench.report import Figure, Measured
from bench.stage import Stage
from cachesvc.v1 import cache_pb2 as pb

_EXACT_CALLERS = 32
_SEMANTIC_CALLERS = 16
_ENCODING = "encode behind bare gRPC"  # a handler that embeds and does nothing else
_ONE_CORE, _ALL_CORES = "bare engine, 1 thread", "bare engine, a thread for each core"
_OURS = {"echo", "exact hits", "semantic hits", _ENCODING}  # what is no peer

Rates = Mapping[str, list[float]]
"""Calls a second in each round, by kind and callers."""


def measure(stage: Stage) -> Measured:
    """Each kind with each number of callers, kinds in turn within a round."""
    size = stage.size
    rates: dict[str, list[float]] = {}
    failed: dict[str, int] = {}
    stage.ground()
    stage.peers()  # loaded before the clock runs
    with load.drivers() as drivers, engine_alone() as engine:
        for number in range(size.load_rounds):
            say(f"throughput, round {number + 1} of {size.load_rounds}")
            for name, per_s in _round(stage, drivers, engine, failed):
                rates.setdefault(name, []).append(per_s)
    notes = [f"throughput: {size.load_rounds} rounds of {size.load_s:g} s, callers in two client processes"]
    if failed:
        notes.append(
            "calls that failed in peers: " + ", ".join(f"{name} {n:,}" for name, n in failed.items())
        )
    return Measured(list(figures(rates)), notes)


def _round(
    stage: Stage, drivers: load.Drivers, engine: EngineAlone, failed: dict[str, int]
) -> Iterator[tuple[str, float]]:
    ground, seconds = stage.ground(), stage.size.load_s
    yield _ONE_CORE, engine.rate(ground.near, 1, seconds)
    for callers in stage.size.callers:
        if callers == _SEMANTIC_CALLERS:  # beside what it is compared with
            yield _ALL_CORES, engine.rate(ground.near, len(os.sched_getaffinity(0)), seconds)
            yield (
                _named(_ENCODING, callers),
                drivers.rate(
                    load.Job(
                        "lookup",
                        ground.encoder.address,
                        ground.near,
                        callers,
                        seconds,
                        outcome=pb.OUTCOME_HIT_EXACT,
                    )
                ),
            )
        for name, address, texts, outcome in (
            ("echo", ground.echo.address, ground.stored[:1], pb.OUTCOME_HIT_EXACT),
            ("exact hits", ground.server.address, ground.stored, pb.OUTCOME_HIT_EXACT),
            ("semantic hits", ground.server.address, ground.near, pb.OUTCOME_HIT_SEMANTIC),
        ):
            yield (
                _named(name, callers),
                drivers.rate(load.Job("lookup", address, texts, callers, seconds, outcome=outcome)),
            )
        for name, peer in _asked(stage, callers):
            done = peer.rate(ground.near, callers, seconds)
            if done.failed:
                failed[name] = failed.get(name, 0) + done.failed
            yield _named(name, callers), done.per_s


def _asked(stage: Stage, callers: int) -> Sequence[tuple[str, peers.Peer]]:
    """All peers where there is a target or a single caller; between them the one there is a target for."""
    every = list(stage.peers().items())
    return every if callers in {1, _SEMANTIC_CALLERS} else [one for one in every if one[0] == "GPTCache"]


def figures(rates: Rates) -> Iterator[Figure]:
    """Ratios first, then the rates."""
    echo, exact = (rates[_named(kind, _EXACT_CALLERS)] for kind in ("echo", "exact hits"))
    yield Figure(
        f"exact hits/s ÷ echo calls/s, {_EXACT_CALLERS} callers", "", by_round(exact, echo), at_least=0.7
    )
    near, bare = rates[_named("semantic hits", _SEMANTIC_CALLERS)], rates[_ALL_CORES]
    yield Figure(
        f"semantic hits/s, {_SEMANTIC_CALLERS} callers ÷ bare engine texts/s, same cores",
        "",
        by_round(near, bare),
        at_least=0.85,
    )
    encoding, calls = (rates[_named(kind, _SEMANTIC_CALLERS)] for kind in (_ENCODING, "echo"))
    yield Figure(
        f"its floor: encodes/s behind bare gRPC, {_SEMANTIC_CALLERS} callers ÷ bare engine texts/s, same cores",
        "",
        by_round(encoding, bare),
    )
    yield Figure(
        "the most that could be: engine and echo sharing the cores ÷ engine alone",
        "",
        [c / (b + c) for b, c in zip(bare, calls, strict=True)],
    )
    yield Figure(
        f"semantic hits/s, {_SEMANTIC_CALLERS} callers ÷ engine and echo sharing the cores",
        "",
        [n * (1 / b + 1 / c) for n, b, c in zip(near, bare, calls, strict=True)],
    )
    for name, theirs in rates.items():
        peer, _, callers = name.rpartition(", ")
        if callers == f"{_SEMANTIC_CALLERS} callers" and peer not in _OURS:
            yield Figure(
                f"our semantic hits/s ÷ {peer}'s, {_SEMANTIC_CALLERS} callers",
                "",
                by_round(near, theirs),
                at_least=8.0 if peer == "GPTCache" else None,
            )
    for name, rounds in rates.items():
        yield Figure(name, "/s", rounds)


def _named(kind: str, callers: int) -> str:
    """What ``bench.plots`` reads the number of callers from."""
    return f"{kind}, {callers} caller{'s' if callers > 1 else ''}"
