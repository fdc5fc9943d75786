"""Cross-encoder → ONNX engine: the program that ``engine_cache`` runs in a subprocess, as it does ``onnx_compiler``.

The graph takes the token ids and types of one pair, unpadded, and gives its logits. What comes out is compared with
what went in, and nothing is written unless it agrees.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from cachesvc.adapters.compiling import export_graph, step, write_tokenizer
from cachesvc.adapters.cross_encoder import PRECISION, probability
from cachesvc.adapters.engine_cache import RECIPE_VERSION, Manifest, write_manifest
from cachesvc.adapters.model_files import fetched_directory, model_digest
from cachesvc.adapters.onnx_runtime import open_engine, write_engine

_SAMPLES = (
    ("How do I reset my password?", "How can I reset the password?"),
    ("turn on dark mode", "turn off dark mode"),
    ("flights from Rome to Paris", "What is the capital of France?" * 8),
)
_MAX_DIFFERENCE = 1e-3


def main() -> int:
    """``python -m cachesvc.adapters.cross_encoder_compiler MODEL pair-fp32 OUT``"""
    model, out = sys.argv[1], Path(sys.argv[3])
    warnings.filterwarnings("ignore")
    step("loading the model")
    directory = fetched_directory(model)
    encoder = _loaded(directory)
    labels = int(encoder.config.num_labels)
    if labels not in (1, 2):
        raise SystemExit(
            f"it has {labels} labels: a cross-encoder for verifier.model has one, or two of which the second is yes"
        )
    step("exporting to ONNX")
    _export(encoder, out / "exported.onnx")
    write_engine(out / "exported.onnx", out / "model.onnx")
    (out / "exported.onnx").unlink()
    tokenizer = write_tokenizer(encoder.tokenizer, out)
    step("comparing with the original")
    _compare(encoder, tokenizer, out / "model.onnx")
    digest = model_digest(directory)
    manifest = Manifest(
        fingerprint=f"{PRECISION}-r{RECIPE_VERSION}:{digest[:32]}",
        dimension=labels,
        window_tokens=_window_tokens(encoder),
        prefix="",
    )
    write_manifest(out, manifest, model, PRECISION, digest)
    step("done")
    return 0


def _loaded(directory: Path) -> Any:
    from sentence_transformers import CrossEncoder  # noqa: PLC0415 - heavy; this process only

    return CrossEncoder(
        str(directory), device="cpu", trust_remote_code=False, model_kwargs={"attn_implementation": "eager"}
    )


def _window_tokens(encoder: Any) -> int:
    return int(min(encoder.tokenizer.model_max_length, encoder.config.max_position_embeddings))


def _export(encoder: Any, path: Path) -> None:
    import torch  # noqa: PLC0415 - heavy; this process only

    class Logits(torch.nn.Module):  # type: ignore[misc]  # torch is not read by mypy
        def __init__(self) -> None:
            super().__init__()
            self.model = encoder.model
            self.takes_types = "token_type_ids" in encoder.tokenizer.model_input_names

        def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
            types = {"token_type_ids": token_type_ids} if self.takes_types else {}
            mask = torch.ones_like(input_ids)
            logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=mask, **types).logits
            # Where the model has no types, so that the graph has the input all the same.
            return logits + 0.0 * token_type_ids.sum()

    example = encoder.tokenizer([("an example", "of two texts")], return_tensors="pt")
    ids = example["input_ids"]
    types = example.get("token_type_ids", torch.zeros_like(ids))
    examples = {"input_ids": ids, "token_type_ids": types}
    export_graph(Logits(), examples, "logits", path, _window_tokens(encoder))


def _compare(encoder: Any, tokenizer: Any, path: Path) -> None:
    session = open_engine(path)
    for query, candidate in _SAMPLES:
        encoded = tokenizer.encode(query, candidate)
        if len(encoded.ids) > _window_tokens(encoder):
            continue
        ours = session.run(
            None,
            {
                "input_ids": np.array([encoded.ids], np.int64),
                "token_type_ids": np.array([encoded.type_ids], np.int64),
            },
        )[0][0]
        inputs = encoder.tokenizer([(query, candidate)], return_tensors="pt")
        theirs = encoder.model(**inputs).logits[0].detach().numpy()
        difference = abs(probability(ours) - probability(theirs))
        if not difference <= _MAX_DIFFERENCE:
            raise SystemExit(
                f"the compiled cross-encoder differs from the model by {difference:.4f} (at most {_MAX_DIFFERENCE})"
            )


if __name__ == "__main__":
    raise SystemExit(main())
