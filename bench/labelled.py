"""Labelled prompts with their vectors: what accuracy is measured with, embedded once and kept under ``build/``.

Streams and pairs are read from the directory of the shared data where that is there, else from ``bench/data``,
which holds the extracts whose licences allow that.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.prompts import ROOT, SHARED
from cachesvc.core.ports import Embedder
from cachesvc.core.types import Unseen

EXTRACTS = ROOT / "bench" / "data"
_KEPT = ROOT / "build" / "labelled"
_WAIT_S = 60.0


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


def find(name: str) -> Path | None:
    """The file of a stream or of pairs, or None where there is none."""
    for directory in (SHARED, EXTRACTS):
        file = directory / f"{name}.jsonl"
        if file.is_file():
            return file
    return None


def stream(embedder: Embedder, file: Path) -> Stream:
    """Read one: ``{"prompt", "answer_id", "source"}`` a line."""
    rows = _rows(file)
    vectors = _vectors(embedder, file.stem, [row["prompt"] for row in rows])
    seen = [row for row in rows if row["prompt"] in vectors]
    return Stream(
        file.stem,
        [row["prompt"] for row in seen],
        [row["answer_id"] for row in seen],
        [row["source"] for row in seen],
        np.stack([vectors[row["prompt"]] for row in seen]),
    )


def pairs(embedder: Embedder, file: Path) -> Pairs:
    """Read one: ``{"a", "b", "same", "source"[, "kind"]}`` a line."""
    rows = _rows(file)
    vectors = _vectors(embedder, file.stem, [row[side] for row in rows for side in ("a", "b")])
    seen = [row for row in rows if row["a"] in vectors and row["b"] in vectors]
    return Pairs(
        file.stem,
        [row["a"] for row in seen],
        [row["b"] for row in seen],
        np.array([bool(row["same"]) for row in seen]),
        [row.get("kind", "") for row in seen],
        np.array([vectors[row["a"]] @ vectors[row["b"]] for row in seen], dtype=np.float32),
    )


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return [json.loads(line) for line in lines]


def _vectors(embedder: Embedder, name: str, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """By text; those that cannot be seen are not in it."""
    asked = list(dict.fromkeys(texts))
    kept = _KEPT / f"{name}.npz"
    if kept.exists():
        with np.load(kept) as held:
            if held["fingerprint"] == embedder.fingerprint and held["asked"].tolist() == asked:
                rows = held["vectors"]
                return {text: row for text, row, seen in zip(asked, rows, held["seen"], strict=True) if seen}
    embedded = [embedder.embed(text, _WAIT_S) for text in asked]
    seen = np.array([not isinstance(row, Unseen) for row in embedded])
    unseen = np.zeros(embedder.dimension, np.float32)
    rows = np.stack([unseen if isinstance(row, Unseen) else row for row in embedded])
    _KEPT.mkdir(parents=True, exist_ok=True)
    np.savez(kept, fingerprint=embedder.fingerprint, asked=asked, vectors=rows, seen=seen)
    return {text: row for text, row, known in zip(asked, rows, seen, strict=True) if known}
