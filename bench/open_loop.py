"""A client process that sends at a given rate whatever the server does, for ``bench.overload``; or, if told to, as
our client libraries do: less of what the server refuses.

``python -m bench.open_loop`` reads one JSON job from standard input and prints one JSON result: counts by
what came of the calls, second by second, latencies of those answered, and the CPU time it took itself.
"""

import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import grpc

from bench.prompts import MODEL
from cachesvc.breaker import Breaker
from cachesvc.calls import told
from cachesvc.throttle import Throttle
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

Metadata: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Ours:
    """What our client libraries hold calls back by."""

    throttle: Throttle = field(default_factory=Throttle)
    breaker: Breaker = field(default_factory=Breaker)


class Tally:
    """What came of the calls. Filled by gRPC's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ended = 0
        self.by_second: dict[int, Counter[str]] = {}
        self.latencies_ms: dict[str, list[float]] = {}

    def add(self, at_s: float, name: str, took_ms: float) -> None:
        """One call ended so."""
        with self._lock:
            self.ended += 1
            self.by_second.setdefault(int(at_s), Counter())[name] += 1
            self.latencies_ms.setdefault(name, []).append(took_ms)


def main() -> None:
    job = json.loads(sys.stdin.readline())
    tally = Tally()
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(job["address"], options=options) as channel:
        stub = CacheServiceStub(channel)
        grpc.channel_ready_future(channel).result(30)
        print("ready", flush=True)
        sys.stdin.readline()
        began_s, cpu_s = time.perf_counter(), time.process_time()
        sent = _send(stub, job, tally, began_s)
        cpu_s = time.process_time() - cpu_s
        until_s = time.perf_counter() + job["timeout_s"] + 1
        while time.perf_counter() < until_s and tally.ended < sent:
            time.sleep(0.05)
    result = {
        "sent": sent,
        "seconds": job["seconds"],
        "cpu_s": cpu_s,
        "by_second": {second: dict(counts) for second, counts in sorted(tally.by_second.items())},
        "p50_ms": {name: _percentile(values, 0.5) for name, values in tally.latencies_ms.items()},
        "p99_ms": {name: _percentile(values, 0.99) for name, values in tally.latencies_ms.items()},
    }
    print(json.dumps(result), flush=True)


def _send(stub: CacheServiceStub, job: dict[str, Any], tally: Tally, began_s: float) -> int:
    texts: list[str] = job["texts"]
    rate, seconds, sent = job["rate"], job["seconds"], 0
    ours = Ours() if job["throttled"] else None
    while (now_s := time.perf_counter() - began_s) < seconds:
        while sent < now_s * rate:
            text = texts[sent % len(texts)] if job["exact"] else f"{texts[sent % len(texts)]} number {sent}"
            request = pb.LookupRequest(
                namespace=job["namespace"], prompt=text, model=MODEL, exact_only=job["exact"]
            )
            at_s = time.perf_counter()
            sent += 1
            metadata = told(request) if job["told"] else ()
            if ours is not None and not (ours.throttle.may_ask(metadata) and ours.breaker.may_look_up()):
                tally.add(at_s - began_s, "not asked", 0.0)
                continue
            future = stub.Lookup.future(request, timeout=job["timeout_s"], metadata=metadata)
            future.add_done_callback(partial(_note, tally, at_s, began_s, ours, metadata))
        time.sleep(0.001)
    return sent


def _note(tally: Tally, at_s: float, began_s: float, ours: Ours | None, kind: Metadata, done: Any) -> None:
    now_s = time.perf_counter()
    error = done.exception()
    if error is None:
        outcome = pb.Outcome.Name(done.result().outcome).removeprefix("OUTCOME_")
        name = "useful" if not outcome.startswith("BYPASS") else outcome.lower()
    else:
        name = done.code().name
    if ours is not None:
        ours.throttle.note(kind, refused=name == "RESOURCE_EXHAUSTED")
        ours.breaker.note(in_time=name != "DEADLINE_EXCEEDED")
    tally.add(now_s - began_s, name, (now_s - at_s) * 1e3)


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


if __name__ == "__main__":
    main()
