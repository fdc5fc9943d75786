"""A full cache under a skewed load: what evicting costs lookups and stores, and how often such a cache hits.

``python -m bench.pressure [--seconds 20] [--publish]``. Two real servers take the same kind of requests, Zipf 0.9 over ten
times what the small one holds, in turns: one has room for everything, the other is full and evicts all the time. Callers
look up and store what missed (in a namespace of the exact tier; by ticket in one with vectors), then store only what is
new. Ratios are of the full one to the roomy one, so that what else the machine does cancels out.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import grpc
import numpy as np

from bench.eviction import SERVED
from bench.eviction_sim import Cache, Room, by_policy
from bench.eviction_streams import Stream, answer_lengths, made
from bench.prompts import DEMO_PROMPTS, MODEL, ROOT, answer, rows_of
from bench.servers import Server, cachesvc, write_config
from cachesvc.scrape import scrape
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

RESULT = Path(__file__).parent / "results" / "pressure.md"
MAX_BYTES = 8 << 20
CALLERS = 4
TURN_S = 1.0
TIMEOUT_S = 30.0
ITEMS = {"exact-pressure": 20_000, "pressure": 13_000}  # about ten times what MAX_BYTES has room for
BATCH = 100
FULL_FOR = 1  # the measurement begins when the small server has evicted so many times what it holds


@dataclass(frozen=True, slots=True)
class Turn:
    """How many requests a server answered in a turn, and the processor time it took for them."""

    done: int
    took_s: float
    cpu_s: float


@dataclass(slots=True)
class Seen:
    """What the callers of one server saw since the measurement began."""

    hits: int = 0
    lookups_ms: list[float] = field(default_factory=list)
    stores_ms: list[float] = field(default_factory=list)
    mixed: Sequence[Turn] = ()
    stored: Sequence[Turn] = ()  # in these it stored only


@dataclass(slots=True)
class Side:
    """One of the two servers. ``asked`` are the items in order, from its first request on."""

    config: Path
    server: Server
    stub: CacheServiceStub
    seen: Seen = field(default_factory=Seen)
    asked: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def metric(self, name: str) -> float:
        """Something that the server counts."""
        return scrape(self.config.read_text().split('"')[3], TIMEOUT_S).get(name, 0.0)


class Load:
    """Requests of a namespace: items, their prompts and answers."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        makers = made(requests=400_000, items=ITEMS[namespace])
        self.stream = makers["zipf 0.9"](np.random.default_rng(1))
        self._lengths = answer_lengths(self.stream)
        texts = [row["prompt"] for row in rows_of(DEMO_PROMPTS)]
        self._words = sorted({word.lower() for text in texts for word in text.split() if word.isalpha()})

    def lookup(self, item: int) -> pb.LookupRequest:
        """A prompt of words that no other item has in common enough to be taken for it."""
        return pb.LookupRequest(namespace=self.namespace, prompt=self._prompt(item), model=MODEL)

    def store(self, item: int, lookup_id: str = "") -> pb.StoreRequest:
        """By ticket where there is one. Items beyond the stream's are new ones of the same kind."""
        known = item % len(self._lengths)
        body = (answer(item) * 33)[: self._lengths[known]]
        request = pb.StoreRequest(response=body, cost_usd=float(self.stream.worths_usd[known]))
        if lookup_id:
            request.lookup_id = lookup_id
        else:
            request.namespace, request.prompt, request.model = self.namespace, self._prompt(item), MODEL
        return request

    def _prompt(self, item: int) -> str:
        return " ".join(np.random.default_rng(item).choice(self._words, 9).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of turns, for each namespace")
    parser.add_argument("--publish", action="store_true", help="write bench/results/pressure.md")
    arguments = parser.parse_args()
    rows = [row for namespace in ITEMS for row in measure(namespace, arguments.seconds)]
    table = "\n".join(["| figure | room for all | full | full ÷ roomy |", "|---|---|---|---|", *rows, ""])
    print(table)
    if arguments.publish:
        RESULT.write_text(table)


def measure(namespace: str, seconds: float) -> Iterator[str]:
    load = Load(namespace)
    with tempfile.TemporaryDirectory(dir=_build()) as directory:
        with (
            _server(Path(directory) / "roomy", 1 << 30, load) as roomy,
            _server(Path(directory) / "full", MAX_BYTES, load) as full,
        ):
            _fill(full, load, lambda: _is_settled(full))
            enough = len(full.asked)
            _fill(roomy, load, lambda: len(roomy.asked) >= enough)
            held = [full.metric("cachesvc_entries")]
            _take_turns((roomy, full), load, seconds)
            held.append(full.metric("cachesvc_entries"))
            simulated = _simulated(load.stream, full, round(sum(held) / 2))
            if namespace.startswith("exact"):  # else embedding is what takes the time
                _store_in_turns((roomy, full), load, seconds / 2)
            evicted = _evicted(full)
        problems = _check(full.config)
    yield from _rows(namespace, roomy, full)
    yield f"| {namespace}: entries held; evicted | | {held[-1]:,.0f}; {evicted:,.0f} | |"
    yield f"| {namespace}: hit rate | {_hit_rate(roomy):.1%} | {_hit_rate(full):.1%} | |"
    yield f"| {namespace}: hit rate of a simulated cache, the same requests | | {simulated:.1%} | |"
    errors = [f"{n} × {name}" for name, n in (roomy.errors + full.errors).items()]
    yield f"| {namespace}: errors; `check` | | {', '.join(errors) or 'none'}; {problems} | |"


def _rows(namespace: str, roomy: Side, full: Side) -> Iterator[str]:
    def row(name: str, figure: Callable[[Seen], float], unit: str) -> str:
        of_roomy, of_full = figure(roomy.seen), figure(full.seen)
        return f"| {namespace}: {name} | {of_roomy:,.2f} {unit} | {of_full:,.2f} {unit} | {of_full / of_roomy:.2f} |"

    yield row("lookup p50", lambda seen: float(np.percentile(seen.lookups_ms, 50)), "ms")
    yield row("lookup p99", lambda seen: float(np.percentile(seen.lookups_ms, 99)), "ms")
    yield row("store after a miss, p50", lambda seen: float(np.percentile(seen.stores_ms, 50)), "ms")
    yield row("store after a miss, p99", lambda seen: float(np.percentile(seen.stores_ms, 99)), "ms")
    yield row("server's CPU, a lookup with its store if it missed", lambda seen: _cpu_ms(seen.mixed), "ms")
    if full.seen.stored:
        yield row(f"stores alone, {CALLERS} callers", lambda seen: _rate(seen.stored), "/s")
        yield row("server's CPU, a store", lambda seen: _cpu_ms(seen.stored), "ms")


def _rate(turns: Sequence[Turn]) -> float:
    return median(turn.done / turn.took_s for turn in turns)


def _cpu_ms(turns: Sequence[Turn]) -> float:
    return sum(turn.cpu_s for turn in turns) / sum(turn.done for turn in turns) * 1e3


@contextmanager
def _server(directory: Path, max_bytes: int, load: Load) -> Iterator[Side]:
    directory.mkdir()
    config = write_config(directory)
    bounds = f"max_bytes = {max_bytes}\nmap_size_bytes = {8 * max_bytes}\n"
    config.write_text(config.read_text().replace("[store]\n", f"[store]\n{bounds}"))
    with ExitStack() as stack:
        server = stack.enter_context(cachesvc(config, load.lookup(0)))
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        yield Side(config, server, CacheServiceStub(channel))


def _fill(side: Side, load: Load, is_enough: Callable[[], bool]) -> None:
    """Ask in batches, and store what missed, until the server is as full as it is to be measured."""
    requests = load.stream.requests.tolist()
    while not is_enough():
        for _ in range(5):
            items = requests[len(side.asked) : len(side.asked) + BATCH]
            if not items:
                raise SystemExit("the stream ended before the server was full")
            side.asked += items
            asked = pb.BatchLookupRequest(items=[load.lookup(item) for item in items])
            found = side.stub.BatchLookup(asked, timeout=TIMEOUT_S).results
            missed = [
                load.store(item)
                if load.namespace.startswith("exact")
                else load.store(item, one.response.lookup_id)
                for item, one in zip(items, found, strict=True)
                if not one.response.HasField("entry")
            ]
            for result in side.stub.BatchStore(pb.BatchStoreRequest(items=missed), timeout=TIMEOUT_S).results:
                if result.HasField("error"):
                    side.errors[result.error.message] += 1


def _take_turns(sides: Sequence[Side], load: Load, seconds: float) -> None:
    """Callers look up, and store what missed."""
    lock = threading.Lock()

    def request(side: Side) -> None:
        with lock:
            item = int(load.stream.requests[len(side.asked)])
            side.asked.append(item)
        began_s = time.perf_counter()
        found = side.stub.Lookup(load.lookup(item), timeout=TIMEOUT_S)
        side.seen.lookups_ms.append((time.perf_counter() - began_s) * 1e3)
        if found.HasField("entry"):
            with lock:
                side.seen.hits += 1
            return
        store = load.store(item, found.lookup_id)
        began_s = time.perf_counter()
        side.stub.Store(store, timeout=TIMEOUT_S)
        side.seen.stores_ms.append((time.perf_counter() - began_s) * 1e3)

    for side, turns in zip(sides, _run(sides, seconds, request), strict=True):
        side.seen.mixed = turns


def _store_in_turns(sides: Sequence[Side], load: Load, seconds: float) -> None:
    """Callers store what was never asked for."""
    numbers = itertools.count(len(load.stream.worths_usd))

    def request(side: Side) -> None:
        side.stub.Store(load.store(next(numbers)), timeout=TIMEOUT_S)

    for side, turns in zip(sides, _run(sides, seconds, request), strict=True):
        side.seen.stored = turns


def _run(sides: Sequence[Side], seconds: float, request: Callable[[Side], None]) -> list[list[Turn]]:
    """Callers make requests of one server, then of the other, and so on. The turns of each."""
    turns: list[list[Turn]] = [[] for _ in sides]
    until_s = time.perf_counter() + seconds
    with ThreadPoolExecutor(CALLERS) as pool:
        while time.perf_counter() < until_s:
            for side, own in zip(sides, turns, strict=True):
                began_s, began_cpu_s = time.perf_counter(), side.server.cpu_s()
                callers = [pool.submit(_call, side, began_s + TURN_S, request) for _ in range(CALLERS)]
                done = sum(caller.result() for caller in callers)
                own.append(Turn(done, time.perf_counter() - began_s, side.server.cpu_s() - began_cpu_s))
    return turns


def _call(side: Side, until_s: float, request: Callable[[Side], None]) -> int:
    done = 0
    while time.perf_counter() < until_s:
        try:
            request(side)
        except grpc.RpcError as error:
            side.errors[error.code().name] += 1
        done += 1
    return done


def _simulated(stream: Stream, full: Side, held: int) -> float:
    """The hit rate of a simulated cache of as many entries, on what the full server was asked, in the same turns."""
    asked = Stream("asked", np.array(full.asked), stream.worths_usd, stream.sizes_bytes)
    measured = len(full.seen.lookups_ms)
    cache = Cache(asked, Room(held, in_bytes=False), by_policy("gdsf", asked), inflates=True, house=SERVED)
    hits = [cache.ask(item, at) for at, item in enumerate(full.asked)]
    return sum(hits[-measured:]) / measured


def _hit_rate(side: Side) -> float:
    return side.seen.hits / max(len(side.seen.lookups_ms), 1)


def _is_settled(full: Side) -> bool:
    return _evicted(full) > FULL_FOR * full.metric("cachesvc_entries")


def _evicted(side: Side) -> float:
    return side.metric("cachesvc_entries_removed_total{reason=evicted}")


def _check(config: Path) -> str:
    command = [sys.executable, "-m", "cachesvc.cli", "check", "--offline", "--config", str(config)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "clean" if found.returncode == 0 else f"exit {found.returncode}: {found.stdout.strip()[:200]}"


def _build() -> Path:
    """A disk, which the system's temporary directory may not be."""
    (ROOT / "build").mkdir(exist_ok=True)
    return ROOT / "build"


if __name__ == "__main__":
    main()
