"""Indexes follow the store: what is acknowledged is found, what is gone is not, within the memory bound."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from cachesvc.adapters.faiss_index import FaissIndex
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.memory import ManualClock, MemoryIndex, MemoryStore
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import ScopesChanged
from cachesvc.core.identity import identify
from cachesvc.core.ports import ResponseStore, VectorIndex
from cachesvc.core.types import Change, Draft, Identity, Message, Payload, Request, ScopeVectors, Vector
from cachesvc.engine.views import ScopeLoadingError, ScopeTooLargeError, Views
from tests.doubles import Events

DIMENSION = 16
ROW_BYTES = DIMENSION * 4 + 8
MakeIndex: TypeAlias = Callable[[bytes], VectorIndex]


def vector(seed: int) -> Vector:
    drawn = np.random.default_rng(seed).normal(size=DIMENSION)
    scaled: Vector = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    return scaled


def identity(scope: str, text: str) -> Identity:
    return identify(Request(scope, (Message("user", text),), "m", {}), "engine:test")


def scope_of(scope: str) -> bytes:
    return identity(scope, "any").scope


def put(store: ResponseStore, scope: str, seed: int, *, semantic: bool = True) -> int:
    of = identity(scope, f"text {seed}")
    row = vector(seed) if semantic else None
    receipt = store.put([Draft(of, Payload(b"r"), of.text, row, 0, 1 << 40)], None)[0]
    assert receipt is not None
    return receipt.entry_id


def put_many(store: ResponseStore, scope: str, seeds: range) -> list[int]:
    """Store in one transaction."""
    drafts = []
    for seed in seeds:
        of = identity(scope, f"text {seed}")
        drafts.append(Draft(of, Payload(b"r"), of.text, vector(seed), 0, 1 << 40))
    return [receipt.entry_id for receipt in store.put(drafts, None) if receipt is not None]


class CountingIndex(MemoryIndex):
    """Counts the changes made to it."""

    def __init__(self) -> None:
        super().__init__(DIMENSION)
        self.adds = 0
        self.removes = 0

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self.adds += 1
        super().add(ids, vectors)

    def remove(self, ids: NDArray[np.int64]) -> None:
        self.removes += 1
        super().remove(ids)


class CountingStore(MemoryStore):
    """Counts what is read, and can have a log that was trimmed."""

    def __init__(self) -> None:
        super().__init__()
        self.scans = 0
        self.parts = 0
        self.log_starts_after = 0
        self.fail_changes = False
        self.before_scan: Callable[[], None] = lambda: None

    def scope_vectors(
        self, scope: bytes, max_count: int, *, after_id: int = 0, limit: int | None = None
    ) -> ScopeVectors | None:
        self.scans += not after_id
        self.parts += 1
        held = super().scope_vectors(scope, max_count, after_id=after_id, limit=limit)
        hook, self.before_scan = self.before_scan, lambda: None
        hook()
        return held

    def changes(self, after: int, limit: int) -> list[Change] | None:
        if self.fail_changes:
            raise CacheError(Kind.UNAVAILABLE, "down")
        return None if after < self.log_starts_after else super().changes(after, limit)


@pytest.fixture
def store() -> CountingStore:
    """An empty store."""
    return CountingStore()


@pytest.fixture
def events() -> Events:
    """What was observed."""
    return Events()


def make_views(
    store: ResponseStore,
    events: Events,
    max_rows: int = 10_000,
    make_index: MakeIndex = lambda scope: MemoryIndex(DIMENSION),
) -> Views:
    return Views(
        store,
        make_index,
        row_bytes=ROW_BYTES,
        max_bytes=max_rows * ROW_BYTES,
        clock=ManualClock(),
        observer=events,
    )


@pytest.fixture
def views(store: CountingStore, events: Events) -> Views:
    """Views of it with room for everything."""
    return make_views(store, events)


def found(views: Views, scope: str, seed: int) -> int | None:
    """The entry whose vector this is, if the scope has it."""
    candidates = views.search(scope_of(scope), vector(seed), 1, None)
    return candidates[0].entry_id if candidates and candidates[0].score > 0.999 else None


def test_what_was_stored_before_is_found(store: CountingStore, events: Events) -> None:
    """A scope is read from the store when it is first searched, and once."""
    ids = [put(store, "a", n) for n in range(5)]
    views = make_views(store, events)
    assert store.scans == 0
    assert [found(views, "a", n) for n in range(5)] == ids
    assert store.scans == 1
    assert [event for event in events.seen if isinstance(event, ScopesChanged)] == [
        ScopesChanged(loaded=1, unloaded=0, load_us=0)
    ]


def test_an_empty_scope_has_no_candidates(views: Views, store: CountingStore) -> None:
    """A scope nobody stored in is empty, and read once like any other."""
    assert views.search(scope_of("nobody"), vector(0), 5, None) == []
    assert views.search(scope_of("nobody"), vector(0), 5, None) == []
    assert store.scans == 1


def test_an_acknowledged_store_is_visible_to_the_next_search(views: Views, store: CountingStore) -> None:
    """New, replaced and removed entries show at once in a view that is loaded, without reading it anew."""
    assert found(views, "a", 1) is None
    first = put(store, "a", 1)
    assert found(views, "a", 1) == first
    second = put(store, "a", 1)
    assert found(views, "a", 1) == second
    store.remove([second])
    assert found(views, "a", 1) is None
    assert store.scans == 1


def test_expiry_and_eviction_are_followed_too(views: Views, store: CountingStore) -> None:
    """Whoever removes an entry, the view hears of it."""
    put(store, "a", 1)
    last = put(store, "a", 2)
    assert found(views, "a", 1) is not None
    store.evict(1)
    assert found(views, "a", 1) is None
    assert found(views, "a", 2) == last
    store.expire(1 << 41, 10)
    assert found(views, "a", 2) is None


def test_entries_without_a_vector_are_in_no_index(views: Views, store: CountingStore) -> None:
    """An exact-only entry is no candidate; replacing a semantic entry by one takes the old vector away."""
    put(store, "a", 1)
    assert found(views, "a", 1) is not None
    put(store, "a", 1, semantic=False)
    assert views.search(scope_of("a"), vector(1), 5, None) == []


def test_no_search_crosses_a_scope(views: Views, store: CountingStore) -> None:
    """Equal vectors in other scopes are never candidates."""
    mine, theirs = put(store, "mine", 1), put(store, "theirs", 1)
    for _ in range(2):
        assert [c.entry_id for c in views.search(scope_of("mine"), vector(1), 5, None)] == [mine]
        assert [c.entry_id for c in views.search(scope_of("theirs"), vector(1), 5, None)] == [theirs]
        mine, theirs = put(store, "mine", 1), put(store, "theirs", 1)


def test_a_long_log_is_followed_to_its_end(views: Views, store: CountingStore) -> None:
    """More changes than are read at once are all applied before the search."""
    assert found(views, "a", 0) is None
    ids = [put(store, "a", n % 40) for n in range(1500)]
    assert found(views, "a", 1499 % 40) == ids[-1]
    assert len(views.search(scope_of("a"), vector(0), 100, None)) == 40
    assert store.scans == 1


def test_a_trimmed_log_means_reading_anew(store: CountingStore, events: Events) -> None:
    """When the log no longer reaches back every view is dropped and built from the store."""
    views = make_views(store, events)
    gone = put(store, "a", 1)
    assert found(views, "a", 1) == gone
    put(store, "b", 5)
    assert found(views, "b", 5) is not None
    store.remove([gone])
    new = put(store, "a", 2)
    store.log_starts_after = store.sequence()
    assert found(views, "a", 1) is None
    assert found(views, "a", 2) == new
    assert found(views, "b", 5) is not None
    assert store.scans == 4
    assert views.loaded_count == 2


def test_a_view_that_was_read_while_the_log_was_trimmed_is_read_again(
    store: CountingStore, views: Views
) -> None:
    """What happens between reading a scope and publishing its index is not lost, log or no log."""
    put(store, "a", 1)
    put(store, "b", 1)
    assert found(views, "b", 1) is not None

    def meanwhile() -> None:
        put(store, "a", 2)
        assert found(views, "b", 1) is not None  # the log position moves on
        store.log_starts_after = store.sequence()

    store.before_scan = meanwhile
    assert found(views, "a", 2) is not None
    assert found(views, "a", 1) is not None


def test_changes_while_a_scope_is_read_are_applied(store: CountingStore, views: Views) -> None:
    """An entry stored and one removed after the scope was read, before it is searched, both count."""
    first = put(store, "a", 1)
    put(store, "b", 1)
    assert found(views, "b", 1) is not None

    def meanwhile() -> None:
        store.remove([first])
        put(store, "a", 2)
        assert found(views, "b", 1) is not None

    store.before_scan = meanwhile
    assert found(views, "a", 1) is None
    assert found(views, "a", 2) is not None


def test_least_recently_used_scopes_are_unloaded(store: CountingStore, events: Events) -> None:
    """Memory stays within the bound; the scope that was not used longest goes, and comes back when asked."""
    for scope in "abc":
        for n in range(4):
            put(store, scope, n)
    views = make_views(store, events, max_rows=8)
    assert found(views, "a", 0) is not None
    assert found(views, "b", 0) is not None
    assert found(views, "a", 0) is not None
    assert found(views, "c", 0) is not None  # b goes
    assert views.memory_bytes <= 8 * ROW_BYTES
    assert views.loaded_count == 2
    scans = store.scans
    assert found(views, "a", 1) is not None
    assert store.scans == scans
    assert found(views, "b", 1) is not None
    assert store.scans == scans + 1
    unloaded = [event.unloaded for event in events.seen if isinstance(event, ScopesChanged)]
    assert sum(unloaded) == 2


def test_a_scope_that_grows_past_the_bound_unloads_another(store: CountingStore, events: Events) -> None:
    """Following the log keeps the bound as loading does."""
    for n in range(4):
        put(store, "a", n)
        put(store, "b", n)
    views = make_views(store, events, max_rows=10)
    for scope in "ab":
        assert found(views, scope, 0) is not None
    new = [put(store, "b", n) for n in range(4, 8)]
    assert found(views, "b", 7) == new[-1]
    assert views.memory_bytes <= 10 * ROW_BYTES
    assert views.loaded_count == 1


def test_a_scope_that_does_not_fit_alone_is_refused(store: CountingStore, events: Events) -> None:
    """Nothing is loaded for it, and it works once it has shrunk."""
    ids = [put(store, "big", n) for n in range(9)]
    put(store, "small", 1)
    views = make_views(store, events, max_rows=8)
    for _ in range(2):
        with pytest.raises(ScopeTooLargeError):
            views.search(scope_of("big"), vector(0), 1, None)
    assert views.memory_bytes == 0
    assert found(views, "small", 1) is not None
    store.remove(ids[5:])
    assert found(views, "big", 0) == ids[0]


def test_memory_is_what_the_indexes_hold(store: CountingStore, views: Views) -> None:
    """The account is right after adds, replacements, removals and unloading."""
    for n in range(6):
        put(store, "a", n)
    assert found(views, "a", 0) is not None
    put(store, "a", 0)
    store.evict(2)
    put(store, "a", 9)
    assert found(views, "a", 9) is not None
    assert views.memory_bytes == 5 * ROW_BYTES


def test_forget_drops_a_row_that_the_log_did_not_tell_of(store: CountingStore, views: Views) -> None:
    """A forgotten entry is no candidate any more; unknown scopes and ids are ignored."""
    entry_id = put(store, "a", 1)
    views.forget(scope_of("a"), entry_id)
    assert found(views, "a", 1) == entry_id
    views.forget(scope_of("a"), 999)
    views.forget(scope_of("a"), entry_id)
    assert found(views, "a", 1) is None
    assert views.memory_bytes == 0


def test_a_failing_store_fails_the_search_and_no_more(store: CountingStore, views: Views) -> None:
    """An error while following is the caller's to hear; afterwards nothing is missing."""
    put(store, "a", 1)
    assert found(views, "a", 1) is not None
    new = put(store, "a", 2)
    store.fail_changes = True
    with pytest.raises(CacheError):
        views.search(scope_of("a"), vector(2), 1, None)
    store.fail_changes = False
    assert found(views, "a", 2) == new


