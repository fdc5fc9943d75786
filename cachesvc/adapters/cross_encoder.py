"""A compiled cross-encoder: two texts read together by one model, on onnxruntime. No torch."""

import numpy as np
import tokenizers
from numpy.typing import NDArray

from cachesvc.adapters.engine_cache import Engine
from cachesvc.adapters.onnx_runtime import open_engine

PRECISION = "pair-fp32"
"""What such engines are kept under."""


class CrossEncoder:
    """Judges pairs; each call runs on its caller's thread. Pairs past the model's window it cannot judge."""

    def __init__(self, engine: Engine) -> None:
        self._session = open_engine(engine.path / "model.onnx")
        self._tokenizer = tokenizers.Tokenizer.from_file(str(engine.path / "tokenizer.json"))
        self._window_tokens = engine.manifest.window_tokens

    def __call__(self, query: str, candidate: str, wait_s: float) -> float:
        """The probability that the answer to one answers the other. Raises ValueError."""
        encoded = self._tokenizer.encode(query, candidate)
        if len(encoded.ids) > self._window_tokens:
            raise ValueError("the two texts are longer than the cross-encoder can see")
        try:
            (logits,) = self._session.run(
                None,
                {
                    "input_ids": np.array([encoded.ids], np.int64),
                    "token_type_ids": np.array([encoded.type_ids], np.int64),
                },
            )
        except Exception as error:  # noqa: BLE001 - onnxruntime's have no common base
            raise ValueError(f"inference failed: {type(error).__name__}") from None
        return probability(logits[0])


def probability(logits: NDArray[np.float32]) -> float:
    """Of yes: the logistic function of one logit, or the softmax of two, of which the second is yes."""
    margin = float(logits[0]) if len(logits) == 1 else float(logits[1] - logits[0])
    if not np.isfinite(margin):
        raise ValueError("the cross-encoder gave no finite logit")
    return 1.0 / (1.0 + float(np.exp(-min(max(margin, -700.0), 700.0))))
