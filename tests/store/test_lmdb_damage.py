"""One damaged record of a known kind: it is never served, and can be dropped or written over."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import lmdb
import msgspec
import numpy as np
import pytest

from cachesvc.adapters.lmdb_begin import target_of
from cachesvc.adapters.lmdb_records import Sealer, Usage, source_digest
from cachesvc.adapters.lmdb_rewrite import rewrite
from cachesvc.adapters.lmdb_schema import (
    EPOCH,
    NEXT_ID,
    SEQUENCE,
    StoreIdentity,
    Tables,
    get,
    key_of,
    vector_key,
)
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.identity import identify
from cachesvc.core.selection import Near, Selector
from cachesvc.core.types import Change, Draft, Entry, Identity, Lost, Message, Payload, Request, Source, Use

A, B = 1, 2
Damage: TypeAlias = Callable[[lmdb.Transaction, Tables], object]


def identity(text: str) -> Identity:
    return identify(Request("default", (Message("user", text),), "m", {}), "engine:test")


def draft(text: str, response: bytes = b"answer") -> Draft:
    tagged = Payload(response + text.encode(), tags=("t",), sources=(Source("doc", "1"),))
    return Draft(identity(text), tagged, text, np.ones(4, np.float32), 0, 1 << 50)


ONE = identity("a")
VECTOR_A = vector_key(ONE.scope, key_of(A))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    """A store with the entries a (id 1) and b (id 2) of one scope."""
    options = StoreOptions(tmp_path / "store", 8 << 20, 4 << 20, "async", 64, 1024, 1000)
    with closing(LmdbStore(options, "engine:test")) as made:
        made.put([draft("a"), draft("b")], None)
        yield made


def replaced(store: LmdbStore, by: Draft) -> int | None:
    receipt = store.put([by], None)[0]
    return None if receipt is None else receipt.replaced_id


def damage(store: LmdbStore, how: Damage) -> None:
    """On the writer's thread, as every write."""
    store._writer.run(lambda write: how(write._txn, store._tables))


def flip(table: str, key: bytes) -> Damage:
    """The first bit of the last byte of the record but the digest."""

    def how(txn: lmdb.Transaction, tables: Tables) -> None:
        data = bytearray(get(txn, getattr(tables, table), key) or b"")
        data[-17] ^= 1
        txn.put(key, bytes(data), db=getattr(tables, table))

    return how


def put(table: str, key: bytes, value: bytes) -> Damage:
    return lambda txn, tables: txn.put(key, value, db=getattr(tables, table))


def delete(table: str, key: bytes) -> Damage:
    return lambda txn, tables: txn.delete(key, db=getattr(tables, table))


def copy_b_over_a(txn: lmdb.Transaction, tables: Tables) -> None:
    txn.put(key_of(A), get(txn, tables.entries, key_of(B)) or b"", db=tables.entries)


BODY_DAMAGES = [
    pytest.param(flip("entries", key_of(A)), id="bit flipped"),
    pytest.param(copy_b_over_a, id="another entry's record"),
    pytest.param(put("entries", key_of(A), b""), id="empty record"),
    pytest.param(put("entries", key_of(A), b"\x01\x00" + b"x" * 40), id="garbage"),
]


@pytest.mark.parametrize("how", BODY_DAMAGES)
def test_a_damaged_body_is_lost_and_can_be_dropped(store: LmdbStore, how: Damage) -> None:
    """Every read says corrupt, check tells of it, dropping it leaves a clean store and its neighbour."""
    damage(store, how)
    assert store.find(ONE.scope, ONE.exact_key) == Lost(A, corrupt=True)
    a, b = store.fetch(ONE.scope, [A, B])
    assert a == Lost(A, corrupt=True)
    assert isinstance(b, Entry)
    assert store.get(A) == Lost(A, corrupt=True)
    assert store.check() != []
    assert store.remove([A]) == 1
    assert store.check() == []
    assert store.find(ONE.scope, ONE.exact_key) is None


