"""``python -m bench.quality``: how often hits are wrong, and how many are right, each figure beside its target.

    python -m bench.quality                 all of it, some ten minutes
    python -m bench.quality --quick         fewer requests, re-draws and traps, for CI
    python -m bench.quality --data DIR      other labelled prompts: stream_*.jsonl and pairs_*.jsonl of a directory
    python -m bench.quality --only default kinds
    python -m bench.quality --publish       write results/quality.json and quality.md, which the README takes over

Exits 1 when a target is missed. Where the whole data sets are not there, the extracts in ``bench/data`` are measured.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import labelled
from bench.calls import say
from bench.prompts import SHARED
from bench.quality_default import MIX, StreamResult
from bench.quality_sections import SECTIONS, Found, Work
from bench.report import RESULTS, Measured, Record, markdown, record, show, split
from cachesvc.evaluation.show import percent
from cachesvc.making import make_embedder
from cachesvc.settings_policy import PolicySettings
from cachesvc.settings_sections import EmbedderSettings

_QUICK_REQUESTS = 2_000


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parse(arguments)
    streams, pairs = _files(asked.data)
    if not streams:
        raise SystemExit(f"there is nothing to measure with: no stream_*.jsonl in {asked.data or SHARED}")
    work = Work(
        embedder=make_embedder(EmbedderSettings(), say),
        policy=PolicySettings().policy(),
        streams=streams,
        pairs=pairs,
        quick=asked.quick,
        most=_QUICK_REQUESTS if asked.quick else None,
    )
    found = [_section(name, run, work) for name, run in SECTIONS.items() if name in asked.only]
    mode = "quick" if asked.quick else "full"
    run = record(mode, [Measured(one.figures, one.notes) for one in found], [_of(streams)], {})
    compared = [result for one in found for result in one.streams]
    Console(width=160).print(beside(compared), markup=False, highlight=False)
    show(run)
    if asked.publish:
        publish(run, compared)
    missed = [figure.name for figure in run.figures if figure.met is False]
    for name in missed:
        say(f"missed: {name}")
    return 1 if missed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer requests, re-draws and traps")
    parser.add_argument("--publish", action="store_true", help="write results/quality.json and quality.md")
    parser.add_argument("--data", type=Path, help="directory of stream_*.jsonl and pairs_*.jsonl")
    parser.add_argument(
        "--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="these sections"
    )
    return parser.parse_args(arguments)


def _files(directory: Path | None) -> tuple[list[Path], list[Path]]:
    """Streams and pairs: of a directory, else of the shared data, else the extracts."""
    whole = SHARED if SHARED.is_dir() else labelled.EXTRACTS
    found = directory or whole
    return sorted(found.glob("stream_*.jsonl")), sorted(found.glob("pairs_*.jsonl"))


def _section(name: str, run: Callable[[Work], Found], work: Work) -> Found:
    say(f"measuring: {name}")
    began_s = time.monotonic()
    found = run(work)
    say(f"  {name} took {time.monotonic() - began_s:.0f} s")
    return found


def _of(streams: Sequence[Path]) -> str:
    names = ", ".join(file.stem.removeprefix("stream_") for file in streams)
    return f"streams: {names}"


def beside(results: Sequence[StreamResult]) -> str:
    """Ours beside the plain cosine, as markdown: wrong hits first."""
    if not results:
        return ""
    peers = list(results[0].peers)
    head = [
        "stream", "requests", "wrong (95 %)", "right", "plain cosine, same error: right",
        *(f"plain cosine {threshold}: wrong / right" for threshold in peers),
    ]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    rows += [
        [
            result.name.removeprefix("stream_"),
            f"{result.request_count:,}",
            percent(result.policy.wrong),
            f"{result.policy.useful.share:.1%}",
            f"{result.same_error.useful.share:.1%} (from {result.same_error_threshold:g})",
            *(f"{rates.wrong.share:.1%} / {rates.useful.share:.1%}" for rates in result.peers.values()),
        ]
        for result in sorted(results, key=lambda result: (result.name != MIX, result.name))
    ]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def publish(run: Record, results: Sequence[StreamResult]) -> None:
    """Keep the run as JSON, and as the tables that the README shows."""
    kept: dict[str, Any] = {**asdict(run), "streams": [asdict(result) for result in results]}
    for shown, figure in zip(kept["figures"], run.figures, strict=True):
        shown["median"], shown["met"] = figure.median, figure.met
    (RESULTS / "quality.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    with_target, rest = split(run.figures)
    notes = "".join(f"- {line}\n" for line in run.notes)
    (RESULTS / "quality.md").write_text(
        f"{markdown(with_target)}\n"
        "The default policy on each stream, without labels of its own. Other caches have 0.8 (GPTCache, bifrost, AWS's "
        "guidance), 0.9 (RedisVL, Upstash) or 0.95 (Portkey) where nobody sets a threshold:\n\n"
        f"{beside(results)}\nBeside them, without a target of their own:\n\n{markdown(rest)}\n{notes}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
