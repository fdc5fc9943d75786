"""``python -m bench.compare [FILE]``: a run beside the kept one, figure by figure; exit 1 when one that decides got worse.

Without FILE a quick run is made first. The kept run is ``results/latest.json``.

Only what tells of the program decides: ratios of two things measured in the same run, where a target says which way is
worse, and memory. Times and rates tell of the machine as well and are shown for information. A figure counts as changed when
its medians differ by more than its *band*: half of what the rounds of each run spanned, both halves added, and the
tolerance on top, all as shares of the kept median. So a run whose rounds disagree cannot prove a change.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.noise import told
from bench.prompts import ROOT
from bench.report import LATEST, Figure, Record, read

_TOLERANCE = 0.1
_BLIND = 0.5  # a band that hides a change by half
_MEMORY = ("MiB", "B")  # less is better
_LOG_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Delta:
    """A figure of both runs. ``change`` and ``band`` are shares of the kept median; more is not always better."""

    kept: Figure
    now: Figure
    change: float
    band: float

    @property
    def decides(self) -> bool:
        """Whether it tells of the program alone, and which way is worse is known."""
        return self.kept.unit in _MEMORY or (not self.kept.unit and self.now.met is not None)

    @property
    def moved(self) -> bool:
        """Whether it changed by more than its band."""
        return abs(self.change) > self.band

    @property
    def worse(self) -> bool:
        """Whether it moved the wrong way."""
        wrong_way = self.change < 0 if self.now.at_least is not None else self.change > 0
        return self.decides and self.moved and wrong_way

    @property
    def verdict(self) -> str:
        """In a word or two, where there is something to say."""
        if self.decides and self.moved:
            return "WORSE" if self.worse else "better"
        if self.decides and self.band > _BLIND:
            return "too noisy to tell"
        return "missed now" if self.kept.met and self.now.met is False else ""


def main() -> int:
    options = _arguments()
    kept = read(options.kept)
    now = read(options.file) if options.file else _fresh(options.run)
    found = list(deltas(kept, now, options.tolerance))
    _show(found, kept, now)
    worse = [delta for delta in found if delta.worse]
    if not any(delta.decides for delta in found):
        print("nothing to compare: the runs have no ratio or memory in common", file=sys.stderr)
        return 1
    for delta in worse:
        print(
            f"WORSE: {delta.kept.name}: {delta.kept.median:.3g} was kept, {delta.now.median:.3g} now "
            f"({delta.change:+.0%}, band ±{delta.band:.0%})",
            file=sys.stderr,
        )
    return 1 if worse else 0


def deltas(kept: Record, now: Record, tolerance: float) -> Iterator[Delta]:
    """Of the figures that both have, in the order of the new run."""
    before = {figure.name: figure for figure in kept.figures}
    for figure in now.figures:
        if figure.name in before and before[figure.name].unit == figure.unit:
            yield delta(before[figure.name], figure, tolerance)


def delta(kept: Figure, now: Figure, tolerance: float) -> Delta:
    """See the module for the band."""
    scale = abs(kept.median) or 1.0
    change = (now.median - kept.median) / scale
    return Delta(kept, now, change, tolerance + (_half_span(kept.rounds) + _half_span(now.rounds)) / scale)


def _half_span(rounds: Sequence[float]) -> float:
    return (max(rounds) - min(rounds)) / 2


def _show(found: Sequence[Delta], kept: Record, now: Record) -> None:
    console = Console(width=None if sys.stdout.isatty() else _LOG_WIDTH)
    for title, decide in (("These decide", True), ("For information: they tell of the machine, too", False)):
        table = Table("figure", "kept", "now", "change", "band", "", title=title)
        for one in found:
            if one.decides is decide:
                shown = one.kept.cells()[1], one.now.cells()[1]
                table.add_row(one.kept.name, *shown, f"{one.change:+.0%}", f"±{one.band:.0%}", one.verdict)
        console.print(table)
    for named, run in (("kept", kept), ("now", now)):
        console.print(f"{named}: {run.mode} run of {run.date}", highlight=False)
        for line in told(run.noise) if run.noise else []:
            console.print(f"  {line}", highlight=False, markup=False)


def _fresh(arguments: Sequence[str]) -> Record:
    with tempfile.TemporaryDirectory(prefix="bench-compare-") as directory:
        file = Path(directory) / "run.json"
        command = [sys.executable, "-m", "bench.run", *arguments, "--output", str(file)]
        subprocess.run(command, cwd=ROOT, check=True)
        return read(file)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument(
        "file", nargs="?", type=Path, help="a run that bench.run --output kept; else one is made"
    )
    parser.add_argument("--kept", type=Path, default=LATEST, help="what it is compared with (%(default)s)")
    parser.add_argument(
        "--tolerance", type=float, default=_TOLERANCE, help="share that any figure may move (%(default)s)"
    )
    parser.add_argument("--full", action="store_true", help="make a full run, with the peers")
    options = parser.parse_args()
    options.run = [] if options.full else ["--quick", "--no-peers"]
    return options


if __name__ == "__main__":
    raise SystemExit(main())
