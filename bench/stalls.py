"""What housekeeping does to lookups: their latency while tens of thousands of entries expire or are evicted.

``python -m bench.stalls [--entries 50000] [--publish]``. A real server on disk; one caller asks for entries that stay, one lookup
after the other, first with nothing else to do, then while the others all expire at one moment, then while a bound that
is lowered in the watched configuration makes the server evict as many. Prints a table.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from bench.prompts import ROOT, answer
from bench.servers import cachesvc, write_config
from cachesvc.scrape import scrape
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

RESULT = Path(__file__).parent / "results" / "stalls.md"
KEPT = 1000
BATCH = 100
IDLE_S = 10.0
TIMEOUT_S = 30.0
NAMESPACE = "exact-stalls"


@dataclass(frozen=True, slots=True)
class Phase:
    """Latencies of the lookups of one phase, in milliseconds, and how long it took."""

    name: str
    latencies_ms: list[float]
    seconds: float

    def row(self) -> str:
        """As a line of the table."""
        p50, p99 = np.percentile(self.latencies_ms, [50, 99])
        return (
            f"| {self.name} | {self.seconds:.0f} s | {len(self.latencies_ms):,} | {p50:.1f} ms | {p99:.1f} ms "
            f"| {max(self.latencies_ms):.0f} ms |\n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--publish", action="store_true", help="write bench/results/stalls.md")
    arguments = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as directory:
        config = write_config(Path(directory))
        first = pb.LookupRequest(namespace=NAMESPACE, prompt="first")
        with cachesvc(config, first) as server, grpc.insecure_channel(server.address) as channel:
            table = measure(CacheServiceStub(channel), config, arguments.entries)
    print(table)
    if arguments.publish:
        RESULT.write_text(table)


def measure(stub: CacheServiceStub, config: Path, count: int) -> str:
    admin = config.read_text().split('"')[3]

    def entries() -> int:
        return int(scrape(admin, TIMEOUT_S)["cachesvc_entries"])

    _store(stub, "kept", KEPT, None)
    idle_until_s = time.monotonic() + IDLE_S
    phases = [_look_up(stub, "nothing else", lambda: time.monotonic() < idle_until_s)]

    began_s = time.monotonic()
    _store(stub, "short", count // 10, None)
    lasts_s = (
        1.5 * 10 * (time.monotonic() - began_s) + 5.0
    )  # enough to store them all before the first expires
    expires_s = time.monotonic() + lasts_s
    _store(stub, "short", count, lambda: expires_s - time.monotonic())
    time.sleep(max(expires_s - time.monotonic(), 0))
    phases.append(_look_up(stub, f"{count:,} expire", lambda: entries() > KEPT))

    _store(stub, "evicted", count, None)
    bound = round(KEPT / 0.9) + 1  # eviction ends at the low watermark of it
    text = config.read_text()
    config.write_text(text.replace("[store]\n", f"[store]\nmax_entries = {bound}\n"))
    phases.append(_look_up(stub, f"{count:,} are evicted", lambda: entries() > bound, kept=False))
    head = "| lookups of the exact tier while | for | lookups | p50 | p99 | longest |\n|---|---|---|---|---|---|\n"
    return head + "".join(phase.row() for phase in phases)


def _store(stub: CacheServiceStub, name: str, count: int, left_s: Callable[[], float] | None) -> None:
    for begin in range(0, count, BATCH):
        items = [
            pb.StoreRequest(namespace=NAMESPACE, prompt=f"{name} {n}", response=answer(n))
            for n in range(begin, min(begin + BATCH, count))
        ]
        if left_s is not None:
            for item in items:
                item.ttl.FromMilliseconds(round(left_s() * 1e3))
        results = stub.BatchStore(pb.BatchStoreRequest(items=items), timeout=TIMEOUT_S).results
        if any(result.HasField("error") for result in results):
            raise SystemExit(f"a store failed: {results[0].error.message}")
        if begin % (BATCH * 100) == 0:
            print(f"  {begin:,} of {count:,} {name} stored", file=sys.stderr)


def _look_up(stub: CacheServiceStub, name: str, goes_on: Callable[[], bool], *, kept: bool = True) -> Phase:
    """Look up entries that stay, in turn, until the phase is over. Whether it is, is asked once a second."""
    latencies_ms: list[float] = []
    began_s = asked_s = time.monotonic()
    n = 0
    while True:
        request = pb.LookupRequest(namespace=NAMESPACE, prompt=f"kept {n % KEPT}")
        at_s = time.perf_counter()
        found = stub.Lookup(request, timeout=TIMEOUT_S)
        latencies_ms.append((time.perf_counter() - at_s) * 1e3)
        if kept and found.outcome != pb.OUTCOME_HIT_EXACT:
            raise SystemExit(f"an entry that stays was {pb.Outcome.Name(found.outcome)}")
        n += 1
        if time.monotonic() - asked_s > 1.0:
            if not goes_on():
                return Phase(name, latencies_ms, time.monotonic() - began_s)
            asked_s = time.monotonic()


if __name__ == "__main__":
    main()
