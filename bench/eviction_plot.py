"""The plot of ``bench.eviction``: money saved and hits against the size of the cache. Needs matplotlib."""

from statistics import median
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from bench.eviction import Result

STREAMS = ("zipf 0.9", "zipf 0.9, drift", "zipf 0.9, scans", "mix, labels")
LINES = {
    "gdsf": ("C0", "-"),
    "gdsf, textbook": ("C0", ":"),
    "gdsf + admission": ("C2", "--"),
    "lru": ("C1", "-"),
    "lfu": ("C3", "-"),
    "random": ("0.6", "-"),
}


def plot(results: "Sequence[Result]", file: "Path") -> None:
    """Write an SVG, the same bytes for the same results."""
    mpl.rcParams.update({"svg.hashsalt": "eviction", "svg.fonttype": "none"})
    shown = [name for name in STREAMS if any(result.stream == name for result in results)]
    figure = Figure(figsize=(3.2 * len(shown), 6), layout="constrained")
    axes = figure.subplots(2, len(shown), sharex=True, sharey=True, squeeze=False)
    for column, stream in enumerate(shown):
        of_stream = [result for result in results if result.stream == stream]
        _draw(axes[0, column], of_stream, lambda result: result.saved_of_bound)
        _draw(axes[1, column], of_stream, lambda result: result.hits_of_optimum)
        axes[0, column].set_title(stream)
        axes[1, column].set_xlabel("room, % of all that is asked for")
    axes[0, 0].set_ylabel("money saved, % of upper bound")
    axes[1, 0].set_ylabel("hits, % of Belady's optimum")
    axes[1, -1].legend(loc="lower right", fontsize="small")
    figure.savefig(file, format="svg", metadata={"Date": None})


def _draw(axis: "Axes", results: "Sequence[Result]", figure: "Callable[[Result], float | None]") -> None:
    for policy, (colour, style) in LINES.items():
        by_share: dict[float, list[float]] = {}
        for result in results:
            value = figure(result)
            if result.policy == policy and value is not None:
                by_share.setdefault(result.share * 100, []).append(value * 100)
        middles = [median(values) for values in by_share.values()]
        axis.plot(list(by_share), middles, style, color=colour, marker=".", label=policy)
    axis.set_xscale("log")
    axis.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axis.set_ylim(0, 100)
    axis.grid(alpha=0.3)
