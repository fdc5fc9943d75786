"""Real prompts with their vectors, embedded once by each engine and kept under ``build/``."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.prompts import ROOT, load
from cachesvc.core.ports import Embedder
from cachesvc.core.types import Unseen


@dataclass(frozen=True, slots=True)
class Prompts:
    """Texts that the embedder sees, and their vectors (n, dimension). ``source`` names where they are from."""

    texts: Sequence[str]
    vectors: NDArray[np.float32]
    source: str


def embedded(embedder: Embedder, count: int) -> Prompts:
    """So many prompts, but those that cannot be seen; embedded when that was not done before by this engine."""
    asked, source = load(count)
    kept = ROOT / "build" / f"prompts-{count}.npz"
    if kept.exists():
        with np.load(kept) as held:
            if held["fingerprint"] == embedder.fingerprint and held["asked"].tolist() == asked:
                return Prompts(held["texts"].tolist(), held["vectors"], source)
    rows = [embedder.embed(text, 60.0) for text in asked]
    known = [(text, row) for text, row in zip(asked, rows, strict=True) if not isinstance(row, Unseen)]
    texts, vectors = [text for text, _ in known], np.stack([row for _, row in known])
    kept.parent.mkdir(exist_ok=True)
    np.savez(kept, fingerprint=embedder.fingerprint, asked=asked, texts=texts, vectors=vectors)
    return Prompts(texts, vectors, source)
