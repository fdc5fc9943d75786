"""The index alone, by size: ``python -m bench.index [--sizes 10000 100000 1000000] [--json FILE]``.

Vectors are those of real prompts, most of them moved aside a little, so that they lie in clusters as questions do; what is
asked for are prompts that are not among them, and moved ones. They are made once and kept under ``build/``, as are the
indexes: one whose lists were laid out for a quarter of its rows, as far as it ever outgrows them, and the one
it is moved to. ``figures`` is for others.
"""

import argparse
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.calls import say
from bench.embedded import embedded
from bench.prompts import ROOT
from bench.report import Figure, Measured, read, record, show, write
from cachesvc.adapters.faiss_index import FaissIndex, Growing
from cachesvc.core.types import Vector
from cachesvc.making import make_embedder, step_back
from cachesvc.settings_sections import EmbedderSettings, IndexSettings

BUILD = ROOT / "build" / "index"
PROMPTS, ASKED, SEARCHES, REMOVED = 10_000, 1_000, 2_000, 1_000
NEAR = 0.8  # cosine from which on a neighbour is to be found
COUNT = 5
SEARCH_US, RECALL = 2000.0, 0.995  # targets of an index that has settled
STEP = 4096
BESIDE_S = 15.0
CHILL_BYTES = 32 << 20  # more than the processor's cache
LENGTH = struct.Struct("<Q")
Rows = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Questions:
    """What is searched for, and the best score there is for each."""

    vectors: Vector
    best: NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = [figure for size in arguments.sizes for figure in figures(size)]
    run = record("full", [Measured(found)], [], {})
    show(run)
    if arguments.json is not None:
        write(run, arguments.json)


def apart(size: int) -> list[Figure]:
    """The figures, measured in a process of its own: what another index left in memory would be counted, too."""
    with tempfile.TemporaryDirectory(prefix="bench-index-") as directory:
        file = Path(directory) / "figures.json"
        command = [sys.executable, "-m", "bench.index", "--sizes", str(size), "--json", str(file)]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        return list(read(file).figures)


def figures(size: int) -> Iterator[Figure]:
    """Of an index with ``size`` rows."""
    BUILD.mkdir(parents=True, exist_ok=True)
    rows = _rows(size)
    questions = _questions(size, rows)
    _build(size, rows)
    name = f"{size:,} rows"
    for state in ("outgrown", "settled"):
        before = _resident_bytes()
        index, took_s = _restored(size, rows, state)
        yield Figure(f"{name}, {state}: loaded from a dump", "s", [took_s])
        yield Figure(f"{name}, {state}: memory a row", "B", [(_resident_bytes() - before) / size])
        yield Figure(f"{name}, {state}: memory a row, as counted", "B", [index.memory_bytes / size])
        yield from _searched(f"{name}, {state}", index, questions)
        if state == "outgrown" and not index.is_settled:
            yield from _beside(name, index, questions)
        else:
            yield _removed(f"{name}, {state}", index, size)
        del index


def _rows(size: int) -> Rows:
    path = BUILD / f"rows-{size}.npy"
    if not path.exists():
        real = _real()[ASKED:]
        source = np.random.default_rng(size)
        kept = np.lib.format.open_memmap(path, "w+", np.float16, (size, real.shape[1]))
        for first in range(0, size, STEP):
            some = np.arange(first, min(first + STEP, size))
            moved = real[some % len(real)]
            if first >= len(real):
                moved = _moved(moved, source)
            kept[some] = moved
        kept.flush()
    mapped: Rows = np.load(path, mmap_mode="r")
    return mapped


def _real() -> Vector:
    return embedded(make_embedder(EmbedderSettings(), say), PROMPTS).vectors


def _moved(rows: Vector, source: np.random.Generator) -> Vector:
    """Each to a cosine between 1 and 0.75 of where it was."""
    aside = source.normal(size=rows.shape).astype(np.float32)
    aside *= source.uniform(0, 0.88, (len(rows), 1)) / np.linalg.norm(aside, axis=1, keepdims=True)
    moved = rows + aside.astype(np.float32)
    unit: Vector = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return unit


def _questions(size: int, rows: Rows) -> Questions:
    """Half are prompts of their own, half are rows moved aside."""
    path = BUILD / f"questions-{size}.npz"
    if not path.exists():
        source = np.random.default_rng(size + 1)
        near = rows[np.sort(source.choice(size, ASKED, replace=False))].astype(np.float32)
        asked = source.permutation(np.concatenate([_real()[:ASKED], _moved(near, source)]))
        best = np.full(len(asked), -1, np.float32)
        for first in range(0, size, STEP):
            scores = asked @ rows[first : first + STEP].astype(np.float32).T
            best = np.maximum(best, scores.max(axis=1))
        np.savez(path, asked=asked, best=best)
    kept = np.load(path)
    return Questions(kept["asked"], kept["best"])


