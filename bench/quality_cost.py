"""What gates and the decision cost a lookup: prompts of about 20 tokens, the five nearest of their stream as candidates.

A request's text is analysed anew, as on the request path; the analyses of entries are kept there, so they are here.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench import labelled
from cachesvc.core.deciding import Beside, Known, Terms, decide
from cachesvc.core.gates import Analysis
from cachesvc.core.policy import Policy
from cachesvc.core.ports import Embedder
from cachesvc.core.types import Candidate, Entry, Identity
from cachesvc.evaluation.data import Asked, read
from cachesvc.evaluation.deciding import Option, bar_of, entry_of
from cachesvc.evaluation.serving import with_threshold

COUNT = 5
_WORDS = range(14, 20)  # about 20 tokens
_REQUESTS = 400
_ROUNDS = 3


def cost_us(embedder: Embedder, files: Sequence[Path], policy: Policy) -> list[float]:
    """The median lookup of each round, µs: every candidate is over the threshold."""
    lax = with_threshold(policy, -1.0)
    asked: list[tuple[str, list[Option]]] = []
    for file in files:
        rows = [row for row in read(file) if isinstance(row, Asked)]
        vectors = labelled.vectors(embedder, file.stem, [row.prompt for row in rows])
        texts = [row.prompt for row in rows if row.prompt in vectors]
        held = np.stack([vectors[text] for text in texts])
        chosen = [n for n, text in enumerate(texts) if len(text.split()) in _WORDS][
            : _REQUESTS // len(files) + 1
        ]
        for n in chosen:
            scores = held @ held[n]
            scores[n] = -1.0
            near = np.argsort(-scores, kind="stable")[:COUNT].tolist()
            asked.append(
                (
                    texts[n],
                    [Option(entry_of(m, texts[m]), labelled.known(texts[m]), float(scores[m])) for m in near],
                )
            )
    return [_median_us(asked, lax) for _ in range(_ROUNDS if asked else 0)]


def _median_us(asked: Sequence[tuple[str, list[Option]]], policy: Policy) -> float:
    """What a lookup has at hand (identity, candidates, rows, kept analyses) is made before the clock runs."""
    took_us: list[float] = []
    for text, options in asked:
        by_id = {option.entry.id: option for option in options}
        rows = {entry_id: option.entry for entry_id, option in by_id.items()}
        candidates = [Candidate(option.entry.id, option.score) for option in options]
        kept = {entry_id: option.analysis for entry_id, option in by_id.items()}
        known = Known(partial(_kept, kept), _no_answer, _never)
        identity = Identity("", "", b"", b"", text.encode(), text)
        began = time.perf_counter_ns()
        beside = Beside(identity, _TERMS, policy.gates, known)
        decide(candidates, bar_of(policy), beside, partial(_row, rows))
        took_us.append((time.perf_counter_ns() - began) / 1e3)
    return float(np.median(took_us))


_TERMS = Terms(0, None, {})


def _kept(kept: Mapping[int, Analysis], entry: Entry) -> Analysis:
    return kept[entry.id]


def _row(rows: Mapping[int, Entry], candidate: Candidate) -> Entry:
    return rows[candidate.entry_id]


def _no_answer(entry: Entry) -> bytes:
    return b""


def _never(entry: Entry) -> bool:
    return False
