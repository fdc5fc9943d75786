"""An index that grows: what is promised of lists, and of moving from one layout to another."""

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray

from cachesvc.adapters.faiss_index import FaissIndex, Growing
from cachesvc.adapters.id_lists import ABSENT, IdLists
from cachesvc.adapters.memory import MemoryIndex
from cachesvc.core.ports import Embedder
from cachesvc.core.types import Vector

DIMENSION = 64
LISTS_MIN_COUNT = 200
ACCURACY = 1e-4
NEAR = 0.8
TASKS = Path("/proc/self/task")
PROMPTS = Path(__file__).parents[2] / "bench" / "data" / "demo_prompts.jsonl"


class Stored(dict[int, Vector]):
    """What a store holds of a scope."""

    def fetch(self, ids: Sequence[int]) -> list[Vector | None]:
        return [self.get(n) for n in ids]


def growing(stored: Stored, lists_min_count: int = LISTS_MIN_COUNT, dimension: int = DIMENSION) -> FaissIndex:
    return FaissIndex(dimension, Growing(stored.fetch, lists_min_count))


def unit(rows: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


def rows_of(seed: int, count: int, dimension: int = DIMENSION) -> NDArray[np.float32]:
    return unit(np.random.default_rng(seed).normal(size=(count, dimension)))


def moved(rows: NDArray[np.float32], seed: int, most: float = 0.7) -> NDArray[np.float32]:
    """Each to a cosine of 0.8 or more of where it was."""
    source = np.random.default_rng(seed)
    aside = unit(source.normal(size=rows.shape)) * source.uniform(0, most, (len(rows), 1))
    return unit(rows + aside)


def settle(index: FaissIndex) -> None:
    for _ in index.settle():
        pass
    assert index.is_settled


def fill(index: FaissIndex, stored: Stored, ids: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
    stored.update(zip(ids.tolist(), rows, strict=True))
    index.add(ids, rows)


@pytest.fixture(scope="module")
def real(embedder: Embedder) -> NDArray[np.float32]:
    """Vectors of real prompts."""
    texts = [json.loads(line)["prompt"] for line in PROMPTS.read_text().splitlines()[:600]]
    vectors = [embedder.embed(text, 60) for text in dict.fromkeys(texts)]
    return np.stack([one for one in vectors if isinstance(one, np.ndarray)])


def test_near_neighbours_of_real_prompts_are_found_in_lists(real: NDArray[np.float32]) -> None:
    """Recall@1 of neighbours with a cosine of 0.8 or more is 0.995, and scores are exact; in lists that were laid
    out for a quarter of the rows, and in new ones.
    """
    base = real[:-100]
    rows = np.concatenate([base, *(moved(base, seed) for seed in range(9))])
    stored, quarter = Stored(), len(rows) // 4 + 2
    index = growing(stored, 1024, real.shape[1])
    fill(index, stored, np.arange(quarter), rows[:quarter])
    settle(index)
    fill(index, stored, np.arange(quarter, len(rows) - 1), rows[quarter:-1])
    asked = np.concatenate([real[-100:], moved(rows[::10], 99)])
    assert index.is_settled
    assert_recalled(index, rows[:-1], asked)
    fill(index, stored, np.arange(len(rows) - 1, len(rows) + 15), np.repeat(rows[-1:], 16, axis=0))
    assert not index.is_settled
    settle(index)
    assert_recalled(index, rows, asked)


def assert_recalled(index: FaissIndex, rows: NDArray[np.float32], asked: NDArray[np.float32]) -> None:
    best = (asked @ rows.T).max(axis=1)
    near = np.flatnonzero(best >= NEAR)
    assert len(near) > 300
    found = np.array([index.search(asked[n], 5)[0].score for n in near])
    assert (found <= best[near] + ACCURACY).all()
    assert (found >= best[near] - ACCURACY).mean() >= 0.995


def test_a_row_that_is_there_a_thousand_times_hides_no_other() -> None:
    """Nor does it take the lists of the others."""
    source, stored = np.random.default_rng(10), Stored()
    crowd = unit(source.normal(size=384))
    around = unit(crowd + unit(source.normal(size=(1100, 384))) * source.uniform(0.2, 0.9, (1100, 1)))
    rows = source.permutation(np.concatenate([np.repeat(crowd[np.newaxis], 3000, axis=0), around]))
    index = growing(stored, dimension=384)
    fill(index, stored, np.arange(len(rows)), rows)
    settle(index)
    assert_recalled(index, rows, moved(around[:400], 11, 0.3))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_different_rows_than_lists(count: int) -> None:
    """All are found, of one vector even."""
    stored = Stored()
    index, rows = growing(stored), np.tile(rows_of(12, count), (300, 1))
    fill(index, stored, np.arange(len(rows)), rows)
    settle(index)
    assert not index._rows.is_exact
    for n in range(count):
        found = index.search(rows[n], 1000)
        assert len(found) == len(rows)
        assert found[0].score == pytest.approx(1, abs=ACCURACY)


def test_all_rows_may_go_before_an_index_has_its_lists() -> None:
    """It is empty then, and takes rows again."""
    stored, rows = Stored(), rows_of(13, 300)
    index = growing(stored)
    fill(index, stored, np.arange(300), rows)
    laying = index._laid_out()
    index.remove(np.arange(300))
    for _ in laying:
        pass
    fill(index, stored, np.arange(300), rows)
    settle(index)
    assert index.search(rows[9], 1)[0].entry_id == 9


class Growth(RuleBasedStateMachine):
    """Whatever comes and goes while an index moves, it holds and finds what one that compares everything does."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = Stored()
        self.index = growing(self.stored, 40)
        self.oracle = MemoryIndex(DIMENSION)
        self.steps: Iterator[None] | None = None
        self.seed = 0

    @rule(ids=st.sets(st.integers(0, 400), min_size=1, max_size=60))
    def add(self, ids: set[int]) -> None:
        self.seed += 1
        numbers = np.array(sorted(ids), np.int64)
        rows = rows_of(self.seed, len(numbers))
        fill(self.index, self.stored, numbers, rows)
        self.oracle.add(numbers, rows)

    @rule(ids=st.sets(st.integers(0, 400), min_size=1, max_size=120))
    def remove(self, ids: set[int]) -> None:
        numbers = np.array(sorted(ids), np.int64)
        for n in ids:
            self.stored.pop(n, None)
        self.index.remove(numbers)
        self.oracle.remove(numbers)

    @rule(count=st.integers(1, 40))
    def move_on(self, count: int) -> None:
        if self.steps is None:
            self.steps = self.index.settle()
        for _ in range(count):
            if next(self.steps, self) is self:
                self.steps = None
                return

    @rule()
    def leave_it(self) -> None:
        if self.steps is not None:
            self.steps.close()  # type: ignore[attr-defined]  # a generator
            self.steps = None

    @rule()
    def restart(self) -> None:
        again = growing(self.stored, 40)
        for piece in self.index.dump():
            again.load(piece)
        self.index, self.steps = again, None

    @invariant()
    def holds_the_same(self) -> None:
        assert self.index.ids() == self.oracle.ids()
        assert len(self.index) == len(self.oracle)

    @invariant()
    def finds_the_same(self) -> None:
        for n in sorted(self.oracle.ids())[::37]:
            found, right = self.index.search(self.stored[n], 1)[0], self.oracle.search(self.stored[n], 1)[0]
            assert found.entry_id == right.entry_id == n
            assert found.score == pytest.approx(right.score, abs=5e-4)  # with so few dimensions


TestGrowth = Growth.TestCase
TestGrowth.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def test_everything_is_found_while_an_index_moves() -> None:
    """Threads that search, add and remove beside moves to lists and back find what stays and nothing removed."""
    stored = Stored()
    index = growing(stored)
    lasting = rows_of(1, 300)
    fill(index, stored, np.arange(300), lasting)
    over = threading.Event()

    def move() -> None:
        for _ in range(6):
            index._growing = Growing(stored.fetch, 100 if index._rows.is_exact else 100_000)
            settle(index)
        over.set()

    def search(seed: int) -> int:
        source, searches = np.random.default_rng(seed), 0
        while not over.is_set():
            n = int(source.integers(300))
            assert index.search(lasting[n], 3)[0].entry_id == n
            searches += 1
        return searches

    def change(first: int) -> int:
        rows, changes = rows_of(first, 40), 0
        while not over.is_set():
            ids = np.arange(first, first + 40)
            fill(index, stored, ids, rows)
            assert index.search(rows[7], 1)[0].entry_id == first + 7
            index.remove(ids)
            assert not index.ids() & set(ids.tolist())
            assert index.search(rows[7], 1)[0].entry_id not in ids
            changes += 1
        return changes

    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(search, 1), pool.submit(search, 2), pool.submit(change, 1000)]
        jobs.append(pool.submit(change, 2000))
        pool.submit(move).result(60)
        assert all(job.result(60) for job in jobs)
    assert index.ids() == frozenset(range(300))


def test_a_change_at_any_step_of_a_move_stays() -> None:
    """What was removed after n steps, n = 0, 1, 2, … until none are left, is gone; what was replaced is new."""
    rows, cut, is_over = rows_of(2, 301), 0, False
    while not is_over:
        stored = Stored()
        index = growing(stored)
        fill(index, stored, np.arange(300), rows[:300])
        steps = index.settle()
        is_over = sum(1 for _ in zip(range(cut), steps, strict=False)) < cut
        index.remove(np.array([0, 150, 299]))
        fill(index, stored, np.array([1, 151, 298]), np.repeat(rows[300:], 3, axis=0))
        for _ in steps:
            pass
        assert index.ids() == frozenset(range(300)) - {0, 150, 299}
        assert {one.entry_id for one in index.search(rows[300], 3)} == {1, 151, 298}
        cut += 3


def test_a_dump_that_begins_before_a_move_and_ends_after_it_is_whole() -> None:
    """Nothing that stays is missing from it, and it restores what it was taken of."""
    stored = Stored()
    index = growing(stored, 5000)
    rows = rows_of(3, 6000)
    fill(index, stored, np.arange(6000), rows)
    pieces = index.dump()
    first = next(pieces)
    settle(index)
    assert not index._rows.is_exact
    index.remove(np.arange(10))
    again = growing(stored)
    for piece in [first, *pieces]:
        again.load(piece)
    assert again.ids() >= frozenset(range(10, 6000))


def test_lists_come_back_as_they_were() -> None:
    """A restored index has its lists at once: it is settled, and finds the same."""
    stored = Stored()
    index, again = growing(stored), growing(stored)
    rows = rows_of(4, 1000)
    fill(index, stored, np.arange(1000), rows)
    settle(index)
    index.remove(np.arange(0, 1000, 7))
    for piece in index.dump():
        again.load(piece)
    assert again.is_settled
    assert again.ids() == index.ids()
    assert [again.search(row, 3) for row in rows[:50]] == [index.search(row, 3) for row in rows[:50]]
    fill(again, stored, np.array([0]), rows[:1])
    assert again.search(rows[0], 1)[0].entry_id == 0


def test_pieces_of_lists_that_do_not_fit_are_refused() -> None:
    """Of an index that stays flat, of other lists, cut off, or of no list at all: ValueError, and nothing is loaded."""
    stored = Stored()
    index, other = growing(stored), growing(stored)
    fill(index, stored, np.arange(300), rows_of(5, 300))
    settle(index)
    head, piece, *_ = index.dump()
    wrong_list = bytearray(piece)
    wrong_list[16 + 8 * 300] = 255
    with pytest.raises(ValueError, match="of a"):
        FaissIndex(DIMENSION).load(head)
    with pytest.raises(ValueError, match="of a"):
        other.load(head[:-1])
    with pytest.raises(ValueError, match="of a"):
        other.load(piece)
    other.load(head)
    for wrong in (bytes(wrong_list), piece[:-1], head[:10]):
        with pytest.raises(ValueError, match="of a"):
            other.load(wrong)
    assert len(other) == 0


def test_a_row_that_is_no_longer_stored_keeps_its_place() -> None:
    """Whoever asks for it in the store finds that it is gone: it is not passed over in silence here."""
    stored = Stored()
    index = growing(stored)
    rows = rows_of(6, 300)
    fill(index, stored, np.arange(300), rows)
    settle(index)
    del stored[17]
    found = index.search(rows[17], 1)[0]
    assert found.entry_id == 17
    assert found.score == pytest.approx(1, abs=0.02)


def test_an_index_that_has_shrunk_is_flat_again_and_exact() -> None:
    """Not as soon as it is smaller than what lists begin at, lest it go to and fro; then scores are of full vectors."""
    stored = Stored()
    index = growing(stored)
    rows = rows_of(7, 250)
    fill(index, stored, np.arange(250), rows)
    settle(index)
    index.remove(np.arange(60))
    assert index.is_settled
    index.remove(np.arange(60, 210))
    settle(index)
    assert index._rows.is_exact
    assert index.search(rows[240], 40)[5].score == pytest.approx(sorted(rows[210:] @ rows[240])[-6], abs=3e-4)


def test_the_same_rows_give_the_same_lists() -> None:
    """Training is deterministic."""
    heads = []
    for _ in range(2):
        stored = Stored()
        index = growing(stored)
        fill(index, stored, np.arange(800), rows_of(8, 800))
        settle(index)
        heads.append(next(index.dump()))
    assert heads[0] == heads[1]


def test_ids_and_their_lists_are_those_of_a_dict() -> None:
    """In order or not, gone and back: the arrays say what a dict would."""
    source, ids, model = np.random.default_rng(9), IdLists(), dict[int, int]()
    for _ in range(150):
        numbers = np.unique(source.integers(0, 60_000, source.integers(1, 800)))
        there = np.array([n in model for n in numbers.tolist()])
        if source.random() < 0.3:
            ids.drop(numbers[there])
            for n in numbers[there].tolist():
                del model[n]
        else:
            lists = source.integers(0, 5000, (~there).sum()).astype(np.int32)
            shuffled = source.permutation(len(lists))
            ids.put(numbers[~there][shuffled], lists[shuffled])
            model.update(zip(numbers[~there][shuffled].tolist(), lists[shuffled].tolist(), strict=True))
        assert ids.find(numbers).tolist() == [model.get(n, ABSENT) for n in numbers.tolist()]
        assert len(ids) == len(model)
    assert sorted(ids.ids().tolist()) == sorted(model)


def test_a_search_has_no_helpers() -> None:
    """Whatever thread searches: no other is begun for it, with all vectors compared and with lists."""
    stored = Stored()
    index = growing(stored)
    rows = rows_of(12, 300)

    def begun_by(search: Vector) -> int:
        before = set(TASKS.iterdir())
        index.search(search, 3)
        return len(set(TASKS.iterdir()) - before)

    for _ in range(2):
        fill(index, stored, np.arange(len(index), len(index) + 150), rows[:150])
        settle(index)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int).result()
            assert pool.submit(begun_by, rows[0]).result() == 0
    assert not index._rows.is_exact
