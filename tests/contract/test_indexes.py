"""The contract of the VectorIndex port, over every implementation."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from cachesvc.adapters.faiss_index import FaissIndex, Growing
from cachesvc.adapters.memory import MemoryIndex
from cachesvc.core.ports import VectorIndex

DIMENSION = 384  # the default model's; a half-precision index is less exact with fewer
STATM = Path("/proc/self/statm")
ACCURACY = 1e-4  # of a score, as FaissIndex promises
Rows: TypeAlias = NDArray[np.float32]
MakeIndex: TypeAlias = Callable[[int], VectorIndex]


class InLists:
    """``FaissIndex`` with a store of vectors, laid out in lists anew whenever that is due; flat below four rows."""

    def __init__(self, dimension: int) -> None:
        self._stored: dict[int, Rows] = {}
        self._index = FaissIndex(dimension, Growing(self._fetch, 16))

    def _fetch(self, ids: Sequence[int]) -> list[Rows | None]:
        return [self._stored.get(n) for n in ids]

    def add(self, ids: NDArray[np.int64], vectors: Rows) -> None:
        self._stored.update(zip(ids.tolist(), vectors.copy(), strict=True))
        self._index.add(ids, vectors)
        self._settle()

    def remove(self, ids: NDArray[np.int64]) -> None:
        self._index.remove(ids)
        self._settle()

    def _settle(self) -> None:
        with SETTLING:  # by one thread at a time
            for _ in self._index.settle():
                pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def __len__(self) -> int:
        return len(self._index)


SETTLING = threading.Lock()


@pytest.fixture(params=[FaissIndex, InLists, MemoryIndex], ids=["flat", "lists", "memory"])
def make_index(request: pytest.FixtureRequest) -> MakeIndex:
    """Each implementation in turn."""
    made: MakeIndex = request.param
    return made


@pytest.fixture
def index(make_index: MakeIndex) -> VectorIndex:
    """An empty index."""
    return make_index(DIMENSION)


def unit(rows: NDArray[np.float64]) -> Rows:
    scaled: Rows = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


def random_rows(seed: int, count: int) -> Rows:
    return unit(np.random.default_rng(seed).normal(size=(count, DIMENSION)))


def clustered_rows(seed: int, count: int) -> Rows:
    """Rows that crowd around a few centres, as questions about a few topics do."""
    source = np.random.default_rng(seed)
    centres = source.normal(size=(12, DIMENSION))
    spread = source.normal(size=(count, DIMENSION)) * source.choice([0.02, 0.2, 0.6], size=(count, 1))
    return unit(centres[source.integers(12, size=count)] + spread)


def ids_of(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def found(index: VectorIndex, vector: Rows, count: int = 10) -> list[int]:
    return [candidate.entry_id for candidate in index.search(vector, count)]


def test_an_empty_index_finds_nothing(index: VectorIndex) -> None:
    """Searching and removing are fine where nothing was added."""
    assert index.search(random_rows(1, 1)[0], 5) == []
    index.remove(ids_of(1, 2))
    assert len(index) == 0


def test_what_was_added_is_found(index: VectorIndex) -> None:
    """A row is its own nearest neighbour with a score of one, under the id it was given."""
    rows = random_rows(2, 30)
    index.add(np.arange(100, 130, dtype=np.int64), rows)
    assert len(index) == 30
    for n in range(30):
        best = index.search(rows[n], 1)[0]
        assert best.entry_id == 100 + n
        assert best.score == pytest.approx(1.0, abs=ACCURACY)


def test_scores_are_cosines_best_first(index: VectorIndex) -> None:
    """Opposite is minus one, orthogonal zero; order is by score."""
    rows = np.zeros((3, DIMENSION), np.float32)
    rows[0, 0], rows[1, 1], rows[2, 0] = -1.0, 1.0, 1.0
    index.add(ids_of(1, 2, 3), rows)
    candidates = index.search(rows[2], 3)
    assert [candidate.entry_id for candidate in candidates] == [3, 2, 1]
    assert [candidate.score for candidate in candidates] == pytest.approx([1.0, 0.0, -1.0], abs=ACCURACY)


def test_large_ids_come_back_whole(index: VectorIndex) -> None:
    """Ids have 63 bits."""
    large = (1 << 63) - 1
    row = random_rows(3, 1)
    index.add(ids_of(large), row)
    assert found(index, row[0]) == [large]
    index.remove(ids_of(large))
    assert len(index) == 0


def test_asking_for_more_than_there_is(index: VectorIndex) -> None:
    """All rows come, each once, and nothing to fill up."""
    rows = random_rows(4, 3)
    index.add(ids_of(7, 8, 9), rows)
    assert sorted(found(index, rows[0], 100)) == [7, 8, 9]


def test_adding_an_id_again_replaces_its_row(index: VectorIndex) -> None:
    """The old vector is gone, the new one is found, and there is one row."""
    rows = random_rows(5, 3)
    index.add(ids_of(1, 2), rows[:2])
    index.add(ids_of(1), rows[2:])
    assert len(index) == 2
    assert sorted(found(index, rows[0])) == [1, 2]
    by_id = {candidate.entry_id: candidate.score for candidate in index.search(rows[2], 10)}
    assert by_id[1] == pytest.approx(1.0, abs=ACCURACY)
    old = {candidate.entry_id: candidate.score for candidate in index.search(rows[0], 10)}
    assert old[1] < 0.99


def test_removed_rows_are_gone(index: VectorIndex) -> None:
    """Removed ids are not found, unknown ones are ignored, the rest stays."""
    rows = random_rows(6, 20)
    index.add(np.arange(20, dtype=np.int64), rows)
    index.remove(ids_of(*range(0, 20, 2), 999))
    assert len(index) == 10
    assert sorted(found(index, rows[0], 20)) == list(range(1, 20, 2))
    index.remove(ids_of(*range(20)))
    assert len(index) == 0
    assert index.search(rows[0], 5) == []


def test_a_removed_id_may_come_back(index: VectorIndex) -> None:
    """Add, remove, add: the last vector counts."""
    rows = random_rows(7, 2)
    index.add(ids_of(5), rows[:1])
    index.remove(ids_of(5))
    index.add(ids_of(5), rows[1:])
    assert index.search(rows[1], 1)[0].score == pytest.approx(1.0, abs=ACCURACY)


def test_an_empty_change_changes_nothing(index: VectorIndex) -> None:
    """No ids, no effect."""
    index.add(ids_of(), np.empty((0, DIMENSION), np.float32))
    index.remove(ids_of())
    assert len(index) == 0


def test_ties_are_all_found(index: VectorIndex) -> None:
    """Equal rows have equal scores; fewer are a choice among them, none comes twice."""
    row = random_rows(8, 1)
    index.add(ids_of(1, 2, 3, 4, 5), np.repeat(row, 5, axis=0))
    index.add(ids_of(6), -row)
    some = index.search(row[0], 3)
    assert len({candidate.entry_id for candidate in some}) == 3
    assert {candidate.entry_id for candidate in some} <= {1, 2, 3, 4, 5}
    assert len({candidate.score for candidate in some}) == 1
    assert sorted(found(index, row[0], 5)) == [1, 2, 3, 4, 5]


def test_memory_grows_with_rows(index: VectorIndex) -> None:
    """Memory is at least the vectors' own, two bytes a value or one in lists, and comes back with removal."""
    row_bytes = DIMENSION * (1 if isinstance(index, InLists) else 2)
    empty = index.memory_bytes
    index.add(np.arange(1500, dtype=np.int64), random_rows(9, 1500))
    full = index.memory_bytes
    assert full - empty >= 1500 * row_bytes
    index.remove(np.arange(800, dtype=np.int64))
    assert index.memory_bytes - empty < (full - empty) // 2
    index.add(np.arange(800, dtype=np.int64), random_rows(9, 800))
    assert index.memory_bytes == pytest.approx(full, rel=0.1 if isinstance(index, InLists) else 0)
    index.remove(np.arange(1500, dtype=np.int64))
    assert index.memory_bytes == empty


