"""``python -m bench.run``: what cachesvc costs beyond its floors, beside its peers, and as it grows. One table.

Everything is measured in one run, section by section; between sections two floors are taken again, so that the table
can say how steady the machine was. A section that fails or takes too long is told of, and the others go on; what there is so far is
kept in ``build/bench-run.json`` after each.
"""

import argparse
import contextlib
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from bench import (
    durable,
    floors,
    index,
    latency,
    moving,
    noise,
    report,
    scale,
    start,
    starve,
    stores,
    throughput,
    workers,
)
from bench.calls import say
from bench.prompts import ROOT
from bench.prompts import load as load_prompts
from bench.report import Measured, Record
from bench.sizes import FULL, QUICK, Size
from bench.stage import Stage
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

SO_FAR = ROOT / "build" / "bench-run.json"
_CALLERS = 8  # of short prompts beside long ones
_MOVES = 3  # of an index beside lookups


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the bench. One that is ``alone`` has the machine for itself: what others share is ended before.
    ``most_s`` bounds it, so that one that hangs does not take the others with it.
    """

    name: str
    measure: Callable[[Stage], Measured]
    alone: bool = False
    most_s: float = 300.0


def _stores(stage: Stage) -> Measured:
    return Measured(stores.rates(_directory(stage, "stores"), stage.size.load_rounds))


def _workers(stage: Stage) -> Measured:
    size = stage.size
    rates = workers.measured(_directory(stage, "workers"), size.load_rounds, size.load_s)
    return Measured(list(workers.figures(rates)))


def _index(stage: Stage) -> Measured:
    return Measured([figure for count in stage.size.scales for figure in index.apart(count)])


def _directory(stage: Stage, name: str) -> Path:
    directory = stage.directory / name
    directory.mkdir()
    return directory


# In this order: what takes longest, and makes files that are kept for the next run, comes last.
SECTIONS = (
    Section("latency", latency.measure, most_s=600.0),
    Section("throughput", throughput.measure, most_s=600.0),
    Section("durable", durable.measure),
    Section("start", start.measure),
    Section("floors", lambda stage: floors.measure(stage.size), alone=True),
    Section("stores", _stores, alone=True),
    Section("starve", lambda stage: Measured(starve.figures(_CALLERS, stage.size.starve_s)), alone=True),
    Section("workers", _workers, alone=True),
    Section("moving", lambda stage: moving.measure(stage.size.moved, _MOVES), alone=True, most_s=600.0),
    Section("index", _index, alone=True, most_s=900.0),
    Section(
        "scale", lambda stage: scale.measure(stage.size.scales, stage.size.scale), alone=True, most_s=1500.0
    ),
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
        say(f"these sections failed, see above: {', '.join(failed)}; the others' figures are in {SO_FAR}")
        return 1
    if options.publish:
        from bench.publish import publish  # noqa: PLC0415 - matplotlib is only needed here

        publish(run)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some minutes, for a first look")
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
    began_s = time.perf_counter()
    mode = size.name
    if len(wanted) < len(SECTIONS):
        mode = f"{size.name}, {', '.join(section.name for section in wanted)}"
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
                spent_s = time.perf_counter() - began_s
                say(f"== {section.name} ({number} of {len(wanted)}), {spent_s:.0f} s so far")
                parts += tried(section, stage, failed, left_s=size.most_s - spent_s)
                watch.look()
                report.write(report.record(f"{mode}, unfinished", parts, stage.notes, {}), SO_FAR)
        finally:
            stage.close()
        seen = watch.noise()
    spent = f"the whole run took {(time.perf_counter() - began_s) / 60:.0f} minutes"
    run = report.record(mode, parts, [*noise.told(seen), *stage.notes, spent], seen)
    report.write(run, SO_FAR)
    return run


def tried(section: Section, stage: Stage, failed: list[str], *, left_s: float) -> list[Measured]:
    """What it measured; nothing when it failed, which must not take with it what others measured before."""
    try:
        with _at_most(min(section.most_s, left_s)):
            if section.alone:
                stage.close()
            return [section.measure(stage)]
    except (Exception, SystemExit):  # noqa: BLE001 - the edge: told of, counted, and the run fails in the end
        traceback.print_exc()
        failed.append(section.name)
        return []


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the main thread, wherever it is then."""
    if seconds <= 0:
        raise TimeoutError("the run has taken too long already")

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    raise SystemExit(main())