@pytest.fixture
def counted(store: CountingStore, events: Events) -> tuple[Views, list[CountingIndex]]:
    """Views, and the indexes they made, the last of them last."""
    made: list[CountingIndex] = []

    def make_index(scope: bytes) -> CountingIndex:
        made.append(CountingIndex())
        return made[-1]

    return make_views(store, events, make_index=make_index), made


@pytest.mark.parametrize(
    ("removed", "added", "removes", "adds"),
    [
        pytest.param(1000, 0, 1, 0, id="removals"),
        pytest.param(0, 1000, 0, 1, id="additions"),
        pytest.param(500, 500, 1, 1, id="both"),
        pytest.param(1500, 0, 2, 0, id="more than are read at once"),
    ],
)
def test_many_changes_are_made_at_once(
    store: CountingStore,
    counted: tuple[Views, list[CountingIndex]],
    removed: int,
    added: int,
    removes: int,
    adds: int,
) -> None:
    """An index is scanned once for all removals that are read together, not once for each."""
    views, made = counted
    ids = put_many(store, "a", range(1600))
    assert found(views, "a", 1599) == ids[-1]
    index = made[-1]
    index.adds = index.removes = 0
    store.evict(removed)
    put_many(store, "a", range(2000, 2000 + added))
    assert found(views, "a", 1599) == ids[-1]
    assert (index.removes, index.adds) == (removes, adds)
    assert len(index) == 1600 - removed + added
    assert views.memory_bytes == len(index) * ROW_BYTES


