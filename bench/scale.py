"""``python -m bench.scale``: start-up, memory and latency from ten thousand to a million entries. One table.

The stores are made once (some minutes for a million entries) and kept under ``build/``. Each start finds the files out
of the page cache. The servers of all sizes run side by side, and calls to them alternate, so that whatever else the
machine does hits all of them alike.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from bench import scale_store, servers
from bench.calls import say
from bench.embedded import Prompts, embedded
from bench.prompts import MODEL, ROOT, variant
from bench.report import Figure, Measured, report
from bench.scale_store import MAP_BYTES, MAX_BYTES, SMALL_SCOPES
from bench.sizes import FULL, QUICK, Extent
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

_MIB = 1 << 20
_PATIENCE_S = 600.0
_TURN = 10  # calls to one server before the next one has its turn


@dataclass(frozen=True, slots=True)
class Site:
    """A store with its configuration. ``admin`` is the address of its pages."""

    count: int
    directory: Path
    config: Path
    admin: str

    def snapshots(self) -> list[Path]:
        """What is kept of indexes."""
        return list((self.directory / "store" / "snapshots").glob("*.snapshot"))


@dataclass(slots=True)
class _Starts:
    """What the starts of one size came to, a value per start."""

    exact_s: list[float] = field(default_factory=list)
    semantic_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)
    slow_ms: list[float] = field(default_factory=list)
    idle_ms: list[float] = field(default_factory=list)


def main() -> int:
    options = _arguments()
    sizes = sorted(int(size) for size in options.sizes.split(","))
    found = measure(sizes, (QUICK if options.quick else FULL).scale)
    mode = "quick" if options.quick else "full"
    report(found.figures, found.notes, mode=mode, publish=options.publish, name="scale")
    return 0


def measure(sizes: Sequence[int], extent: Extent) -> Measured:
    """Stores of these sizes, which rise."""
    (ROOT / "build").mkdir(exist_ok=True)
    embedder = make_embedder(EmbedderSettings(), say)
    prompts = embedded(embedder, scale_store.PROMPTS)
    sites = [site_of(count, prompts, embedder.fingerprint) for count in sizes]
    del embedder
    figures: list[Figure] = []
    for site in sites:
        say(f"{site.count:,} entries: starting")
        figures += _prime(site, prompts)
        figures += _start_figures(site, _starts(site, prompts, extent.starts))
    figures += _side_by_side(sites, prompts, extent)
    notes = [
        f"one scope with nine tenths of the entries, {SMALL_SCOPES} with the rest; prompts: {prompts.source}",
        f"{extent.starts} starts of each size, files out of the page cache; {extent.rounds} rounds of {extent.calls} calls",
    ]
    return Measured(figures, notes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, FULL.scales)), help="entries of the stores")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--publish", action="store_true", help="write bench/results/scale.json and scale.md")
    options = parser.parse_args()
    if options.publish and options.quick:
        parser.error("--publish takes a full run")
    return options


def site_of(count: int, prompts: Prompts, fingerprint: str) -> Site:
    directory = scale_store.made(count, prompts, fingerprint)
    config, listen, admin = directory / "cachesvc.toml", servers.free_port(), servers.free_port()
    config.write_text(
        f'[server]\nlisten = "127.0.0.1:{listen}"\n'
        f'[admin]\nlisten = "127.0.0.1:{admin}"\nrpc_listen = "127.0.0.1:0"\n'
        f'[store]\npath = "{directory / "store"}"\nmax_bytes = {MAX_BYTES}\nmap_size_bytes = {MAP_BYTES}\n'
        '[log]\nlevel = "warning"\n'
    )
    return Site(count, directory, config, f"127.0.0.1:{admin}")


# ------------------------------------------------------------------ starts


def _prime(site: Site, prompts: Prompts) -> Iterator[Figure]:
    """Once from nothing: use all scopes, the large one last, until what is kept of indexes is on disk."""
    if not site.snapshots():
        began_s = time.perf_counter()
        with running(site, prompts) as (_, stub):
            hit(stub, by_meaning(prompts, 0))
            yield Figure(
                f"{_named(site)}: first semantic hit, nothing kept", "s", [time.perf_counter() - began_s]
            )
            for scope in range(SMALL_SCOPES):
                stub.Lookup(by_meaning(prompts, 0, scale_store.small_model(scope)), timeout=_PATIENCE_S)
            hit(stub, by_meaning(prompts, 1))
            await_moves(
                site
            )  # what is kept when it stops, and found by the next start, is the settled layout


def await_moves(site: Site) -> None:
    """Until the index of the large scope has moved to the layout that fits it."""
    until_s = time.perf_counter() + _PATIENCE_S
    while not moves(site, "started") or is_moving(site):
        if time.perf_counter() > until_s:
            raise SystemExit("the index does not move, or does not come to the end of it")
        time.sleep(0.2)


def is_moving(site: Site) -> bool:
    """Whether an index has begun to move and not come to the end."""
    return moves(site, "started") > sum(moves(site, result) for result in ("finished", "abandoned", "failed"))


def moves(site: Site, result: str) -> float:
    """How many moves of indexes came to this since the start."""
    return gauges_of(site).get(f'cachesvc_index_moves_total{{result="{result}"}}', 0.0)


def _starts(site: Site, prompts: Prompts, count: int) -> _Starts:
    starts = _Starts()
    for n in range(count):
        _forget_pages(site)
        began_s = time.perf_counter()
        with running(site, prompts) as (server, stub):
            starts.exact_s.append(server.start_s)
            if n % 2 == 0:  # asked at once, or left to warm with exact hits meanwhile
                hit(stub, by_meaning(prompts, n))
                starts.semantic_s.append(time.perf_counter() - began_s)
            meanwhile = _exact_until_warm(site, stub, prompts)
            starts.whole_s.append(_readyz(site)["warming"]["elapsed_s"] + server.start_s)
            if n % 2 and len(meanwhile) > 100:
                starts.slow_ms.append(float(np.percentile(meanwhile, 99)))
                idle = [timed_ms(stub, exact(prompts, n)) for n in range(2000)]
                starts.idle_ms.append(float(np.percentile(idle, 99)))
    return starts


def _exact_until_warm(site: Site, stub: CacheServiceStub, prompts: Prompts) -> list[float]:
    took_ms: list[float] = []
    until_s = time.perf_counter() + _PATIENCE_S
    while not _readyz(site)["warming"]["is_done"]:
        assert time.perf_counter() < until_s, "it does not come to an end"
        took_ms += [timed_ms(stub, exact(prompts, len(took_ms) + n)) for n in range(50)]
    return took_ms


def _start_figures(site: Site, starts: _Starts) -> Iterator[Figure]:
    named = _named(site)
    yield Figure(f"{named}: start to first exact hit", "s", starts.exact_s, 2.0)
    yield Figure(f"{named}: start to first semantic hit, asked at once", "s", starts.semantic_s)
    yield Figure(f"{named}: start to all scopes in", "s", starts.whole_s)
    if starts.slow_ms:
        yield Figure(f"{named}: p99 of exact hits meanwhile", "ms", starts.slow_ms)
        yield Figure(f"{named}: p99 of exact hits then", "ms", starts.idle_ms)


@contextlib.contextmanager
def running(site: Site, prompts: Prompts) -> Iterator[tuple[servers.Server, CacheServiceStub]]:
    with (
        servers.cachesvc(site.config, exact(prompts, 0)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield server, CacheServiceStub(channel)


def _forget_pages(site: Site) -> None:
    """Out of the page cache with what is on disk."""
    for path in (site.directory / "store" / "data.mdb", *site.snapshots()):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


# ------------------------------------------------------- memory and latency


def _side_by_side(sites: Sequence[Site], prompts: Prompts, extent: Extent) -> Iterator[Figure]:
    with contextlib.ExitStack() as stack:
        idle = stack.enter_context(servers.cachesvc(_empty(sites[0]), exact(prompts, 0))).memory()
        started = [stack.enter_context(running(site, prompts)) for site in sites]
        for site, (server, stub) in zip(sites, started, strict=True):
            say(f"{site.count:,} entries: memory")
            _exact_until_warm(site, stub, prompts)
            yield from _memory(site, server, "after the start")
            for n in range(extent.traffic):
                stub.Lookup(exact(prompts, n) if n % 2 else by_meaning(prompts, n), timeout=_PATIENCE_S)
            yield from _memory(site, server, "after traffic")
            yield from _shares(site, server, idle)
        say("latency")
        texts = _near(started[-1][1], prompts, extent.calls)
        rounds = [_round([stub for _, stub in started], texts) for _ in range(extent.rounds)]
    for n, site in enumerate(sites):
        yield Figure(f"{_named(site)}: semantic p50", "ms", [one[n] for one in rounds])
    for n, site in enumerate(sites[1:], 1):
        yield Figure(
            f"semantic p50, {_named(site)} ÷ {_named(sites[0])}",
            "",
            [one[n] / one[0] for one in rounds],
            1.25,
        )


def _empty(site: Site) -> Path:
    directory = ROOT / "build" / "scale-empty"
    directory.mkdir(exist_ok=True)
    return servers.write_config(directory)


def _memory(site: Site, server: servers.Server, when: str) -> Iterator[Figure]:
    held = server.memory()
    at_most = 1.2 * 1024 if site.count >= 1_000_000 else None
    yield Figure(f"{_named(site)}: RSS {when}", "MiB", [held.resident_bytes / _MIB], at_most)
    yield Figure(f"{_named(site)}: RSS {when}, anonymous", "MiB", [held.anonymous_bytes / _MIB])


def _shares(site: Site, server: servers.Server, idle: servers.Memory) -> Iterator[Figure]:
    """The memory table: what an entry takes, and where."""
    gauges = gauges_of(site)
    entries = gauges["cachesvc_entries"]
    process_bytes = server.memory().anonymous_bytes - idle.anonymous_bytes
    yield Figure(f"{_named(site)}: store, an entry", "B", [gauges["cachesvc_store_bytes"] / entries])
    yield Figure(f"{_named(site)}: index, an entry", "B", [gauges["cachesvc_index_bytes"] / entries])
    yield Figure(f"{_named(site)}: process above an empty one, an entry", "B", [process_bytes / entries])


def _near(stub: CacheServiceStub, prompts: Prompts, count: int) -> list[str]:
    """Variants of stored prompts that hit by meaning."""
    found = []
    for text in map(variant, prompts.texts):
        if stub.Lookup(_lookup(text), timeout=_PATIENCE_S).outcome == pb.OUTCOME_HIT_SEMANTIC:
            found.append(text)
        if len(found) == count:
            return found
    raise SystemExit(f"only {len(found)} of {count} variants hit by meaning")


def _round(stubs: Sequence[CacheServiceStub], texts: Sequence[str]) -> list[float]:
    """The median latency of each server, ms."""
    took_ms: list[list[float]] = [[] for _ in stubs]
    for first in range(0, len(texts), _TURN):
        for stub, own_ms in zip(stubs, took_ms, strict=True):
            own_ms += [timed_ms(stub, _lookup(text)) for text in texts[first : first + _TURN]]
    return [statistics.median(own_ms) for own_ms in took_ms]


# ------------------------------------------------------------------- calls


def _lookup(text: str, model: str = MODEL) -> pb.LookupRequest:
    return pb.LookupRequest(prompt=text, model=model)


def exact(prompts: Prompts, number: int) -> pb.LookupRequest:
    return _lookup(prompts.texts[number * 7 % len(prompts.texts)])


def by_meaning(prompts: Prompts, number: int, model: str = MODEL) -> pb.LookupRequest:
    return _lookup(variant(prompts.texts[number * 7 % len(prompts.texts)]), model)


def hit(stub: CacheServiceStub, request: pb.LookupRequest) -> None:
    """Ask until the scope is in and the answer is a hit by meaning."""
    until_s = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < until_s:
        outcome = stub.Lookup(request, timeout=_PATIENCE_S).outcome
        if outcome == pb.OUTCOME_HIT_SEMANTIC:
            return
        if not pb.Outcome.Name(outcome).startswith("OUTCOME_BYPASS"):
            raise SystemExit(f"a lookup came to {pb.Outcome.Name(outcome)}")
    raise SystemExit("the scope was not loaded in time")


def timed_ms(stub: CacheServiceStub, request: pb.LookupRequest) -> float:
    began_s = time.perf_counter()
    stub.Lookup(request, timeout=_PATIENCE_S)
    return (time.perf_counter() - began_s) * 1e3


def _readyz(site: Site) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{site.admin}/readyz", timeout=_PATIENCE_S) as reply:
        told: dict[str, Any] = json.load(reply)
    return told


def gauges_of(site: Site) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{site.admin}/metrics", timeout=_PATIENCE_S) as reply:
        lines = reply.read().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def _named(site: Site) -> str:
    return f"{site.count:,}"


if __name__ == "__main__":
    sys.exit(main())