def _build(size: int, rows: Rows) -> None:
    if _path(size, "settled").exists():
        return
    index = _empty(rows)
    began_s = time.process_time()
    _add(index, rows, 0, size // 4)
    _settle(index)
    _add(index, rows, size // 4, size)
    filled_s = time.process_time()
    _keep(index, _path(size, "outgrown"))
    kept_s = time.process_time()
    longest_s = _settle(index)
    moved_s = time.process_time() - kept_s
    _keep(index, _path(size, "settled"))
    say(
        f"{size:,} rows: filled in {filled_s - began_s:.1f} s, moved in {moved_s:.1f} s (processor time), "
        f"longest step {longest_s * 1e3:.0f} ms"
    )


def _empty(rows: Rows) -> FaissIndex:
    def fetch(ids: Sequence[int]) -> list[Vector | None]:
        return [rows[n].astype(np.float32) for n in ids]

    return FaissIndex(rows.shape[1], Growing(fetch, IndexSettings().lists_min_vectors))


def _add(index: FaissIndex, rows: Rows, first: int, end: int) -> None:
    for start in range(first, end, STEP):
        ids = np.arange(start, min(start + STEP, end), dtype=np.int64)
        index.add(ids, rows[ids].astype(np.float32))


def _settle(index: FaissIndex, pause: Callable[[float], None] = lambda took_s: None) -> float:
    """The longest step, in seconds of the thread."""
    longest_s, began_s = 0.0, time.thread_time()
    for _ in index.settle():
        took_s = time.thread_time() - began_s
        longest_s = max(longest_s, took_s)
        pause(took_s)
        began_s = time.thread_time()
    return longest_s


def _path(size: int, state: str) -> Path:
    return BUILD / f"{state}-{size}.dump"


def _keep(index: FaissIndex, path: Path) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for piece in index.dump():
            file.write(LENGTH.pack(len(piece)) + piece)
    part.replace(path)


def _restored(size: int, rows: Rows, state: str) -> tuple[FaissIndex, float]:
    index = _empty(rows)
    began_s = time.thread_time()
    with _path(size, state).open("rb") as file:
        while length := file.read(LENGTH.size):
            index.load(file.read(*LENGTH.unpack(length)))
    return index, time.thread_time() - began_s


def _searched(name: str, index: FaissIndex, questions: Questions) -> Iterator[Figure]:
    chill = np.zeros(CHILL_BYTES, np.uint8)
    warm_us, cold_us, scores = [], [], []
    for number, vector in enumerate(questions.vectors[:SEARCHES]):
        took_us, score = _timed_us(index, vector)
        warm_us.append(took_us)
        scores.append(score)
        if number % 10 == 0:
            np.add(chill, 1, out=chill)
            cold_us.append(_timed_us(index, vector)[0])
    best = questions.best[:SEARCHES]
    right = np.array(scores) >= best - 1e-4
    yield Figure(f"{name}: search p50", "µs", [float(np.quantile(warm_us, 0.5))])
    at_most = SEARCH_US if index.is_settled else None
    yield Figure(f"{name}: search p99", "µs", [float(np.quantile(warm_us, 0.99))], at_most)
    yield Figure(f"{name}: search p50, cold caches", "µs", [float(np.quantile(cold_us, 0.5))])
    for least in (NEAR, 0.9, 0.95):
        at_least = RECALL if index.is_settled and least == NEAR else None
        recall = float(right[best >= least].mean())
        yield Figure(f"{name}: recall@1 of neighbours from {least} on", "", [recall], at_least=at_least)


def _timed_us(index: FaissIndex, vector: Vector) -> tuple[float, float]:
    began_s = time.perf_counter()
    found = index.search(vector, COUNT)
    return (time.perf_counter() - began_s) * 1e6, found[0].score


def _beside(name: str, index: FaissIndex, questions: Questions) -> Iterator[Figure]:
    """Searches beside the move, which has half of a processor at most, as in the service."""
    stop = threading.Event()

    def pause(took_s: float) -> None:
        if stop.wait(took_s):
            raise InterruptedError

    def move() -> None:
        step_back()  # as the service does
        try:
            _settle(index, pause)
        except InterruptedError:
            return

    idle_us = _paced_us(index, questions, lambda: False)
    moving = threading.Thread(target=move)
    moving.start()
    beside_us = _paced_us(index, questions, lambda: not moving.is_alive())
    stop.set()
    moving.join()
    for share in (0.5, 0.99):
        idle, beside = float(np.quantile(idle_us, share)), float(np.quantile(beside_us, share))
        at_most = 3.0 if share == 0.99 else None
        yield Figure(f"{name}: search p{share * 100:.0f} beside a move ÷ idle", "", [beside / idle], at_most)


def _paced_us(index: FaissIndex, questions: Questions, is_over: Callable[[], bool]) -> list[float]:
    """A search each few ms, as lookups come that were embedded before."""
    took_us: list[float] = []
    until_s = time.monotonic() + BESIDE_S / 2
    while time.monotonic() < until_s and not is_over():
        vector = questions.vectors[len(took_us) % len(questions.vectors)]
        took_us.append(_timed_us(index, vector)[0])
        time.sleep(0.002)
    return took_us


def _removed(name: str, index: FaissIndex, size: int) -> Figure:
    ids = np.random.default_rng(3).choice(size, REMOVED, replace=False).astype(np.int64)
    took_us: list[float] = []
    for entry_id in ids:
        began_s = time.perf_counter()
        index.remove(entry_id[np.newaxis])
        took_us.append((time.perf_counter() - began_s) * 1e6)
    return Figure(f"{name}: a removal p99", "µs", [float(np.quantile(took_us, 0.99))])


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
