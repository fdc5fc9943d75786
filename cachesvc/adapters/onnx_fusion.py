"""Fewer operators for the same vector: what ``onnx_compiler`` does to an exported graph before it quantises it.

Two passes, each of which changes nothing where it does not recognise what it sees:

- Terms that hang on the text's length alone are looked at, not computed at every run. An engine is given one
  text without padding, so an attention mask is all zeros and a pooling mask all ones: those go. What has
  a row per token (positions, token types) becomes one table.
- The operators of one self-attention become one ``Attention`` (com.microsoft), which takes the three
  projections as one matrix and needs no transposed copies.

Attention that is anything else (relative positions, rotations, a sliding window) stays as it was exported.
Imported by the compiler and by the benches, never by the serving process.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cachesvc.adapters.onnx_runtime import onnxruntime

_CONTRIBUTED = "com.microsoft"
_SWAP_HEADS = [0, 2, 1, 3]
_SWAP_HEADS_TRANSPOSED = [0, 2, 3, 1]


def fuse(source: Path, target: Path, *, window_tokens: int) -> int:
    """Write ``source`` with fewer operators to ``target``; how many attentions were fused.

    The graph takes the token ids of one text, of shape [1, 2 … window_tokens].
    """
    model = onnx.load(source)
    fused = 0
    if not any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        _fold_lengths(model, window_tokens)
        fused = _fuse_attentions(model)
    onnx.save(model, target)
    return fused


def telling_lengths(window_tokens: int) -> list[int]:
    """A few lengths of a text, in tokens, that show what a graph does at all of them."""
    return sorted({2, 3, (2 + window_tokens) // 2, window_tokens})


@dataclass(frozen=True, slots=True)
class _Term:
    """``node`` combines ``kept`` with ``other``, whose value hangs on the text's length alone."""

    node: onnx.NodeProto
    kept: str
    other: str


@dataclass(frozen=True, slots=True)
class _Table:
    """What is added to the n-th token: row n of ``rows`` [1, window, width]."""

    kept: str
    rows: NDArray[np.float32]


def _fold_lengths(model: onnx.ModelProto, window_tokens: int) -> None:
    """Bypass each Add of zeros and Mul by ones; make each other term that has a row per token a table."""
    graph = model.graph
    terms = list(_terms(graph))
    neutral, tables = _judge(model, terms, window_tokens) if terms else ([], {})
    for term in reversed(neutral):  # the last first, so that each finds its ``kept`` still there
        _replace_uses(graph, term.node.output[0], term.kept)
    if tables:
        length = helper.make_node("Shape", [graph.input[0].name], ["text_length"], start=1, end=2)
        graph.initializer.extend(
            [_ints("first_row", [0]), _ints("row_axis", [1])],
        )
        graph.node.insert(0, length)
    for output, table in tables.items():
        name = f"{output}.rows"
        graph.initializer.append(numpy_helper.from_array(table.rows, f"{name}.table"))
        cut = helper.make_node("Slice", [f"{name}.table", "first_row", "text_length", "row_axis"], [name])
        _replace_maker(graph, output, [cut, helper.make_node("Add", [table.kept, name], [output])])
    _drop_unused(graph)


def _terms(graph: onnx.GraphProto) -> Iterator[_Term]:
    """Adds and Muls of what the ids make and what their number alone makes, in the graph's order."""
    constants = {value.name for value in graph.initializer}
    by_ids, by_length = {graph.input[0].name}, set[str]()
    for node in graph.node:
        if node.op_type != "Shape" and not by_ids.isdisjoint(node.input):
            by_ids.update(node.output)
        elif node.op_type != "Shape" and constants.issuperset(filter(None, node.input)):
            constants.update(node.output)
        else:
            by_length.update(node.output)
    results = {value.name for value in graph.output}
    for node in graph.node:
        if node.op_type in ("Add", "Mul") and results.isdisjoint(node.output):
            for kept, other in (node.input, reversed(node.input)):
                if kept in by_ids and other in by_length:
                    yield _Term(node, kept, other)