def test_what_came_and_went_unseen_is_nothing(
    store: CountingStore, counted: tuple[Views, list[CountingIndex]]
) -> None:
    """An entry stored and removed between two searches is not added; one that was replaced comes once."""
    views, made = counted
    old = put(store, "a", 1)
    assert found(views, "a", 1) == old
    made[-1].adds = 0
    store.remove([put(store, "a", 2)])
    assert found(views, "a", 2) is None
    assert made[-1].adds == 0
    for _ in range(3):
        last = put(store, "a", 1)
    assert found(views, "a", 1) == last
    assert (made[-1].adds, len(made[-1])) == (1, 1)


def test_a_scope_known_to_be_too_large_is_not_counted_again(store: CountingStore, events: Events) -> None:
    """It is refused at once until something in it is removed, whatever is stored there or elsewhere."""
    ids = [put(store, "big", n) for n in range(10)]
    views = make_views(store, events, max_rows=8)

    def refused() -> None:
        with pytest.raises(ScopeTooLargeError):
            views.search(scope_of("big"), vector(0), 1, None)

    refused()
    put(store, "big", 10)
    store.remove([put(store, "other", 1)])
    refused()
    assert store.scans == 1
    store.remove(ids[:1])
    refused()
    refused()
    assert store.scans == 2
    store.remove(ids[1:4])
    assert found(views, "big", 9) == ids[9]
    assert (store.scans, views.loaded_count) == (3, 1)


