"""``python -m bench.run``: what cachesvc costs beyond its floors, beside its peers, and as it grows. One table.

Everything is measured in one run, section by section; between sections two floors are taken again, so that the table
can say how steady the machine was. A section that fails is told of, and the others go on.
"""

import argparse
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import durable, floors, latency, noise, report, start, throughput
from bench.calls import say
from bench.prompts import ROOT
from bench.prompts import load as load_prompts
from bench.report import Measured, Record
from bench.sizes import FULL, QUICK, Size
from bench.stage import Stage
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the bench. One that is ``alone`` has the machine for itself: what others share is ended before."""

    name: str
    measure: Callable[[Stage], Measured]
    alone: bool = False


# In this order. A module that measures by itself is plugged in as
# Section("name", lambda stage: Measured(module.figures(stage.size)), alone=True).
SECTIONS = (
    Section("latency", latency.measure),
    Section("throughput", throughput.measure),
    Section("durable", durable.measure),
    Section("start", start.measure),
    Section("floors", lambda stage: floors.measure(stage.size), alone=True),
)


def main() -> int:
    options = _arguments()
    size = QUICK if options.quick else FULL
    wanted = [section for section in SECTIONS if section.name in (options.only or _names())]
    failed: list[str] = []
    run = _measured(wanted, size, failed, with_peers=not options.no_peers)
    report.show(run)
    if options.output:
        report.write(run, options.output)
    if failed:
        say(f"these sections failed, see above: {', '.join(failed)}")
        return 1
    if options.publish:
        from bench.publish import publish  # noqa: PLC0415 - matplotlib is only needed here

        publish(run)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two or three minutes, for a first look")
    parser.add_argument("--no-peers", action="store_true", help="leave the other caches out")
    parser.add_argument("--only", action="append", choices=_names(), help="this section; may be repeated")
    parser.add_argument("--output", type=Path, metavar="FILE", help="keep the run as JSON, for bench.compare")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write bench/results, which the README shows (make fix takes it over); a full run only",
    )
    options = parser.parse_args()
    if options.publish and (options.quick or options.no_peers or options.only):
        parser.error("--publish takes a full run of everything")
    return options


def _names() -> list[str]:
    return [section.name for section in SECTIONS]


def _measured(wanted: Sequence[Section], size: Size, failed: list[str], *, with_peers: bool) -> Record:
    prompts = load_prompts(size.entries)
    embedder = make_embedder(EmbedderSettings(), say)  # compiled now, so that starts are second starts
    (ROOT / "build").mkdir(exist_ok=True)  # a disk, which the system's temporary directory may not be
    parts: list[Measured] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as directory,
        noise.watch(embedder, prompts[0]) as watch,
    ):
        stage = Stage(Path(directory), size, prompts, embedder, with_peers=with_peers)
        try:
            watch.look()
            for number, section in enumerate(wanted, 1):
                say(f"== {section.name} ({number} of {len(wanted)})")
                parts += _tried(section, stage, failed)
                watch.look()
        finally:
            stage.close()
        seen = watch.noise()
    mode = (
        f"{size.name}, {', '.join(section.name for section in wanted)}"
        if len(wanted) < len(SECTIONS)
        else size.name
    )
    return report.record(mode, parts, [*noise.told(seen), *stage.notes], seen)


def _tried(section: Section, stage: Stage, failed: list[str]) -> list[Measured]:
    """What it measured; nothing when it failed, which must not take with it what others measured before."""
    try:
        if section.alone:
            stage.close()
        return [section.measure(stage)]
    except (Exception, SystemExit):  # noqa: BLE001 - the edge: told of, counted, and the run fails in the end
        traceback.print_exc()
        failed.append(section.name)
        return []


if __name__ == "__main__":
    raise SystemExit(main())
