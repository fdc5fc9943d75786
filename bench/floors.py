"""The libraries alone, without service, wire or inference: ``python -m bench.run --only floors``.

FAISS: the best row of 10,000 by brute force, one thread. LMDB: reading the rows of an entry, and writing them durably,
grouped as concurrent stores are.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import lmdb
import numpy as np

from bench.calls import say, timed_us
from bench.prompts import RESPONSE_BYTES, ROOT, answer
from bench.report import Figure, Measured
from bench.sizes import Size

_ROWS = 10_000
_DIMENSION = 384
_SEARCHES = 200
_READS = 2000
_GROUP = 16  # as many stores as there are callers share a commit
_COMMITS = 60
_MAP_BYTES = 1 << 30


def measure(size: Size) -> Measured:
    """A value per round of each."""
    (ROOT / "build").mkdir(exist_ok=True)
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as directory:
        index, queries = _index()
        environment = lmdb.open(str(Path(directory) / "alone"), map_size=_MAP_BYTES, max_dbs=2)
        for number in range(size.load_rounds):
            say(f"FAISS and LMDB alone, round {number + 1} of {size.load_rounds}")
            for name, unit, value in (
                *_searched(index, queries),
                *_written(environment, number),
                *_read(environment),
            ):
                found.setdefault((name, unit), []).append(value)
        environment.close()
    return Measured([Figure(name, unit, rounds) for (name, unit), rounds in found.items()])


def _index() -> tuple[Any, Any]:
    """A flat index compares every row: what is in them does not matter to its time."""
    faiss.omp_set_num_threads(1)
    random = np.random.default_rng(4)
    rows = random.standard_normal((_ROWS, _DIMENSION), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index: Any = faiss.IndexFlatIP(_DIMENSION)
    index.add(rows)
    return index, rows[:_SEARCHES, np.newaxis]


def _searched(index: Any, queries: Any) -> Iterator[tuple[str, str, float]]:
    took_us = [timed_us(partial(index.search, query, 1)) for query in queries]
    yield f"FAISS alone: p50 of a flat search of {_ROWS:,}, 1 thread", "µs", statistics.median(took_us)


def _written(environment: Any, number: int) -> Iterator[tuple[str, str, float]]:
    vector = bytes(4 * _DIMENSION)
    began_s = time.perf_counter()
    for commit in range(_COMMITS):
        with environment.begin(write=True) as transaction:
            for n in range(_GROUP):
                entry = (number * _COMMITS + commit) * _GROUP + n
                transaction.put(b"entry" + entry.to_bytes(8, "big"), answer(entry))
                transaction.put(b"vector" + entry.to_bytes(8, "big"), vector)
    per_s = _COMMITS * _GROUP / (time.perf_counter() - began_s)
    yield f"LMDB alone: durable entries/s, response and vector, {_GROUP} a commit", "/s", per_s


def _read(environment: Any) -> Iterator[tuple[str, str, float]]:
    count = _COMMITS * _GROUP

    def read(entry: int) -> None:
        with environment.begin() as transaction:
            value = transaction.get(b"entry" + (entry * 7919 % count).to_bytes(8, "big"))
            assert len(value) == RESPONSE_BYTES

    took_us = [timed_us(partial(read, entry)) for entry in range(_READS)]
    yield "LMDB alone: p50 of a read of a response", "µs", statistics.median(took_us)