def test_a_removal_while_a_scope_is_counted_is_not_missed(store: CountingStore, events: Events) -> None:
    """What was found too large and shrank meanwhile is read again."""
    ids = [put(store, "big", n) for n in range(9)]
    views = make_views(store, events, max_rows=8)
    assert found(views, "other", 1) is None

    def meanwhile() -> None:
        store.remove(ids[:1])
        assert found(views, "other", 1) is None  # the log position moves on

    store.before_scan = meanwhile
    with pytest.raises(ScopeTooLargeError):
        views.search(scope_of("big"), vector(0), 1, None)
    assert found(views, "big", 8) == ids[8]


def test_who_waits_for_a_load_waits_no_longer_than_it_may(store: CountingStore, views: Views) -> None:
    """A caller whose time is up while another loads is told so; what is in memory needs no time."""
    entry_id = put(store, "a", 1)

    def meanwhile() -> None:
        with ThreadPoolExecutor(1) as pool:
            for wait_s in (0.01, 0.0, -1.0):
                waiting = pool.submit(views.search, scope_of("a"), vector(1), 1, wait_s)
                assert isinstance(waiting.exception(timeout=10), ScopeLoadingError)

    store.before_scan = meanwhile
    assert found(views, "a", 1) == entry_id
    assert views.search(scope_of("a"), vector(1), 1, 0.0)[0].entry_id == entry_id


def test_a_load_that_takes_too_long_is_gone_on_with(store: CountingStore, events: Events) -> None:
    """Each caller reads a part at least and leaves in time; no part is read twice, and no change is lost."""
    ids = put_many(store, "a", range(600))
    views = make_views(store, events)

    def too_slow() -> None:
        with pytest.raises(ScopeLoadingError):
            views.search(scope_of("a"), vector(0), 1, 0.0)

    too_slow()
    assert views.memory_bytes == 256 * ROW_BYTES
    assert views.loaded_count == 0
    replaced = put(store, "a", 3)
    store.remove([ids[10], ids[580]])
    assert found(views, "b", 0) is None  # the log position moves on
    too_slow()
    store.remove([replaced, ids[581]])
    new = put(store, "a", 3000)
    candidates = views.search(scope_of("a"), vector(0), 5000, 0.0)
    gone = {ids[3], ids[10], ids[580], ids[581]}
    assert {candidate.entry_id for candidate in candidates} == {*ids, new} - gone
    assert store.parts == 3 + 1
    assert views.memory_bytes == (600 - 4 + 1) * ROW_BYTES


