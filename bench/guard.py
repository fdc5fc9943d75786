"""What the guard before the embedder costs: ``python -m bench.guard``.

The same texts embedded by the engine in the caller's thread and through the guard, turn by turn, one caller.
"""

import statistics
import time

from bench.prompts import load
from cachesvc.adapters.clock import SystemClock
from cachesvc.app import make_embedder
from cachesvc.core.events import Event
from cachesvc.engine.guard import Guard, GuardOptions
from cachesvc.settings import EmbedderSettings

ROUNDS, CALLS, WAIT_S = 9, 60, 10.0


class Nobody:
    """An Observer that looks away."""

    def on(self, event: Event) -> None:
        """See ``Observer.on``."""


def main() -> None:
    embedder = make_embedder(EmbedderSettings(), lambda _: None)
    guard = Guard(
        embedder, lambda: embedder, GuardOptions(2, 56, 5.0, 4), clock=SystemClock(0), observer=Nobody()
    )
    texts, _ = load(CALLS)
    ways = {
        "bare": lambda text: embedder.embed(text, WAIT_S),
        "guarded": lambda text: guard.embed(text, WAIT_S),
    }
    costs_us, bare_us = [], []
    for _ in range(ROUNDS):
        took: dict[str, list[float]] = {name: [] for name in ways}
        for text in texts:
            for name, embed in ways.items():
                began_s = time.perf_counter()
                embed(text)
                took[name].append((time.perf_counter() - began_s) * 1e6)
        bare, guarded = (statistics.median(took[name]) for name in ("bare", "guarded"))
        costs_us.append(guarded - bare)
        bare_us.append(bare)
    guard.stop()
    print(
        f"bare {statistics.median(bare_us):.0f} µs; the guard adds {statistics.median(costs_us):.0f} µs "
        f"({min(costs_us):.0f} to {max(costs_us):.0f} in {ROUNDS} rounds)"
    )


if __name__ == "__main__":
    main()
