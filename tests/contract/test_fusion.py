"""Fewer operators, the same vector: what the compiler does to the graphs of models that it may be given."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import AutoModel, BertConfig, BertTokenizerFast, MPNetConfig, RobertaConfig  # type: ignore[attr-defined]  # it makes its names when they are asked for

from cachesvc.adapters.onnx_compiler import export, fused, loaded, quantised
from cachesvc.adapters.onnx_fusion import fuse
from cachesvc.adapters.onnx_runtime import open_engine, write_engine

WINDOW_TOKENS = 24
LAYERS = 1
SMALL: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": WINDOW_TOKENS + 8,
}


def saved(directory: Path, config: Any, pooling: str) -> Path:
    """A small SentenceTransformer with random weights, on disk."""
    torch.manual_seed(20)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{n}" for n in range(123))]
    (directory / "vocab.txt").write_text("\n".join(words))
    AutoModel.from_config(config).save_pretrained(directory / "bare")  # type: ignore[no-untyped-call]  # the library's
    BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory / "bare")
    transformer = modules.Transformer(str(directory / "bare"), max_seq_length=WINDOW_TOKENS)
    pooled = modules.Pooling(SMALL["hidden_size"], pooling)
    SentenceTransformer(modules=[transformer, pooled], device="cpu").save(str(directory / "model"))
    return directory / "model"


def vectors(engine: Path) -> NDArray[np.float32]:
    """Of texts of every length."""
    session = open_engine(engine)
    generator = np.random.default_rng(20)
    ids = [generator.integers(5, 128, (1, length)) for length in range(2, WINDOW_TOKENS + 1)]
    return np.stack([session.run(None, {"input_ids": text})[0][0] for text in ids])


def operators(graph: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)


@pytest.mark.filterwarnings("ignore")  # the exporter's own, which the compiler's process ignores too
@pytest.mark.parametrize(
    ("config", "pooling", "attentions"),
    [
        pytest.param(BertConfig(**SMALL), "cls", LAYERS, id="BERT, first token"),
        pytest.param(
            RobertaConfig(**SMALL, pad_token_id=0), "mean", LAYERS, id="positions made from the ids"
        ),
        pytest.param(
            BertConfig(**SMALL, is_decoder=True), "mean", 0, id="a mask that is not zero, which stays"
        ),
        pytest.param(MPNetConfig(**SMALL), "mean", 0, id="relative positions, which are left alone"),
    ],
)
def test_a_fused_graph_gives_the_vector_of_the_exported_one(
    tmp_path: Path, config: Any, pooling: str, attentions: int
) -> None:
    """At every length, in fp32 to rounding and in int8 nearly; attention that is not known is left as it was."""
    transformer = loaded(saved(tmp_path, config, pooling))
    exported = tmp_path / "exported.onnx"
    export(transformer, exported)
    assert fuse(exported, tmp_path / "counted.onnx", window_tokens=WINDOW_TOKENS) == attentions
    graph = fused(exported, WINDOW_TOKENS)
    assert graph != exported
    write_engine(graph, tmp_path / "fp32.engine")
    write_engine(quantised(graph), tmp_path / "int8.engine")
    truth = vectors(exported)
    assert np.abs(np.linalg.norm(truth, axis=1) - 1).max() < 1e-5
    np.testing.assert_allclose(vectors(tmp_path / "fp32.engine"), truth, atol=1e-5)
    assert (vectors(tmp_path / "int8.engine") * truth).sum(axis=1).min() > 0.98
    assert operators(graph)["Attention"] == attentions
    assert operators(graph)["Softmax"] == LAYERS - attentions
    assert operators(tmp_path / "int8.engine")["QAttention"] == attentions