def test_a_half_loaded_scope_counts_and_may_be_unloaded(store: CountingStore, events: Events) -> None:
    """What a caller left is within the memory bound, and goes when it is least recently used."""
    put_many(store, "a", range(450))
    ids = put_many(store, "b", range(250))
    views = make_views(store, events, max_rows=460)
    with pytest.raises(ScopeLoadingError):
        views.search(scope_of("a"), vector(0), 1, 0.0)
    assert found(views, "b", 7) == ids[7]
    assert views.memory_bytes == 250 * ROW_BYTES
    assert found(views, "a", 440) is not None
    assert views.memory_bytes == 450 * ROW_BYTES


def test_a_half_loaded_scope_whose_log_was_trimmed_is_read_anew(store: CountingStore, views: Views) -> None:
    """Parts that the log can no longer bring together are not put together."""
    ids = put_many(store, "a", range(1500))
    with pytest.raises(ScopeLoadingError):
        views.search(scope_of("a"), vector(0), 1, 0.0)
    store.remove(ids[:2])
    store.log_starts_after = store.sequence()
    assert found(views, "b", 0) is None
    assert found(views, "a", 0) is None
    assert found(views, "a", 2) == ids[2]
    assert views.memory_bytes == 1498 * ROW_BYTES


def test_other_scopes_are_searched_while_one_is_read_again(store: CountingStore, views: Views) -> None:
    """A scope that has to be read twice holds nobody else up."""
    put(store, "a", 1)
    there = put(store, "b", 1)
    assert found(views, "b", 1) == there

    def meanwhile() -> None:
        put(store, "a", 2)
        assert found(views, "b", 1) is not None
        store.log_starts_after = store.sequence()
        store.before_scan = search_elsewhere

    def search_elsewhere() -> None:
        with ThreadPoolExecutor(1) as pool:
            searched.append(pool.submit(found, views, "b", 1).result(timeout=10))

    searched: list[int | None] = []
    store.before_scan = meanwhile
    assert found(views, "a", 2) is not None
    assert searched == [there]


@pytest.fixture(params=["memory", "lmdb and faiss"])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ResponseStore, MakeIndex]]:
    """A store and its index: the plain ones, and those of the service, its log kept short."""
    if request.param == "memory":
        yield MemoryStore(), lambda scope: MemoryIndex(DIMENSION)
        return
    options = StoreOptions(
        path=tmp_path / "store",
        map_size_bytes=32 << 20,
        max_bytes=16 << 20,
        durability="async",
        write_queue_length=64,
        compress_min_bytes=1024,
        log_max_records=20,
    )
    made = LmdbStore(options, "engine:test")
    yield made, lambda scope: FaissIndex(DIMENSION)
    assert made.check() == []
    made.close()


@pytest.mark.parametrize("room", ["for all scopes", "for two scopes"])
def test_every_acknowledged_entry_is_found_from_every_thread(
    real: tuple[ResponseStore, MakeIndex], events: Events, room: str
) -> None:
    """Threads that store, search, replace and remove in five scopes always find what they were told is stored."""
    store, make_index = real
    one_scope_bytes = make_index(b"").memory_bytes + 120 * ROW_BYTES
    scopes_in_memory = 2 if room == "for two scopes" else 10
    views = make_views(store, events, scopes_in_memory * one_scope_bytes // ROW_BYTES, make_index)
    barrier = threading.Barrier(8)

    def work(worker: int) -> None:
        barrier.wait()
        mine: dict[tuple[str, int], int] = {}
        for n in range(40):
            scope, seed = f"scope{(worker + n) % 5}", worker * 1000 + n
            mine[scope, seed] = put(store, scope, seed)
            assert found(views, scope, seed) == mine[scope, seed]
            (old_scope, old_seed), old_id = next(iter(mine.items()))
            assert found(views, old_scope, old_seed) == old_id
            if n % 3 == 1:
                store.remove([old_id])
                del mine[old_scope, old_seed]
                assert found(views, old_scope, old_seed) is None
            elif n % 3 == 2:
                mine[old_scope, old_seed] = put(store, old_scope, old_seed)
                assert found(views, old_scope, old_seed) == mine[old_scope, old_seed]

    with ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(work, worker) for worker in range(8)]:
            job.result()
    for n in range(5):
        held = store.scope_vectors(scope_of(f"scope{n}"), 1000)
        assert held is not None
        candidates = views.search(scope_of(f"scope{n}"), vector(0), 1000, None)
        assert {candidate.entry_id for candidate in candidates} == set(held.ids.tolist())
    assert views.memory_bytes <= scopes_in_memory * one_scope_bytes