def test_what_is_left_of_a_large_index_is_whole(index: VectorIndex) -> None:
    """After most rows went the others are found as before, and rows can be added and removed."""
    rows = random_rows(14, 2000)
    index.add(np.arange(2000, dtype=np.int64), rows)
    index.remove(np.arange(1990, dtype=np.int64))
    index.add(ids_of(5), rows[5:6])
    index.remove(ids_of(1990))
    assert len(index) == 10
    assert [found(index, rows[n], 1) for n in (5, *range(1991, 2000))] == [
        [5],
        *([n] for n in range(1991, 2000)),
    ]
    assert sorted(found(index, rows[0], 100)) == [5, *range(1991, 2000)]


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells how much is resident")
def test_memory_of_removed_rows_is_given_back_to_the_system() -> None:
    """FAISS, which keeps it, is made to let go: what is counted as free is free."""
    index = FaissIndex(DIMENSION)
    index.add(np.arange(60_000, dtype=np.int64), random_rows(15, 60_000))
    before = resident_bytes()
    index.remove(np.arange(59_000, dtype=np.int64))
    assert before - resident_bytes() > 20 << 20  # of 44


@pytest.mark.parametrize("count", [1, 5, 40])
@pytest.mark.parametrize("kind", [FaissIndex, MemoryIndex], ids=["flat", "memory"])
def test_the_nearest_are_those_of_brute_force(kind: MakeIndex, count: int) -> None:
    """On clustered rows, after removals and replacements, the top k is the true one."""
    index, rows, queries = kind(DIMENSION), clustered_rows(10, 1500), clustered_rows(11, 40)
    index.add(np.arange(1500, dtype=np.int64), rows)
    index.remove(np.arange(0, 1500, 7, dtype=np.int64))
    rows[1::10] = clustered_rows(12, 150)
    index.add(np.arange(1, 1500, 10, dtype=np.int64), rows[1::10])
    kept = np.union1d(np.setdiff1d(np.arange(1500), np.arange(0, 1500, 7)), np.arange(1, 1500, 10))
    assert len(index) == len(kept)
    for query in queries:
        exact = rows[kept].astype(np.float64) @ query.astype(np.float64)
        best = np.sort(exact)[::-1][:count]
        candidates = index.search(query, count)
        scores = [candidate.score for candidate in candidates]
        assert scores == pytest.approx(best.tolist(), abs=ACCURACY)
        assert scores == sorted(scores, reverse=True)
        own = [float(rows[candidate.entry_id] @ query) for candidate in candidates]
        assert scores == pytest.approx(own, abs=ACCURACY)
        assert len({candidate.entry_id for candidate in candidates}) == count


