"""Ten times more than it can do: what the server still does, what it refuses, and how it comes back.

``python -m bench.overload [--quick] [--publish]``. Capacity is what callers that wait for their answers get
of lookups that each take an inference; then ten times that is sent, whatever comes back, beside a few exact
lookups; then the load ends. In a second part one namespace floods while another asks modestly.

The server has one half of the machine's cores and its callers the other, from the first to the last figure, so
that what the callers take is not missing to the server. The floor is what goodput would be if refusing took no more CPU time
than a bare grpcio server takes that refuses every call by itself.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc

from bench.load import Job, drivers
from bench.prompts import MODEL, ROOT, answer, load
from bench.servers import Server, cachesvc, on_cores, refuser, write_config
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

RESULT = Path(__file__).parent / "results" / "overload.md"
TIMES = 10
TIMEOUT_S = 2.0
OUR_TIMEOUT_S = 0.25  # the default of our clients
EXACT_RATE = 20
MODEST_RATE = 20
CALLERS = 8
RECOVERY_S = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="15 seconds of overload instead of 60")
    parser.add_argument("--publish", action="store_true", help="write bench/results/overload.md")
    arguments = parser.parse_args()
    seconds = 15 if arguments.quick else 60
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("server and callers need a core each")
    servers, callers = set(cores[: len(cores) // 2]), set(cores[len(cores) // 2 :])
    texts, _ = load(2000)
    (ROOT / "build").mkdir(exist_ok=True)
    refusal_cpu_s = _refusal_cpu_s(servers, callers, texts, 1000)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as directory:
        config = write_config(Path(directory))
        with contextlib.ExitStack() as stack:
            with on_cores(servers):
                server = stack.enter_context(cachesvc(config, pb.LookupRequest(prompt=texts[0], model=MODEL)))
            stack.enter_context(on_cores(callers))
            _fill(server, texts[:200])
            table = _overload(server, texts, seconds, refusal_cpu_s)
            print(table)
            fair = _fairness(server, texts, seconds // 2)
            print(fair)
            table += fair
    if arguments.publish:
        RESULT.write_text(table)


def _fill(server: Server, texts: list[str]) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stub = CacheServiceStub(channel)
        for namespace in ("default", "modest", "flood"):
            for n, text in enumerate(texts):
                stub.Store(
                    pb.StoreRequest(namespace=namespace, prompt=text, model=MODEL, response=answer(n)),
                    timeout=30,
                )


@dataclass(frozen=True, slots=True)
class Overload:
    """What became of the load, in figures."""

    sent: float
    goodput: float
    turned_away: str
    refused_p50_ms: float
    server_cores: float
    generator_cores: float
    exact_share: float
    exact_p50_ms: float
    exact_p99_ms: float
    memory_before_bytes: int
    memory_most_bytes: int
    recovered_s: float


def _overload(server: Server, texts: list[str], seconds: int, refusal_cpu_s: float) -> str:
    capacity = _capacity(server, texts)
    floor = 1 - (TIMES - 1) * refusal_cpu_s / capacity.cpu_s
    bare = _overloaded(server, texts, seconds, capacity.rate * TIMES, throttled=False)
    ours = _overloaded(server, texts, seconds, capacity.rate * TIMES, throttled=True)
    lookup_us, refusal_us = capacity.cpu_s * 1e6, refusal_cpu_s * 1e6
    table = (
        "| overload | bare stubs | our clients | target |\n|---|---|---|---|\n"
        f"| capacity: lookups with an inference, {CALLERS} callers that wait | {capacity.rate:.0f} /s | | |\n"
        f"| CPU time of such a lookup, of a refusal by bare grpcio | {lookup_us:.0f}, {refusal_us:.0f} µs | | |\n"
        f"| goodput ÷ capacity at the floor: all refused at that cost | {floor:.2f} | | |\n"
    )
    rows: list[tuple[str, Callable[[Overload], str], str]] = [
        ("asked for", lambda one: f"{one.sent:.0f} /s for {seconds} s", f"{TIMES} × capacity"),
        ("goodput", lambda one: f"{one.goodput:.0f} /s", ""),
        ("goodput ÷ capacity", lambda one: f"{one.goodput / capacity.rate:.2f}", "≥ 0.80"),
        ("turned away", lambda one: one.turned_away, ""),
        ("time until turned away by the server, p50", lambda one: f"{one.refused_p50_ms:.1f} ms", ""),
        ("exact lookups meanwhile, answered", lambda one: f"{one.exact_share:.1%}", ""),
        ("the same: p50, p99", lambda one: f"{one.exact_p50_ms:.1f}, {one.exact_p99_ms:.1f} ms", ""),
        (
            "CPU of the server, of its callers",
            lambda one: f"{one.server_cores:.2f}, {one.generator_cores:.2f} cores",
            "",
        ),
        (
            "memory before, most during (without mapped files)",
            lambda one: f"{one.memory_before_bytes >> 20} → {one.memory_most_bytes >> 20} MiB",
            "no growth",
        ),
        ("as fast as before again after", lambda one: f"{one.recovered_s:.1f} s", "≤ 5 s"),
    ]
    return table + "".join(f"| {name} | {say(bare)} | {say(ours)} | {goal} |\n" for name, say, goal in rows)


def _overloaded(server: Server, texts: list[str], seconds: int, rate: float, *, throttled: bool) -> Overload:
    memory_before = memory_most = server.memory().anonymous_bytes
    with (
        _generator(server, Load(texts, rate, seconds, throttled=throttled)) as flood,
        _generator(server, Load(texts[:200], EXACT_RATE, seconds + RECOVERY_S, exact=True)) as exact,
    ):
        began_s, cpu_s = time.perf_counter(), server.cpu_s()
        _go(flood)
        _go(exact)
        while time.perf_counter() - began_s < seconds:
            memory_most = max(memory_most, server.memory().anonymous_bytes)
            time.sleep(0.2)
        server_cores = (server.cpu_s() - cpu_s) / (time.perf_counter() - began_s)
        recovered_s = _recovery_s(server, texts)
        flooded, exactly = _result(flood), _result(exact)
    counts = _counts(flooded, 2, seconds)  # the first seconds fill the queues
    shed = max(sum(counts.values()) - counts["useful"], 1)
    return Overload(
        sent=flooded["sent"] / seconds,
        goodput=counts["useful"] / (seconds - 2),
        turned_away=", ".join(
            f"{name} {count / shed:.0%}" for name, count in counts.most_common() if name != "useful"
        ),
        refused_p50_ms=flooded["p50_ms"].get("RESOURCE_EXHAUSTED", 0),
        server_cores=server_cores,
        generator_cores=flooded["cpu_s"] / seconds,
        exact_share=_share(exactly, 0, seconds),
        exact_p50_ms=exactly["p50_ms"].get("useful", 0),
        exact_p99_ms=exactly["p99_ms"].get("useful", 0),
        memory_before_bytes=memory_before,
        memory_most_bytes=memory_most,
        recovered_s=recovered_s,
    )


def _fairness(server: Server, texts: list[str], seconds: int) -> str:
    capacity = _capacity(server, texts)
    alone = _modest(server, texts, seconds)
    beside = {}
    for told in (True, False):
        with _generator(server, Load(texts, capacity.rate * 3, seconds + 2, "flood")) as flood:
            _go(flood)
            time.sleep(1)
            beside[told] = _modest(server, texts, seconds, told=told)
            flooded = _result(flood)
    rows = [
        (f"a namespace that asks {MODEST_RATE} /s, alone: answered", f"{_share(alone, 0, seconds):.1%}", ""),
        (
            "the same: p50 and p99",
            f"{alone['p50_ms']['useful']:.0f} and {alone['p99_ms']['useful']:.0f} ms",
            "",
        ),
        (
            "beside one that floods with 3 × capacity: answered",
            f"{_share(beside[True], 0, seconds):.1%}",
            "not starved",
        ),
        (
            "the same: p50 and p99",
            f"{beside[True]['p50_ms'].get('useful', 0):.0f} and {beside[True]['p99_ms'].get('useful', 0):.0f} ms",
            "",
        ),
        (
            "the same, by a client that does not tell its namespace in metadata: answered",
            f"{_share(beside[False], 0, seconds):.1%}",
            "",
        ),
        ("the flooding one: answered", f"{_share(flooded, 0, seconds):.1%}", ""),
    ]
    return "\n| fair share | measured | target |\n|---|---|---|\n" + "".join(
        f"| {a} | {b} | {c} |\n" for a, b, c in rows
    )


def _modest(server: Server, texts: list[str], seconds: int, *, told: bool = True) -> dict[str, Any]:
    with _generator(server, Load(texts, MODEST_RATE, seconds, "modest", told=told)) as modest:
        _go(modest)
        return _result(modest)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What callers that wait get: useful answers a second, and the server's CPU time for each."""

    rate: float
    cpu_s: float


