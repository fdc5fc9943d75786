"""``python -m bench.run``: what cachesvc costs beyond its floors, and beside its peers. One table.

Kinds of call are interleaved within each round, so that whatever else the machine does hits all of
them alike; a ratio is taken within its round, and the table shows the median over the rounds.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench import load, peers, servers
from bench.prompts import MODEL, RESPONSE_BYTES, ROOT, answer, variant
from bench.prompts import load as load_prompts
from bench.report import Figure, report
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

_ENTRIES = 10_000
_BATCH = 256
_TURN = 10  # calls of one kind before the next kind has its turn
_MIB = 1 << 20

_Rounds = Mapping[str, list[float]]


@dataclass(frozen=True, slots=True)
class _Size:
    """How much is measured. A peer takes ten times as long per call and gets fewer."""

    rounds: int
    calls: int
    peer_calls: int
    load_rounds: int
    load_s: float
    stores: int
    starts: int


_FULL = _Size(rounds=9, calls=120, peer_calls=40, load_rounds=5, load_s=2.0, stores=600, starts=5)
_QUICK = _Size(rounds=3, calls=60, peer_calls=20, load_rounds=2, load_s=1.0, stores=200, starts=2)


@dataclass(frozen=True, slots=True)
class _Texts:
    """What is stored, and the variants of it that the server answers by meaning."""

    stored: Sequence[str]
    near: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Latency:
    """A median per round by kind of call, microseconds; and how often the peers hit, in words."""

    rounds: _Rounds
    peer_hits: Sequence[str]


def main() -> int:
    options = _arguments()
    size = _QUICK if options.quick else _FULL
    prompts, source = load_prompts(_ENTRIES)
    make_embedder(EmbedderSettings(), _say)  # compiled now, so that starts are second starts
    (ROOT / "build").mkdir(exist_ok=True)  # a disk, which the system's temporary directory may not be
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as directory:
        figures, peer_hits = _measure(Path(directory), prompts, size, with_peers=not options.no_peers)
    mode = "quick" if options.quick else "full"
    notes = [
        f"{_ENTRIES:,} entries of {RESPONSE_BYTES:,} bytes; prompts: {source}",
        f"{mode} run: {size.rounds} rounds of {size.calls} calls of each kind, one caller",
        f"{size.load_rounds} rounds for throughput, callers in two client processes",
        *peer_hits,
    ]
    report(figures, notes, mode=mode, publish=options.publish)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute or two, for a first look")
    parser.add_argument(
        "--no-peers", action="store_true", help="leave GPTCache and the hand-written cache out"
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write bench/results, which the README shows (make fix takes it over); a full run only",
    )
    options = parser.parse_args()
    if options.publish and (options.quick or options.no_peers):
        parser.error("--publish takes a full run with the peers")
    return options


def _measure(
    directory: Path, prompts: Sequence[str], size: _Size, *, with_peers: bool
) -> tuple[list[Figure], Sequence[str]]:
    config = servers.write_config(directory)
    _say("starting on an empty store")
    empty_starts: list[float] = []
    for _ in range(size.starts):
        with servers.cachesvc(config, _ask(prompts[0])) as server:
            empty_starts.append(server.start_s)
            idle = server.memory()
    with (
        servers.cachesvc(config, _ask(prompts[0])) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = CacheServiceStub(channel)
        _say(f"loading {len(prompts):,} entries")
        began_s = time.perf_counter()
        _fill(stub, prompts)
        loaded_s = time.perf_counter() - began_s
        texts = _Texts(prompts, _near(stub, prompts, (size.rounds + 1) * size.calls))
        full = server.memory()
        with servers.echo(stub.Lookup(_ask(prompts[0]))) as echo:
            latency = _latency(server, echo, texts, size, with_peers=with_peers)
            throughput = _throughput(server, echo, texts, size)
    _say("starting on the full store")
    full_starts: list[float] = []
    for _ in range(size.starts):
        with servers.cachesvc(config, _ask(texts.near[0])) as server:
            full_starts.append(server.start_s)
    figures = [
        *_latency_figures(latency.rounds),
        *(Figure(name, "/s", rates) for name, rates in throughput.items()),
        Figure("bulk load with embedding (BatchStore)", "/s", [len(prompts) / loaded_s]),
        Figure("RSS idle", "MiB", [idle.resident_bytes / _MIB]),
        Figure("RSS idle, without mapped files", "MiB", [idle.anonymous_bytes / _MIB]),
        Figure(f"RSS with {len(prompts):,} entries", "MiB", [full.resident_bytes / _MIB]),
        Figure("RSS the same, without mapped files", "MiB", [full.anonymous_bytes / _MIB]),
        Figure("start to first answer, empty store", "s", empty_starts, at_most=2.0),
        Figure(f"start to first semantic hit, {len(prompts):,} entries", "s", full_starts, at_most=2.0),
    ]
    return figures, latency.peer_hits


def _latency_figures(latency: _Rounds) -> Iterator[Figure]:
    echo, exact, near, encode = (latency[kind] for kind in ("echo", "exact", "semantic", "encode"))
    yield Figure("exact hit ÷ echo", "", _by_round(lambda a, b: a / b, exact, echo), at_most=1.4)
    yield Figure(
        "(semantic hit − echo) ÷ encode",
        "",
        [(n - e) / c for n, e, c in zip(near, echo, encode, strict=True)],
        at_most=1.5,
    )
    for peer in ("GPTCache", "hand-written"):
        if peer in latency:
            theirs = latency[peer]
            yield Figure(f"{peer} hit ÷ our semantic hit", "", _by_round(lambda a, b: a / b, theirs, near))
            yield Figure(
                f"{peer} repeat ÷ our exact hit",
                "",
                _by_round(lambda a, b: a / b, latency[f"{peer} repeat"], exact),
            )
    for kind, rounds in latency.items():
        yield Figure(f"p50 {kind}", "µs", rounds)


def _by_round(ratio: Callable[[float, float], float], above: list[float], below: list[float]) -> list[float]:
    return [ratio(a, b) for a, b in zip(above, below, strict=True)]


def _fill(stub: CacheServiceStub, prompts: Sequence[str]) -> None:
    for first in range(0, len(prompts), _BATCH):
        items = [
            pb.StoreRequest(prompt=prompt, model=MODEL, response=answer(first + n), content_type="text/plain")
            for n, prompt in enumerate(prompts[first : first + _BATCH])
        ]
        for result in stub.BatchStore(pb.BatchStoreRequest(items=items)).results:
            if result.HasField("error"):
                raise SystemExit(f"a prompt was refused: {result.error.message}")


def _near(stub: CacheServiceStub, prompts: Sequence[str], count: int) -> list[str]:
    """Variants that hit by meaning, as many as are measured, so that none is measured twice."""
    found: list[str] = []
    for prompt in prompts:
        text = variant(prompt)
        if stub.Lookup(_ask(text)).outcome == pb.OUTCOME_HIT_SEMANTIC:
            found.append(text)
        if len(found) == count:
            return found
    raise SystemExit(f"only {len(found)} of {count} variants hit by meaning")


def _latency(
    server: servers.Server, echo: servers.Server, texts: _Texts, size: _Size, *, with_peers: bool
) -> _Latency:
    embedder = make_embedder(EmbedderSettings(), _say)
    with contextlib.ExitStack() as stack:
        ours = CacheServiceStub(stack.enter_context(grpc.insecure_channel(server.address)))
        bare = CacheServiceStub(stack.enter_context(grpc.insecure_channel(echo.address)))

        def embed(text: str) -> float:
            return _timed(lambda: embedder.embed(text, 1.0))

        kinds: dict[str, Callable[[slice], list[float]]] = {
            "echo": lambda part: [_lookup(bare, text, None) for text in texts.stored[part]],
            "exact": lambda part: [_lookup(ours, text, pb.OUTCOME_HIT_EXACT) for text in texts.stored[part]],
            "semantic": lambda part: [
                _lookup(ours, text, pb.OUTCOME_HIT_SEMANTIC) for text in texts.near[part]
            ],
            "encode": lambda part: [embed(text) for text in texts.near[part]],
        }
        asked: dict[str, tuple[peers.Peer, Sequence[str]]] = {}
        if with_peers:
            for name, make in (("hand-written", peers.handwritten), ("GPTCache", peers.gptcache)):
                _say(f"loading {name}")
                peer = stack.enter_context(make())
                peer.load(texts.stored, [answer(n).decode() for n in range(len(texts.stored))])
                asked[name] = (peer, texts.near)
                asked[f"{name} repeat"] = (peer, texts.stored)
        rounds: dict[str, list[float]] = {kind: [] for kind in (*kinds, *asked)}
        tally: dict[str, int] = {}
        for number in range(size.rounds + 1):  # the first warms everything up and is not counted
            _say(f"latency, round {number} of {size.rounds}")
            for kind, took_us in _round(kinds, asked, number, size, tally).items():
                if number:
                    rounds[kind].append(statistics.median(took_us))
    count = (size.rounds + 1) * size.peer_calls
    return _Latency(rounds, [f"{name}: {hits:,} of {count:,} calls hit" for name, hits in tally.items()])


def _round(
    kinds: Mapping[str, Callable[[slice], list[float]]],
    asked: Mapping[str, tuple[peers.Peer, Sequence[str]]],
    number: int,
    size: _Size,
    tally: dict[str, int],
) -> _Rounds:
    """One round: latencies by kind. ``tally`` counts the hits of the peers."""
    took_us: dict[str, list[float]] = {kind: [] for kind in (*kinds, *asked)}
    for turn in range(0, size.calls, _TURN):
        part = slice(number * size.calls + turn, number * size.calls + turn + _TURN)
        for kind, measure in kinds.items():
            took_us[kind] += measure(part)
        if turn < size.peer_calls:
            for name, (peer, texts) in asked.items():
                latencies, hits = peer.ask(texts[part])
                took_us[name] += latencies
                tally[name] = tally.get(name, 0) + hits
    return took_us


def _throughput(server: servers.Server, echo: servers.Server, texts: _Texts, size: _Size) -> _Rounds:
    rates: dict[str, list[float]] = {}
    with load.drivers() as drivers:
        for number in range(size.load_rounds):
            _say(f"throughput, round {number + 1} of {size.load_rounds}")
            for name, job in _jobs(server.address, echo.address, texts, size, number):
                rates.setdefault(name, []).append(drivers.rate(job))
    return rates


def _jobs(address: str, echo: str, texts: _Texts, size: _Size, number: int) -> Iterator[tuple[str, load.Job]]:
    """Stores go to namespaces of their own, a new one each round: every one is a new entry."""
    seconds, stored = size.load_s, texts.stored[: size.stores]
    hit = pb.OUTCOME_HIT_EXACT
    yield "echo, 8 callers", load.Job("lookup", echo, texts.stored[:1], 8, seconds, outcome=hit)
    yield "exact hits, 8 callers", load.Job("lookup", address, texts.stored, 8, seconds, outcome=hit)
    yield (
        "semantic hits, 8 callers",
        load.Job("lookup", address, texts.near, 8, seconds, outcome=pb.OUTCOME_HIT_SEMANTIC),
    )
    for name, kind, namespace in (
        ("durable stores by lookup_id, 16 callers", "ticket", "ticket"),
        ("durable stores, exact tier only, 16 callers", "store", "exact"),
        ("durable stores with embedding, 16 callers", "store", "embed"),
    ):
        yield name, load.Job(kind, address, stored, 16, 60.0, namespace=f"{namespace}-{number}")


def _ask(text: str) -> pb.LookupRequest:
    return pb.LookupRequest(prompt=text, model=MODEL)


def _lookup(stub: CacheServiceStub, text: str, expected: int | None) -> float:
    """Microseconds of one call, the request's and the reply's coding included."""
    request = _ask(text)
    began_s = time.perf_counter()
    found = stub.Lookup(request)
    took_us = (time.perf_counter() - began_s) * 1e6
    if expected is not None and found.outcome != expected:
        raise SystemExit(f"a lookup came to {pb.Outcome.Name(found.outcome)}: nothing to compare")
    return took_us


def _timed(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1e6


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
