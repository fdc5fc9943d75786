"""``python -m bench.gates``: what each gate is worth: false hits that it removes beside true hits that it costs.

Of streams the candidates are each request's five nearest earlier ones, of pairs the pairs; only those whose cosine reaches
``--min-score`` count. False are those whose answers differ. Shares come with 95 % Wilson intervals. Last, what
the gates cost a lookup: the analysis of a request and the comparison with up to five kept analyses.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.calls import say
from bench.labelled import Pairs, Stream, find, known, pairs, stream
from cachesvc.core.gates import DEFAULT_GATES, Analysis, Gate, analyse, first_veto, verdicts
from cachesvc.core.ports import Embedder
from cachesvc.evaluation.intervals import Share, wilson
from cachesvc.evaluation.near import nearby
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

STREAMS = (
    "mix",
    "t2s_atis",
    "t2s_advising",
    "t2s_scholar",
    "t2s_small",
    "qqp",
    "gsmplus",
    "banking77",
    "clinc150",
)
PAIRS = ("qqp", "paws_qqp", "gsmplus", "minpairs")
COUNT = 5
_TIMED_WORDS = range(18, 23)
_TIMED_REQUESTS = 500
_ALL = "any gate that is on"


@dataclass(frozen=True, slots=True)
class Worth:
    """Of one gate on one source."""

    gate: str
    source: str
    false_removed: Share
    true_lost: Share


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the gates to one lookup of about twenty words, µs."""

    requests: int
    analysis_p50_us: float
    comparison_p50_us: float
    both_p50_us: float
    both_p99_us: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    ours: str
    theirs: str
    same: bool


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parse(arguments)
    embedder = make_embedder(EmbedderSettings(), say)
    sources = _sources(embedder, asked.min_score)
    if not sources:
        raise SystemExit("there is nothing to measure with: neither streams nor pairs are there")
    worths = [worth for name, candidates in sources.items() for worth in _worths(name, candidates)]
    cost = _cost([candidate for candidates in sources.values() for candidate in candidates])
    _print(worths, cost, asked.min_score)
    if asked.json:
        figures = {
            "min_score": asked.min_score,
            "gates": [asdict(worth) for worth in worths],
            "cost": asdict(cost),
        }
        asked.json.write_text(json.dumps(figures, indent=1))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--min-score", type=float, default=0.85, help="the least cosine of a candidate")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args(arguments)


def _sources(embedder: Embedder, min_score: float) -> dict[str, list[_Candidate]]:
    """The candidates by source, for those sources that are there."""
    found: dict[str, list[_Candidate]] = {}
    for name in STREAMS:
        file = find(f"stream_{name}")
        if file is not None:
            found[name] = list(_of_stream(stream(embedder, file), min_score))
    for name in PAIRS:
        file = find(f"pairs_{name}")
        if file is not None:
            found[f"{name} pairs"] = list(_of_pairs(pairs(embedder, file), min_score))
    return {name: candidates for name, candidates in found.items() if candidates}


def _of_stream(requests: Stream, min_score: float) -> Iterator[_Candidate]:
    count = len(requests)
    near = nearby(requests.vectors, np.ones(count, np.bool_), np.zeros(count, np.int64), min_score)
    for place in range(count):
        for other in near.of(place, min_score)[0][:COUNT].tolist():
            same = requests.answers[place] == requests.answers[other]
            yield _Candidate(requests.texts[place], requests.texts[other], same)


def _of_pairs(asked: Pairs, min_score: float) -> Iterator[_Candidate]:
    for ours, theirs, same, score in zip(asked.ours, asked.theirs, asked.same, asked.scores, strict=True):
        if score >= min_score:
            yield _Candidate(ours, theirs, bool(same))


