"""Finds what belongs to an entry whose head is damaged, by reading whole tables. Slow and rare.

Called by ``lmdb_write`` inside a write transaction.
"""

from collections.abc import Iterator

import lmdb

from cachesvc.adapters.lmdb_records import BadRecordError, EntryBody, Sealer
from cachesvc.adapters.lmdb_schema import Table, Tables, get, key_of, scan
from cachesvc.core.identity import carried


def places_of(txn: lmdb.Transaction, tables: Tables, entry_id: int) -> Iterator[tuple[Table, bytes]]:
    """Every row of an entry but those of the order: its table and key."""
    key = key_of(entry_id)
    for table in (tables.vectors, tables.members, tables.tags, tables.sources, tables.expiry):
        yield from [(table, place) for place, _ in scan(txn, table) if place.endswith(key)]
    yield from [(tables.exact, place) for place, value in scan(txn, tables.exact) if value == key]
    yield tables.entries, key
    yield tables.heads, key


def order_of(txn: lmdb.Transaction, tables: Tables, entry_id: int) -> list[bytes]:
    """Its places in the order of eviction."""
    return [place for place, _ in scan(txn, tables.order) if place.endswith(key_of(entry_id))]


def scope_of(txn: lmdb.Transaction, tables: Tables, sealer: Sealer, entry_id: int) -> bytes | None:
    """The scope that its record tells; None where that is damaged too."""
    key, identity = key_of(entry_id), tables.identity(txn)
    sealed = get(txn, tables.entries, key)
    if sealed is None or identity is None:
        return None
    try:
        body = sealer.peek(EntryBody, sealed)
        told = carried(body.namespace, body.model, body.context, body.prompt, identity.fingerprint)
        sealer.open(EntryBody, told.scope + key, sealed)
    except BadRecordError:
        return None
    return told.scope
