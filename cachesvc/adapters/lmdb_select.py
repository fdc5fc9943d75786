"""Reads that walk through entries by what they are: for listing, invalidation and accounts.

Every call is one bounded step inside one read transaction; the caller goes on from where it ended.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import lmdb

from cachesvc.adapters.lmdb_records import BadRecordError, Head, Sealer, Usage, source_digest
from cachesvc.adapters.lmdb_schema import (
    Table,
    Tables,
    get,
    integer,
    key_of,
    scan,
    source_prefix,
    tag_prefix,
    vector_key,
)
from cachesvc.core.selection import Selector, Traits, meets_traits, score
from cachesvc.core.types import Match, NamespaceUsage, Place, Selection

_STEP_COUNT = 1024  # entries looked at in one transaction: some 20 ms
_NAMES = "latin-1"  # namespaces are ASCII; a damaged key must still give a place to go on from


@dataclass(frozen=True, slots=True)
class Step:
    """What ``ResponseStore.select`` is asked."""

    selector: Selector
    after: Place | None
    limit: int
    first_id: int


def select(txn: lmdb.Transaction, tables: Tables, sealer: Sealer, step: Step) -> Selection:
    """See ``ResponseStore.select``."""
    matches: list[Match] = []
    damaged: list[int] = []
    reached = step.after
    for looked_at, place in enumerate(_places(txn, tables, step)):
        if len(matches) == step.limit or looked_at == _STEP_COUNT:
            return Selection(tuple(matches), reached, tuple(damaged))
        try:
            match = _match(txn, tables, sealer, step.selector, place.entry_id)
        except BadRecordError:
            damaged.append(place.entry_id)
        else:
            matches += [] if match is None else [match]
        reached = place
    return Selection(tuple(matches), None, tuple(damaged))


def usage(txn: lmdb.Transaction, tables: Tables, sealer: Sealer, limit: int) -> list[NamespaceUsage]:
    """See ``ResponseStore.usage``. Namespaces whose account is damaged are left out until it is mended."""
    held = []
    for namespace, sealed in scan(txn, tables.usage):
        try:
            record = sealer.open(Usage, namespace, sealed)
        except BadRecordError:
            continue
        held.append(NamespaceUsage(namespace.decode(_NAMES), record.entries, record.size_bytes))
    return sorted(held, key=lambda one: (-one.size_bytes, one.namespace))[:limit]


def _places(txn: lmdb.Transaction, tables: Tables, step: Step) -> Iterator[Place]:
    """Entries that may be meant, from the narrowest table there is, in order of namespace and id."""
    selector, after = step.selector, step.after
    first = b"" if after is None else after.namespace.encode(_NAMES)
    if selector.namespace is None:
        namespaces = tables.namespaces(txn, tables.members, first)
    else:
        namespaces = iter([selector.namespace.encode(_NAMES)])
    for namespace in namespaces:
        table, prefix = _narrowest(tables, selector, namespace)
        start = after.entry_id + 1 if after is not None and namespace == first else 0
        for key, _ in scan(txn, table, prefix + key_of(max(start, step.first_id))):
            if not key.startswith(prefix) or len(key) != len(prefix) + 8:
                break
            yield Place(namespace.decode(_NAMES), integer(key[-8:]))


def _narrowest(tables: Tables, selector: Selector, namespace: bytes) -> tuple[Table, bytes]:
    if selector.source_id is not None:
        return tables.sources, source_prefix(namespace, source_digest(selector.source_id))
    if selector.tags:
        return tables.tags, tag_prefix(namespace, selector.tags[0])
    return tables.members, namespace + b"\0"


def _match(
    txn: lmdb.Transaction, tables: Tables, sealer: Sealer, selector: Selector, entry_id: int
) -> Match | None:
    """An entry, if it is meant. Raises BadRecordError for one that cannot be judged."""
    head = tables.head(txn, sealer, entry_id)
    if head is None or not meets_traits(selector, _traits(head, selector.source_id)):
        return None
    if selector.near is None:
        return Match(entry_id, head.namespace, head.hits, head.semantic, None)
    key = key_of(entry_id)
    sealed = get(txn, tables.vectors, vector_key(head.scope, key))
    nearness = None if sealed is None else score(selector.near, sealer.open_vector(head.scope + key, sealed))
    if nearness is None or nearness < selector.near.min_score:
        return None
    return Match(entry_id, head.namespace, head.hits, head.semantic, nearness)


def _traits(head: Head, source_id: str | None) -> Traits:
    digest = None if source_id is None else source_digest(source_id)
    return Traits(
        head.namespace,
        head.model,
        frozenset(head.tags),
        tuple(version for known, version in head.sources if known == digest),
        head.created_ms,
    )
