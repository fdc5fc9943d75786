"""Reads a whole store and lists where its tables disagree. Used by ``check()`` only; slow."""

from collections.abc import Iterator

import lmdb

from cachesvc.adapters.lmdb_records import BadRecordError, EntryBody, Head, LogRecord, Sealer
from cachesvc.adapters.lmdb_schema import EntryKeys, Tables, get, integer, key_of, scan

_SCOPE_BYTES = 32


def disagreements(txn: lmdb.Transaction, tables: Tables, sealer: Sealer) -> list[str]:
    """A sentence for each; empty when clean. Prompts and responses are not named."""
    problems: list[str] = []
    expected: dict[str, set[bytes]] = {"exact": set(), "tags": set(), "expiry": set(), "recency": set()}
    heads: dict[int, Head] = {}
    for entry_id, head in _heads(txn, tables, sealer, problems):
        heads[entry_id] = head
        keys = tables.keys_of(entry_id, head)
        _expect(expected, keys)
        problems += _entry_problems(txn, tables, sealer, entry_id, head)
        if entry_id >= tables.next_id(txn):
            problems.append(f"entry {entry_id}: its id was not yet given out")
    problems += _orphans(txn, tables, sealer, heads)
    problems += _secondary_problems(txn, tables, expected)
    problems += _log_problems(txn, tables, sealer)
    return problems


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
    expected["tags"].update(keys.tags)
    expected["expiry"].add(keys.expiry)
    expected["recency"].add(keys.recency)


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
    same = (body.exact_key, body.namespace, body.tags, body.expires_ms) == (
        head.exact_key,
        head.namespace,
        head.tags,
        head.expires_ms,
    )
    if not same:
        yield f"entry {entry_id}: head and record disagree"
    if get(txn, tables.exact, head.exact_key) != key:
        yield f"entry {entry_id}: its exact key names another entry"


def _orphans(txn: lmdb.Transaction, tables: Tables, sealer: Sealer, heads: dict[int, Head]) -> Iterator[str]:
    for key, _ in scan(txn, tables.entries):
        if integer(key) not in heads:
            yield f"entry {integer(key)}: has a record but no head"
    for place, sealed in scan(txn, tables.vectors):
        entry_id = integer(place[_SCOPE_BYTES:])
        head = heads.get(entry_id)
        if head is None or head.scope != place[:_SCOPE_BYTES]:
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