@pytest.mark.parametrize("how", BODY_DAMAGES)
def test_a_damaged_body_can_be_written_over(store: LmdbStore, how: Damage) -> None:
    """Storing the same identity again replaces it."""
    damage(store, how)
    assert replaced(store, draft("a", b"new ")) == A
    row = store.find(ONE.scope, ONE.exact_key)
    assert isinstance(row, Entry)
    assert row.payload.response == b"new a"
    assert store.check() == []


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(flip("heads", key_of(A)), id="bit flipped"),
        pytest.param(put("heads", key_of(A), b""), id="empty record"),
    ],
)
@pytest.mark.parametrize("way", ["remove", "replace", "evict", "expire"])
def test_an_entry_with_a_damaged_head_can_be_removed(store: LmdbStore, how: Damage, way: str) -> None:
    """Without its head an entry is found in every table all the same, whoever removes it."""
    damage(store, how)
    store.touch({A: Use(5, 1)})
    assert store.check() != []
    if way == "remove":
        assert store.remove([A]) == 1
    elif way == "replace":
        assert replaced(store, draft("a")) == A
    else:
        assert (store.evict(2) if way == "evict" else store.expire(1 << 51, 2)) == 2
    assert store.check() == []
    changes = store.changes(2, 10)
    assert changes is not None
    assert Change(3, ONE.scope, A, added=False) in changes


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(flip("vectors", VECTOR_A), id="bit flipped"),
        pytest.param(put("vectors", VECTOR_A, b""), id="empty record"),
        pytest.param(put("vectors", VECTOR_A, b"\0" * 32), id="zeros"),
    ],
)
def test_a_damaged_vector_is_left_out(store: LmdbStore, how: Damage) -> None:
    """No index sees it; the exact tier goes on."""
    damage(store, how)
    assert store.vectors(ONE.scope, [A]) == [None]
    held = store.scope_vectors(ONE.scope, 10)
    assert held is not None
    assert held.ids.tolist() == [B]
    assert isinstance(store.find(ONE.scope, ONE.exact_key), Entry)
    assert store.check() != []


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(key_of(B), id="another entry of the scope"),
        pytest.param(key_of(999), id="no entry"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x01", id="too short"),
        pytest.param(b"\xff" * 8, id="the largest id"),
        pytest.param(b"\xff" * 9, id="too long"),
    ],
)
def test_an_exact_key_that_names_another_entry_is_a_loss(store: LmdbStore, value: bytes) -> None:
    """The identity of what is found is checked, and storing it again makes it good."""
    damage(store, put("exact", ONE.exact_key, value))
    row = store.find(ONE.scope, ONE.exact_key)
    assert not isinstance(row, Entry) or row.exact_key == ONE.exact_key
    store.put([draft("a", b"new ")], None)
    row = store.find(ONE.scope, ONE.exact_key)
    assert isinstance(row, Entry)
    assert row.payload.response == b"new a"


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(flip("log", key_of(2)), id="bit flipped"),
        pytest.param(put("log", key_of(2), b""), id="empty record"),
    ],
)
def test_a_damaged_log_is_one_that_does_not_reach_back(store: LmdbStore, how: Damage) -> None:
    """Views are told to read anew rather than something else."""
    damage(store, how)
    assert store.changes(0, 10) is None
    assert store.changes(1, 10) is None
    assert store.changes(2, 10) == []
    assert store.check() != []


def test_a_gap_in_the_log_is_never_passed_over(store: LmdbStore) -> None:
    """A record that is missing in the middle is not skipped in silence."""
    store.put([draft("c"), draft("d")], None)
    damage(store, delete("log", key_of(3)))
    changes = store.changes(0, 10)
    assert changes is None or [change.sequence for change in changes] == [1, 2]
    assert store.check() != []


def sealed_head(**changes: Any) -> Damage:
    """Entry a's head with other values, its digest as it should be."""

    def how(txn: lmdb.Transaction, tables: Tables) -> None:
        sealer = Sealer((tables.identity(txn) or NOBODY).mac_key, 1 << 20)
        head = tables.head(txn, sealer, A)
        assert head is not None
        changed = sealer.seal(msgspec.structs.replace(head, **changes), key_of(A))
        txn.put(key_of(A), changed, db=tables.heads)

    return how


def sealed_usage(namespace: bytes, entries: int, size_bytes: int) -> Damage:
    """An account of other values, its digest as it should be."""

    def how(txn: lmdb.Transaction, tables: Tables) -> None:
        sealer = Sealer((tables.identity(txn) or NOBODY).mac_key, 1 << 20)
        txn.put(namespace, sealer.seal(Usage(entries, size_bytes), namespace), db=tables.usage)

    return how


