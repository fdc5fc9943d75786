"""``python -m bench.deciding``: what deciding costs a lookup, by the functions that decide: gates, features, the rule.

Requests of streams beside their five nearest earlier ones, of about twenty tokens. The rows are at hand, as they are to a
lookup that has fetched them; analyses of entries are kept (warm) or not (cold); the request's own is always made.
"""

import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.calls import say
from bench.labelled import Stream, find, known, stream
from cachesvc.core.deciding import Bar, Beside, Known, Terms, decide
from cachesvc.core.gates import DEFAULT_GATES
from cachesvc.core.policy import Policy
from cachesvc.core.trust.rules import Rule
from cachesvc.core.types import Ask, Candidate, Entry, Identity, Payload, Request, Row
from cachesvc.engine.analyses import Analyses
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

STREAMS = ("mix", "t2s_advising", "t2s_atis", "clinc150")
COUNT = 5
REQUESTS = 400
ROUNDS = 5
WORDS = range(14, 21)
MIN_SCORE = 0.8


@dataclass(frozen=True, slots=True)
class _Case:
    """A request, its nearest and their rows."""

    identity: Identity
    candidates: Sequence[Candidate]
    rows: Mapping[int, Row]


def main() -> int:
    """See the module."""
    embedder = make_embedder(EmbedderSettings(), say)
    cases: list[_Case] = []
    for name in STREAMS:
        file = find(f"stream_{name}")
        if file is not None:
            cases += _cases(stream(embedder, file))
    texts = sorted({row.prompt for case in cases for row in case.rows.values() if isinstance(row, Entry)})
    say(
        f"{len(cases)} requests of {WORDS[0]} to {WORDS[-1]} words, {COUNT} candidates from cosine {MIN_SCORE}"
    )
    say(f"analysis: p50 {_analysis_us(texts):.0f} µs, {_analysis_bytes(texts):.0f} bytes in memory")
    warm, cold = Analyses(1 << 20), Analyses(1)
    for case in cases:
        _decide(case, warm)
    for name, kept in (("analyses kept", warm), ("none kept", cold)):
        taken = [_decide(case, kept) for _ in range(ROUNDS) for case in cases]
        low, high = np.percentile(taken, (50, 99))
        say(f"gates and decision, {name}: p50 {low:.0f} µs, p99 {high:.0f} µs")
    return 0


def _cases(requests: Stream) -> Iterator[_Case]:
    vectors, count = requests.vectors, 0
    for place, text in enumerate(requests.texts):
        if count == REQUESTS:
            return
        if place < COUNT or len(text.split()) not in WORDS:
            continue
        scores = vectors[:place] @ vectors[place]
        nearest = np.argsort(-scores)[:COUNT]
        if scores[nearest[-1]] < MIN_SCORE:
            continue
        count += 1
        candidates = [Candidate(int(near) + 1, float(scores[near])) for near in nearest]
        yield _Case(
            Identity(requests.name, "m", b"c", requests.name.encode(), b"%d" % place, text),
            candidates,
            {one.entry_id: _entry(requests, one.entry_id) for one in candidates},
        )


def _entry(requests: Stream, entry_id: int) -> Entry:
    return Entry(
        id=hash((requests.name, entry_id)),
        namespace=requests.name,
        model="m",
        context=b"c",
        scope=b"s",
        exact_key=b"%d" % (entry_id - 1),
        prompt=requests.texts[entry_id - 1],
        payload=Payload(b"r"),
        created_ms=0,
        expires_ms=2,
    )


def _decide(case: _Case, kept: Analyses) -> float:
    """Microseconds of one decision, from the candidates on."""
    policy, rows = Policy(min_score=MIN_SCORE), case.rows
    ask = Ask(Request("n", (), "m", {}))
    began_s = time.perf_counter()
    bar = Bar.of(policy, ask, Rule(0, MIN_SCORE), verifies=False)
    beside = Beside(
        case.identity,
        Terms(1, None, {}),
        DEFAULT_GATES,
        Known(kept.of, lambda entry: b"", lambda entry: False),
    )
    decide(case.candidates, bar, beside, lambda candidate: rows[candidate.entry_id])
    return (time.perf_counter() - began_s) * 1e6


def _analysis_us(texts: Sequence[str]) -> float:
    taken = []
    for text in texts:
        began_s = time.perf_counter()
        known(text)
        taken.append((time.perf_counter() - began_s) * 1e6)
    return float(np.median(taken))


def _analysis_bytes(texts: Sequence[str]) -> float:
    known(texts[0])
    tracemalloc.start()
    held = [known(text) for text in texts]
    size_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size_bytes / len(held)


if __name__ == "__main__":
    raise SystemExit(main())
