"""One candidate of ``bench.engines`` in a process of its own: ``python -m bench.engine_child KIND FILE``.

Reads a JSON list of token ids a line; runs it and answers with the CPU time in µs of each run, the vector of
the last and the process's memory. A process each, so that no candidate's memory counts for another.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cachesvc.adapters.onnx_runtime import onnxruntime, open_engine

Encode = Callable[[Sequence[int]], NDArray[np.float32]]
# The first run after another candidate's turn finds its weights pushed out of the caches, and is not counted.
RUNS = 6


def main() -> None:
    kind, file = sys.argv[1], Path(sys.argv[2])
    encode: Encode = {
        "written": _written,
        "default": _default,
        "openvino": _openvino,
        "ctranslate2": _ctranslate2,
    }[kind](file)
    for line in sys.stdin:
        ids = json.loads(line)
        times_us = []
        for _ in range(RUNS):
            began_ns = time.process_time_ns()
            vector = encode(ids)
            times_us.append((time.process_time_ns() - began_ns) / 1e3)
        answer = {"times_us": times_us[1:], "vector": vector.tolist(), "memory_mib": _memory_mib()}
        print(json.dumps(answer), flush=True)


def _written(file: Path) -> Encode:
    """As the service runs it."""
    return _session(open_engine(file))


def _default(file: Path) -> Encode:
    """As onnxruntime runs a graph when it is told nothing else, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return _session(onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]))


def _session(session: Any) -> Encode:
    def encode(ids: Sequence[int]) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = session.run(None, {"input_ids": np.array([ids], dtype=np.int64)})[0][0]
        return vector

    return encode


def _openvino(file: Path) -> Encode:
    import openvino  # noqa: PLC0415 - only where this candidate is measured

    told = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    request = openvino.Core().compile_model(file, "CPU", told).create_infer_request()

    def encode(ids: Sequence[int]) -> NDArray[np.float32]:
        return np.array(request.infer([np.array([ids], dtype=np.int64)], share_inputs=True)[0][0])

    return encode


def _ctranslate2(file: Path) -> Encode:
    import ctranslate2  # noqa: PLC0415 - only where this candidate is measured

    encoder = ctranslate2.Encoder(str(file), device="cpu", intra_threads=1, inter_threads=1)

    def encode(ids: Sequence[int]) -> NDArray[np.float32]:
        states = np.asarray(encoder.forward_batch([list(ids)]).last_hidden_state)[0].mean(axis=0)
        vector: NDArray[np.float32] = states / np.linalg.norm(states)
        return vector

    return encode


def _memory_mib() -> float:
    """What is resident but not mapped from files."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