NOBODY = StoreIdentity(0, "", bytes(32))
NOWHERE = key_of(77)
SEEDED = [
    pytest.param(delete("entries", key_of(A)), "has a head but no record", id="no record"),
    pytest.param(delete("heads", key_of(A)), "has a record but no head", id="no head"),
    pytest.param(delete("vectors", VECTOR_A), "otherwise than there is of a vector", id="no vector"),
    pytest.param(delete("exact", ONE.exact_key), "table exact: 1 keys are missing", id="no exact key"),
    pytest.param(put("exact", ONE.exact_key, key_of(B)), "names another entry", id="another's exact key"),
    pytest.param(
        put("exact", b"x" * 32, NOWHERE), "table exact: 1 keys belong to no", id="exact key of none"
    ),
    pytest.param(put("members", b"default\0" + NOWHERE, b""), "members: 1 keys belong", id="member of none"),
    pytest.param(put("tags", b"default\0t\0" + NOWHERE, b""), "tags: 1 keys belong", id="tag of none"),
    pytest.param(put("tags", b"default\0u\0" + key_of(A), b""), "tags: 1 keys belong", id="tag too many"),
    pytest.param(
        put("sources", b"default\0" + source_digest("x") + key_of(A), b""), "sources: 1 keys", id="source"
    ),
    pytest.param(put("expiry", key_of(5) + key_of(A), b""), "expiry: 1 keys belong", id="another expiry"),
    pytest.param(put("order", b"default\0" + bytes(16) + key_of(A), b""), "order: 1 keys", id="another rank"),
    pytest.param(
        put("vectors", vector_key(ONE.scope, NOWHERE), b"x"), "belongs to no entry", id="vector of none"
    ),
    pytest.param(sealed_head(size_bytes=1), "entry 1: its size is not", id="size"),
    pytest.param(sealed_head(expires_ms=1), "head and record disagree", id="expiry in the head"),
    pytest.param(sealed_head(tags=["u"]), "head and record disagree", id="tags in the head"),
    pytest.param(sealed_head(rank=0.5), "order: 1 keys are missing", id="rank in the head"),
    pytest.param(sealed_head(semantic=False), "otherwise than there is of a vector", id="tier in the head"),
    pytest.param(sealed_usage(b"default", 2, 1), "is not what its entries come to", id="bytes of an account"),
    pytest.param(sealed_usage(b"default", 9, 1), "is not what its entries come to", id="count of an account"),
    pytest.param(sealed_usage(b"gone", 1, 1), "is not what its entries come to", id="account of nobody"),
    pytest.param(delete("usage", b"default"), "1 namespaces have no account", id="no account"),
    pytest.param(put("meta", NEXT_ID, key_of(B)), "entry 2: its id was not yet given out", id="next id"),
    pytest.param(put("meta", SEQUENCE, key_of(1)), "log: ends at 2", id="sequence"),
    pytest.param(put("meta", EPOCH, key_of(0)), "bans: end at 1", id="epoch"),
]


@pytest.mark.parametrize(("how", "message"), SEEDED)
def test_check_says_what_disagrees_and_a_rebuild_mends_it(
    tmp_path: Path, store: LmdbStore, how: Damage, message: str
) -> None:
    """Each disagreement between two tables has its sentence, and none is left by a rebuild."""
    store.forbid(Selector(tags=("none",)))
    damage(store, how)
    assert any(message in problem for problem in store.check()), store.check()
    store.backup(_made(tmp_path / "copy"))
    options = dataclasses.replace(store._options, path=tmp_path / "copy")
    rewrite(options.path, target_of(options, "engine:test"), lambda _: None)
    with closing(LmdbStore(options, "engine:test")) as mended:
        assert mended.check() == []
        assert mended.put([draft("c")], None)[0] is not None


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700)
    return directory


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("exact", ONE.exact_key),
        ("entries", key_of(A)),
        ("heads", key_of(A)),
        ("log", key_of(1)),
        ("expiry", key_of(1 << 50) + key_of(A)),
        ("members", b"default\0" + key_of(A)),
        ("sources", b"default\0" + source_digest("doc") + key_of(A)),
        ("usage", b"default"),
        ("vectors", VECTOR_A),
        ("tags", b"default\0t\0" + key_of(A)),
    ],
)
def test_check_misses_nothing(store: LmdbStore, table: str, key: bytes) -> None:
    """A record gone from any table is a disagreement, but the log's oldest, which is trimmed in time."""
    assert store.check() == []
    damage(store, delete(table, key))
    assert (store.check() == []) == (table == "log")


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(lambda txn, tables: txn.drop(tables.firsts, delete=False), id="lost"),
        pytest.param(put("firsts", bytes(24) + b"nobody", b""), id="one of nobody"),
        pytest.param(put("firsts", bytes(24) + b"default", b""), id="one too many"),
    ],
)
def test_damaged_firsts_are_told_and_eviction_mends_them(store: LmdbStore, how: Damage) -> None:
    """Whatever the firsts tell, all entries can be evicted, and then the store is clean."""
    damage(store, how)
    assert [problem for problem in store.check() if "firsts" in problem]
    assert sum(store.evict(10) for _ in range(2)) == 2
    assert store.check() == []


@pytest.mark.parametrize(
    ("how", "near"),
    [
        pytest.param(flip("heads", key_of(A)), None, id="head"),
        pytest.param(flip("heads", key_of(A)), Near(np.full(4, 0.5, np.float32), 0.5), id="head, by meaning"),
        pytest.param(flip("vectors", VECTOR_A), Near(np.full(4, 0.5, np.float32), 0.5), id="vector"),
    ],
)
def test_what_cannot_be_judged_is_named(store: LmdbStore, how: Damage, near: Near | None) -> None:
    """A selection tells of entries that it may mean and cannot read: an invalidation must not leave them."""
    damage(store, how)
    selection = store.select(Selector(tags=("t",), near=near), None, 10)
    assert [match.entry_id for match in selection.matches] == [B]
    assert selection.damaged == (A,)
    assert store.remove(selection.damaged) == 1
    assert store.find(ONE.scope, ONE.exact_key) is None
    assert store.check() == []
