"""Fewer operators, the same vector: what the compiler does to the graphs of models that it may be given."""

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, BertConfig, BertTokenizerFast, MPNetConfig, RobertaConfig  # type: ignore[attr-defined]  # it makes its names when they are asked for

from cachesvc.adapters.onnx_compiler import export, fused, quantised
from cachesvc.adapters.onnx_fusion import fuse
from cachesvc.adapters.onnx_runtime import open_engine, write_engine

pytestmark = pytest.mark.slow

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


# By model, and how many of its attentions are known.
KINDS: tuple[tuple[Any, int], ...] = (
    (BertConfig(**SMALL), LAYERS),
    (RobertaConfig(**SMALL, pad_token_id=0), LAYERS),  # positions made from the ids
    (BertConfig(**SMALL, is_decoder=True), 0),  # a mask that is not zero, which stays
    (MPNetConfig(**SMALL), 0),  # relative positions, which are left alone
)


class Towers(torch.nn.Module):  # type: ignore[misc]  # torch is not read by mypy
    """Small models with random weights side by side: to export one takes as long as to export all."""

    max_seq_length = WINDOW_TOKENS

    def __init__(self, directory: Path) -> None:
        super().__init__()
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{n}" for n in range(123))]
        (directory / "vocab.txt").write_text("\n".join(words))
        self.tokenizer = BertTokenizerFast(str(directory / "vocab.txt"))
        torch.manual_seed(20)
        self.models = torch.nn.ModuleList(
            AutoModel.from_config(config, attn_implementation="eager")  # type: ignore[no-untyped-call]  # the library's
            for config, _ in KINDS
        )

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The first token of each and the mean of each, all side by side."""
        states = torch.cat([model(**features).last_hidden_state for model in self.models], dim=2)
        pooled = torch.cat([states[:, 0], states.mean(dim=1)], dim=1)
        return {"sentence_embedding": pooled}


def vectors(engine: Path) -> NDArray[np.float32]:
    """Of texts of every length."""
    session = open_engine(engine)
    generator = np.random.default_rng(20)
    ids = [generator.integers(5, 128, (1, length)) for length in range(2, WINDOW_TOKENS + 1)]
    return np.stack([session.run(None, {"input_ids": text})[0][0] for text in ids])


def by_model(all_side_by_side: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector of each model at each length, of unit norm, so that none hides behind another."""
    each = all_side_by_side.reshape(-1, 2 * len(KINDS), SMALL["hidden_size"])
    unit: NDArray[np.float32] = each / np.linalg.norm(each, axis=2, keepdims=True)
    return unit


def operators(graph: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of all kinds."""
    directory = tmp_path_factory.mktemp("fusion")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, which the compiler's process ignores too
        transformer = SentenceTransformer(modules=[Towers(directory)], device="cpu").eval()
        export(transformer, directory / "exported.onnx")
    return directory / "exported.onnx"


def test_a_fused_graph_gives_the_vector_of_the_exported_one(exported: Path, tmp_path: Path) -> None:
    """At every length, in fp32 to rounding and in int8 nearly; attention that is not known is left as it was."""
    attentions = sum(known for _, known in KINDS)
    assert fuse(exported, tmp_path / "counted.onnx", window_tokens=WINDOW_TOKENS) == attentions
    graph = fused(exported, WINDOW_TOKENS)
    assert graph != exported
    write_engine(graph, tmp_path / "fp32.engine")
    write_engine(quantised(graph), tmp_path / "int8.engine")
    whole = vectors(exported)
    assert np.abs(np.linalg.norm(whole, axis=1) - 1).max() < 1e-5
    truth = by_model(whole)
    np.testing.assert_allclose(by_model(vectors(tmp_path / "fp32.engine")), truth, atol=1e-5)
    assert (by_model(vectors(tmp_path / "int8.engine")) * truth).sum(axis=2).min() > 0.98
    assert operators(graph)["Attention"] == attentions
    assert operators(graph)["Softmax"] == len(KINDS) * LAYERS - attentions
    assert operators(tmp_path / "int8.engine")["QAttention"] == attentions


def test_a_graph_that_cannot_be_fused_is_left_as_exported(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where a model says that it takes longer texts than it has positions for: shorter ones still work."""
    assert fused(exported, 2 * WINDOW_TOKENS) == exported
    assert "left as exported" in capsys.readouterr().out