def _capacity(server: Server, texts: list[str]) -> Capacity:
    """Unlike texts, so that each takes an inference. The better of two runs."""
    seconds, runs = 6.0, []
    with drivers() as clients:
        for _ in range(2):
            before_s = server.cpu_s()
            rate = clients.rate(Job("unlike", server.address, texts, CALLERS, seconds))
            runs.append(Capacity(rate, (server.cpu_s() - before_s) / (rate * seconds)))
    return max(runs, key=lambda run: run.rate)


def _refusal_cpu_s(servers: set[int], callers: set[int], texts: list[str], rate: float) -> float:
    """CPU time of one refusal by a bare grpcio server."""
    with contextlib.ExitStack() as stack:
        with on_cores(servers):
            server = stack.enter_context(refuser())
        stack.enter_context(on_cores(callers))
        generator = stack.enter_context(_generator(server, Load(texts, rate, 5)))
        before_s = server.cpu_s()
        _go(generator)
        refused = _result(generator)["sent"]
        return (server.cpu_s() - before_s) / float(refused)


def _recovery_s(server: Server, texts: list[str]) -> float:
    """From the end of the load until twenty lookups in a row, one after the other, are useful."""
    began_s, in_a_row = time.perf_counter(), 0
    with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = CacheServiceStub(channel)
        n = 0
        while in_a_row < 20:
            n += 1
            try:
                reply = stub.Lookup(
                    pb.LookupRequest(prompt=f"{texts[n % len(texts)]} again {n}", model=MODEL),
                    timeout=TIMEOUT_S,
                )
                useful = not pb.Outcome.Name(reply.outcome).startswith("OUTCOME_BYPASS")
            except grpc.RpcError:
                useful = False
            in_a_row = in_a_row + 1 if useful else 0
    return time.perf_counter() - began_s


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked. ``told``: in metadata too; ``throttled``: as our clients ask: with their patience, and less of what is refused."""

    texts: list[str]
    rate: float
    seconds: float
    namespace: str = "default"
    exact: bool = False
    told: bool = True
    throttled: bool = False


@contextlib.contextmanager
def _generator(server: Server, load: Load) -> Iterator["subprocess.Popen[str]"]:
    timeout_s = OUR_TIMEOUT_S if load.throttled else TIMEOUT_S
    job = asdict(load) | {"address": server.address, "timeout_s": timeout_s}
    command = [sys.executable, "-m", "bench.open_loop"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        process.stdout.readline()
        yield process


def _go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    result: dict[str, Any] = json.loads(process.stdout.readline())
    return result


def _counts(result: dict[str, Any], first: int, last: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for second, by_name in result["by_second"].items():
        if first <= int(second) < last:
            counts.update(by_name)
    return counts


def _share(result: dict[str, Any], first: int, last: int) -> float:
    counts = _counts(result, first, last)
    return counts["useful"] / max(sum(counts.values()), 1)


if __name__ == "__main__":
    main()
