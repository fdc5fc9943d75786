"""Whether long prompts starve short ones: ``python -m bench.starve [--callers 8] [--seconds 10]``.

Callers embed through the guard without pause, as many inferences at once as there are cores. One in twenty of their
texts fills the model's window, or none; "first come first served" is the guard with no text called long. What matters is
the 99th percentile of the short ones. The rows have their turns in slices, so that the machine treats them alike.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from zlib import crc32

from bench.guard import Nobody
from bench.prompts import load
from cachesvc.adapters.clock import SystemClock
from cachesvc.core.types import Unseen
from cachesvc.engine.guard import Guard
from cachesvc.making import guard_options, make_embedder
from cachesvc.settings import Settings

WAIT_S = 30.0
LONG_TEXT = (
    "the quick brown fox jumps over the lazy dog and " * 25
)  # 252 tokens: more than 256 are not embedded
EVERY = 20
SLICES = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.starve", description=__doc__)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    settings = Settings()
    embedder = make_embedder(settings.embedder, lambda _: None)
    guards = {
        name: Guard(
            embedder, lambda: embedder, replace(how, **changed), clock=SystemClock(0), observer=Nobody()
        )
        for how in (guard_options(settings),)
        for name, changed in (("as configured", {}), ("first come first served", {"long_length": 1 << 30}))
    }
    texts, _ = load(1000)
    rows = {
        "short only": (guards["as configured"], 0),
        f"one in {EVERY} long": (guards["as configured"], EVERY),
        f"one in {EVERY} long, first come first served": (guards["first come first served"], EVERY),
    }
    taken: dict[str, Taken] = {name: Taken([], []) for name in rows}
    for _ in range(SLICES):
        for name, (guard, every) in rows.items():
            ask(guard, texts, every, options, taken[name])
    print(
        "| traffic | short p50 | short p99 | long p50 | long p99 | texts/s |\n| --- | --- | --- | --- | --- | --- |"
    )
    for name, (short, long) in ((name, (one.short_ms, one.long_ms)) for name, one in taken.items()):
        rate = (len(short) + len(long)) / options.seconds
        print(
            f"| {name} | {at(short, 50)} | {at(short, 99)} | {at(long, 50)} | {at(long, 99)} | {rate:.0f} |"
        )
    for guard in guards.values():
        guard.stop()


@dataclass(frozen=True, slots=True)
class Taken:
    """Milliseconds of each call for a short text, and for a long one."""

    short_ms: list[float]
    long_ms: list[float]


def ask(guard: Guard, texts: Sequence[str], every: int, options: argparse.Namespace, taken: Taken) -> None:
    """A slice of the time."""
    numbers = iter(range(1 << 30))
    lock = threading.Lock()
    until_s = time.perf_counter() + options.seconds / SLICES

    def caller() -> None:
        while True:
            with lock:
                number = next(numbers)
            is_long = bool(every) and crc32(b"%d" % number) % every == 0  # irregularly, as they come
            text = LONG_TEXT if is_long else texts[number % len(texts)]
            began_s = time.perf_counter()
            if began_s > until_s:
                return
            assert not isinstance(guard.embed(text, WAIT_S), Unseen)
            (taken.long_ms if is_long else taken.short_ms).append((time.perf_counter() - began_s) * 1e3)

    with ThreadPoolExecutor(options.callers) as pool:
        for done in [pool.submit(caller) for _ in range(options.callers)]:
            done.result()


def at(taken_ms: Sequence[float], percent: int) -> str:
    """A percentile, to read."""
    return f"{statistics.quantiles(taken_ms, n=100)[percent - 1]:.1f} ms" if len(taken_ms) > 1 else ""


if __name__ == "__main__":
    main()
