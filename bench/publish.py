"""What is kept of a run in ``results/``: all of it as ``latest.json`` and as a page, the README's part, the plots,
and the growth for ``docs/reliability.md``.

``python -m bench.publish FILE …`` publishes what ``bench.run --output`` kept; without FILE, the last one again. Of several,
as of a run of which a section failed and was run again, the later ones' figures take the place of the earlier ones'.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import plots
from bench.report import LATEST, RESULTS, Record, markdown, page, read, split, write

_DETAIL = re.compile(r"\d rows|a core")  # on the page of the whole run, not in the README
_SCALE = re.compile(r"[\d,]+: ")  # what the figures of one size of ``bench.scale`` begin with


def publish(run: Record) -> None:
    """Write the files. ``make fix`` takes ``summary.md`` over into the README."""
    drawn = plots.draw(run, RESULTS)
    write(run, LATEST)
    LATEST.with_suffix(".md").write_text(page(run))
    (RESULTS / "summary.md").write_text(summary(run, drawn))
    (RESULTS / "scale.md").write_text(markdown(one for one in run.figures if _SCALE.match(one.name)))


def summary(run: Record, drawn: dict[str, str]) -> str:
    """Targets, ratios without one, and the plots: ``drawn`` is what each shows by its file's name."""
    with_target, rest = split(run.figures)
    ratios = [figure for figure in rest if not figure.unit and not _DETAIL.search(figure.name)]
    images = "".join(f"![{shows}](bench/results/{name})\n\n" for name, shows in drawn.items())
    lines = "".join(f"- {line}\n" for line in run.notes)
    return (
        f"{markdown(with_target)}\nBeside them, without a target of their own:\n\n{markdown(ratios)}"
        f"\n{images}{lines}- times, rates and memory: [`bench/results/latest.md`](bench/results/latest.md)\n"
    )


def put_together(runs: Sequence[Record]) -> Record:
    """One record of several, which says so."""
    first, *later = runs
    if not later:
        return first
    figures = {figure.name: figure for run in runs for figure in run.figures}
    notes = dict.fromkeys(note for run in runs for note in run.notes)
    return replace(first, figures=list(figures.values()), notes=[f"put together of {len(runs)} runs", *notes])


if __name__ == "__main__":
    publish(put_together([read(Path(name)) for name in sys.argv[1:]] or [read(LATEST)]))