def test_changes_and_searches_side_by_side(index: VectorIndex) -> None:
    """Threads that add, remove and search at once neither crash nor find what was never there."""
    rows = random_rows(13, 2000)
    lasting = np.arange(500, dtype=np.int64)
    index.add(lasting, rows[:500])
    ready = threading.Barrier(6)

    def change(first: int) -> None:
        ready.wait()
        for start in range(first, first + 700, 10):
            ids = np.arange(start, start + 10, dtype=np.int64)
            index.add(ids, rows[start : start + 10])
            if start % 20:
                index.remove(ids)

    def search(seed: int) -> None:
        ready.wait()
        for n in np.random.default_rng(seed).integers(500, size=250).tolist():
            candidates = index.search(rows[n], 5)
            assert candidates[0].entry_id == n
            for candidate in candidates:
                assert candidate.score == pytest.approx(
                    float(rows[candidate.entry_id] @ rows[n]), abs=ACCURACY
                )

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(change, first) for first in (500, 1200)]
        jobs += [pool.submit(search, seed) for seed in range(4)]
        for job in jobs:
            job.result()
    assert len(index) == 500 + 700
    for n in (500, 1200, 1880):
        assert found(index, rows[n], 1) == [n]


@pytest.mark.parametrize("call", ["search", "add", "remove", "dump"])
def test_nothing_goes_on_beside_a_change(call: str) -> None:
    """While the index is being changed no search begins, and no other change; FAISS crashes otherwise."""
    index = FaissIndex(DIMENSION)
    one = np.ones((1, DIMENSION), np.float32) / np.sqrt(DIMENSION)
    index.add(np.array([1]), one)
    calls: dict[str, Callable[[], object]] = {
        "search": lambda: index.search(one[0], 1),
        "add": lambda: index.add(np.array([2]), one),
        "remove": lambda: index.remove(np.array([1])),
        "dump": lambda: list(index.dump()),
    }
    with ThreadPoolExecutor(1) as pool:
        with index._lock.alone():
            waiting = pool.submit(calls[call])
            with pytest.raises(TimeoutError):
                waiting.result(0.1)
        waiting.result(10)


@pytest.mark.parametrize("call", ["add", "remove"])
def test_a_change_waits_for_searches(call: str) -> None:
    """While a search goes on nothing is changed; another search goes on beside it."""
    index = FaissIndex(DIMENSION)
    one = np.ones((1, DIMENSION), np.float32) / np.sqrt(DIMENSION)
    index.add(np.array([1]), one)
    with ThreadPoolExecutor(1) as pool:
        with index._lock.shared():
            assert pool.submit(index.search, one[0], 1).result(10)[0].entry_id == 1
            change = index.remove if call == "remove" else lambda ids: index.add(ids, one)
            waiting = pool.submit(change, np.array([1]))
            with pytest.raises(TimeoutError):
                waiting.result(0.1)
        waiting.result(10)