def _judge(
    model: onnx.ModelProto, terms: Sequence[_Term], window_tokens: int
) -> tuple[list[_Term], dict[str, _Table]]:
    """The terms that change nothing, and by the name of their sum those that are tables."""
    # A longer text's mask and rows hold the shorter ones'.
    lengths = telling_lengths(window_tokens)
    runs = _run_at(model, terms, lengths)
    neutral: list[_Term] = []
    tables: dict[str, _Table] = {}
    for term in terms:
        others = {length: values[term.other] for length, values in runs.items()}
        shapes = {length: values[term.kept].shape for length, values in runs.items()}
        widest = others[lengths[-1]]
        if any(
            np.broadcast_shapes(shapes[length], other.shape) != shapes[length]
            for length, other in others.items()
        ):
            continue
        if all((other == (term.node.op_type == "Mul")).all() for other in others.values()):
            neutral.append(term)
        elif term.node.op_type == "Add" and all(
            other.ndim == 3 and np.array_equal(other, widest[:, :length]) for length, other in others.items()
        ):
            # Two tables in a row are one.
            before = tables.pop(term.kept, None) if _uses(model.graph, term.kept) == 1 else None
            kept, rows = (term.kept, widest) if before is None else (before.kept, before.rows + widest)
            tables[term.node.output[0]] = _Table(kept, rows)
    return neutral, tables


def _run_at(
    model: onnx.ModelProto, terms: Sequence[_Term], lengths: Sequence[int]
) -> dict[int, dict[str, NDArray[np.float32]]]:
    """By length of a text the values of the terms."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    wanted = sorted({name for term in terms for name in (term.kept, term.other)})
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    ids = {length: np.zeros((1, length), dtype=np.int64) for length in lengths}
    name = model.graph.input[0].name
    return {n: dict(zip(wanted, session.run(wanted, {name: ids[n]}), strict=True)) for n in lengths}


@dataclass(frozen=True, slots=True)
class _Projection:
    """``source`` times ``weight`` [in, out] plus ``bias``, cut into heads."""

    source: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    heads: int


@dataclass(frozen=True, slots=True)
class _Attention:
    """Self-attention over ``source``: softmax(scale · Q Kᵀ) V, heads side by side in ``output``."""

    query: _Projection
    key: _Projection
    value: _Projection
    scale: float
    output: str


def _fuse_attentions(model: onnx.ModelProto) -> int:
    graph = _Graph(model.graph)
    found = [one for node in model.graph.node if (one := graph.attention_of(node)) is not None]
    for one in found:
        _put(model.graph, one)
    if found and all(opset.domain != _CONTRIBUTED for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_CONTRIBUTED, 1))
    _drop_unused(model.graph)
    return len(found)


class _Graph:
    """Looks for attention in a graph. Every method gives None for what it does not recognise."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._constants = {value.name: value for value in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._users[name].append(node)

    def attention_of(self, softmax: onnx.NodeProto) -> _Attention | None:
        """The attention whose weights a Softmax makes."""
        if softmax.op_type != "Softmax" or _attribute(softmax, "axis", -1) not in (-1, 3):
            return None
        scale, scores = self._scale_and_scores(softmax.input[0])
        context = self._only_user(softmax.output[0], "MatMul")
        if scores is None or context is None or context.input[0] != softmax.output[0]:
            return None
        query = self._projection(scores.input[0], _SWAP_HEADS)
        key = self._projection(scores.input[1], _SWAP_HEADS_TRANSPOSED)
        value = self._projection(context.input[1], _SWAP_HEADS)
        output = self._joined_heads(context)
        if query is None or key is None or value is None or output is None:
            return None
        same = all(
            (one.source, one.heads, one.weight.shape) == (query.source, query.heads, query.weight.shape)
            for one in (key, value)
        )
        return _Attention(query, key, value, scale, output) if same else None

    def _scale_and_scores(self, name: str) -> tuple[float, onnx.NodeProto | None]:
        """What the scores are multiplied by, and the MatMul that makes them."""
        node = self._makers.get(name)
        scale = 1.0
        if node is not None and node.op_type in ("Mul", "Div"):
            factor = self._constant(node.input[1])
            if factor is None or factor.size != 1 or not factor.any():
                return scale, None
            scale = float(factor.item()) if node.op_type == "Mul" else 1 / float(factor.item())
            node = self._makers.get(node.input[0])
        return scale, node if node is not None and node.op_type == "MatMul" else None

    def _projection(self, name: str, permutation: list[int]) -> _Projection | None:
        transpose = self._makers.get(name)
        if transpose is None or transpose.op_type != "Transpose":
            return None
        reshape = self._makers.get(transpose.input[0])
        if _attribute(transpose, "perm", None) != permutation or reshape is None:
            return None
        shape = self._constant(reshape.input[1]) if reshape.op_type == "Reshape" else None
        add = self._makers.get(reshape.input[0])
        if shape is None or shape.size != 4 or add is None or add.op_type != "Add":
            return None
        for product, term in (add.input, reversed(add.input)):
            matmul, bias = self._makers.get(product), self._constant(term)
            if matmul is None or matmul.op_type != "MatMul" or bias is None or bias.ndim != 1:
                continue
            weight = self._constant(matmul.input[1])
            heads, width = int(shape[2]), int(shape[3])
            if weight is not None and weight.ndim == 2 and weight.shape[1] == bias.size == heads * width:
                return _Projection(matmul.input[0], weight, bias, heads)
        return None

    def _joined_heads(self, context: onnx.NodeProto) -> str | None:
        transpose = self._only_user(context.output[0], "Transpose")
        if transpose is None or _attribute(transpose, "perm", None) != _SWAP_HEADS:
            return None
        reshape = self._only_user(transpose.output[0], "Reshape")
        shape = None if reshape is None else self._constant(reshape.input[1])
        if reshape is None or shape is None or shape.size != 3:
            return None
        joined: str = reshape.output[0]
        return joined

    def _only_user(self, name: str, op_type: str) -> onnx.NodeProto | None:
        users = self._users[name]
        return users[0] if len(users) == 1 and users[0].op_type == op_type else None

    def _constant(self, name: str) -> NDArray[np.float32] | None:
        held = self._constants.get(name)
        return None if held is None else numpy_helper.to_array(held)


