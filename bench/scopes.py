"""Many small scopes: first touch, memory within its bound, unloading by least recent use.

``python -m bench.scopes [--scopes 50000] [--entries 20] [--publish]``. A real store on disk, real indexes, vectors of the
default model's size; the model itself is not asked. Prints a table.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.prompts import ROOT
from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.faiss_index import FaissIndex, row_bytes
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.events import Event, ScopesChanged
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Message, Payload, Request, Vector
from cachesvc.engine.views import Views

DIMENSION = 384
BATCH = 512
TOUCHES = 5_000
INDEX_BYTES = 256 << 20
RESULT = Path(__file__).parent / "results" / "scopes.md"


class Unloads:
    """An Observer that counts scopes that were unloaded."""

    def __init__(self) -> None:
        self.count = 0

    def on(self, event: Event) -> None:
        """See ``Observer.on``."""
        if isinstance(event, ScopesChanged):
            self.count += event.unloaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scopes", type=int, default=50_000)
    parser.add_argument("--entries", type=int, default=20)
    parser.add_argument("--publish", action="store_true")
    arguments = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)  # a disk, which the system's temporary directory may not be
    directory = Path(tempfile.mkdtemp(prefix="scopes-", dir=ROOT / "build"))
    try:
        table = measure(directory, arguments.scopes, arguments.entries)
    finally:
        shutil.rmtree(directory)
    print(table)
    if arguments.publish:
        RESULT.write_text(table)


def measure(directory: Path, scopes: int, entries: int) -> str:
    random = np.random.default_rng(7)
    pool = random.normal(size=(4096, DIMENSION)).astype(np.float32)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    options = StoreOptions(directory / "store", 1 << 36, 1 << 35, "async", 1024, 2048, 100_000)
    store = LmdbStore(options, "bench:1")
    began_s = time.monotonic()
    total = scopes * entries
    order = random.permutation(total)
    for first in range(0, total, BATCH):
        store.put([draft(int(n), entries, pool) for n in order[first : first + BATCH]], None)
        if first % (BATCH * 200) == 0:
            print(f"  {first:,} of {total:,} stored", file=sys.stderr)
    stored_s = time.monotonic() - began_s

    unloads = Unloads()
    views = Views(
        store,
        lambda scope: FaissIndex(DIMENSION),
        row_bytes=row_bytes(DIMENSION),
        max_bytes=INDEX_BYTES,
        clock=SystemClock(0),
        observer=unloads,
    )
    views.search(draft(0, entries, pool).identity.scope, pool[0], 5, None)
    before_bytes, first_ms, again_us, most_bytes = rss(), [], [], 0
    chosen = random.choice(scopes, size=min(TOUCHES * 4, scopes), replace=False)
    for n, scope_number in enumerate(chosen.tolist()):
        one = draft(scope_number * entries, entries, pool)
        vector = pool[n % len(pool)]
        first_ms.append(timed(views, one.identity.scope, vector) * 1e3)
        again_us.append(timed(views, one.identity.scope, vector) * 1e6)
        most_bytes = max(most_bytes, views.memory_bytes)
    held_bytes = rss() - before_bytes
    stats = store.stats()
    store.close()
    loaded = len(first_ms) - unloads.count
    return "\n".join(
        [
            "| figure | value | target |",
            "|---|---|---|",
            f"| scopes × entries | {scopes:,} × {entries} | |",
            f"| stored, {BATCH} a commit | {total / stored_s:,.0f} /s | |",
            f"| store's pages in use | {stats.used_bytes / total:,.0f} bytes an entry | |",
            f"| first touch of a scope, p50 | {np.percentile(first_ms, 50):.2f} ms | |",
            f"| first touch of a scope, p99 | {np.percentile(first_ms, 99):.2f} ms | < 10 ms |",
            f"| search of a loaded scope, p50 | {np.percentile(again_us, 50):.0f} µs | |",
            f"| scopes touched, unloaded again | {len(first_ms):,}, {unloads.count:,} | |",
            (
                f"| index memory by its own account, most | {most_bytes / (1 << 20):.0f} MiB | "
                f"≤ {INDEX_BYTES >> 20} MiB |"
            ),
            (
                f"| growth of the process | {held_bytes / (1 << 20):.0f} MiB, "
                f"{held_bytes / max(loaded, 1) / 1024:.1f} KiB a loaded scope | |"
            ),
            "",
        ]
    )


def draft(number: int, entries: int, pool: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Draft:
    scope_number = number // entries
    messages = (
        Message("system", f"You are assistant {scope_number}."),
        Message("user", f"question {number}"),
    )
    identity = identify(Request("default", messages, "m", {}), "bench:1")
    vector: Vector = pool[number % len(pool)]
    return Draft(identity, Payload(b"r" * 200), identity.text, vector, number, 1 << 50)


def timed(views: Views, scope: bytes, vector: Vector) -> float:
    began_s = time.perf_counter()
    found = views.search(scope, vector, 5, None)
    took_s = time.perf_counter() - began_s
    assert found, "every scope has entries"
    return took_s


def rss() -> int:
    """Of this process, without mapped files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


if __name__ == "__main__":
    main()
