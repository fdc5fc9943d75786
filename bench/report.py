"""Figures → tables, as text, JSON and markdown.

A *record* is a run as JSON: ``figures``, ``notes``, ``noise`` of the machine.
``bench.compare`` reads two of them, ``bench.plots`` draws one, ``docs/tables.py`` puts one into the README.
"""

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results"
LATEST = RESULTS / "latest.json"
_LOG_WIDTH = 120
_COLUMNS = ("figure", "median", "min–max of rounds", "target", "met")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: a value per round. ``at_most`` or ``at_least`` is the target, if there is one."""

    name: str
    unit: str
    rounds: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.at_most is not None:
            return self.median <= self.at_most
        if self.at_least is not None:
            return self.median >= self.at_least
        return None

    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        target, met = "", ""
        if self.at_most is not None:
            target = f"≤ {self.at_most:,g}{self._suffix}"
        if self.at_least is not None:
            target = f"≥ {self.at_least:,g}{self._suffix}"
        if self.met is not None:
            met = "yes" if self.met else "no"
        spread = f"{_shown(min(self.rounds))}–{_shown(max(self.rounds))}" if len(self.rounds) > 1 else ""
        return self.name, f"{_shown(self.median)}{self._suffix}", spread, target, met

    @property
    def _suffix(self) -> str:
        return f" {self.unit}" if self.unit else ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a section of the bench found out."""

    figures: Sequence[Figure]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A whole run."""

    mode: str
    date: str
    figures: Sequence[Figure]
    notes: Sequence[str]
    noise: Mapping[str, float] = field(default_factory=dict)


def record(mode: str, parts: Iterable[Measured], notes: Sequence[str], noise: Mapping[str, float]) -> Record:
    """The sections of a run put together, dated now. ``notes`` come first, then what this all ran with."""
    whole = list(parts)
    return Record(
        mode,
        datetime.now(UTC).date().isoformat(),
        [figure for part in whole for figure in part.figures],
        [*notes, _machine(), *(note for part in whole for note in part.notes)],
        noise,
    )


def report(
    figures: Sequence[Figure], notes: Sequence[str], *, mode: str, publish: bool, name: str = "latest"
) -> None:
    """Of a bench that runs alone: print its table; to publish it, write ``results/NAME.json`` and ``NAME.md``."""
    run = record(mode, [Measured(figures, notes)], [], {})
    show(run)
    if publish:
        write(run, RESULTS / f"{name}.json")
        (RESULTS / f"{name}.md").write_text(markdown(run.figures) + "\n" + _listed(run.notes))


def show(run: Record) -> None:
    """Print it: the targets first, then everything else, then the notes."""
    console = Console(width=None if sys.stdout.isatty() else _LOG_WIDTH)
    for title, figures in _parts(run):
        table = Table(*_COLUMNS, title=title)
        for figure in figures:
            table.add_row(*figure.cells())
        console.print(table)
    for line in run.notes:
        console.print(line, highlight=False, markup=False)


def split(figures: Iterable[Figure]) -> tuple[list[Figure], list[Figure]]:
    """Those with a target, and the others."""
    every = list(figures)
    return (
        [figure for figure in every if figure.met is not None],
        [figure for figure in every if figure.met is None],
    )


def markdown(figures: Iterable[Figure]) -> str:
    """The figures as a table."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *(figure.cells() for figure in figures)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def page(run: Record) -> str:
    """The whole run as a page of markdown."""
    tables = "".join(f"## {title}\n\n{markdown(figures)}\n" for title, figures in _parts(run))
    return f"# Measured: {run.mode} run of {run.date}\n\n{tables}## Notes\n\n{_listed(run.notes)}"


def _listed(lines: Iterable[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _parts(run: Record) -> list[tuple[str, list[Figure]]]:
    with_target, rest = split(run.figures)
    return [
        (title, figures) for title, figures in (("Targets", with_target), ("Beside them", rest)) if figures
    ]


def write(run: Record, file: Path) -> None:
    """Keep it as JSON. Medians are there for whoever reads it without this module."""
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = asdict(run)
    for kept, figure in zip(whole["figures"], run.figures, strict=True):
        kept["median"] = figure.median
    file.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


def read(file: Path) -> Record:
    """A record that was written."""
    whole: dict[str, Any] = json.loads(file.read_text())
    return Record(
        whole["mode"],
        whole["date"],
        [
            Figure(**{name: value for name, value in figure.items() if name != "median"})
            for figure in whole["figures"]
        ],
        whole["notes"],
        whole.get("noise", {}),
    )


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    packages = ("grpcio", "onnxruntime", "faiss-cpu", "lmdb")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{cores} cores, Python {platform.python_version()}, {versions}"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
