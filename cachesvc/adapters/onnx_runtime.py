"""onnxruntime, without its telemetry: import it from here and from nowhere else.

Since 1.29 its official builds report every process, session and model to Microsoft, on Linux too, and write a
device id below the home directory. The switch counts only when it is set before the library is loaded, and for
what the API's own switch would let through as well (its Privacy.md; onnxruntime pull request 29843).
"""

import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # noqa: TID251 - not a setting: nobody may turn it on

import onnxruntime  # after the switch

__all__ = ["onnxruntime", "open_engine", "write_engine"]

# Measured: the fused operator takes two to three times what Add and LayerNormalization take together.
_SLOWER_FUSED = ["SkipLayerNormFusion"]
# Weights of a megabyte or more stand in a file beside the graph, which is mapped: no copy of them is made, and
# processes share them.
_OUTSIDE_FROM_BYTES = 1 << 20


def open_engine(path: Path) -> onnxruntime.InferenceSession:
    """The engine at ``path``, which runs each inference on the caller's thread. Raises what onnxruntime raises.

    The graph is run as it was written: optimising it once more would undo what ``write_engine`` chose.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def write_engine(graph: Path, path: Path) -> None:
    """Optimise a graph for any processor and write what ``open_engine`` runs, and ``path.weights`` beside it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    for name, value in (("file_name", f"{path.name}.weights"), ("min_size_in_bytes", _OUTSIDE_FROM_BYTES)):
        options.add_session_config_entry(f"session.optimized_model_external_initializers_{name}", str(value))
    onnxruntime.InferenceSession(
        str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER_FUSED
    )
