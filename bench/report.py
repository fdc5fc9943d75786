"""Figures → one table, as text, JSON and markdown."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"
_COLUMNS = ("figure", "median", "min–max of rounds", "target", "met")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: a value per round. ``at_most`` is the target, if there is one."""

    name: str
    unit: str
    rounds: Sequence[float]
    at_most: float | None = None

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rounds)

    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        target = "" if self.at_most is None else f"≤ {self.at_most:g}{self._suffix}"
        met = "" if self.at_most is None else ("yes" if self.median <= self.at_most else "no")
        spread = f"{_shown(min(self.rounds))}–{_shown(max(self.rounds))}" if len(self.rounds) > 1 else ""
        return self.name, f"{_shown(self.median)}{self._suffix}", spread, target, met

    @property
    def _suffix(self) -> str:
        return f" {self.unit}" if self.unit else ""


def report(
    figures: Sequence[Figure], notes: Sequence[str], *, mode: str, publish: bool, name: str = "latest"
) -> None:
    """Print the table; to publish it, write ``results/NAME.json`` and ``results/NAME.md`` too."""
    table = Table(*_COLUMNS, title="cachesvc, measured")
    for figure in figures:
        table.add_row(*figure.cells())
    console = Console()
    console.print(table)
    lines = [*_machine(), *notes]
    for line in lines:
        console.print(line, highlight=False)
    if not publish:
        return
    RESULTS.mkdir(exist_ok=True)
    record = {
        "mode": mode,
        "date": datetime.now(UTC).date().isoformat(),
        "notes": lines,
        "figures": [asdict(figure) | {"median": figure.median} for figure in figures],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *(figure.cells() for figure in figures)]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    (RESULTS / f"{name}.md").write_text(text + "\n\n" + "\n".join(f"- {line}" for line in lines) + "\n")


def _machine() -> list[str]:
    cores = len(os.sched_getaffinity(0))
    packages = ("grpcio", "onnxruntime", "faiss-cpu", "lmdb")
    load_1m, _, _ = os.getloadavg()
    return [
        f"{cores} cores, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in packages),
        f"load average at the end: {load_1m:.1f} (the bench itself keeps about two cores busy)",
    ]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
