"""Text to vector with sentence-transformers itself: for GPUs and models that do not export.

Brings torch into the serving process (``embedder.engine = "sentence-transformers"`` and the
``compile`` extra). One text per inference, as in the compiled engine, so that the same text always
has the same vector.
"""

from pathlib import Path

import numpy as np
import tokenizers
import torch
from sentence_transformers import SentenceTransformer

from cachesvc.adapters.sight import Sight
from cachesvc.adapters.slots import Slots
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.types import Unseen, Vector


class SbertEmbedder:
    """``Embedder`` on a SentenceTransformer. ``digest`` is that of the model's files."""

    def __init__(self, model: Path, *, digest: str, concurrency: int, max_text_length: int) -> None:
        try:
            self._model = SentenceTransformer(str(model), trust_remote_code=False)
        except Exception as error:  # noqa: BLE001 - the library raises whatever its loaders raise
            raise CacheError(
                Kind.UNAVAILABLE,
                f"embedder.model {str(model)!r} cannot be loaded: {type(error).__name__}",
            ) from None
        self._model.eval()
        # One thread per inference, as in the compiled engine; torch's own threads fight over the cores.
        torch.set_num_threads(1)
        # A copy: encode() switches truncation on and off on the model's own, which other threads see.
        tokenizer = tokenizers.Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._sight = Sight(
            tokenizer,
            prefix=self._model.prompts.get(self._model.default_prompt_name or "", ""),
            window_tokens=self._model.max_seq_length,
            max_text_length=max_text_length,
        )
        self._fingerprint = f"sentence-transformers-{self._model.device.type}:{digest[:32]}"
        self._dimension = int(self._model.get_embedding_dimension() or 0)
        self._slots = Slots(concurrency)

    @property
    def fingerprint(self) -> str:
        """See ``Embedder.fingerprint``."""
        return self._fingerprint

    @property
    def dimension(self) -> int:
        """See ``Embedder.dimension``."""
        return self._dimension

    def embed(self, text: str, wait_s: float) -> Vector | Unseen:
        """See ``Embedder.embed``."""
        ids = self._sight.read(text)
        if isinstance(ids, Unseen):
            return ids
        if not self._slots.acquire(wait_s):
            raise CacheError(Kind.OVERLOADED, "no inference slot was free in time")
        try:
            vector = self._model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        except Exception as error:  # noqa: BLE001 - the library raises whatever torch raises
            raise CacheError(Kind.UNAVAILABLE, f"inference failed: {type(error).__name__}") from None
        finally:
            self._slots.release()
        if not np.isfinite(vector).all():
            raise CacheError(Kind.UNAVAILABLE, "inference gave a vector that is not finite")
        return np.asarray(vector, dtype=np.float32)
