"""Minutes of everything at once, with a kill in the middle: what leaks, what is lost, what does not add up.

``python -m bench.soak [--minutes 10] [--workers 2] [--publish]``. A real server with small bounds, so that it evicts and expires all
the time; callers look up, store, replace, delete and invalidate; halfway it is killed and started again. Every
value says what it answers, so that a wrong one shows. At the end the store is checked with no server on it.
"""

import argparse
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path

import cachesvc
from bench.prompts import ROOT, load
from bench.servers import Server, write_config
from bench.servers import cachesvc as serve
from cachesvc.calls import UNANSWERED, CallError
from cachesvc.scrape import scrape
from cachesvc.v1 import cache_pb2 as pb

RESULT = Path(__file__).parent / "results" / "soak.md"
CALLERS = 8
_GROWTH_S = 300
_KILL_S = 5.0  # from one killed worker to the next
_END_S = 60.0
NAMESPACES = ("one", "two", "exact-three")
BOUNDS = """
[index]
max_bytes = 8_388_608
snapshot_min_vectors = 500
[policy.default]
ttl_s = 20.0
sliding_ttl = true
max_ttl_s = 60.0
[policy.one]
max_entries = 800
"""


@dataclass
class Seen:
    """What the callers saw. Filled by their threads."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    killed: int = 0  # workers
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str) -> None:
        """Once more."""
        with self.lock:
            self.outcomes[name] += 1


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds."""

    anonymous_bytes: int
    descriptors: int
    threads: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--workers", type=int, default=1, help="server.workers; some are killed in the first half"
    )
    parser.add_argument("--publish", action="store_true", help="write bench/results/soak.md")
    arguments = parser.parse_args()
    if arguments.publish and arguments.workers > 1:
        parser.error("--publish is of one process")
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as directory:
        table, failed = soak(Path(directory), arguments.minutes * 60, arguments.workers)
    print(table)
    if arguments.publish:
        RESULT.write_text(table)
    if failed:
        raise SystemExit("the soak found faults")


