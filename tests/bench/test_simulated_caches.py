"""The simulated caches do what they stand for: the optimum is one, and the service's policies are the service's."""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from bench.eviction import _add_real, _measure, tables
from bench.eviction_sim import (
    Cache,
    Housekeeping,
    Room,
    at_random,
    belady,
    by_policy,
    clairvoyant_greedy_usd,
    most_saved_usd,
    replay,
)
from bench.eviction_streams import Stream, made, numbered
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.memory import MemoryStore
from cachesvc.core.eviction import EvictionPolicy, size_bytes, worth_usd
from cachesvc.core.identity import identify
from cachesvc.core.ports import ResponseStore
from cachesvc.core.types import Draft, Entry, Message, Payload, Request, Use

PRINT = "engine:test"
NOW_MS = 1_700_000_000_000


def tiny(seed: int, *, alike: bool) -> Stream:
    """A dozen requests for five items, of one size and worth or of several."""
    random = np.random.default_rng(seed)
    asked = numbered([str(n) for n in random.integers(0, 5, 12)])
    if alike:
        return Stream("tiny", asked, np.ones(5), np.ones(5, dtype=np.int64))
    return Stream("tiny", asked, random.integers(1, 9, 5).astype(float), random.integers(1, 5, 5))


def best_usd(stream: Stream, capacity: int) -> float:
    """What the best of all caches saves: every choice after every request is tried."""
    saved: dict[frozenset[int], float] = {frozenset(): 0.0}
    for item in stream.requests.tolist():
        following: dict[frozenset[int], float] = {}
        for held, so_far in saved.items():
            total = so_far + (stream.worths_usd[item] if item in held else 0.0)
            for kept in subsets(held | {item}):
                if sum(stream.sizes_bytes[n] for n in kept) <= capacity:
                    following[kept] = max(following.get(kept, 0.0), total)
        saved = following
    return max(saved.values())


def subsets(items: frozenset[int]) -> Iterator[frozenset[int]]:
    for count in range(len(items) + 1):
        yield from map(frozenset, combinations(items, count))


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_belady_is_the_optimum_in_hits(capacity: int) -> None:
    """Of entries of one size no choice whatever has more hits, and some choice has as many."""
    for seed in range(30):
        stream = tiny(seed, alike=True)
        assert belady(stream, capacity) == best_usd(stream, capacity)


def test_the_bounds_of_money_enclose_the_optimum() -> None:
    """Of unequal entries no choice saves more than the upper bound; the clairvoyant cache saves what can be had."""
    for seed in range(40):
        stream = tiny(seed, alike=False)
        room = Room(6, in_bytes=True)
        best = best_usd(stream, room.capacity)
        assert clairvoyant_greedy_usd(stream, room) <= best <= most_saved_usd(stream, room) + 1e-9


def test_room_for_all_answers_every_repeat() -> None:
    """With room for all that is asked for, every policy, the optimum and the bounds are the same."""
    stream = made(requests=400, items=60)["zipf 0.9"](np.random.default_rng(1))
    room = Room.of(stream, 1.0, in_bytes=True)
    scores = {
        replay(stream, Cache(stream, room, by_policy(policy, stream))) for policy in ("gdsf", "lru", "lfu")
    }
    (score,) = scores
    assert score.hits == stream.repeats == belady(stream, stream.distinct)
    assert score.saved_usd == pytest.approx(most_saved_usd(stream, room))
    assert score.saved_usd == pytest.approx(clairvoyant_greedy_usd(stream, room))


def test_lru_is_that_of_the_textbook() -> None:
    """Ranks that are all equal make a cache of least recent use."""
    stream = made(requests=2000, items=200)["zipf 0.9, drift"](np.random.default_rng(2))
    cache, reference, hits = (
        Cache(stream, Room(20, in_bytes=False), by_policy("lru", stream)),
        OrderedDict[int, None](),
        0,
    )
    for item in stream.requests.tolist():
        hits += item in reference
        reference[item] = None
        reference.move_to_end(item)
        if len(reference) > 20:
            reference.popitem(last=False)
    assert replay(stream, cache).hits == hits


