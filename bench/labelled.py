"""Labelled prompts with their vectors: what accuracy is measured with, embedded once and kept under ``build/``.

Streams and pairs are read from the directory of the shared data where that is there, else from ``bench/data``,
which holds the extracts whose licences allow that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.prompts import ROOT, SHARED
from cachesvc.core.gates import Analysis, analyse
from cachesvc.core.ports import Embedder
from cachesvc.core.types import Vector
from cachesvc.evaluation.data import Asked, Paired, embedded, read

EXTRACTS = ROOT / "bench" / "data"
_KEPT = ROOT / "build" / "labelled"


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests in order. Serving the answer of one for another is right iff their answer ids are equal.

    Texts that the embedder cannot fully see are left out: by meaning the service never serves those.
    """

    name: str
    texts: Sequence[str]
    answers: Sequence[str]
    sources: Sequence[str]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of texts: may the answer to one be served for the other? ``kinds`` as in the file, or empty."""

    name: str
    ours: Sequence[str]
    theirs: Sequence[str]
    same: NDArray[np.bool_]
    kinds: Sequence[str]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ours)


def known(text: str) -> Analysis:
    """The analysis of a text as lookups before have left it: all that gates ask for was asked for."""
    analysis = analyse(text)
    _ = analysis.meaning
    return analysis


def find(name: str) -> Path | None:
    """The file of a stream or of pairs, or None where there is none."""
    for directory in (SHARED, EXTRACTS):
        file = directory / f"{name}.jsonl"
        if file.is_file():
            return file
    return None


def stream(embedder: Embedder, file: Path) -> Stream:
    """Read one: ``{"prompt", "answer_id", "source"}`` a line."""
    rows = [row for row in read(file) if isinstance(row, Asked)]
    held = vectors(embedder, file.stem, [row.prompt for row in rows])
    seen = [row for row in rows if row.prompt in held]
    return Stream(
        file.stem,
        [row.prompt for row in seen],
        [row.answer for row in seen],
        [row.source for row in seen],
        np.stack([held[row.prompt] for row in seen]),
    )


def pairs(embedder: Embedder, file: Path) -> Pairs:
    """Read one: ``{"a", "b", "same", "source"[, "kind"]}`` a line."""
    rows = [row for row in read(file) if isinstance(row, Paired)]
    held = vectors(embedder, file.stem, [side for row in rows for side in (row.a, row.b)])
    seen = [row for row in rows if row.a in held and row.b in held]
    return Pairs(
        file.stem,
        [row.a for row in seen],
        [row.b for row in seen],
        np.array([row.same for row in seen]),
        [row.kind for row in seen],
        np.array([held[row.a] @ held[row.b] for row in seen], dtype=np.float32),
    )


def vectors(embedder: Embedder, name: str, texts: Sequence[str]) -> dict[str, Vector]:
    """By text; those that cannot be seen are not in it. Kept under the name, and made anew when the texts or the
    embedder are others.
    """
    asked = list(dict.fromkeys(texts))
    kept = _KEPT / f"{name}.npz"
    if kept.exists():
        with np.load(kept) as loaded:
            if loaded["fingerprint"] == embedder.fingerprint and loaded["asked"].tolist() == asked:
                rows = loaded["vectors"]
                return {
                    text: row for text, row, seen in zip(asked, rows, loaded["seen"], strict=True) if seen
                }
    held = embedded(embedder, asked)
    unseen = np.zeros(embedder.dimension, np.float32)
    _KEPT.mkdir(parents=True, exist_ok=True)
    np.savez(
        kept,
        fingerprint=embedder.fingerprint,
        asked=asked,
        vectors=np.stack([held.get(text, unseen) for text in asked]),
        seen=np.array([text in held for text in asked]),
    )
    return held
