"""The tables of a store and every change that is made to them.

| table   | key                        | value              |
|---------|----------------------------|--------------------|
| meta    | name                       | small values       |
| entries | id                         | sealed EntryBody   |
| heads   | id                         | sealed Head        |
| vectors | scope, id                  | float32s, MAC      |
| exact   | exact key                  | id                 |
| tags    | namespace, 0, tag, 0, id   | –                  |
| expiry  | expires_ms, id             | –                  |
| recency | used_ms, id                | –                  |
| log     | sequence                   | sealed LogRecord   |

Integers are 8 bytes big-endian, so that ranges scan in order. What one entry has in all tables is
written and removed in one transaction, together with its log record. Ids and sequence numbers only
grow and are never used twice. The log keeps its last ``log_max_records``; who is further behind
reads the tables anew.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

import lmdb

from cachesvc.adapters.lmdb_records import BadRecordError, Head, LogRecord, Sealer, body_of
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.types import Draft, Receipt

SCHEMA_VERSION = 1

_SCOPE_BYTES = 32
_INTEGER_BYTES = 8
_TRIM_COUNT = 1024  # more than any job adds, so that a log that was made shorter shrinks bit by bit
Table: TypeAlias = Any  # lmdb's handle of a named database

_SCHEMA = b"schema_version"
_FINGERPRINT = b"fingerprint"
_MAC_KEY = b"mac_key"
_NEXT_ID = b"next_id"
_SEQUENCE = b"sequence"
_CLOCK = b"clock_ms"


def key_of(number: int) -> bytes:
    """An integer as a key."""
    return number.to_bytes(_INTEGER_BYTES, "big")


def integer(key: bytes) -> int:
    """A key as the integer it is."""
    return int.from_bytes(key, "big")


def is_key(value: bytes) -> bool:
    """Whether a value can be an id. What LMDB returns may be damaged."""
    return len(value) == _INTEGER_BYTES


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

    NAMES = ("meta", "entries", "heads", "vectors", "exact", "tags", "expiry", "recency", "log")
    COUNT = len(NAMES)

    def __init__(self, env: lmdb.Environment) -> None:
        handles = {name: env.open_db(name.encode()) for name in self.NAMES}
        self.meta = handles["meta"]
        self.entries = handles["entries"]
        self.heads = handles["heads"]
        self.vectors = handles["vectors"]
        self.exact = handles["exact"]
        self.tags = handles["tags"]
        self.expiry = handles["expiry"]
        self.recency = handles["recency"]
        self.log = handles["log"]
        self._all = tuple(handles.values())

    def identity(self, txn: lmdb.Transaction) -> StoreIdentity | None:
        """None for a new store. Raises CORRUPT when part of it is missing."""
        schema = get(txn, self.meta, _SCHEMA)
        if schema is None:
            return None
        fingerprint, mac_key = get(txn, self.meta, _FINGERPRINT), get(txn, self.meta, _MAC_KEY)
        if fingerprint is None or mac_key is None or len(mac_key) != 32:
            raise CacheError(Kind.CORRUPT, "the store's meta table is damaged: move the directory aside")
        return StoreIdentity(integer(schema), fingerprint.decode("utf-8", "replace"), mac_key)

    def create_identity(self, txn: lmdb.Transaction, fingerprint: str) -> bytes:
        """Make a new store this schema's and this embedder's. Returns its MAC key."""
        mac_key = os.urandom(32)
        txn.put(_SCHEMA, key_of(SCHEMA_VERSION), db=self.meta)
        txn.put(_FINGERPRINT, fingerprint.encode(), db=self.meta)
        txn.put(_MAC_KEY, mac_key, db=self.meta)
        return mac_key

    def sequence(self, txn: lmdb.Transaction) -> int:
        """Of the last change; 0 before the first."""
        return integer(get(txn, self.meta, _SEQUENCE) or b"")

    def next_id(self, txn: lmdb.Transaction) -> int:
        """The id that the next entry gets; from 1."""
        return integer(get(txn, self.meta, _NEXT_ID) or key_of(1))

    def clock_ms(self, txn: lmdb.Transaction) -> int:
        """The time of the last write; 0 before the first."""
        return integer(get(txn, self.meta, _CLOCK) or b"")

    def head(self, txn: lmdb.Transaction, sealer: Sealer, entry_id: int) -> Head | None:
        """The head of an entry. Raises BadRecordError."""
        key = key_of(entry_id)
        sealed = get(txn, self.heads, key)
        return None if sealed is None else sealer.open(Head, key, sealed)

    def used_pages(self, txn: lmdb.Transaction) -> int:
        """Pages in use, free ones not counted."""
        used = 0
        for handle in self._all:
            stat = txn.stat(handle)
            used += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return used

    def keys_of(self, entry_id: int, head: Head) -> "EntryKeys":
        """Where an entry has rows besides those under its id."""
        key = key_of(entry_id)
        namespace = head.namespace.encode()
        return EntryKeys(
            vector=head.scope + key,
            exact=head.exact_key,
            tags=tuple(namespace + b"\0" + tag.encode() + b"\0" + key for tag in head.tags),
            expiry=key_of(head.expires_ms) + key,
            recency=key_of(head.used_ms) + key,
        )


@dataclass(frozen=True, slots=True)
class EntryKeys:
    """The keys under which one entry is found."""

    vector: bytes
    exact: bytes
    tags: tuple[bytes, ...]
    expiry: bytes
    recency: bytes


class Write:
    """The changes of one job inside a write transaction. Leaving it writes the counters back."""

    def __init__(self, txn: lmdb.Transaction, tables: Tables, sealer: Sealer, log_max_records: int) -> None:
        self._txn = txn
        self._tables = tables
        self._sealer = sealer
        self._log_max_records = log_max_records
        self._clock_ms = tables.clock_ms(txn)
        self._next_id = tables.next_id(txn)
        self._sequence = tables.sequence(txn)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            return
        txn, meta = self._txn, self._tables.meta
        txn.put(_NEXT_ID, key_of(self._next_id), db=meta)
        txn.put(_SEQUENCE, key_of(self._sequence), db=meta)
        txn.put(_CLOCK, key_of(self._clock_ms), db=meta)
        self._trim_log()

    def put(self, draft: Draft) -> Receipt:
        """Store an entry; one of equal exact key is removed."""
        identity = draft.identity
        self._clock_ms = max(self._clock_ms, draft.created_ms)
        replaced_id = None
        found = self._holder(identity.exact_key)
        if found is not None and self.remove(found):
            replaced_id = found

        entry_id, self._next_id = self._next_id, self._next_id + 1
        key = key_of(entry_id)
        head = Head(
            scope=identity.scope,
            exact_key=identity.exact_key,
            namespace=identity.namespace,
            tags=list(draft.payload.tags),
            expires_ms=draft.expires_ms,
            used_ms=draft.created_ms,
        )
        keys = self._tables.keys_of(entry_id, head)
        put, seal, tables = self._txn.put, self._sealer.seal, self._tables
        put(key, seal(body_of(draft), identity.scope + key), db=tables.entries)
        put(key, seal(head, key), db=tables.heads)
        put(keys.exact, key, db=tables.exact)
        put(keys.expiry, b"", db=tables.expiry)
        put(keys.recency, b"", db=tables.recency)
        for tag in keys.tags:
            put(tag, b"", db=tables.tags)
        if draft.vector is not None:
            put(keys.vector, self._sealer.seal_vector(draft.vector, keys.vector), db=tables.vectors)
        self._log(identity.scope, entry_id, added=True)
        return Receipt(entry_id, replaced_id, self._sequence)

    def _holder(self, exact_key: bytes) -> int | None:
        """The entry that has this exact key; None, too, when the key is damaged and names another."""
        found = get(self._txn, self._tables.exact, exact_key)
        if found is None or not is_key(found):
            return None
        try:
            head = self._tables.head(self._txn, self._sealer, integer(found))
        except BadRecordError:
            return integer(found)
        return integer(found) if head is not None and head.exact_key == exact_key else None

    def remove(self, entry_id: int) -> bool:
        """Remove an entry from every table. Whether it was there."""
        key = key_of(entry_id)
        try:
            head = self._tables.head(self._txn, self._sealer, entry_id)
        except BadRecordError:
            return self._remove_by_scan(entry_id)
        if head is None:
            return False
        tables, delete = self._tables, self._txn.delete
        keys = tables.keys_of(entry_id, head)
        delete(key, db=tables.entries)
        delete(key, db=tables.heads)
        delete(keys.vector, db=tables.vectors)
        delete(keys.expiry, db=tables.expiry)
        delete(keys.recency, db=tables.recency)
        for tag in keys.tags:
            delete(tag, db=tables.tags)
        if get(self._txn, tables.exact, keys.exact) == key:
            delete(keys.exact, db=tables.exact)
        self._log(head.scope, entry_id, added=False)
        return True

    def remove_first(self, order: Table, limit: int, before_ms: int | None = None) -> int:
        """Remove the first entries of the expiry or the recency table, those up to ``before_ms``."""
        self._clock_ms = max(self._clock_ms, before_ms or 0)
        first = [
            key
            for key, _ in islice(scan(self._txn, order), limit)
            if before_ms is None or integer(key[:8]) <= before_ms
        ]
        removed = 0
        for key in first:
            if self.remove(integer(key[8:])):
                removed += 1
            self._txn.delete(key, db=order)  # only there still if the head told another story
        return removed

    def touch(self, used_ms: Mapping[int, int]) -> None:
        """Move entries to their new place in the order of use."""
        self._clock_ms = max(self._clock_ms, *used_ms.values(), 0)
        for entry_id, when_ms in used_ms.items():
            key = key_of(entry_id)
            try:
                head = self._tables.head(self._txn, self._sealer, entry_id)
            except BadRecordError:
                continue  # met and dropped when it is next read
            if head is None or head.used_ms >= when_ms:
                continue
            self._txn.delete(key_of(head.used_ms) + key, db=self._tables.recency)
            self._txn.put(key_of(when_ms) + key, b"", db=self._tables.recency)
            moved = Head(head.scope, head.exact_key, head.namespace, head.tags, head.expires_ms, when_ms)
            self._txn.put(key, self._sealer.seal(moved, key), db=self._tables.heads)

    def _remove_by_scan(self, entry_id: int) -> bool:
        """Remove an entry whose head is damaged: look for its id in every table. Slow and rare."""
        key, tables, scope = key_of(entry_id), self._tables, b""
        for table in (tables.vectors, tables.tags, tables.expiry, tables.recency):
            for place in [place for place, _ in scan(self._txn, table) if place.endswith(key)]:
                if table is tables.vectors:
                    scope = place[:_SCOPE_BYTES]
                self._txn.delete(place, db=table)
        for place in [place for place, value in scan(self._txn, tables.exact) if value == key]:
            self._txn.delete(place, db=tables.exact)
        self._txn.delete(key, db=tables.entries)
        self._txn.delete(key, db=tables.heads)
        if scope:
            self._log(scope, entry_id, added=False)
        return True

    def _log(self, scope: bytes, entry_id: int, *, added: bool) -> None:
        self._sequence += 1
        key = key_of(self._sequence)
        self._txn.put(key, self._sealer.seal(LogRecord(scope, entry_id, added), key), db=self._tables.log)

    def _trim_log(self) -> None:
        surplus = min(self._txn.stat(self._tables.log)["entries"] - self._log_max_records, _TRIM_COUNT)
        with self._txn.cursor(db=self._tables.log) as cursor:
            while surplus > 0 and cursor.first():
                cursor.delete()
                surplus -= 1