def _put(graph: onnx.GraphProto, found: _Attention) -> None:
    """Make ``found.output`` by one Attention, where its old maker stood."""
    parts = (found.query, found.key, found.value)
    weight = numpy_helper.from_array(
        np.concatenate([part.weight for part in parts], axis=1), f"{found.output}.projections"
    )
    bias = numpy_helper.from_array(np.concatenate([part.bias for part in parts]), f"{found.output}.biases")
    graph.initializer.extend([weight, bias])
    node = helper.make_node(
        "Attention",
        [found.query.source, weight.name, bias.name],
        [found.output],
        name=f"{found.output}.attention",
        domain=_CONTRIBUTED,
        num_heads=found.query.heads,
        scale=found.scale,
    )
    _replace_maker(graph, found.output, [node])


def _replace_maker(graph: onnx.GraphProto, output: str, makers: Sequence[onnx.NodeProto]) -> None:
    """Let ``makers`` stand where what makes ``output`` stood."""
    place = next(n for n, node in enumerate(graph.node) if output in node.output)
    del graph.node[place]
    for node in reversed(makers):
        graph.node.insert(place, node)


def _replace_uses(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for n, name in enumerate(node.input):
            if name == old:
                node.input[n] = new


def _uses(graph: onnx.GraphProto, name: str) -> int:
    return sum(name in node.input for node in graph.node)


def _ints(name: str, values: Sequence[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove what no output hangs on."""
    used = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):  # users stand after makers
        if used.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            used.update(node.input)
    for value in list(graph.initializer):
        if value.name not in used:
            graph.initializer.remove(value)
    del graph.value_info[:]


def _attribute(node: onnx.NodeProto, name: str, default: object) -> object:
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)
