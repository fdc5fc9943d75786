"""The worker that measures what one writes by hand: sentence-transformers encode, FAISS flat, a dict.

In process, with no isolation, durability, expiry or integrity check: a floor for such caches rather
than a rival. It also makes the vectors that the other peers are loaded with.
"""

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from bench import peer_loop
from cachesvc.adapters.model_files import DEFAULT_MODEL, model_directory


class _Handwritten:
    def __init__(self, _directory: Path) -> None:
        torch.set_num_threads(1)  # faster here than torch's default, which a busy machine starves
        faiss.omp_set_num_threads(1)
        self._model: Any = SentenceTransformer(
            str(model_directory(DEFAULT_MODEL) or DEFAULT_MODEL), device="cpu"
        )
        self._index: Any = faiss.IndexFlatIP(self._model.get_embedding_dimension())
        self._answers: list[str] = []

    def load(self, prompts: list[str], answers: list[str], vectors: Path) -> None:
        """See ``peer_loop.Cache.load``. The vectors are made when there are none."""
        if not vectors.is_file():
            made = self._model.encode(
                prompts, batch_size=64, normalize_embeddings=True, show_progress_bar=False
            )
            np.save(vectors, made)
        self._index.add(np.load(vectors))
        self._answers.extend(answers)

    def get(self, text: str) -> object | None:
        """See ``peer_loop.Cache.get``."""
        vector = self._model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        scores, ids = self._index.search(vector[np.newaxis, :], 1)
        return self._answers[int(ids[0][0])] if scores[0][0] >= peer_loop.MIN_SCORE else None


if __name__ == "__main__":
    peer_loop.serve(_Handwritten)
