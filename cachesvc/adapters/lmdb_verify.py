"""Reads a whole store and lists where its tables disagree. Slow; for ``check`` and after a rewrite."""

from collections.abc import Iterator

import lmdb

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
from cachesvc.adapters.lmdb_schema import SCOPE_BYTES, EntryKeys, Tables, get, integer, key_of, scan
from cachesvc.core.eviction import size_bytes
from cachesvc.core.types import CheckStep

_STEP_COUNT = 1000
_SECONDARY = ("exact", "members", "tags", "sources", "expiry", "order")


def check_steps(txn: lmdb.Transaction, tables: Tables, sealer: Sealer) -> Iterator[CheckStep]:
    """What disagrees, step by step, with how many entries were read; no problems at all when clean.

    A sentence for each. Prompts and responses are not named.
    """
    expected: dict[str, set[bytes]] = {name: set() for name in _SECONDARY}
    heads: dict[int, Head] = {}
    total = txn.stat(tables.heads)["entries"]
    damaged: list[str] = []
    problems: list[str] = []
    for checked, (entry_id, head) in enumerate(_heads(txn, tables, sealer, damaged)):
        heads[entry_id] = head
        _expect(expected, tables.keys_of(entry_id, head))
        problems += _entry_problems(txn, tables, sealer, entry_id, head)
        if entry_id >= tables.next_id(txn):
            problems.append(f"entry {entry_id}: its id was not yet given out")
        if checked % _STEP_COUNT == 0:
            yield CheckStep(checked, total, tuple(problems))
            problems = []
    yield CheckStep(len(heads), total, (*problems, *damaged))
    yield CheckStep(
        len(heads),
        total,
        (
            *_orphans(txn, tables, sealer, heads),
            *_secondary_problems(txn, tables, expected),
            *_usage_problems(txn, tables, sealer, heads),
            *_ban_problems(txn, tables, sealer),
            *_log_problems(txn, tables, sealer),
        ),
    )


def _heads(
    txn: lmdb.Transaction, tables: Tables, sealer: Sealer, problems: list[str]
) -> Iterator[tuple[int, Head]]:
    for key, sealed in scan(txn, tables.heads):
        try:
            yield integer(key), sealer.open(Head, key, sealed)
        except BadRecordError:
            problems.append(f"entry {integer(key)}: its head fails its digest")


def _expect(expected: dict[str, set[bytes]], keys: EntryKeys) -> None:
    expected["exact"].add(keys.exact)
    expected["members"].add(keys.member)
    expected["tags"].update(keys.tags)
    expected["sources"].update(keys.sources)
    expected["expiry"].add(keys.expiry)
    expected["order"].add(keys.order)


def _entry_problems(
    txn: lmdb.Transaction, tables: Tables, sealer: Sealer, entry_id: int, head: Head
) -> Iterator[str]:
    key = key_of(entry_id)
    sealed = get(txn, tables.entries, key)
    if sealed is None:
        yield f"entry {entry_id}: has a head but no record"
        return
    try:
        body = sealer.open(EntryBody, head.scope + key, sealed)
    except BadRecordError:
        yield f"entry {entry_id}: its record fails its digest"
        return
    if _told_by_head(head) != _told_by_body(body):
        yield f"entry {entry_id}: head and record disagree"
    vector = get(txn, tables.vectors, head.scope + key)
    if (vector is not None) != head.semantic:
        yield f"entry {entry_id}: its head says otherwise than there is of a vector"
    vector_bytes = 0 if vector is None else len(vector) - MAC_BYTES
    if head.size_bytes != vector_bytes + size_bytes(
        body.prompt, entry_of(entry_id, head.scope, body).payload, None
    ):
        yield f"entry {entry_id}: its size is not what its record and vector come to"
    if get(txn, tables.exact, head.exact_key) != key:
        yield f"entry {entry_id}: its exact key names another entry"


def _told_by_head(head: Head) -> tuple[object, ...]:
    times = (head.created_ms, head.expires_ms, head.sliding_ms, head.latest_ms)
    return (head.exact_key, head.namespace, head.model, head.tags, head.sources, *times)


def _told_by_body(body: EntryBody) -> tuple[object, ...]:
    sources = [(source_digest(source_id), version) for source_id, version in body.sources]
    times = (body.created_ms, body.expires_ms, body.sliding_ms, body.latest_ms)
    return (body.exact_key, body.namespace, body.model, body.tags, sources, *times)


def _orphans(txn: lmdb.Transaction, tables: Tables, sealer: Sealer, heads: dict[int, Head]) -> Iterator[str]:
    for key, _ in scan(txn, tables.entries):
        if integer(key) not in heads:
            yield f"entry {integer(key)}: has a record but no head"
    for place, sealed in scan(txn, tables.vectors):
        entry_id = integer(place[SCOPE_BYTES:])
        head = heads.get(entry_id)
        if head is None or head.scope != place[:SCOPE_BYTES]:
            yield f"vector of {entry_id}: belongs to no entry of its scope"
            continue
        try:
            sealer.open_vector(place, sealed)
        except BadRecordError:
            yield f"vector of {entry_id}: fails its digest"


def _secondary_problems(
    txn: lmdb.Transaction, tables: Tables, expected: dict[str, set[bytes]]
) -> Iterator[str]:
    for name, keys in expected.items():
        stored = {key for key, _ in scan(txn, getattr(tables, name))}
        if missing := len(keys - stored):
            yield f"table {name}: {missing} keys are missing"
        if surplus := len(stored - keys):
            yield f"table {name}: {surplus} keys belong to no entry"


def _usage_problems(
    txn: lmdb.Transaction, tables: Tables, sealer: Sealer, heads: dict[int, Head]
) -> Iterator[str]:
    counted: dict[bytes, Usage] = {}
    for head in heads.values():
        before = counted.get(head.namespace.encode(), Usage(0, 0))
        counted[head.namespace.encode()] = Usage(before.entries + 1, before.size_bytes + head.size_bytes)
    for namespace, sealed in scan(txn, tables.usage):
        try:
            usage = sealer.open(Usage, namespace, sealed)
        except BadRecordError:
            yield "usage: the account of a namespace fails its digest"
            counted.pop(namespace, None)
            continue
        if usage != counted.pop(namespace, Usage(0, 0)):
            yield "usage: the account of a namespace is not what its entries come to"
    if counted:
        yield f"usage: {len(counted)} namespaces have no account"


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
