"""The contract of the ResponseStore port, over every implementation."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.memory import MemoryStore
from cachesvc.core.eviction import EvictionPolicy
from cachesvc.core.identity import identify
from cachesvc.core.ports import ResponseStore
from cachesvc.core.selection import Near, Selector
from cachesvc.core.types import (
    Change,
    Draft,
    Entry,
    Identity,
    Lost,
    Match,
    Message,
    Payload,
    Quota,
    Receipt,
    Request,
    Source,
    Use,
    Vector,
)

PRINT = "engine:test"
NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
NOBODY = b"\xff" * 32


def lmdb_store(path: Path, log_max_records: int = 100_000, eviction: EvictionPolicy = "lru") -> LmdbStore:
    options = StoreOptions(
        path=path,
        map_size_bytes=64 << 20,
        max_bytes=32 << 20,
        durability="sync",
        write_queue_length=256,
        compress_min_bytes=256,
        log_max_records=log_max_records,
        eviction=eviction,
    )
    return LmdbStore(options, PRINT)


@pytest.fixture(params=["lmdb", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResponseStore]:
    """Each implementation in turn, empty; clean by its own account at the end."""
    if request.param == "memory":
        yield MemoryStore(eviction="lru")
        return
    made = lmdb_store(tmp_path / "store")
    yield made
    assert made.check() == []
    made.close()


def identity(text: str = "q", namespace: str = "default") -> Identity:
    return identify(Request(namespace, (Message("user", text),), "m", {}), PRINT)


def vector(seed: int) -> Vector:
    drawn = np.random.default_rng(seed).normal(size=8)
    scaled: Vector = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    return scaled


def alike(held: Vector, given: Vector) -> bool:
    """Whether a vector came back: of unit norm, and so that its scores are off by 0.0001 at most."""
    return abs(float(held @ held) - 1) < 1e-6 and float(np.linalg.norm(held - given)) < 5e-4


def draft(
    text: str = "q",
    response: bytes = b"r",
    namespace: str = "default",
    *,
    created_ms: int = NOW_MS,
    expires_ms: int = NOW_MS + HOUR_MS,
    row: Vector | None = None,
) -> Draft:
    return Draft(identity(text, namespace), Payload(response), text, row, created_ms, expires_ms)


def put(store: ResponseStore, *drafts: Draft) -> list[Receipt]:
    receipts = store.put(drafts, None)
    assert None not in receipts
    return [receipt for receipt in receipts if receipt is not None]


def put_one(store: ResponseStore, one: Draft) -> int:
    return put(store, one)[0].entry_id


def found(store: ResponseStore, of: Identity) -> Entry:
    row = store.find(of.scope, of.exact_key)
    assert isinstance(row, Entry)
    return row


def test_an_empty_store_has_nothing(store: ResponseStore) -> None:
    """Every read of a new store is an empty answer, not an error."""
    of = identity()
    assert store.find(of.scope, of.exact_key) is None
    assert store.get(1) is None
    assert store.fetch(of.scope, []) == []
    assert store.fetch(of.scope, [1]) == [Lost(1, corrupt=False)]
    assert store.vectors(of.scope, [1]) == [None]
    assert store.sequence() == 0
    assert store.changes(0, 10) == []
    assert store.remove([1, 2]) == store.expire(NOW_MS, 10) == store.evict(10) == 0
    store.touch({1: Use(NOW_MS, 1)})
    held = store.scope_vectors(of.scope, 10)
    assert held is not None
    assert (held.sequence, len(held.ids), len(held.vectors)) == (0, 0, 0)
    assert (store.stats().entries, store.stats().sequence) == (0, 0)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(Payload(b""), id="empty response"),
        pytest.param(Payload(bytes(range(256)) * 3), id="every byte"),
        pytest.param(Payload(b"x" * 3_000_000), id="large and compressible"),
        pytest.param(Payload(np.random.default_rng(1).bytes(300_000)), id="large and not compressible"),
        pytest.param(
            Payload(
                b"{}",
                "application/json; charset=utf-8",
                {"k": "v", "": "é\n", "🦜": "x" * 5000},
                ("a", "b"),
                (Source("doc-1", "7"), Source("", "")),
                1 << 53,
                0,
                0.1 + 0.2,
            ),
            id="every field",
        ),
    ],
)
def test_what_was_put_is_found(store: ResponseStore, payload: Payload) -> None:
    """An entry comes back by key, by scope and by id as it went in, byte for byte."""
    of = identity("Wie geht's? 日本")
    receipt = put(store, Draft(of, payload, of.text, vector(1), NOW_MS, NOW_MS + 1))[0]
    assert (receipt.replaced_id, receipt.sequence) == (None, 1)
    expected = Entry(
        id=receipt.entry_id,
        namespace=of.namespace,
        model=of.model,
        context=of.context,
        scope=of.scope,
        exact_key=of.exact_key,
        prompt=of.text,
        payload=payload,
        created_ms=NOW_MS,
        expires_ms=NOW_MS + 1,
    )
    assert store.find(of.scope, of.exact_key) == expected
    assert store.fetch(of.scope, [receipt.entry_id]) == [expected]
    assert store.get(receipt.entry_id) == expected
    held = store.vectors(of.scope, [receipt.entry_id])[0]
    assert held is not None
    assert alike(held, vector(1))


def test_the_same_identity_replaces(store: ResponseStore) -> None:
    """The new entry has an id of its own; the old one is gone from every read."""
    of = identity()
    first = put_one(store, draft(response=b"old", row=vector(1)))
    receipt = put(store, draft(response=b"new"))[0]
    assert receipt.replaced_id == first
    assert receipt.entry_id != first
    assert found(store, of).payload.response == b"new"
    assert store.get(first) is None
    assert store.fetch(of.scope, [first]) == [Lost(first, corrupt=False)]
    assert store.vectors(of.scope, [first]) == [None]
    assert store.vectors(of.scope, [receipt.entry_id]) == [None]
    assert store.stats().entries == 1


def test_one_call_may_replace_its_own_entries(store: ResponseStore) -> None:
    """Drafts are stored in order: of two with one key the last stays."""
    first, other, last = put(store, draft(response=b"1"), draft("other"), draft(response=b"2"))
    assert (first.replaced_id, other.replaced_id, last.replaced_id) == (None, None, first.entry_id)
    assert found(store, identity()).payload.response == b"2"
    assert store.stats().entries == 2


def test_no_entry_is_read_in_another_scope(store: ResponseStore) -> None:
    """Under another scope an entry is never an Entry, whoever names its id or its key."""
    mine, theirs = identity(namespace="mine"), identity(namespace="theirs")
    entry_id = put_one(store, draft(namespace="mine", row=vector(1)))
    assert store.find(theirs.scope, theirs.exact_key) is None
    assert not isinstance(store.find(theirs.scope, mine.exact_key), Entry)
    assert not isinstance(store.fetch(theirs.scope, [entry_id])[0], Entry)
    assert store.vectors(theirs.scope, [entry_id]) == [None]
    held = store.scope_vectors(theirs.scope, 10)
    assert held is not None
    assert len(held.ids) == 0


def test_fetch_keeps_the_order_asked(store: ResponseStore) -> None:
    """Rows come in the order of the ids, gone ones and repeated ones in their places."""
    scope = identity().scope
    ids = [receipt.entry_id for receipt in put(store, draft("a"), draft("b"), draft("c"))]
    store.remove([ids[1]])
    asked = [ids[2], ids[1], ids[0], 999, ids[2]]
    rows = store.fetch(scope, asked)
    assert [row.id if isinstance(row, Entry) else row.entry_id for row in rows] == asked
    assert [isinstance(row, Entry) for row in rows] == [True, False, True, False, True]


def test_removed_entries_are_gone(store: ResponseStore) -> None:
    """Remove counts what was there and leaves nothing of it to read."""
    of = identity("a")
    a, b = (receipt.entry_id for receipt in put(store, draft("a", row=vector(1)), draft("b")))
    assert store.remove([a, 999, a]) == 1
    assert store.find(of.scope, of.exact_key) is None
    assert store.get(a) is None
    assert store.vectors(of.scope, [a]) == [None]
    assert store.get(b) is not None
    assert store.remove([a]) == 0
    assert store.remove([]) == 0
    assert store.stats().entries == 1


def test_ids_are_never_reused(store: ResponseStore) -> None:
    """Ids grow through replacement, removal, eviction and an empty store."""
    given = []
    for n in range(4):
        given += [receipt.entry_id for receipt in put(store, draft("a"), draft(f"b{n}"))]
        store.evict(10)
    assert given == sorted(set(given))


def test_expiry_is_by_time_and_bounded(store: ResponseStore) -> None:
    """What expired by now goes, earliest first, at most so many; the rest stays."""
    texts = ["c", "a", "b", "late"]
    ends = [NOW_MS + 3, NOW_MS + 1, NOW_MS + 2, NOW_MS + 100]
    put(store, *(draft(text, expires_ms=end) for text, end in zip(texts, ends, strict=True)))
    assert store.expire(NOW_MS, 10) == 0
    assert store.expire(NOW_MS + 50, 2) == 2
    assert left(store, texts) == ["c", "late"]
    assert store.expire(NOW_MS + 50, 10) == 1
    assert store.expire(NOW_MS + 99, 10) == 0
    assert store.expire(NOW_MS + 100, 10) == 1
    assert store.stats().entries == 0


def left(store: ResponseStore, texts: list[str]) -> list[str]:
    """Of these texts the ones that are stored."""
    return [text for text in texts if store.find(identity(text).scope, identity(text).exact_key) is not None]


def test_eviction_over_many_namespaces_is_by_last_use(store: ResponseStore) -> None:
    """Whichever namespaces they are of, and however often they were moved, the least goes first."""
    drafts = [draft(str(n), namespace=f"space{n % 10}") for n in range(40)]
    ids = [receipt.entry_id for receipt in put(store, *drafts)]
    shuffled = np.random.default_rng(1)
    for turn in range(3):
        order = [ids[n] for n in shuffled.permutation(40)]
        for at, entry_id in enumerate(order):
            store.touch({entry_id: Use(NOW_MS + 1 + turn * 40 + at, 1)})
    left = order
    while left:
        assert store.evict(7) == min(7, len(left))
        left = left[7:]
        assert store.ids(0, 40) == sorted(left)


def test_eviction_is_by_last_use(store: ResponseStore) -> None:
    """The least recently used goes first: use is creation, then the latest touch."""
    texts = ["a", "b", "c", "d"]
    ids = [
        receipt.entry_id
        for receipt in put(store, *(draft(text, created_ms=NOW_MS + n) for n, text in enumerate(texts)))
    ]
    store.touch({ids[0]: Use(NOW_MS + 50, 1), ids[1]: Use(NOW_MS + 40, 1), 999: Use(NOW_MS + 60, 1)})
    store.touch({ids[0]: Use(NOW_MS + 10, 1)})  # an older note takes nothing back
    assert store.evict(1) == 1
    assert left(store, texts) == ["a", "b", "d"]
    assert store.evict(2) == 2
    assert left(store, texts) == ["a"]
    assert store.evict(2) == 1
    assert store.evict(2) == 0


def test_touch_changes_no_entry_and_logs_nothing(store: ResponseStore) -> None:
    """Noting use is invisible but for the order of eviction."""
    entry_id = put_one(store, draft())
    before, sequence = store.get(entry_id), store.sequence()
    store.touch({entry_id: Use(NOW_MS + 5, 1)})
    assert store.get(entry_id) == before
    assert store.sequence() == sequence


def test_the_log_tells_every_change_in_order(store: ResponseStore) -> None:
    """Each coming and going of an entry is one record, sequences have no gap."""
    a, b = identity("a"), identity("b", "other")
    first = put_one(store, draft("a"))
    second = put_one(store, draft("b", namespace="other"))
    third = put_one(store, draft("a"))
    store.remove([second])
    store.evict(5)
    assert store.sequence() == store.stats().sequence == 6
    log = [
        Change(1, a.scope, first, added=True),
        Change(2, b.scope, second, added=True),
        Change(3, a.scope, first, added=False),
        Change(4, a.scope, third, added=True),
        Change(5, b.scope, second, added=False),
        Change(6, a.scope, third, added=False),
    ]
    assert store.changes(0, 100) == log
    assert store.changes(2, 2) == log[2:4]
    assert store.changes(6, 10) == []


def test_a_receipt_s_sequence_is_that_of_its_record(store: ResponseStore) -> None:
    """What was put is in the log at the sequence that the receipt names."""
    put(store, draft("a"))
    receipt = put(store, draft("a"), draft("b"))[0]
    assert store.changes(receipt.sequence - 1, 1) == [
        Change(receipt.sequence, identity().scope, receipt.entry_id, added=True)
    ]


def test_scope_vectors_are_those_of_the_scope(store: ResponseStore) -> None:
    """Ids and vectors of one scope, none that was removed or never had one, with their sequence."""
    scope = identity().scope
    drafts = [draft(str(n), row=vector(n)) for n in range(5)]
    ids = [receipt.entry_id for receipt in put(store, *drafts, draft("exact only"))][:5]
    put(store, draft("x", namespace="other", row=vector(9)))
    store.remove([ids[2]])
    held = store.scope_vectors(scope, 4)
    assert held is not None
    assert held.sequence == store.sequence()
    assert held.ids.dtype == np.int64
    assert held.vectors.dtype == np.float32
    by_id = dict(zip(held.ids.tolist(), held.vectors, strict=True))
    assert sorted(by_id) == [ids[0], ids[1], ids[3], ids[4]]
    assert all(alike(by_id[ids[n]], vector(n)) for n in (0, 1, 3, 4))


@pytest.mark.parametrize(("max_count", "fits"), [(3, True), (2, False), (0, False)])
def test_scope_vectors_has_a_bound(store: ResponseStore, max_count: int, *, fits: bool) -> None:
    """A scope of more vectors than asked for is not read out; those of other scopes do not count."""
    put(store, *(draft(str(n), row=vector(n)) for n in range(3)))
    put(store, *(draft(str(n), namespace=space, row=vector(n)) for n in range(3) for space in ("x", "y")))
    assert (store.scope_vectors(identity().scope, max_count) is not None) == fits


def test_scope_vectors_come_in_parts(store: ResponseStore) -> None:
    """Part by part, each from where the last one ended, a scope is read whole; the last part is short."""
    put(
        store,
        *(draft(str(n), namespace=space, row=vector(n)) for n in range(5) for space in ("x", "default")),
    )
    scope = identity().scope
    whole = store.scope_vectors(scope, 5)
    assert whole is not None
    parts: list[list[int]] = []
    after_id = 0
    while not parts or len(parts[-1]) == 2:
        part = store.scope_vectors(scope, 5, after_id=after_id, limit=2)
        assert part is not None
        assert part.vectors.tobytes() == whole.vectors[2 * len(parts) :][:2].tobytes()
        parts.append(part.ids.tolist())
        after_id = parts[-1][-1]
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [n for part in parts for n in part] == whole.ids.tolist() == sorted(whole.ids.tolist())
    past = store.scope_vectors(scope, 5, after_id=after_id, limit=2)
    assert past is not None
    assert len(past.ids) == len(past.vectors) == 0


def test_vectors_come_in_the_order_asked(store: ResponseStore) -> None:
    """Each as it was stored, and None for what is gone, has none, or is of another scope."""
    a, b, plain, gone = (
        receipt.entry_id
        for receipt in put(
            store,
            draft("a", row=vector(1)),
            draft("b", row=vector(2)),
            draft("plain"),
            draft("gone", row=vector(3)),
        )
    )
    other = put_one(store, draft("a", namespace="other", row=vector(4)))
    store.remove([gone])
    held = store.vectors(identity().scope, [b, plain, a, gone, other, b])
    expected = [vector(2), None, vector(1), None, None, vector(2)]
    assert len(held) == len(expected)
    for row, one in zip(held, expected, strict=True):
        assert (row is None) == (one is None)
        assert row is None or one is None or alike(row, one)
    assert store.vectors(identity().scope, []) == []


def test_a_hundred_stores_of_one_key_leave_one_entry(store: ResponseStore) -> None:
    """Each has a receipt with an id of its own; the last one is what is found, whole."""
    barrier = threading.Barrier(100)

    def race(n: int) -> tuple[Receipt, bytes]:
        response = f"answer {n} ".encode() * 50
        barrier.wait()
        return put(store, draft(response=response, row=vector(n)))[0], response

    with ThreadPoolExecutor(100) as pool:
        outcomes = list(pool.map(race, range(100)))
    receipts = [receipt for receipt, _ in outcomes]
    ids = {receipt.entry_id for receipt in receipts}
    replaced = [receipt.replaced_id for receipt in receipts if receipt.replaced_id is not None]
    assert len(ids) == 100
    assert len(replaced) == len(set(replaced)) == 99
    (winner_id,) = ids - set(replaced)
    winner = found(store, identity())
    assert winner.id == winner_id == max(ids)
    assert winner.payload.response == next(text for one, text in outcomes if one.entry_id == winner_id)
    assert store.stats().entries == 1
    held = store.scope_vectors(identity().scope, 100)
    assert held is not None
    assert held.ids.tolist() == [winner_id]


def test_readers_see_whole_entries_while_writers_write(store: ResponseStore) -> None:
    """Under replacing writers each read is one of the entries written, never a mixture, and never absent."""
    put(store, draft("k", b"0" * 2000))
    done = threading.Event()

    def write(first: int) -> None:
        for n in range(first, first + 30):
            put(store, draft("k", str(n % 10).encode() * 2000, created_ms=NOW_MS + n))

    def read() -> int:
        reads = 0
        of = identity("k")
        while not (done.is_set() and reads):
            response = found(store, of).payload.response
            assert len(response) == 2000
            assert len(set(response)) == 1
            reads += 1
        return reads

    with ThreadPoolExecutor(5) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for writer in [pool.submit(write, first) for first in (0, 100, 200)]:
                writer.result()
        finally:
            done.set()
        assert all(reader.result() > 0 for reader in readers)
    assert store.stats().entries == 1


def test_a_view_that_follows_the_log_ends_with_the_store(store: ResponseStore) -> None:
    """Replaying the log from its start gives the entries that are there."""
    for n in range(60):
        put(store, draft(str(n % 17), created_ms=NOW_MS + n))
        if n % 5 == 0:
            store.evict(2)
    present: set[int] = set()
    after = 0
    while changes := store.changes(after, 7):
        for change in changes:
            (present.add if change.added else present.discard)(change.entry_id)
        after = changes[-1].sequence
    assert after == store.sequence()
    assert len(present) == store.stats().entries
    assert all(isinstance(row, Entry) for row in store.fetch(identity().scope, sorted(present)))


@pytest.mark.parametrize("reach", [4, 1])
def test_a_trimmed_log_says_so(tmp_path: Path, reach: int) -> None:
    """Who is further behind than the log reaches gets None; who is not gets every change."""
    store = lmdb_store(tmp_path / "store", log_max_records=reach)
    try:
        for n in range(10):
            put(store, draft(str(n)))
        assert store.sequence() == 10
        assert store.changes(10 - reach - 1, 10) is None
        assert store.changes(0, 10) is None
        kept = store.changes(10 - reach, 10)
        assert kept is not None
        assert [change.sequence for change in kept] == list(range(11 - reach, 11))
        assert store.changes(10, 10) == []
        assert store.check() == []
    finally:
        store.close()


def test_a_log_made_shorter_shrinks(tmp_path: Path) -> None:
    """A store reopened with a shorter log trims it in bounded steps and stays in order."""
    store = lmdb_store(tmp_path / "store")
    put(store, *(draft(str(n)) for n in range(1500)))
    store.close()
    store = lmdb_store(tmp_path / "store", log_max_records=10)
    try:
        put(store, draft("more"))
        assert store.changes(400, 1) is None
        assert store.changes(1200, 1) is not None
        put(store, draft("and more"))
        assert store.changes(1400, 1) is None
        assert len(store.changes(1492, 100) or ()) == 10
    finally:
        store.close()


# ------------------------------------------------------- order of eviction, quotas, sliding expiry


@pytest.fixture(params=["lmdb", "memory"])
def make(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[EvictionPolicy], ResponseStore]]:
    """Makes a store with a policy of eviction; clean by its own account at the end."""
    made: list[LmdbStore] = []

    def with_policy(eviction: EvictionPolicy) -> ResponseStore:
        if request.param == "memory":
            return MemoryStore(eviction=eviction)
        made.append(lmdb_store(tmp_path / f"store-{len(made)}", eviction=eviction))
        return made[-1]

    yield with_policy
    for store in made:
        assert store.check() == []
        store.close()


def priced(text: str, cost_usd: float, response_bytes: int = 100) -> Draft:
    return replace(draft(text), payload=Payload(b"r" * response_bytes, cost_usd=cost_usd))


@pytest.mark.parametrize(
    ("eviction", "order"),
    [("lru", ["a", "b", "c", "d"]), ("lfu", ["d", "c", "a", "b"]), ("gdsf", ["c", "b", "d", "a"])],
)
def test_each_policy_has_its_order(
    make: Callable[[EvictionPolicy], ResponseStore], eviction: EvictionPolicy, order: list[str]
) -> None:
    """lru: by last use. lfu: by number of uses. gdsf: by money saved and use for the size."""
    store = make(eviction)
    drafts = [priced("a", 0.1), priced("b", 0.001), priced("c", 0.02, 100_000), priced("d", 0.01)]
    a, b, c, d = (receipt.entry_id for receipt in put(store, *drafts))
    store.touch({a: Use(NOW_MS + 1, 2)})
    store.touch({b: Use(NOW_MS + 2, 5)})
    store.touch({c: Use(NOW_MS + 3, 1)})
    if eviction != "lfu":
        store.touch({d: Use(NOW_MS + 4, 1)})
    gone = []
    for _ in order:
        before = left(store, order)
        assert store.evict(1) == 1
        gone += [text for text in before if text not in left(store, order)]
    assert gone == order


def test_what_was_once_worth_much_grows_old(make: Callable[[EvictionPolicy], ResponseStore]) -> None:
    """With gdsf an entry that nobody asks for any more goes at last, however dear it was."""
    store = make("gdsf")
    put(store, priced("dear", 0.05))
    for n in range(200):
        put(store, priced(f"cheap {n}", 0.001))
        store.evict(1)
        if not left(store, ["dear"]):
            break
    assert left(store, ["dear"]) == []
    assert n > 10


def test_a_namespace_is_evicted_by_itself(store: ResponseStore) -> None:
    """Eviction in a namespace takes nothing from another; eviction in all takes the least of all."""
    put(store, *(draft(f"{n}", namespace="one", created_ms=NOW_MS + n) for n in range(3)))
    put(store, *(draft(f"{n}", namespace="two", created_ms=NOW_MS - 10 + n) for n in range(3)))
    assert store.evict(2, "one") == 2
    assert {usage.namespace: usage.entries for usage in store.usage(10)} == {"one": 1, "two": 3}
    assert store.evict(1) == 1
    assert {usage.namespace: usage.entries for usage in store.usage(10)} == {"one": 1, "two": 2}
    assert store.evict(10, "nobody") == 0


@pytest.mark.parametrize("quota", [Quota(max_entries=3), Quota(max_bytes=3 * 1600)], ids=["entries", "bytes"])
def test_a_quota_is_kept_by_the_store_itself(store: ResponseStore, quota: Quota) -> None:
    """However much is stored a namespace holds no more than its quota, and the newest stays."""
    put(store, draft("other", namespace="two"))
    evicted = 0
    for n in range(8):
        one = replace(draft(f"{n}", b"r" * 1000, created_ms=NOW_MS + n), quota=quota)
        evicted += put(store, one)[0].evicted_count
        assert left(store, [f"{n}"]) == [f"{n}"]
    usage = {one.namespace: one for one in store.usage(10)}
    assert usage["default"].entries == 3
    assert usage["two"].entries == 1
    assert evicted == 5
    assert left(store, [f"{n}" for n in range(8)]) == ["5", "6", "7"]


def test_an_entry_larger_than_its_quota_stays_alone(store: ResponseStore) -> None:
    """What was acknowledged is there, even when it is larger than the whole quota."""
    put(store, draft("small"))
    put(store, replace(draft("large", b"r" * 10_000), quota=Quota(max_bytes=1000)))
    assert left(store, ["small", "large"]) == ["large"]


def test_usage_counts_what_is_there(store: ResponseStore) -> None:
    """Accounts follow stores, replacements and removals; a namespace without entries has none."""
    assert store.usage(10) == []
    put(store, draft("a", b"r" * 100), draft("b", namespace="two", row=vector(1)))
    put(store, draft("a", b"r" * 5000))
    large, small = store.usage(10)
    assert (large.namespace, large.entries, small.namespace, small.entries) == ("default", 1, "two", 1)
    assert large.size_bytes - 5000 == small.size_bytes - 1 - vector(1).nbytes
    assert store.usage(1) == [large]
    store.evict(10)
    assert store.usage(10) == []


def test_a_sliding_expiry_moves_with_use(store: ResponseStore) -> None:
    """Each use lets the entry live for its time again, never past its latest end, and nothing else changes."""
    sliding = replace(draft(expires_ms=NOW_MS + 100), sliding_ms=100, latest_ms=NOW_MS + 180)
    entry_id = put_one(store, sliding)
    before = found(store, identity())
    store.touch({entry_id: Use(NOW_MS + 5, 1)})
    assert found(store, identity()).expires_ms == NOW_MS + 100  # too little to write for
    store.touch({entry_id: Use(NOW_MS + 50, 1)})
    assert found(store, identity()) == replace(before, expires_ms=NOW_MS + 150)
    assert store.expire(NOW_MS + 120, 10) == 0
    store.touch({entry_id: Use(NOW_MS + 140, 1)})
    assert found(store, identity()).expires_ms == NOW_MS + 180
    assert store.expire(NOW_MS + 180, 10) == 1


def test_a_fixed_expiry_stays(store: ResponseStore) -> None:
    """Without sliding, use moves no expiry."""
    entry_id = put_one(store, draft(expires_ms=NOW_MS + 100))
    store.touch({entry_id: Use(NOW_MS + 90, 3)})
    assert found(store, identity()).expires_ms == NOW_MS + 100


# ------------------------------------------------------------------ selection and invalidation

_PUT: dict[str, Draft] = {
    "plain": draft("plain"),
    "red": replace(draft("red"), payload=Payload(b"r", tags=("red",))),
    "red and blue": replace(draft("red and blue"), payload=Payload(b"r", tags=("blue", "red"))),
    "doc 1": replace(draft("doc 1"), payload=Payload(b"r", sources=(Source("doc", "1"),))),
    "doc 2": replace(draft("doc 2"), payload=Payload(b"r", sources=(Source("doc", "2"), Source("x", "1")))),
    "old": draft("old", created_ms=NOW_MS - 1000),
    "near": draft("near", row=vector(1)),
    "far": draft("far", row=vector(2)),
    "elsewhere": replace(draft("elsewhere", namespace="two"), payload=Payload(b"r", tags=("red",))),
}

_SELECTORS = [
    pytest.param(Selector(), set(_PUT), id="everything"),
    pytest.param(Selector(namespace="two"), {"elsewhere"}, id="a namespace"),
    pytest.param(Selector(namespace="three"), set(), id="no such namespace"),
    pytest.param(Selector(tags=("red",)), {"red", "red and blue", "elsewhere"}, id="a tag"),
    pytest.param(
        Selector(namespace="default", tags=("red",)), {"red", "red and blue"}, id="a tag in a namespace"
    ),
    pytest.param(Selector(tags=("red", "blue")), {"red and blue"}, id="all tags"),
    pytest.param(Selector(tags=("re",)), set(), id="the beginning of a tag"),
    pytest.param(Selector(source_id="doc"), {"doc 1", "doc 2"}, id="a source"),
    pytest.param(Selector(source_id="doc", except_version="2"), {"doc 1"}, id="a source but one version"),
    pytest.param(Selector(source_id="x", except_version="1"), set(), id="a source that is current"),
    pytest.param(Selector(source_id="doc", tags=("red",)), set(), id="source and tag"),
    pytest.param(Selector(model="m"), set(_PUT), id="the model"),
    pytest.param(Selector(model="other"), set(), id="another model"),
    pytest.param(Selector(before_ms=NOW_MS), {"old"}, id="older"),
    pytest.param(Selector(since_ms=NOW_MS), set(_PUT) - {"old"}, id="newer"),
    pytest.param(Selector(near=Near(vector(1), 0.99)), {"near"}, id="near"),
    pytest.param(Selector(near=Near(vector(1), -1.0)), {"near", "far"}, id="anything with a vector"),
]


def walked(store: ResponseStore, selector: Selector, limit: int) -> list[Match]:
    matches: list[Match] = []
    after = None
    while True:
        part = store.select(selector, after, limit)
        assert len(part.matches) <= limit
        matches += part.matches
        after = part.after
        if after is None:
            return matches


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(("selector", "meant"), _SELECTORS)
def test_a_selector_means_what_it_says(
    store: ResponseStore, selector: Selector, meant: set[str], limit: int
) -> None:
    """In steps of any size a walk finds every entry that meets all criteria, once, and no other."""
    names = dict(zip((r.entry_id for r in put(store, *_PUT.values())), _PUT, strict=True))
    matches = walked(store, selector, limit)
    assert [names[match.entry_id] for match in matches] == [name for name in _PUT if name in meant]
    assert all(match.semantic == (names[match.entry_id] in ("near", "far")) for match in matches)
    if selector.near is not None and "near" in meant:
        assert matches[0].score == pytest.approx(1.0)


@pytest.mark.parametrize(("selector", "meant"), _SELECTORS)
def test_what_is_forbidden_is_not_stored_later(
    store: ResponseStore, selector: Selector, meant: set[str]
) -> None:
    """What began before an invalidation and is meant by it is refused; all else, and what begins after, is stored."""
    epoch = store.epoch()
    assert store.forbid(selector) == store.epoch() == epoch + 1
    begun = [replace(one, epoch=epoch) for one in _PUT.values()]
    refused = {name for name, receipt in zip(_PUT, store.put(begun, None), strict=True) if receipt is None}
    assert refused == meant
    assert store.stats().entries == len(_PUT) - len(meant)
    begun = [replace(one, epoch=store.epoch()) for one in _PUT.values()]
    assert None not in store.put(begun, None)


def test_a_walk_goes_on_where_it_ended_while_entries_come_and_go(store: ResponseStore) -> None:
    """A place in a walk stays good when what was there is removed."""
    ids = [r.entry_id for r in put(store, *(draft(str(n)) for n in range(6)))]
    part = store.select(Selector(), None, 2)
    store.remove([match.entry_id for match in part.matches] + [ids[3]])
    late = put_one(store, draft("late"))
    rest = store.select(Selector(), part.after, 100)
    assert [match.entry_id for match in rest.matches] == [ids[2], ids[4], ids[5], late]


def test_a_walk_may_begin_with_what_is_new(store: ResponseStore) -> None:
    """From ``next_id`` on there is what was stored since, in every namespace."""
    put(store, *(draft(str(n), namespace=f"n{n}") for n in range(4)))
    new_id = store.next_id()
    late = [put_one(store, draft("late", namespace=f"n{n}")) for n in (1, 3, 5)]
    for selector in (Selector(), Selector(namespace="n3")):
        matches = store.select(selector, None, 100, new_id).matches
        assert [match.entry_id for match in matches] == (late if selector.namespace is None else [late[1]])


def test_hits_are_counted(store: ResponseStore) -> None:
    """A match tells how often the entry was used."""
    entry_id = put_one(store, draft())
    store.touch({entry_id: Use(NOW_MS, 2)})
    store.touch({entry_id: Use(NOW_MS, 3)})
    assert [match.hits for match in store.select(Selector(), None, 9).matches] == [5]


def test_bans_are_remembered_and_bounded(tmp_path: Path) -> None:
    """After a restart an invalidation still holds; what began before the oldest one remembered is refused."""
    store = lmdb_store(tmp_path / "store")
    for n in range(2060):
        store.forbid(Selector(namespace=f"n{n}"))
    store.close()
    store = lmdb_store(tmp_path / "store")
    try:
        assert store.epoch() == 2060
        assert store.put([replace(draft(), epoch=5)], None) == [None]
        assert store.put([replace(draft(), epoch=2059)], None) != [None]
        assert store.put([replace(draft(namespace="n2059"), epoch=2059)], None) == [None]
        assert store.check() == []
    finally:
        store.close()


def test_another_policy_ranks_anew(tmp_path: Path) -> None:
    """Opened with another policy a store puts every entry where that one has it, in bounded steps."""
    store = lmdb_store(tmp_path / "store", eviction="lru")
    dear, cheap = put(store, priced("dear", 0.9), replace(priced("cheap", 0.001), created_ms=NOW_MS + 5))
    assert store.reorder(10) == 0
    store.close()
    store = lmdb_store(tmp_path / "store", eviction="gdsf")
    try:
        assert store.reorder(1) == 1
        assert store.reorder(1) == 1
        assert store.reorder(1) == 0
        assert store.reorder(1) == 0
        assert store.evict(1) == 1
        assert store.get(cheap.entry_id) is None
        assert store.get(dear.entry_id) is not None
        assert store.check() == []
    finally:
        store.close()