def soak(directory: Path, seconds: float, workers: int) -> tuple[str, bool]:
    config = write_config(directory)
    config.write_text(
        config.read_text()
        .replace("[admin]", f"workers = {workers}\n[admin]", 1)
        .replace("[log]", "max_bytes = 16_777_216\nmap_size_bytes = 67_108_864\n[log]")
        .replace('[policy."exact-*"]', BOUNDS + '[policy."exact-*"]')
    )
    texts, _ = load(3000)
    seen = Seen()
    _run(config, texts, seconds / 2, seen, kill=True)
    began_s = time.perf_counter()
    early, late, counted, asked = _run(config, texts, seconds / 2, seen, kill=False)
    restart_s = time.perf_counter() - began_s - seconds / 2
    check = subprocess.run(
        [sys.executable, "-m", "cachesvc.cli", "check", "--offline", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    answered = sum(
        n for name, n in seen.outcomes.items() if not name.startswith(("BYPASS", "store", "delete"))
    )
    rows = [
        (
            "calls",
            f"{sum(seen.outcomes.values()):,} in {seconds / 60:.1f} min, {CALLERS} callers, one kill -9"
            + (f", and {seen.killed} of workers" if workers > 1 else ""),
            "",
        ),
        (
            "lookups answered",
            f"{answered:,}: " + ", ".join(f"{n.lower()} {c:,}" for n, c in seen.outcomes.most_common(8)),
            "",
        ),
        ("wrong or mixed answers", f"{len(seen.wrong)}", "0"),
        (
            "check of the store afterwards",
            check.stdout.strip() or check.stderr.strip().splitlines()[-1],
            "clean",
        ),
        ("lookups counted by the server − answered to callers", f"{counted - asked:+d} of {asked:,}", "0"),
        (
            "memory after a quarter and at the end (without mapped files)",
            f"{early.anonymous_bytes >> 20} → {late.anonymous_bytes >> 20} MiB",
            "± 5 %",
        ),
        ("file descriptors", f"{early.descriptors} → {late.descriptors}", "the same"),
        ("threads", f"{early.threads} → {late.threads}", "the same"),
        ("restart after the kill, and a clean stop", f"{restart_s:.1f} s more than the load", ""),
    ]
    # In a run of a few minutes the caches still fill when it is a quarter over.
    grown = seconds >= _GROWTH_S and late.anonymous_bytes > early.anonymous_bytes * 1.05
    leaks = late.descriptors > early.descriptors + 2
    unknown = sum(
        seen.outcomes[name] for name in UNANSWERED
    )  # calls that the server may have counted, or not
    failed = bool(seen.wrong or check.returncode or abs(counted - asked) > unknown or grown or leaks)
    return "| soak | measured | target |\n|---|---|---|\n" + "".join(
        f"| {a} | {b} | {c} |\n" for a, b, c in rows
    ), failed


def _run(
    config: Path, texts: list[str], seconds: float, seen: Seen, *, kill: bool
) -> tuple[Held, Held, int, int]:
    """One life of the server: what it held after a quarter and at the end, lookups it counted, lookups answered."""
    admin = config.read_text().split('[admin]\nlisten = "')[1].split('"')[0]
    with serve(config, pb.LookupRequest(prompt=texts[0])) as server:
        before = sum(n for name, n in seen.outcomes.items() if name.isupper())
        stop = threading.Event()
        callers = [
            threading.Thread(target=_call, args=(server.address, texts, seen, stop, seed))
            for seed in range(CALLERS)
        ]
        for caller in callers:
            caller.start()
        time.sleep(seconds / 2)
        early = _held(server)
        if kill:
            _kill_all(server, seconds / 2, seen)
        else:
            time.sleep(seconds / 2)
        stop.set()
        for caller in callers:
            caller.join()
        if kill:
            return early, early, 0, 0
        late = _held(server)
        values = scrape(admin, 10.0)
        counted = int(
            sum(value for name, value in values.items() if name.startswith("cachesvc_lookups_total"))
        )
        asked = sum(n for name, n in seen.outcomes.items() if name.isupper()) - before
        return early, late, counted - 1, asked  # one was asked to see that it is up


def _kill_all(server: Server, seconds: float, seen: Seen) -> None:
    """Workers now and then, if there are any; then the server."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, _KILL_S))
        for pid in server.workers()[seen.killed % 2 :][:1]:
            os.kill(pid, signal.SIGKILL)
            seen.killed += 1
    ends = [os.pidfd_open(pid) for pid in server.workers()]
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    for end in ends:  # they finish what is under way; until then nobody else gets the store
        select.select([end], [], [], _END_S)
        os.close(end)


def _call(address: str, texts: list[str], seen: Seen, stop: threading.Event, seed: int) -> None:
    choose = random.Random(seed)
    with cachesvc.Client(address, timeout_s=5.0, store_timeout_s=10.0) as client:
        while not stop.is_set():
            namespace = choose.choice(NAMESPACES)
            prompt = texts[min(int(choose.expovariate(1 / 300)), len(texts) - 1)]
            reply = client.lookup(prompt, namespace=namespace)
            seen.add(reply.outcome)
            if reply.entry is not None:
                told = reply.entry.response.decode()
                if told != _answer(namespace, reply.entry.prompt or prompt):
                    seen.wrong.append(f"{namespace}: {prompt}")
                if choose.random() < 0.02:
                    _quietly(partial(client.delete, reply.entry.id, namespace=namespace))
            else:
                stored = client.store(
                    _answer(namespace, prompt), lookup_id=reply.lookup_id or "0", tags=[f"t{seed}"]
                )
                seen.add("store" if stored.stored else "store refused")
            if choose.random() < 0.0005:
                _quietly(partial(client.invalidate, namespace=namespace, tags=[f"t{seed}"]))


def _quietly(call: Callable[[], object]) -> None:
    with suppress(CallError):  # the server was just killed
        call()


def _answer(namespace: str, prompt: str) -> str:
    return f"{namespace}|{prompt}|" + blake2b(f"{namespace}|{prompt}".encode()).hexdigest() * 6


def _held(server: Server) -> Held:
    processes = [Path(f"/proc/{pid}") for pid in server.processes()]
    return Held(
        server.memory().anonymous_bytes,
        sum(len(list((process / "fd").iterdir())) for process in processes),
        sum(len(list((process / "task").iterdir())) for process in processes),
    )


if __name__ == "__main__":
    main()
