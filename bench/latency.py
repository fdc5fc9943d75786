"""One caller: what a hit costs beyond the bare call and the bare inference, and what it costs in the peers.

Kinds of call are interleaved within each round, so that whatever else the machine does hits all of them alike; a
ratio is taken within its round.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import grpc

from bench import peers
from bench.calls import lookup_us, say, timed_us
from bench.report import Figure, Measured
from bench.stage import Stage
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

_TURN = 10  # calls of one kind before the next kind has its turn
_BARE = "encode behind bare gRPC"  # a handler that embeds and does nothing else

Rounds = Mapping[str, list[float]]
"""A median for each round by kind of call, microseconds."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A peer and the texts it is asked."""

    peer: peers.Peer
    texts: Sequence[str]


def measure(stage: Stage) -> Measured:
    """Latencies of the echo, of exact and semantic hits, of the bare engine, of each peer; and their ratios."""
    ground, size = stage.ground(), stage.size
    asked: dict[str, _Asked] = {}
    for name, peer in stage.peers().items():
        asked[name] = _Asked(peer, ground.near)
        asked[f"{name} repeat"] = _Asked(peer, ground.stored)
    with contextlib.ExitStack() as stack:
        ours = CacheServiceStub(stack.enter_context(grpc.insecure_channel(ground.server.address)))
        bare = CacheServiceStub(stack.enter_context(grpc.insecure_channel(ground.echo.address)))
        encoding = CacheServiceStub(stack.enter_context(grpc.insecure_channel(ground.encoder.address)))

        def lookups(stub: CacheServiceStub, texts: Sequence[str], outcome: int) -> list[float]:
            return [lookup_us(stub, text, outcome) for text in texts]

        def encode(text: str) -> float:
            return timed_us(lambda: stage.embedder.embed(text, 1.0))

        kinds: dict[str, Callable[[slice], list[float]]] = {
            "echo": lambda part: lookups(bare, ground.stored[part], pb.OUTCOME_HIT_EXACT),
            "exact": lambda part: lookups(ours, ground.stored[part], pb.OUTCOME_HIT_EXACT),
            "semantic": lambda part: lookups(ours, ground.near[part], pb.OUTCOME_HIT_SEMANTIC),
            "encode": lambda part: [encode(text) for text in ground.near[part]],
            _BARE: lambda part: lookups(encoding, ground.near[part], pb.OUTCOME_HIT_EXACT),
        }
        rounds: dict[str, list[float]] = {kind: [] for kind in (*kinds, *asked)}
        hits: dict[str, int] = {}
        for number in range(size.rounds + 1):  # the first warms everything up and is not counted
            say(f"latency, round {number} of {size.rounds}")
            for kind, took_us in _round(kinds, asked, number, stage, hits).items():
                if number:
                    rounds[kind].append(statistics.median(took_us))
    count = (size.rounds + 1) * size.peer_calls
    notes = [f"latency: {size.rounds} rounds of {size.calls} calls of each kind"]
    if hits:
        notes.append(f"hits of {count:,} calls: " + ", ".join(f"{name} {n:,}" for name, n in hits.items()))
    return Measured(list(figures(rounds)), notes)


def _round(
    kinds: Mapping[str, Callable[[slice], list[float]]],
    asked: Mapping[str, _Asked],
    number: int,
    stage: Stage,
    hits: dict[str, int],
) -> Rounds:
    """One round: latencies by kind. ``hits`` counts those of the peers."""
    size = stage.size
    took_us: dict[str, list[float]] = {kind: [] for kind in (*kinds, *asked)}
    for turn in range(0, size.calls, _TURN):
        part = slice(number * size.calls + turn, number * size.calls + turn + _TURN)
        for kind, measure_part in kinds.items():
            took_us[kind] += measure_part(part)
        if turn < size.peer_calls:
            for name, one in asked.items():
                answers = one.peer.ask(one.texts[part])
                took_us[name] += answers.took_us
                hits[name] = hits.get(name, 0) + answers.hits
    return took_us


def figures(rounds: Rounds) -> Iterator[Figure]:
    """Ratios first: they tell of the program, the times below them of the machine as well."""
    echo, exact, near, encode = (rounds[kind] for kind in ("echo", "exact", "semantic", "encode"))
    yield Figure("exact hit p50 ÷ echo p50, 1 caller", "", by_round(exact, echo), at_most=1.25)
    yield Figure(
        "(semantic hit p50 − echo p50) ÷ encode p50, 1 caller, 10k entries",
        "",
        [(n - e) / c for n, e, c in zip(near, echo, encode, strict=True)],
        at_most=1.2,
    )
    yield Figure(
        "its floor: (encode behind bare gRPC p50 − echo p50) ÷ encode p50, 1 caller",
        "",
        [(b - e) / c for b, e, c in zip(rounds[_BARE], echo, encode, strict=True)],
    )
    for peer in (kind for kind in rounds if f"{kind} repeat" in rounds):
        yield Figure(
            f"{peer} hit p50 ÷ our semantic hit p50, 10k entries",
            "",
            by_round(rounds[peer], near),
            at_least=6.0 if peer == "GPTCache" else None,
        )
        yield Figure(
            f"{peer} repeat p50 ÷ our exact hit p50, 10k entries",
            "",
            by_round(rounds[f"{peer} repeat"], exact),
        )
    for kind, medians in rounds.items():
        yield Figure(f"p50 {kind}", "µs", medians)


def by_round(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratio of each round."""
    return [a / b for a, b in zip(above, below, strict=True)]
