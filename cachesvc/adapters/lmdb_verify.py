"""Reads a whole store and lists where its tables disagree. Slow; for ``check`` and after a rewrite."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain

import lmdb

from cachesvc.adapters.lmdb_order import first_key
from cachesvc.adapters.lmdb_records import (
    MAC_BYTES,
    BadRecordError,
    Ban,
    EntryBody,
    Head,
    LogRecord,
    Sealer,
    Usage,
    entry_of,
    source_digest,
)
from cachesvc.adapters.lmdb_schema import KEY_BYTES, EntryKeys, Tables, get, integer, scan, vector_key
from cachesvc.core.eviction import size_bytes
from cachesvc.core.types import CheckStep

_STEP_COUNT = 1000
_SECONDARY = ("exact", "members", "tags", "sources", "expiry", "order")


def check_steps(txn: lmdb.Transaction, tables: Tables, sealer: Sealer) -> Iterator[CheckStep]:
    """What disagrees, step by step, with how many entries were read; no problems at all when clean.

    A sentence for each. Prompts and responses are not named. Every row that an entry should have is looked
    for and counted; a table with more rows than that has some that belong to none. So it takes no memory
    that grows with the store.
    """
    entries = _Entries(txn, tables, sealer)
    total = txn.stat(tables.heads)["entries"]
    checked, problems = 0, list[str]()
    for checked, (key, sealed) in enumerate(scan(txn, tables.heads), 1):
        problems += entries.problems(key, sealed)
        if checked % _STEP_COUNT == 0:
            yield CheckStep(checked, total, tuple(problems))
            problems = []
    others = (
        entries.orphans(),
        entries.strays(),
        entries.first_problems(),
        entries.usage_problems(),
        _ban_problems(txn, tables, sealer),
        _log_problems(txn, tables, sealer),
    )
    yield CheckStep(checked, total, (*problems, *chain.from_iterable(others)))


class _Entries:
    """What the entries should have in each table, compared with what is there, and counted."""

    def __init__(self, txn: lmdb.Transaction, tables: Tables, sealer: Sealer) -> None:
        self._txn = txn
        self._tables = tables
        self._sealer = sealer
        self._next_id = tables.next_id(txn)
        self._found: Counter[str] = Counter()  # rows by table that belong to an entry
        self._missing: Counter[str] = Counter()
        self._usage: dict[bytes, Usage] = {}

    def problems(self, key: bytes, sealed: bytes) -> Iterator[str]:
        """Of one entry: its head, record and vector. Its other rows are counted."""
        entry_id = integer(key)
        if entry_id >= self._next_id:
            yield f"entry {entry_id}: its id was not yet given out"
        try:
            head = self._sealer.open(Head, key, sealed)
        except BadRecordError:
            yield f"entry {entry_id}: its head fails its digest"
            return
        before = self._usage.get(head.namespace.encode(), Usage(0, 0))
        self._usage[head.namespace.encode()] = Usage(before.entries + 1, before.size_bytes + head.size_bytes)
        self._look_for(self._tables.keys_of(entry_id, head))
        yield from self._exact_problems(key, head)
        vector = get(self._txn, self._tables.vectors, vector_key(head.scope, key))
        yield from self._vector_problems(key, head, vector)
        yield from self._record_problems(key, head, vector)

    def _look_for(self, keys: EntryKeys) -> None:
        expected = {
            "members": {keys.member},
            "tags": set(keys.tags),
            "sources": set(keys.sources),
            "expiry": {keys.expiry},
            "order": {keys.order},
        }
        for name, places in expected.items():
            there = sum(get(self._txn, getattr(self._tables, name), place) is not None for place in places)
            self._found[name] += there
            self._missing[name] += len(places) - there

    def _exact_problems(self, key: bytes, head: Head) -> Iterator[str]:
        named = get(self._txn, self._tables.exact, head.exact_key)
        self._found["exact"] += named == key
        self._missing["exact"] += named is None
        if named not in (None, key):
            yield f"entry {integer(key)}: its exact key names another entry"

    def _vector_problems(self, key: bytes, head: Head, vector: bytes | None) -> Iterator[str]:
        if (vector is not None) != head.semantic:
            yield f"entry {integer(key)}: its head says otherwise than there is of a vector"
        if vector is None:
            return
        self._found["vectors"] += 1
        try:
            self._sealer.open_vector(head.scope + key, vector)
        except BadRecordError:
            yield f"vector of {integer(key)}: fails its digest"

    def _record_problems(self, key: bytes, head: Head, vector: bytes | None) -> Iterator[str]:
        entry_id, sealed = integer(key), get(self._txn, self._tables.entries, key)
        if sealed is None:
            yield f"entry {entry_id}: has a head but no record"
            return
        self._found["entries"] += 1
        try:
            body = self._sealer.open(EntryBody, head.scope + key, sealed)
        except BadRecordError:
            yield f"entry {entry_id}: its record fails its digest"
            return
        if _told_by_head(head) != _told_by_body(body):
            yield f"entry {entry_id}: head and record disagree"
        vector_bytes = 0 if vector is None else (len(vector) - MAC_BYTES) * 2  # halves of what was given
        payload = entry_of(entry_id, head.scope, body).payload
        if head.size_bytes != vector_bytes + size_bytes(body.prompt, payload, None):
            yield f"entry {entry_id}: its size is not what its record and vector come to"

    def orphans(self) -> Iterator[str]:
        """Records and vectors without the head that they belong to."""
        if self._has_strays("entries"):
            for key, _ in scan(self._txn, self._tables.entries):
                if get(self._txn, self._tables.heads, key) is None:
                    yield f"entry {integer(key)}: has a record but no head"
        if self._has_strays("vectors"):
            for place, _ in scan(self._txn, self._tables.vectors):
                key = place[-KEY_BYTES:]  # whatever came before it: the page may be another table's
                scope = self._scope_of(key)
                if scope is None or vector_key(scope, key) != place:
                    yield f"vector of {integer(key)}: belongs to no entry of its scope"

    def _scope_of(self, key: bytes) -> bytes | None:
        try:
            head = self._tables.head(self._txn, self._sealer, integer(key))
        except BadRecordError:
            return None
        return None if head is None else head.scope

    def _has_strays(self, name: str) -> bool:
        return self._stored(name) > self._found[name]

    def _stored(self, name: str) -> int:
        return int(self._txn.stat(getattr(self._tables, name))["entries"])

    def strays(self) -> Iterator[str]:
        """Keys that lack, and keys too many."""
        for name in _SECONDARY:
            if self._missing[name]:
                yield f"table {name}: {self._missing[name]} keys are missing"
            if self._has_strays(name):
                yield f"table {name}: {self._stored(name) - self._found[name]} keys belong to no entry"

    def first_problems(self) -> Iterator[str]:
        """Namespaces that are not where their first entry is."""
        namespaces = self._tables.namespaces(self._txn, self._tables.order)
        places = (next(scan(self._txn, self._tables.order, name + b"\0"), None) for name in namespaces)
        expected = [first_key(place[0]) for place in places if place is not None]
        found = sum(get(self._txn, self._tables.firsts, key) is not None for key in expected)
        if not found == len(expected) == self._stored("firsts"):
            yield f"table firsts: {found} of {len(expected)} namespaces are in it, {self._stored('firsts')} keys are there"

    def usage_problems(self) -> Iterator[str]:
        """Accounts that are not what the entries come to."""
        for namespace, sealed in scan(self._txn, self._tables.usage):
            counted = self._usage.pop(namespace, Usage(0, 0))
            try:
                if self._sealer.open(Usage, namespace, sealed) != counted:
                    yield "usage: the account of a namespace is not what its entries come to"
            except BadRecordError:
                yield "usage: the account of a namespace fails its digest"
        if self._usage:
            yield f"usage: {len(self._usage)} namespaces have no account"


def _told_by_head(head: Head) -> tuple[object, ...]:
    times = (head.created_ms, head.expires_ms, head.sliding_ms, head.latest_ms)
    return (head.exact_key, head.namespace, head.model, head.tags, head.sources, *times)


def _told_by_body(body: EntryBody) -> tuple[object, ...]:
    sources = [(source_digest(source_id), version) for source_id, version in body.sources]
    times = (body.created_ms, body.expires_ms, body.sliding_ms, body.latest_ms)
    return (body.exact_key, body.namespace, body.model, body.tags, sources, *times)


def _ban_problems(txn: lmdb.Transaction, tables: Tables, sealer: Sealer) -> Iterator[str]:
    last = 0
    for key, sealed in scan(txn, tables.bans):
        last = integer(key)
        try:
            sealer.open(Ban, key, sealed)
        except BadRecordError:
            yield f"bans: invalidation {last} fails its digest"
    if last > tables.epoch(txn):
        yield f"bans: end at {last}, the last epoch is {tables.epoch(txn)}"


def _log_problems(txn: lmdb.Transaction, tables: Tables, sealer: Sealer) -> Iterator[str]:
    expected = None
    for key, sealed in scan(txn, tables.log):
        sequence = integer(key)
        if expected is not None and sequence != expected:
            yield f"log: a gap before {sequence}"
        expected = sequence + 1
        try:
            sealer.open(LogRecord, key, sealed)
        except BadRecordError:
            yield f"log: record {sequence} fails its digest"
    if expected is not None and expected != tables.sequence(txn) + 1:
        yield f"log: ends at {expected - 1}, the last sequence is {tables.sequence(txn)}"