def test_random_has_no_favourites() -> None:
    """Entries are as likely to go whether they are old, new or much used."""
    gone = np.zeros(4)
    for seed in range(2000):
        asked = np.array([0, 1, 2, 0, 0, 1, 3])
        stream = Stream("tiny", asked, np.ones(4), np.ones(4, dtype=np.int64))
        ranker = at_random(np.random.default_rng(seed))
        cache = Cache(stream, Room(3, in_bytes=False), ranker, inflates=True)
        replay(stream, cache)
        gone[[item for item in range(3) if item not in cache.held]] += 1
    assert gone[:3].sum() == 2000
    assert gone[:3].min() > 580


def test_housekeeping_frees_a_share_at_once() -> None:
    """A cache that evicts down to a watermark has room again for so many, then evicts anew; use it noted late counts."""
    asked = np.array([*range(10), 0, 10])
    stream = Stream("tiny", asked, np.ones(11), np.ones(11, dtype=np.int64))
    house = Housekeeping(noted_after=1000, freed_share=0.3)
    cache = Cache(stream, Room(10, in_bytes=False), by_policy("lru", stream), house=house)
    replay(stream, cache)
    assert cache.held == {0, 4, 5, 6, 7, 8, 9, 10}


@pytest.fixture(params=["lmdb", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which store."""
    kind: str = request.param
    return kind


@pytest.mark.parametrize("policy", ["gdsf", "lru", "lfu"])
def test_the_store_evicts_as_the_simulation_does(kind: str, policy: EvictionPolicy, tmp_path: Path) -> None:
    """On the same requests a store, evicted one by one, and a simulated cache have the very same hits."""
    stream = made(requests=240, items=40)["zipf 0.9, drift"](np.random.default_rng(3))
    drafts = [draft(item, float(worth)) for item, worth in enumerate(stream.worths_usd)]
    worths = np.array([worth_usd(one.payload) for one in drafts])
    sizes = np.array([size_bytes(one.prompt, one.payload, None) for one in drafts])
    stream = Stream(stream.name, stream.requests, worths, sizes)
    cache = Cache(stream, Room(8, in_bytes=False), by_policy(policy, stream), inflates=policy == "gdsf")
    store: ResponseStore = MemoryStore(eviction=policy) if kind == "memory" else lmdb_store(tmp_path, policy)
    for at, item in enumerate(stream.requests.tolist()):
        assert ask(store, drafts[item], at) == cache.ask(item, at), f"request {at}"
    if isinstance(store, LmdbStore):
        assert store.check() == []
        store.close()


def draft(item: int, cost_usd: float) -> Draft:
    identity = identify(Request("default", (Message("user", f"q{item}"),), "m", {}), PRINT)
    payload = Payload(b"r" * (item * 37 % 3000), cost_usd=cost_usd)
    return Draft(identity, payload, identity.text, None, NOW_MS, NOW_MS + (1 << 40))


def lmdb_store(path: Path, policy: EvictionPolicy) -> LmdbStore:
    return LmdbStore(StoreOptions(path / "store", 64 << 20, 32 << 20, "async", 16, 2048, 1024, policy), PRINT)


def ask(store: ResponseStore, one: Draft, at: int) -> bool:
    """A lookup, and after a miss the eviction and the store."""
    row = store.find(one.identity.scope, one.identity.exact_key)
    if isinstance(row, Entry):
        store.touch({row.id: Use(NOW_MS + at, 1)})
        return True
    if store.stats().entries == 8:
        store.evict(1)
    store.put([Draft(one.identity, one.payload, one.prompt, None, NOW_MS + at, one.expires_ms)], None)
    return False


def test_the_tables_need_no_data(tmp_path: Path) -> None:
    """Where the real prompts are not there, the made streams are measured, and a line says what is left out."""
    makers = made(requests=300, items=60)
    (note,) = _add_real(makers, tmp_path)
    assert note.startswith("Not there, so not replayed: banking77,")
    results = list(_measure("zipf 0.9", makers["zipf 0.9"](np.random.default_rng(1)), 1, (0.01, 0.1)))
    assert any(line.startswith("| zipf 0.9 |") for line in tables(results))
    assert all(0 <= result.saved_of_bound <= 1 for result in results)
    assert all(result.hits_of_optimum is None or 0 <= result.hits_of_optimum <= 1 for result in results)
