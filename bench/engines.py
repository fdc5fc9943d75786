"""Which engine embeds a text in the least time: ``python -m bench.engines [--quick]``.

The default model as each candidate runs it: CPU time a text by its length, how far its vectors are from
fp32's, and memory. Each candidate is a process; they take turns, and ratios are within one run. Candidates
whose package is missing are named and left out. What the shipped engine's quality is: ``bench.quality``.
"""

import argparse
import importlib.util
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from rich.console import Console
from rich.table import Table

from bench.prompts import load
from cachesvc.adapters.model_files import DEFAULT_MODEL, fetched_directory
from cachesvc.adapters.onnx_compiler import export, fused, loaded, quantised
from cachesvc.adapters.onnx_runtime import write_engine

LENGTHS = (5, 13, 20, 50, 128, 256)
FORMER, TRUTH = "int8, as exported (recipe 1)", "fp32, as exported"
# Compared with fp32, and what the fixed scales are calibrated on.
_PROMPTS, _QUICK_TEXTS = 200, 24
_BLOCK_WEIGHTS = 128


@dataclass(frozen=True, slots=True)
class Candidate:
    """``make`` writes the file, given the exported and the fused graph; ``package`` is what it takes besides ours."""

    name: str
    kind: str
    make: Callable[["Graphs"], Path]
    package: str | None = None


@dataclass(frozen=True, slots=True)
class Graphs:
    """What candidates are made of."""

    directory: Path
    exported: Path
    fused: Path
    calibration: Sequence[Sequence[int]]


@dataclass(slots=True)
class Measured:
    """Of one candidate: CPU times by length, cosines to fp32, memory."""

    times_us: dict[int, list[float]] = field(default_factory=dict)
    cosines: list[float] = field(default_factory=list)
    memory_mib: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and texts")
    quick = parser.parse_args().quick
    logging.disable(logging.WARNING)  # the quantisers' advice
    with tempfile.TemporaryDirectory(prefix="engines-") as directory, ExitStack() as running:
        transformer = loaded(fetched_directory(DEFAULT_MODEL))
        by_length, prompts = _texts(transformer)
        graphs = _graphs(transformer, Path(directory), prompts)
        children = {one.name: running.enter_context(_started(one, graphs)) for one in _available()}
        measured = {name: Measured() for name in children}
        for _ in range(2 if quick else 8):
            for length, ids in by_length.items():
                for name, child in children.items():
                    answer = _asked(child, ids)
                    measured[name].times_us.setdefault(length, []).extend(answer.times_us)
        _compare(children, measured, prompts[:_QUICK_TEXTS] if quick else prompts)
        for child in children.values():
            assert child.stdin is not None
            child.stdin.close()
    _print(measured)


def _texts(transformer: Any) -> tuple[dict[int, list[int]], list[list[int]]]:
    """Ids of a text of each length, and of prompts."""
    texts, _ = load(_PROMPTS)
    prompts: list[list[int]] = [transformer.tokenizer(text)["input_ids"] for text in texts]
    words = [token for ids in prompts for token in ids[1:-1]]
    by_length = {length: [prompts[0][0], *words[: length - 2], prompts[0][-1]] for length in LENGTHS}
    return by_length, prompts


def _graphs(transformer: Any, directory: Path, prompts: Sequence[Sequence[int]]) -> Graphs:
    exported = directory / "exported.onnx"
    export(transformer, exported)
    return Graphs(directory, exported, fused(exported, transformer.max_seq_length), prompts)


def _candidates() -> tuple[Candidate, ...]:
    return (
        Candidate(TRUTH, "default", lambda graphs: graphs.exported),
        Candidate(
            "fp32, fused (precision = fp32)", "written", lambda graphs: _written(graphs, graphs.fused, "fp32")
        ),
        Candidate(FORMER, "default", lambda graphs: _int8(graphs, graphs.exported, "former")),
        Candidate(
            "int8, as exported, written once",
            "written",
            lambda graphs: _written(graphs, _int8(graphs, graphs.exported, "plain"), "unfused"),
        ),
        Candidate(
            "int8, fused (precision = int8)",
            "written",
            lambda graphs: _written(graphs, _int8(graphs, graphs.fused, "fused"), "int8"),
        ),
        Candidate("the same, tanh for erf", "written", _tanh),
        Candidate(
            "the same, full range of weights",
            "written",
            lambda graphs: _written(graphs, _int8(graphs, graphs.fused, "full", reduce_range=False), "full"),
        ),
        Candidate(
            "the same, per tensor",
            "written",
            lambda graphs: _written(
                graphs, _int8(graphs, graphs.fused, "tensor", per_channel=False), "tensor"
            ),
        ),
        Candidate("int8, fixed scales (calibrated)", "default", _static),
        Candidate("8-bit weights in blocks", "default", lambda graphs: _blocks(graphs, 8)),
        Candidate("4-bit weights in blocks", "default", lambda graphs: _blocks(graphs, 4)),
        Candidate("OpenVINO, fp32", "openvino", lambda graphs: graphs.exported, "openvino"),
        Candidate("OpenVINO, int8 fixed scales", "openvino", _static, "openvino"),
        Candidate("CTranslate2, int8", "ctranslate2", _ctranslate2, "ctranslate2"),
    )


