"""The worker that measures what one writes by hand: sentence-transformers encode, FAISS flat, a dict.

In process, with no isolation, durability, expiry or integrity check: a floor for such caches rather
than a rival. Commands come as JSON lines on standard input, see ``bench.peers``.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from cachesvc.adapters.model_files import DEFAULT_MODEL, model_directory

_MIN_SCORE = 0.95


def main() -> None:
    torch.set_num_threads(1)  # faster here than torch's default, which a busy machine starves
    faiss.omp_set_num_threads(1)
    model = SentenceTransformer(str(model_directory(DEFAULT_MODEL) or DEFAULT_MODEL), device="cpu")
    peer = _Peer(model)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "load":
            reply = peer.load(command["prompts"], command["answers"], Path(command["vectors"]))
        else:
            reply = peer.ask(command["texts"])
        print(json.dumps(reply), flush=True)


class _Peer:
    def __init__(self, model: Any) -> None:
        self._model = model
        self._index: Any = faiss.IndexFlatIP(model.get_embedding_dimension())
        self._answers: list[str] = []

    def load(self, prompts: list[str], answers: list[str], file: Path) -> dict[str, Any]:
        """Embeddings are made in batches and kept in a file, for the other peer too: this is not measured."""
        if not file.is_file():
            vectors = self._model.encode(
                prompts, batch_size=64, normalize_embeddings=True, show_progress_bar=False
            )
            np.save(file, vectors)
        self._index.add(np.load(file))
        self._answers.extend(answers)
        return {"entries": len(self._answers)}

    def ask(self, texts: list[str]) -> dict[str, Any]:
        """Latency in microseconds of each answer, and how many reached the threshold."""
        took_us: list[float] = []
        hits = 0
        for text in texts:
            began_s = time.perf_counter()
            found = self._find(text)
            took_us.append((time.perf_counter() - began_s) * 1e6)
            hits += found is not None
        return {"us": took_us, "hits": hits}

    def _find(self, text: str) -> str | None:
        vector = self._model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        scores, ids = self._index.search(vector[np.newaxis, :], 1)
        return self._answers[int(ids[0][0])] if scores[0][0] >= _MIN_SCORE else None


if __name__ == "__main__":
    main()
