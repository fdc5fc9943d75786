"""What the guard before the embedder costs: ``python -m bench.guard``.

The same texts embedded by the engine in the caller's thread and through the guard, turn by turn, one caller.
"""

import statistics
import time

from bench.prompts import load
from cachesvc.adapters.clock import SystemClock
from cachesvc.core.events import Event
from cachesvc.core.ports import Embedder
from cachesvc.engine.guard import Guard, GuardOptions
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

ROUNDS, CALLS, WAIT_S = 9, 60, 10.0


class Nobody:
    """An Observer that looks away."""

    def on(self, event: Event) -> None:
        """See ``Observer.on``."""


def main() -> None:
    embedder = make_embedder(EmbedderSettings(), lambda _: None)
    guard = Guard(
        embedder, lambda: embedder, GuardOptions(2, 56, 5.0, 4, 400), clock=SystemClock(0), observer=Nobody()
    )
    texts, _ = load(CALLS)
    costs_us, bare_us = [], []
    for _ in range(ROUNDS):
        bare, guarded = [], []
        for text in texts:
            bare.append(timed_us(embedder, text))
            guarded.append(timed_us(guard, text))
        costs_us.append(statistics.median(guarded) - statistics.median(bare))
        bare_us.append(statistics.median(bare))
    guard.stop()
    print(
        f"bare {statistics.median(bare_us):.0f} µs; the guard adds {statistics.median(costs_us):.0f} µs "
        f"({min(costs_us):.0f} to {max(costs_us):.0f} in {ROUNDS} rounds)"
    )


def timed_us(embedder: Embedder | Guard, text: str) -> float:
    """One embedding."""
    began_s = time.perf_counter()
    embedder.embed(text, WAIT_S)
    return (time.perf_counter() - began_s) * 1e6


if __name__ == "__main__":
    main()