def _available() -> Iterator[Candidate]:
    for one in _candidates():
        if one.package is None or importlib.util.find_spec(one.package) is not None:
            yield one
        else:
            print(f"left out: {one.name} (needs {one.package})")


def _started(candidate: Candidate, graphs: Graphs) -> "subprocess.Popen[str]":
    file = candidate.make(graphs)
    command = [sys.executable, "-m", "bench.engine_child", candidate.kind, str(file)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a child said of one text."""

    times_us: list[float]
    vector: NDArray[np.float32]
    memory_mib: float


def _asked(child: "subprocess.Popen[str]", ids: Sequence[int]) -> _Answer:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(list(ids)) + "\n")
    child.stdin.flush()
    said = json.loads(child.stdout.readline())
    return _Answer(said["times_us"], np.array(said["vector"], dtype=np.float32), said["memory_mib"])


def _compare(
    children: dict[str, "subprocess.Popen[str]"],
    measured: dict[str, Measured],
    prompts: Sequence[Sequence[int]],
) -> None:
    for ids in prompts:
        truth = _asked(children[TRUTH], ids).vector
        for name, child in children.items():
            answer = _asked(child, ids)
            measured[name].cosines.append(float(answer.vector @ truth))
            measured[name].memory_mib = answer.memory_mib


def _int8(
    graphs: Graphs, source: Path, name: str, *, per_channel: bool = True, reduce_range: bool = True
) -> Path:
    made = quantised(source, per_channel=per_channel, reduce_range=reduce_range)
    return made.rename(graphs.directory / f"{name}-quantised.onnx")


def _written(graphs: Graphs, graph: Path, name: str) -> Path:
    path = graphs.directory / name / "model.onnx"
    path.parent.mkdir()
    write_engine(graph, path)
    return path


def _tanh(graphs: Graphs) -> Path:
    model = onnx.load(_int8(graphs, graphs.fused, "tanh"))
    for node in model.graph.node:
        if node.op_type == "Gelu":
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("approximate", "tanh"))
    path = graphs.directory / "tanh-graph.onnx"
    onnx.save(model, path)
    return _written(graphs, path, "tanh")


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is not read by mypy
    def __init__(self, prompts: Sequence[Sequence[int]]) -> None:
        self._feeds = iter([{"input_ids": np.array([ids], dtype=np.int64)} for ids in prompts])

    def get_next(self) -> dict[str, NDArray[np.int64]] | None:
        return next(self._feeds, None)


def _static(graphs: Graphs) -> Path:
    path = graphs.directory / "static.onnx"
    if not path.is_file():
        quantize_static(
            graphs.exported,
            path,
            _Calibration(graphs.calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            extra_options={"MatMulConstBOnly": True},
        )
    return path


def _blocks(graphs: Graphs, bits: int) -> Path:
    """Activations are quantised a row at a time (accuracy level 4), which no other int8 candidate here does."""
    told = DefaultWeightOnlyQuantConfig(
        block_size=_BLOCK_WEIGHTS, is_symmetric=True, accuracy_level=4, bits=bits
    )
    quantizer = MatMulNBitsQuantizer(onnx.load(graphs.exported), algo_config=told)
    quantizer.process()
    path = graphs.directory / f"blocks-{bits}.onnx"
    quantizer.model.save_model_to_file(str(path))
    return path


def _ctranslate2(graphs: Graphs) -> Path:
    from ctranslate2.converters import TransformersConverter  # noqa: PLC0415 - only where it is installed

    path = graphs.directory / "ctranslate2"
    TransformersConverter(str(fetched_directory(DEFAULT_MODEL))).convert(str(path), quantization="int8")
    return path


def _print(measured: dict[str, Measured]) -> None:
    table = Table(
        "engine",
        *(f"{length}" for length in LENGTHS),
        "÷ recipe 1",
        "cosine, mean",
        "least",
        "own memory",
        title="CPU µs a text by its tokens, medians",
    )
    former = {length: statistics.median(times) for length, times in measured[FORMER].times_us.items()}
    for name, one in measured.items():
        medians = {length: statistics.median(times) for length, times in one.times_us.items()}
        ratio = statistics.geometric_mean(medians[length] / former[length] for length in LENGTHS)
        table.add_row(
            name,
            *(f"{medians[length]:,.0f}" for length in LENGTHS),
            f"{ratio:.2f}",
            f"{statistics.mean(one.cosines):.4f}",
            f"{min(one.cosines):.4f}",
            f"{one.memory_mib:.0f} MiB",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
