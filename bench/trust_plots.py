"""The plots of ``bench.trust_sim``: wrong hits by the hour with the brake on and off. Needs matplotlib."""

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bench.trust_drift import HOURS, NOON

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.trust_drift import Days
    from bench.trust_sim import TrustFigures

_GREY = "#808890"
_OFF, _ON = "#e5534b", "#2f81f7"


def draw(figures: "TrustFigures", directory: "Path") -> None:
    """Write ``trust-brake.svg``, the same bytes for the same figures."""
    style = {
        "svg.hashsalt": "trust",
        "svg.fonttype": "none",
        "font.size": 9,
        "text.color": _GREY,
        "axes.labelcolor": _GREY,
        "axes.edgecolor": _GREY,
        "xtick.color": _GREY,
        "ytick.color": _GREY,
    }
    shown = [
        drift for drift in figures.drifts if drift.scenario.changed_topics or drift.scenario.template_share
    ]
    with mpl.rc_context(style):
        canvas = Figure(figsize=(9, 2.2 * ((len(shown) + 1) // 2)), layout="constrained")
        grid = canvas.subplots((len(shown) + 1) // 2, 2, squeeze=False)
        for axes, drift in zip(grid.flat, shown, strict=False):
            hours = np.arange(HOURS)
            axes.plot(hours, _hourly(drift.off), color=_OFF, label="brake off")
            axes.plot(hours, _hourly(drift.on), color=_ON, label="brake on")
            braked = np.mean([days.braked for days in drift.on], axis=0)
            top = axes.get_ylim()[1]
            axes.fill_between(
                hours, 0, top * braked, color=_ON, alpha=0.12, step="mid", linewidth=0, label="not open"
            )
            axes.axvline(NOON, color=_GREY, linewidth=0.8, linestyle=":")
            axes.set_title(drift.scenario.name, fontsize=9)
            axes.set_xlabel("hour")
            axes.set_ylabel("wrong hits an hour")
            axes.set_ylim(0, top)
            axes.grid(visible=True, color=_GREY, alpha=0.25, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        legend = grid.flat[0].legend(fontsize="small", frameon=False)
        for text in legend.get_texts():
            text.set_color(_GREY)
        canvas.savefig(
            directory / "trust-brake.svg",
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None},
        )


def _hourly(days: "Sequence[Days]") -> "np.typing.NDArray[np.float64]":
    return np.asarray(np.mean([day.wrong for day in days], axis=0))
