"""What is kept of a run in ``results/``: all of it as ``latest.json`` and as a page, the README's part, the plots,
and the growth for ``docs/reliability.md``.

``python -m bench.publish FILE`` publishes a run that ``bench.run --output`` kept; without FILE, the last one again.
"""

import re
import sys
from pathlib import Path

from bench import plots
from bench.report import LATEST, RESULTS, Record, markdown, page, read, split, write

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
    ratios = [figure for figure in rest if not figure.unit]
    images = "".join(f"![{shows}](bench/results/{name})\n\n" for name, shows in drawn.items())
    lines = "".join(f"- {line}\n" for line in run.notes)
    return (
        f"{markdown(with_target)}\nBeside them, without a target of their own:\n\n{markdown(ratios)}"
        f"\n{images}{lines}- times, rates and memory: [`bench/results/latest.md`](bench/results/latest.md)\n"
    )


if __name__ == "__main__":
    publish(read(Path(sys.argv[1]) if sys.argv[1:] else LATEST))
