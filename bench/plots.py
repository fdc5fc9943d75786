"""Two plots of a run, as SVG: latency against entries, throughput against callers. Called by ``bench.publish``.

The points are read from the figures' names. The files are small, the same for the same figures, and readable on a
light and on a dark page: text stays text, in a grey between both, on nothing.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from bench.report import Figure, Record

_GREY = "#808890"
_COLOURS = ("#2f81f7", "#2da44e", "#d29922", "#db61a2", "#8957e5", "#e5534b")
_INCHES = (6.4, 3.4)
_THROUGHPUT = re.compile(r"(?P<name>echo|exact hits|semantic hits|GPTCache), (?P<x>\d+) callers?")
_LATENCY = re.compile(r"(?P<x>[\d,]+)(?: entries)?: (?P<name>semantic) p50")

Lines = Mapping[str, Sequence[tuple[float, float]]]
"""Points (x, y) by the line's name, x rising; at least two of each."""


def draw(run: Record, directory: Path) -> dict[str, str]:
    """Write those there is a line for, and say what each file shows."""
    latency, throughput = lines(run.figures, _LATENCY), lines(run.figures, _THROUGHPUT)
    drawn = {}
    if latency:
        _draw(directory / "latency.svg", latency, x="entries", y="p50 of a semantic hit, ms", log_y=False)
        drawn["latency.svg"] = "latency of a semantic hit against the number of entries"
    if throughput:
        _draw(directory / "throughput.svg", throughput, x="callers", y="calls a second", log_y=True)
        drawn["throughput.svg"] = "calls a second against the number of callers"
    return drawn


def lines(figures: Sequence[Figure], pattern: re.Pattern[str]) -> Lines:
    """The figures whose names match, as lines. A later figure of the same name counts."""
    found: dict[str, dict[float, float]] = {}
    for figure in figures:
        match = pattern.fullmatch(figure.name)
        if match:
            found.setdefault(match["name"], {})[float(match["x"].replace(",", ""))] = figure.median
    return {name: sorted(points.items()) for name, points in found.items() if len(points) > 1}


def _draw(file: Path, drawn: Lines, *, x: str, y: str, log_y: bool) -> None:
    style: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "cachesvc",
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": _GREY,
        "axes.labelcolor": _GREY,
        "axes.edgecolor": _GREY,
        "xtick.color": _GREY,
        "ytick.color": _GREY,
    }
    with mpl.rc_context(style):
        canvas = Canvas(figsize=_INCHES, layout="constrained")
        axes = canvas.subplots()
        for colour, (name, points) in zip(_COLOURS, drawn.items(), strict=False):
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, color=colour, marker="o", markersize=4, linewidth=1.6)
            if len(drawn) > 1:
                axes.annotate(
                    name,
                    points[-1],
                    (7, 0),
                    textcoords="offset points",
                    color=colour,
                    verticalalignment="center",
                )
        axes.set_xscale("log", base=10 if x == "entries" else 2)
        axes.set_xticks(sorted({at for points in drawn.values() for at, _ in points}))
        axes.xaxis.set_major_formatter(lambda at, _: f"{at:,.0f}")
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda at, _: f"{at:,.0f}")
        else:
            axes.set_ylim(0, 1.2 * max(value for points in drawn.values() for _, value in points))
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(visible=True, color=_GREY, alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        canvas.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # Browsers are to take the reader's own typeface.
    file.write_text(re.sub('font-family: [^;"]*', "font-family: sans-serif", file.read_text()))
