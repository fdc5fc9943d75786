"""The tables of a store: their keys, and reads of their small values.

| table   | key                                | value              |
|---------|------------------------------------|--------------------|
| meta    | name                               | small values       |
| entries | id                                 | sealed EntryBody   |
| heads   | id                                 | sealed Head        |
| vectors | first bytes of scope, id           | float16s, MAC      |
| exact   | exact key                          | id                 |
| members | namespace, 0, id                   | –                  |
| tags    | namespace, 0, tag, 0, id           | –                  |
| sources | namespace, 0, digest of its id, id | –                  |
| expiry  | expires_ms, id                     | –                  |
| order   | namespace, 0, rank, used_ms, id    | –                  |
| firsts  | rank, used_ms, id, namespace       | –                  |
| usage   | namespace                          | sealed Usage       |
| bans    | epoch                              | sealed Ban         |
| log     | sequence                           | sealed LogRecord   |

Integers are 8 bytes big-endian, and ranks floats of that length that are never negative, so that ranges
scan in order. Keys of vectors begin with ``SCOPE_KEY_BYTES`` of their scope only, so that five of 384 dimensions
share a page; their digests bind all of it. ``firsts`` has each namespace under the first of its places in
``order``. What one entry has in all tables is written and removed in one transaction, together with
its log record (``lmdb_write``). Ids, sequence numbers and epochs only grow and are never used twice. The
log keeps its last ``log_max_records``; who is further behind reads the tables anew.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import lmdb
import msgspec

from cachesvc.adapters.lmdb_records import Head, Sealer
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.types import Session

SCHEMA_VERSION = 3

SCOPE_KEY_BYTES = 12
PLACE_BYTES = 24  # rank, used_ms, id
KEY_BYTES = 8  # of an integer
_BALLAST_BYTES = 256 << 10
_RANK = struct.Struct(">d")
Table: TypeAlias = Any  # lmdb's handle of a named database

_SCHEMA = b"schema_version"
_FINGERPRINT = b"fingerprint"
_MAC_KEY = b"mac_key"
_BALLAST = b"ballast"
_SESSIONS = b"sessions"
_MAX_SESSIONS = 64
NEXT_ID = b"next_id"
SEQUENCE = b"sequence"
CLOCK = b"clock_ms"
EPOCH = b"epoch"
INFLATION = b"inflation"
RANKED_BY = b"ranked_by"
REORDER_AFTER = b"reorder_after"  # there while entries have ranks of another policy


def key_of(number: int) -> bytes:
    """An integer as a key."""
    return number.to_bytes(KEY_BYTES, "big")


def integer(key: bytes) -> int:
    """A key as the integer it is."""
    return int.from_bytes(key, "big")


def is_key(value: bytes) -> bool:
    """Whether a value can be an id. What LMDB returns may be damaged."""
    return len(value) == KEY_BYTES


def get(txn: lmdb.Transaction, table: Table, key: bytes) -> bytes | None:
    """A value, or None. (LMDB's types allow for memory views, which are never asked for here.)"""
    return cast("bytes | None", txn.get(key, db=table))


def scan(txn: lmdb.Transaction, table: Table, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in key order, from ``start`` on."""
    with txn.cursor(db=table) as cursor:
        if cursor.set_range(start):
            yield from cast("Iterator[tuple[bytes, bytes]]", cursor.iternext())


@dataclass(frozen=True, slots=True)
class StoreIdentity:
    """What makes a store readable: its schema, its embedder, its key."""

    schema_version: int
    fingerprint: str
    mac_key: bytes


class Tables:
    """Handles of the named databases, and reads of their small values."""

    NAMES = (
        *("meta", "entries", "heads", "vectors", "exact", "members", "tags", "sources"),
        *("expiry", "order", "firsts", "usage", "bans", "log"),
    )
    COUNT = len(NAMES)

    def __init__(
        self, env: lmdb.Environment, map_size_bytes: int, old: lmdb.Transaction | None = None
    ) -> None:
        """Open or create them. ``old``: of a store that is only read and may lack what came later."""
        self.ballast_bytes = min(_BALLAST_BYTES, map_size_bytes // 8)
        handles = {name: _open_table(env, name, old) for name in self.NAMES}
        self.meta = handles["meta"]
        self.entries = handles["entries"]
        self.heads = handles["heads"]
        self.vectors = handles["vectors"]
        self.exact = handles["exact"]
        self.members = handles["members"]
        self.tags = handles["tags"]
        self.sources = handles["sources"]
        self.expiry = handles["expiry"]
        self.order = handles["order"]
        self.firsts = handles["firsts"]
        self.usage = handles["usage"]
        self.bans = handles["bans"]
        self.log = handles["log"]
        self._counted = tuple(handle for name, handle in handles.items() if name != "meta")

    def identity(self, txn: lmdb.Transaction) -> StoreIdentity | None:
        """None for a new store. Raises CORRUPT when part of it is missing."""
        schema = get(txn, self.meta, _SCHEMA)
        if schema is None:
            return None
        fingerprint, mac_key = get(txn, self.meta, _FINGERPRINT), get(txn, self.meta, _MAC_KEY)
        if fingerprint is None or mac_key is None or len(mac_key) != 32:
            raise CacheError(Kind.CORRUPT, "the store's meta table is damaged: move the directory aside")
        return StoreIdentity(integer(schema), fingerprint.decode("utf-8", "replace"), mac_key)

    def create_identity(self, txn: lmdb.Transaction, fingerprint: str, mac_key: bytes | None = None) -> bytes:
        """Make a new store this schema's and this embedder's. Returns its MAC key."""
        mac_key = mac_key or os.urandom(32)
        txn.put(_SCHEMA, key_of(SCHEMA_VERSION), db=self.meta)
        txn.put(_FINGERPRINT, fingerprint.encode(), db=self.meta)
        txn.put(_MAC_KEY, mac_key, db=self.meta)
        self.put_ballast(txn)
        return mac_key

    def put_ballast(self, txn: lmdb.Transaction) -> None:
        """Hold some pages back. A removal copies a page or two of every table, and a full map has none left."""
        if get(txn, self.meta, _BALLAST) is None:
            txn.put(_BALLAST, bytes(self.ballast_bytes), db=self.meta)

    def next_transaction(self, txn: lmdb.Transaction) -> None:
        """Change nothing, but take a commit."""
        txn.put(CLOCK, key_of(self.clock_ms(txn)), db=self.meta)

    def drop_ballast(self, txn: lmdb.Transaction) -> bool:
        """Free those pages. Whether they were held."""
        return bool(txn.delete(_BALLAST, db=self.meta))

    def carry_counters(self, txn: lmdb.Transaction, old: lmdb.Transaction, old_tables: "Tables") -> None:
        """Go on counting where another store stands: ids, sequences, epochs and time never go back."""
        for name in (NEXT_ID, SEQUENCE, CLOCK, EPOCH, INFLATION):
            value = get(old, old_tables.meta, name)
            if value is not None:
                txn.put(name, value, db=self.meta)

    def skip_sequence(self, txn: lmdb.Transaction) -> None:
        """Who has followed the log so far cannot follow it on: it has to read the tables anew."""
        txn.put(SEQUENCE, key_of(self.sequence(txn) + 1), db=self.meta)

    def begin_session(self, txn: lmdb.Transaction) -> None:
        """Note that the store is opened: what was saved beside it knows by this whether it is of its past."""
        sessions = [*self.sessions(txn), Session(os.urandom(16), self.sequence(txn))]
        packed = [(session.name, session.began) for session in sessions[-_MAX_SESSIONS:]]
        txn.put(_SESSIONS, msgspec.msgpack.encode(packed), db=self.meta)

    def sessions(self, txn: lmdb.Transaction) -> list[Session]:
        """The last sessions, oldest first; none when what is noted of them is damaged."""
        try:
            packed = msgspec.msgpack.decode(
                get(txn, self.meta, _SESSIONS) or b"\x90", type=list[tuple[bytes, int]]
            )
        except msgspec.MsgspecError:
            return []
        return [Session(name, began) for name, began in packed]

    def rank_by(self, txn: lmdb.Transaction, policy: str) -> None:
        """Say how entries are ranked. Those ranked by another policy are to be ranked anew, bit by bit."""
        before = get(txn, self.meta, RANKED_BY)
        if before != policy.encode():
            txn.put(RANKED_BY, policy.encode(), db=self.meta)
            if before is not None:
                txn.put(REORDER_AFTER, key_of(0), db=self.meta)

    def is_reordering(self, txn: lmdb.Transaction) -> bool:
        """Whether there are entries ranked by another policy."""
        return get(txn, self.meta, REORDER_AFTER) is not None

    def sequence(self, txn: lmdb.Transaction) -> int:
        """Of the last change; 0 before the first."""
        return integer(get(txn, self.meta, SEQUENCE) or b"")

    def next_id(self, txn: lmdb.Transaction) -> int:
        """The id that the next entry gets; from 1."""
        return integer(get(txn, self.meta, NEXT_ID) or key_of(1))

    def clock_ms(self, txn: lmdb.Transaction) -> int:
        """The time of the last write; 0 before the first."""
        return integer(get(txn, self.meta, CLOCK) or b"")

    def epoch(self, txn: lmdb.Transaction) -> int:
        """Of the last invalidation; 0 before the first."""
        return integer(get(txn, self.meta, EPOCH) or b"")

    def namespaces(self, txn: lmdb.Transaction, table: Table, first: bytes = b"") -> Iterator[bytes]:
        """The namespaces that a table's keys begin with, from ``first`` on, in order."""
        with txn.cursor(db=table) as cursor:
            there = cursor.set_range(first)
            while there:
                namespace = bytes(cursor.key()).partition(b"\0")[0]
                yield namespace
                there = cursor.set_range(namespace + b"\1")

    def head(self, txn: lmdb.Transaction, sealer: Sealer, entry_id: int) -> Head | None:
        """The head of an entry. Raises BadRecordError."""
        key = key_of(entry_id)
        sealed = get(txn, self.heads, key)
        return None if sealed is None else sealer.open(Head, key, sealed)

    def used_pages(self, txn: lmdb.Transaction) -> int:
        """Pages that entries and their log use: neither free ones nor the ballast."""
        used = 0
        for handle in self._counted:
            stat = txn.stat(handle)
            used += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return used

    def keys_of(self, entry_id: int, head: Head) -> "EntryKeys":
        """Where an entry has rows besides those under its id."""
        key = key_of(entry_id)
        namespace = head.namespace.encode()
        return EntryKeys(
            vector=vector_key(head.scope, key),
            exact=head.exact_key,
            member=namespace + b"\0" + key,
            tags=tuple(tag_prefix(namespace, tag) + key for tag in head.tags),
            sources=tuple(source_prefix(namespace, digest) + key for digest, _ in head.sources),
            expiry=key_of(head.expires_ms) + key,
            order=order_key(namespace, head) + key,
        )


def _open_table(env: lmdb.Environment, name: str, old: lmdb.Transaction | None) -> Table:
    if old is None:
        return env.open_db(name.encode())
    try:
        return env.open_db(name.encode(), txn=old, create=False)
    except (lmdb.NotFoundError, lmdb.ReadonlyError):
        return None


@dataclass(frozen=True, slots=True)
class EntryKeys:
    """The keys under which one entry is found."""

    vector: bytes
    exact: bytes
    member: bytes
    tags: tuple[bytes, ...]
    sources: tuple[bytes, ...]
    expiry: bytes
    order: bytes


def vector_key(scope: bytes, key: bytes) -> bytes:
    """Where the vector of an entry is."""
    return scope[:SCOPE_KEY_BYTES] + key


def tag_prefix(namespace: bytes, tag: str) -> bytes:
    """What keys of the tags table begin with."""
    return namespace + b"\0" + tag.encode() + b"\0"


def source_prefix(namespace: bytes, digest: bytes) -> bytes:
    """What keys of the sources table begin with."""
    return namespace + b"\0" + digest


def order_key(namespace: bytes, head: Head) -> bytes:
    """The place of an entry in the order of eviction, without its id."""
    return namespace + b"\0" + _RANK.pack(head.rank) + key_of(head.used_ms)


def rank_of(value: bytes) -> float:
    """A packed rank as the float it is; 0 for none."""
    return cast("float", _RANK.unpack(value)[0]) if len(value) == _RANK.size else 0.0


def packed_rank(rank: float) -> bytes:
    """A rank as 8 bytes that sort as it does."""
    return _RANK.pack(rank)


def size_bytes(txn: lmdb.Transaction, tables: Sequence[Table]) -> int:
    """What the pages of these tables take."""
    stats = [txn.stat(table) for table in tables]
    return sum(
        stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]) for stat in stats
    )
