"""Whether long prompts starve short ones: ``python -m bench.starve [--callers 8] [--seconds 10]``.

Callers embed through the guard without pause, as many inferences at once as there are cores. One in twenty of their
texts fills the model's window, or none; "first come first served" is the guard with no text called long. What matters is
the 99th percentile of the short ones. The rows have their turns in slices, so that the machine treats them alike.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from zlib import crc32

from bench.calls import say
from bench.guard import Nobody
from bench.latency import by_round
from bench.prompts import load
from bench.report import Figure, report
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
SHORT, MIXED = "short prompts only", f"one prompt in {EVERY} long"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.starve", description=__doc__)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each row")
    options = parser.parse_args()
    report(figures(options.callers, options.seconds), [], mode="full", publish=False)


def figures(callers: int, seconds: float) -> list[Figure]:
    """Percentiles of each kind of traffic, a value per slice of it, and what the long texts do to the short ones."""
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
        SHORT: (guards["as configured"], 0),
        MIXED: (guards["as configured"], EVERY),
        f"{MIXED}, first come first served": (guards["first come first served"], EVERY),
    }
    taken: dict[str, list[Taken]] = {name: [] for name in rows}
    try:
        for number in range(SLICES):
            say(f"long prompts beside short ones, slice {number + 1} of {SLICES}")
            for name, (guard, every) in rows.items():
                taken[name].append(ask(guard, texts, every, callers, seconds / SLICES))
    finally:
        for guard in guards.values():
            guard.stop()
    return list(_figures(taken, callers, seconds / SLICES))


def _figures(taken: Mapping[str, Sequence["Taken"]], callers: int, slice_s: float) -> Iterator[Figure]:
    short_only, mixed = ([at(one.short_ms, 99) for one in taken[name]] for name in (SHORT, MIXED))
    yield Figure(
        f"p99 of short prompts, {MIXED} ÷ {SHORT}, {callers} callers", "", by_round(mixed, short_only)
    )
    for name, slices in taken.items():
        for kind, took_ms in (
            ("short", [one.short_ms for one in slices]),
            ("long", [one.long_ms for one in slices]),
        ):
            if all(len(one) > 1 for one in took_ms):
                for percent in (50, 99):
                    yield Figure(
                        f"{name}: {kind} prompts p{percent}", "ms", [at(one, percent) for one in took_ms]
                    )
        yield Figure(
            f"{name}: embedded", "/s", [(len(one.short_ms) + len(one.long_ms)) / slice_s for one in slices]
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """Milliseconds of each call for a short text, and for a long one."""

    short_ms: list[float]
    long_ms: list[float]


def ask(guard: Guard, texts: Sequence[str], every: int, callers: int, seconds: float) -> Taken:
    """A slice of the time."""
    taken = Taken([], [])
    numbers = iter(range(1 << 30))
    lock = threading.Lock()
    until_s = time.perf_counter() + seconds

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

    with ThreadPoolExecutor(callers) as pool:
        for done in [pool.submit(caller) for _ in range(callers)]:
            done.result()
    return taken


def at(taken_ms: Sequence[float], percent: int) -> float:
    """A percentile."""
    return statistics.quantiles(taken_ms, n=100)[percent - 1]


if __name__ == "__main__":
    main()
