"""SentenceTransformer → ONNX engine: the program that ``engine_cache`` runs in a subprocess.

Only the compilers and ``sbert_embedder`` import torch; the serving process never does.
The graph takes the token ids of one text, unpadded, and gives its unit vector: pooling and
normalisation are part of it. ``onnx_fusion`` makes its operators fewer; a graph that would give other
vectors for it is left as it was exported. Weights are quantised to int8 per channel with a reduced range, which
does not saturate on processors without VNNI (what that costs in quality: ``make bench-quality``);
activations are quantised per tensor at run time, which is why texts are never batched.
What comes out is compared with what went in, and nothing is written unless it agrees.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from cachesvc.adapters.compiling import export_graph, step, write_tokenizer
from cachesvc.adapters.engine_cache import RECIPE_VERSION, Manifest, write_manifest
from cachesvc.adapters.model_files import fetched_directory, model_digest
from cachesvc.adapters.onnx_fusion import fuse, telling_lengths
from cachesvc.adapters.onnx_runtime import open_engine, write_engine

_INPUT = "input_ids"
_SAMPLES = (
    "hello",
    "How do I reset my password?",
    "Convert 5 kilometres to miles.",
    "My card payment has been pending since Monday; when will the shop receive the money?",
    "Summarise the following text in one sentence. " * 12,
)
_MIN_COSINE_FUSED = 0.99999
# Measured on MiniLM-L6: fp32 1.0000; int8 0.965 at worst of 8,000 texts.
_MIN_COSINE = {"fp32": 0.9999, "int8": 0.95}


def main() -> int:
    """``python -m cachesvc.adapters.onnx_compiler MODEL int8|fp32 OUT``"""
    model, precision, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    warnings.filterwarnings("ignore")
    step("loading the model")
    directory = fetched_directory(model)
    transformer = loaded(directory)
    step("exporting to ONNX")
    graph = out / "exported.onnx"
    export(transformer, graph)
    step("fusing operators")
    graph = fused(graph, transformer.max_seq_length)
    if precision == "int8":
        step("quantising to int8")
        graph = quantised(graph)
    write_engine(graph, out / "model.onnx")
    for made in ("exported", "fused", "quantised"):
        (out / f"{made}.onnx").unlink(missing_ok=True)
    tokenizer = write_tokenizer(transformer.tokenizer, out)
    step("comparing with the original")
    prefix = transformer.prompts.get(transformer.default_prompt_name or "", "")
    _compare(transformer, tokenizer, prefix, out / "model.onnx", _MIN_COSINE[precision])
    digest = model_digest(directory)
    manifest = Manifest(
        fingerprint=f"onnx-{precision}-r{RECIPE_VERSION}:{digest[:32]}",
        dimension=transformer.get_embedding_dimension(),
        window_tokens=transformer.max_seq_length,
        prefix=prefix,
    )
    write_manifest(out, manifest, model, precision, digest)
    step("done")
    return 0


def loaded(directory: Path) -> Any:
    """The SentenceTransformer in a directory, with its attention spelled out so that it can be exported."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - heavy; this process only

    transformer = SentenceTransformer(
        str(directory), device="cpu", trust_remote_code=False, model_kwargs={"attn_implementation": "eager"}
    )
    return transformer.eval()


def export(transformer: Any, path: Path) -> None:
    """Write a SentenceTransformer as it is: the ids of one text to its unit vector."""
    import torch  # noqa: PLC0415 - heavy; this process only

    class Unit(torch.nn.Module):  # type: ignore[misc]  # torch is not read by mypy
        def __init__(self) -> None:
            super().__init__()
            self.modules_in_order = transformer
            self.is_unit = type(transformer[-1]).__name__ == "Normalize"

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            features = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
            for module in self.modules_in_order:
                features = module(features)
            embedding: torch.Tensor = features["sentence_embedding"]
            return embedding if self.is_unit else torch.nn.functional.normalize(embedding, dim=-1)

    example = transformer.tokenizer(["an example of some words"], return_tensors="pt")["input_ids"]
    export_graph(Unit(), {_INPUT: example}, "unit_vector", path, transformer.max_seq_length)


def fused(exported: Path, window_tokens: int) -> Path:
    """The graph with fewer operators; the exported one where that cannot be run or gives another vector."""
    target = exported.with_name("fused.onnx")
    try:
        count = fuse(exported, target, window_tokens=window_tokens)
        before, after = open_engine(exported), open_engine(target)
        for length in telling_lengths(window_tokens):
            ids = {_INPUT: np.random.default_rng(length).integers(0, 100, (1, length))}
            cosine = float(before.run(None, ids)[0][0] @ after.run(None, ids)[0][0])
            if not cosine >= _MIN_COSINE_FUSED:
                step(f"fused operators give another vector (cosine {cosine:.6f}): left as exported")
                return exported
    except Exception as error:  # noqa: BLE001 - onnxruntime's have no common base, and a graph may be anything
        step(f"operators cannot be fused, or not run then ({type(error).__name__}): left as exported")
        return exported
    step(f"attentions fused: {count}")
    return target


def quantised(source: Path, *, per_channel: bool = True, reduce_range: bool = True) -> Path:
    """The graph with int8 weights; what is said of them above are the defaults."""
    from onnx import TensorProto  # noqa: PLC0415 - this process only
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - this process only

    target = source.with_name("quantised.onnx")
    quantize_dynamic(
        source,
        target,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
        reduce_range=reduce_range,
        op_types_to_quantize=["MatMul", "Gemm", "Attention"],
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    return target


def _compare(transformer: Any, tokenizer: Any, prefix: str, path: Path, min_cosine: float) -> None:
    session = open_engine(path)
    for text in _SAMPLES:
        ids = tokenizer.encode(prefix + text).ids[: transformer.max_seq_length]
        ours = session.run(None, {_INPUT: np.array([ids], dtype=np.int64)})[0][0]
        theirs = transformer.encode(text, normalize_embeddings=True)
        cosine = float(ours @ theirs)
        if not cosine >= min_cosine:
            raise SystemExit(
                f"the compiled engine differs from the model (cosine {cosine:.4f}, at least {min_cosine} "
                "is needed): set embedder.precision = 'fp32' or embedder.engine = 'sentence-transformers'"
            )


if __name__ == "__main__":
    raise SystemExit(main())