def _worths(source: str, candidates: Sequence[_Candidate]) -> Iterator[Worth]:
    analyses: dict[str, Analysis] = {}
    for text in {text for candidate in candidates for text in (candidate.ours, candidate.theirs)}:
        analyses[text] = analyse(text)
    hits: dict[tuple[str, bool], int] = {}
    for candidate in candidates:
        refusing = {veto.gate for veto in verdicts(analyses[candidate.ours], analyses[candidate.theirs])}
        names = [gate.label for gate in refusing] + ([_ALL] if refusing & DEFAULT_GATES else [])
        for name in names:
            hits[name, candidate.same] = hits.get((name, candidate.same), 0) + 1
    true = sum(candidate.same for candidate in candidates)
    false = len(candidates) - true
    for name in [*(gate.label for gate in Gate), _ALL]:
        yield Worth(
            name,
            source,
            wilson(hits.get((name, False), 0), false),
            wilson(hits.get((name, True), 0), true),
        )


def _cost(candidates: Sequence[_Candidate]) -> Cost:
    """What a lookup pays: its own analysis, and the first veto against up to five kept ones until one passes. What the request
    means is read when the first comparison asks.
    """
    by_request: dict[str, list[str]] = {}
    for candidate in candidates:
        if len(candidate.ours.split()) in _TIMED_WORDS:
            by_request.setdefault(candidate.ours, []).append(candidate.theirs)
    kept = {text: known(text) for near in by_request.values() for text in near}
    analysis_us, comparison_us = [], []
    for text, near in list(by_request.items())[:_TIMED_REQUESTS]:
        theirs = [kept[other] for other in near[:COUNT]]
        began = time.perf_counter_ns()
        ours = analyse(text)
        analysed = time.perf_counter_ns()
        for other in theirs:
            if first_veto(ours, other, DEFAULT_GATES) is None:
                break
        ended = time.perf_counter_ns()
        analysis_us.append((analysed - began) / 1e3)
        comparison_us.append((ended - analysed) / 1e3)
    both = np.add(analysis_us, comparison_us)
    return Cost(
        len(both),
        float(np.median(analysis_us)),
        float(np.median(comparison_us)),
        float(np.median(both)),
        float(np.percentile(both, 99)),
    )


def _print(worths: Sequence[Worth], cost: Cost, min_score: float) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(_overview(worths, min_score))
    table = Table(title="Counts, and 95 % Wilson intervals", title_justify="left")
    for heading in ("gate", "source", "false hits removed", "true hits lost"):
        table.add_column(heading)
    for worth in sorted(worths, key=lambda worth: worth.gate):
        if worth.false_removed.count or worth.true_lost.count:
            table.add_row(worth.gate, worth.source, _told(worth.false_removed), _told(worth.true_lost))
    console.print(table)
    console.print(
        f"Gates and decision, {cost.requests} requests of {_TIMED_WORDS[0]} to {_TIMED_WORDS[-1]} words, up to {COUNT} "
        f"candidates: p50 {cost.both_p50_us:.0f} µs (analysis {cost.analysis_p50_us:.0f}, "
        f"comparisons {cost.comparison_p50_us:.0f}), p99 {cost.both_p99_us:.0f} µs"
    )


def _told(share: Share) -> str:
    return f"{100 * share.share:.1f} % ({share.count:,} of {share.of:,}; {100 * share.low:.1f} to {100 * share.high:.1f})"


def _overview(worths: Sequence[Worth], min_score: float) -> Table:
    cells: Mapping[tuple[str, str], Worth] = {(worth.gate, worth.source): worth for worth in worths}
    sources = list(dict.fromkeys(worth.source for worth in worths))
    title = f"False hits removed / true hits lost at cosine ≥ {min_score:g}, per cent"
    table = Table(title=title, title_justify="left")
    table.add_column("gate")
    for source in sources:
        table.add_column(source, justify="right")
    for gate in dict.fromkeys(worth.gate for worth in worths):
        table.add_row(gate, *(_cell(cells[gate, source]) for source in sources))
    return table


def _cell(worth: Worth) -> str:
    removed, lost = 100 * worth.false_removed.share, 100 * worth.true_lost.share
    return f"{removed:.1f} / {lost:.1f}" if removed or lost else "–"


if __name__ == "__main__":
    sys.exit(main())
