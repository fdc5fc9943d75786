"""What the comparator of answers makes of paraphrases, and of answers that say something else: ``python -m bench.comparing``.

The answers are written for this project: each with a paraphrase, the same with another number, negated, about another thing,
and another answer on the topic. ADR 0033 has the table.
"""

import sys
from collections import Counter

import numpy as np

from bench.labelled import EXTRACTS
from bench.prompts import rows_of
from cachesvc.core.gates import analyse, verdicts
from cachesvc.core.ports import Embedder
from cachesvc.core.trust.compare import Prose, by_nearness, compare
from cachesvc.core.types import Unseen
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

KINDS = ("paraphrase", "number", "negation", "name", "topic")
_MIN_SCORES = (0.95, 0.9, 0.85, 0.8, 0.75)
_WAIT_S = 60.0


def main() -> int:
    """See the module."""
    embedder = make_embedder(EmbedderSettings(), lambda _: None)
    rows = rows_of(EXTRACTS / "answers.jsonl")
    scores = {kind: [_cosine(embedder, row["answer"], row[kind]) for row in rows] for kind in KINDS}
    lines = ["| | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    ranges = (f"{min(scores[kind]):.2f} to {max(scores[kind]):.2f}" for kind in KINDS)
    lines.append("| cosine | " + " | ".join(ranges) + " |")
    objections = (sum(bool(_gates(row["answer"], row[kind])) for row in rows) for kind in KINDS)
    lines.append("| a gate objects | " + " | ".join(map(str, objections)) + " |")
    for min_score in _MIN_SCORES:
        cells = (_told([row["answer"] for row in rows], [row[kind] for row in rows], scores[kind], min_score)
                 for kind in KINDS)  # fmt: skip
        lines.append(f"| {min_score}: same / different / not told | " + " | ".join(cells) + " |")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _told(ours: list[str], theirs: list[str], scores: list[float], min_score: float) -> str:
    counts: Counter[bool | None] = Counter()
    for answer, other, score in zip(ours, theirs, scores, strict=True):
        judged = compare(answer.encode(), other.encode(), "auto")
        if isinstance(judged, Prose):
            judged = by_nearness(judged, score, min_score)
        counts[judged.same] += 1
    return f"{counts[True]} / {counts[False]} / {counts[None]}"


def _gates(ours: str, theirs: str) -> set[str]:
    return {veto.gate.label for veto in verdicts(analyse(ours), analyse(theirs))}


def _cosine(embedder: Embedder, ours: str, theirs: str) -> float:
    vectors = [embedder.embed(text, _WAIT_S) for text in (ours, theirs)]
    if isinstance(vectors[0], Unseen) or isinstance(vectors[1], Unseen):
        return float("nan")
    return float(np.dot(vectors[0], vectors[1]))


if __name__ == "__main__":
    raise SystemExit(main())
