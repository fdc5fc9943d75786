"""What the programs that compile models have in common. Each runs in a subprocess of ``engine_cache``, where torch is."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def step(name: str) -> None:
    """Tell the waiting process what is done now."""
    sys.stdout.write(f"step: {name}\n")
    sys.stdout.flush()


def export_graph(module: Any, examples: Mapping[str, Any], output: str, path: Path, max_length: int) -> None:
    """Write a torch module as a graph. ``examples``: its inputs by name, each (1, length) with any length up to
    ``max_length``.
    """
    import torch  # noqa: PLC0415 - heavy; this process only

    length = torch.export.Dim("length", min=2, max=max_length)
    with torch.no_grad():
        torch.onnx.export(
            module.eval(),
            tuple(examples.values()),
            str(path),
            input_names=list(examples),
            output_names=[output],
            dynamic_shapes=tuple({1: length} for _ in examples),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def write_tokenizer(tokenizer: Any, out: Path) -> Any:
    """Write the fast tokenizer inside one of transformers, without truncation and padding, and give it."""
    fast = tokenizer.backend_tokenizer
    fast.no_truncation()
    fast.no_padding()
    fast.save(str(out / "tokenizer.json"))
    return fast
