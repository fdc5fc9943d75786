"""How long a start takes, and what memory the process holds, empty and with its entries."""

import tempfile
from pathlib import Path

from bench import servers
from bench.calls import ask, say
from bench.prompts import variant
from bench.report import Figure, Measured
from bench.stage import Stage

_MIB = 1 << 20


def measure(stage: Stage) -> Measured:
    """Starts on an empty store and on the filled one; takes the machine for itself."""
    filling, entries = stage.filling(), stage.size.entries
    near = stage.ground().near[0]
    stage.close()
    say("starting on an empty store")
    with tempfile.TemporaryDirectory(dir=stage.directory) as directory:
        empty = _starts(servers.write_config(Path(directory)), variant(stage.prompts[0]), stage.size.starts)
    say("starting on the full store")
    full = _starts(stage.config, near, stage.size.starts)
    return Measured(
        [
            Figure("start to first answer, empty store", "s", empty, at_most=2.0),
            Figure(f"start to first semantic hit, {entries:,} entries", "s", full, at_most=2.0),
            *(Figure(f"{count:,} entries: semantic p50", "ms", [p50_ms]) for count, p50_ms in filling.growth),
            Figure("bulk load with embedding (BatchStore)", "/s", [entries / filling.took_s]),
            Figure("RSS idle", "MiB", [filling.idle.resident_bytes / _MIB]),
            Figure("RSS idle, without mapped files", "MiB", [filling.idle.anonymous_bytes / _MIB]),
            Figure(f"RSS with {entries:,} entries", "MiB", [filling.full.resident_bytes / _MIB]),
            Figure("RSS the same, without mapped files", "MiB", [filling.full.anonymous_bytes / _MIB]),
        ]
    )


def _starts(config: Path, first: str, count: int) -> list[float]:
    took_s = []
    for _ in range(count):
        with servers.cachesvc(config, ask(first)) as server:
            took_s.append(server.start_s)
    return took_s
