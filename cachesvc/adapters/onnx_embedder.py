"""Text to vector with onnxruntime and tokenizers: the engine of the serving process.

Dynamic int8 quantises activations per tensor, so a text batched with others would get another
vector (measured: self-cosine down to 0.979). Hence one text per inference and one thread per
inference, as many at once as there are cores: same throughput, no batching queue, and the same
vector every time.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers

from cachesvc.adapters.onnx_runtime import open_engine
from cachesvc.adapters.sight import Sight
from cachesvc.adapters.slots import Slots
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.types import Unseen, Vector

_INPUT = "input_ids"


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """A compiled engine and how it is run. ``prefix`` goes before each text; ``concurrency`` inferences at once."""

    path: Path
    fingerprint: str
    dimension: int
    window_tokens: int
    prefix: str
    concurrency: int
    max_text_length: int


class OnnxEmbedder:
    """``Embedder`` on a compiled engine directory. Raises CORRUPT when it cannot be loaded."""

    def __init__(self, options: OnnxOptions) -> None:
        self._options = options
        path = options.path
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
            self._session = open_engine(path / "model.onnx")
        except Exception:  # noqa: BLE001 - both libraries raise bare Exception for a bad file
            raise CacheError(
                Kind.CORRUPT,
                f"the engine at {path} cannot be loaded: remove it and run cachesvc compile-model",
            ) from None
        self._sight = Sight(
            tokenizer,
            prefix=options.prefix,
            window_tokens=options.window_tokens,
            max_text_length=options.max_text_length,
        )
        self._slots = Slots(options.concurrency)

    @property
    def fingerprint(self) -> str:
        """See ``Embedder.fingerprint``."""
        return self._options.fingerprint

    @property
    def dimension(self) -> int:
        """See ``Embedder.dimension``."""
        return self._options.dimension

    def embed(self, text: str, wait_s: float) -> Vector | Unseen:
        """See ``Embedder.embed``."""
        ids = self._sight.read(text)
        if isinstance(ids, Unseen):
            return ids
        if not self._slots.acquire(wait_s):
            raise CacheError(Kind.OVERLOADED, "no inference slot was free in time")
        try:
            vector: Vector = self._session.run(None, {_INPUT: np.array([ids], dtype=np.int64)})[0][0]
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common base
            raise CacheError(Kind.UNAVAILABLE, f"inference failed: {type(error).__name__}") from None
        finally:
            self._slots.release()
        if not np.isfinite(vector).all():
            raise CacheError(Kind.UNAVAILABLE, "inference gave a vector that is not finite")
        return vector
