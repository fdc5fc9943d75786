"""Every change that is made to a store's tables, inside one write transaction.

Called by ``lmdb_store`` on the writer's thread only. An entry's rows in all tables change together, so
that whatever is committed is whole; ``lmdb_schema`` has the tables. Counters and accounts are read when the
transaction begins, by whichever process, and written back once at its end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

import lmdb
import msgspec

from cachesvc.adapters.lmdb_accounts import Accounts
from cachesvc.adapters.lmdb_order import Order
from cachesvc.adapters.lmdb_records import (
    BadRecordError,
    Ban,
    EntryBody,
    Head,
    LogRecord,
    PackedDraft,
    Sealer,
    ban_of,
    selector_of,
    source_digest,
)
from cachesvc.adapters.lmdb_schema import (
    CLOCK,
    EPOCH,
    INFLATION,
    NEXT_ID,
    REORDER_AFTER,
    SEQUENCE,
    Table,
    Tables,
    get,
    integer,
    is_key,
    key_of,
    packed_rank,
    rank_of,
    scan,
)
from cachesvc.adapters.lmdb_search import order_of, places_of, scope_of
from cachesvc.core.eviction import EvictionPolicy, rank, size_bytes, worth_usd
from cachesvc.core.selection import Selector, forbids
from cachesvc.core.types import Draft, Receipt, Use, Vector

_TRIM_COUNT = 1024  # more than what came, so that a log that was made shorter shrinks bit by bit
_MAX_BANS = 2048  # two an invalidation; a draft that began before the oldest of them is not stored
_MAX_MADE_ROOM = (
    16  # entries that one put takes from its namespace; a quota made smaller is reached bit by bit
)
_SLIDE_SHARE = 10  # an expiry moves once it would by a tenth of the sliding time: moving rewrites the record


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What of the store's options writing takes."""

    log_max_records: int
    eviction: EvictionPolicy


class Write:
    """The changes of a group of jobs inside a write transaction. Leaving it writes the counters back."""

    def __init__(self, txn: lmdb.Transaction, tables: Tables, sealer: Sealer, options: WriteOptions) -> None:
        self._txn = txn
        self._tables = tables
        self._sealer = sealer
        self._options = options
        self._clock_ms = tables.clock_ms(txn)
        self._next_id = tables.next_id(txn)
        self._sequence = tables.sequence(txn)
        self._inflation = rank_of(get(txn, tables.meta, INFLATION) or b"")
        self._before = self._counters()
        self._accounts = Accounts(txn, tables, sealer)
        self._order = Order(txn, tables)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            return
        for name, value in self._counters().items():
            if value != self._before[name]:  # a full map has no room for what did not change
                self._txn.put(name, value, db=self._tables.meta)
        self._accounts.write()
        self._order.write()
        self._trim_log()

    def _counters(self) -> dict[bytes, bytes]:
        return {
            NEXT_ID: key_of(self._next_id),
            SEQUENCE: key_of(self._sequence),
            CLOCK: key_of(self._clock_ms),
            INFLATION: packed_rank(self._inflation),
        }

    def drop_ballast(self) -> None:
        """See ``Tables``."""
        self._tables.drop_ballast(self._txn)

    def put_ballast(self) -> None:
        """See ``Tables``."""
        self._tables.put_ballast(self._txn)

    def change_nothing(self) -> None:
        """But take a commit."""
        self._tables.next_transaction(self._txn)

    # ------------------------------------------------------------------- put

    @property
    def inflation(self) -> float:
        """The rank that was evicted last."""
        return self._inflation

    def replace(self, entry_id: int, body: EntryBody, head: Head, vector: Vector | None) -> None:
        """Write an entry under an id that it has already, in place of one of equal exact key."""
        found = self._holder(head.exact_key)
        if found is not None:
            self.remove(found)
        self._next_id = max(self._next_id, entry_id + 1)  # the counter may be what was damaged
        packed_vector = None if vector is None else self._sealer.pack_vector(vector)
        self._insert(entry_id, self._sealer.pack(body), head, packed_vector)

    def put(self, packed: PackedDraft) -> Receipt | None:
        """Store an entry; one of equal exact key is removed. None when an invalidation covers the draft."""
        draft = packed.draft
        if draft.epoch is not None and self._is_banned(draft, draft.epoch):
            return None
        identity = draft.identity
        self._clock_ms = max(self._clock_ms, draft.created_ms)
        replaced_id = None
        found = self._holder(identity.exact_key)
        if found is not None and self.remove(found):
            replaced_id = found

        entry_id, self._next_id = self._next_id, self._next_id + 1
        self._insert(entry_id, packed.body, self._head_of(draft), packed.vector)
        self._log(identity.scope, entry_id, added=True)
        sequence = self._sequence
        return Receipt(entry_id, replaced_id, sequence, self._make_room(draft, entry_id))

    def _insert(self, entry_id: int, body: bytes, head: Head, vector: bytes | None) -> None:
        """Write the rows of an entry, but its log record."""
        key, keys = key_of(entry_id), self._tables.keys_of(entry_id, head)
        tables, sealer, place = self._tables, self._sealer, head.scope + key
        self._append(key, sealer.sealed(EntryBody, body, place), tables.entries)
        self._append(key, sealer.seal(head, key), tables.heads)
        self._txn.put(keys.exact, key, db=tables.exact)
        if vector is not None:
            self._append(keys.vector, sealer.sealed_vector(vector, place), tables.vectors)
        self._append(keys.member, b"", tables.members)
        self._append(keys.expiry, b"", tables.expiry)
        self._order.add(keys.order)
        for tag in keys.tags:
            self._append(tag, b"", tables.tags)
        for source in keys.sources:
            self._append(source, b"", tables.sources)
        self._accounts.add(head, +1)

    def _append(self, key: bytes, value: bytes, table: Table) -> None:
        """A put of what mostly belongs at the table's end: told so, LMDB fills pages instead of splitting them."""
        if not self._txn.put(key, value, db=table, append=True):
            self._txn.put(key, value, db=table)

    def _head_of(self, draft: Draft) -> Head:
        identity, payload = draft.identity, draft.payload
        worth, size = worth_usd(payload), size_bytes(draft.prompt, payload, draft.vector)
        return Head(
            scope=identity.scope,
            exact_key=identity.exact_key,
            namespace=identity.namespace,
            model=identity.model,
            tags=list(payload.tags),
            sources=[(source_digest(source.id), source.version) for source in payload.sources],
            created_ms=draft.created_ms,
            expires_ms=draft.expires_ms,
            sliding_ms=draft.sliding_ms,
            latest_ms=draft.latest_ms,
            used_ms=draft.created_ms,
            hits=0,
            rank=rank(self._options.eviction, worth, size, 0, self._inflation),
            worth_usd=worth,
            size_bytes=size,
            semantic=draft.vector is not None,
        )

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

    def _make_room(self, draft: Draft, entry_id: int) -> int:
        """Keep the quota of the draft's namespace. The entry just stored stays."""
        quota, namespace = draft.quota, draft.identity.namespace.encode()
        evicted = 0
        while evicted < _MAX_MADE_ROOM:
            usage = self._accounts.of(namespace)
            entries_fit = quota.max_entries is None or usage.entries <= quota.max_entries
            if entries_fit and (quota.max_bytes is None or usage.size_bytes <= quota.max_bytes):
                break
            others = (place for place in self._order.of(namespace) if integer(place[-8:]) != entry_id)
            victim = next(others, None)
            if victim is None:
                break
            evicted += self._evict_one(victim)
        return evicted

    # --------------------------------------------------------- invalidations

    def forbid(self, selector: Selector) -> int:
        """Remember an invalidation. Its epoch."""
        epoch = self._tables.epoch(self._txn) + 1
        key = key_of(epoch)
        self._txn.put(key, self._sealer.seal(ban_of(selector), key), db=self._tables.bans)
        self._txn.put(EPOCH, key, db=self._tables.meta)
        if epoch > _MAX_BANS:
            self._txn.delete(key_of(epoch - _MAX_BANS), db=self._tables.bans)
        return epoch

    def _is_banned(self, draft: Draft, epoch: int) -> bool:
        """Whether an invalidation after an epoch means the draft, or may: old and damaged ones are not known."""
        latest = self._tables.epoch(self._txn)
        for missed in range(epoch + 1, latest + 1):
            sealed = get(self._txn, self._tables.bans, key_of(missed))
            if sealed is None:
                return True
            try:
                selector = selector_of(self._sealer.open(Ban, key_of(missed), sealed))
            except BadRecordError:
                return True
            if forbids(selector, draft):
                return True
        return False

    # ---------------------------------------------------------------- remove

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
        delete(keys.member, db=tables.members)
        delete(keys.expiry, db=tables.expiry)
        self._order.discard(keys.order)
        for tag in keys.tags:
            delete(tag, db=tables.tags)
        for source in keys.sources:
            delete(source, db=tables.sources)
        if get(self._txn, tables.exact, keys.exact) == key:
            delete(keys.exact, db=tables.exact)
        self._accounts.add(head, -1)
        self._log(head.scope, entry_id, added=False)
        return True

    def expire(self, limit: int, now_ms: int) -> int:
        """Remove the first entries of the expiry table, those up to ``now_ms``."""
        self._clock_ms = max(self._clock_ms, now_ms)
        first = islice(scan(self._txn, self._tables.expiry), limit)
        due = [key for key, _ in first if integer(key[:8]) <= now_ms]
        removed = 0
        for key in due:
            removed += self.remove(integer(key[-8:]))
            self._txn.delete(key, db=self._tables.expiry)  # only there still if the head told another story
        return removed

    def evict(self, limit: int, namespace: str | None) -> int:
        """Remove entries of least rank."""
        if namespace is not None:
            victims = list(islice(self._order.of(namespace.encode()), limit))
        else:
            victims = self._order.least(limit)
        if not victims:
            self.change_nothing()  # what was freed before is used again two commits later, and none but this may come
        return sum(self._evict_one(victim) for victim in victims)

    def _evict_one(self, victim: bytes) -> int:
        removed = self.remove(integer(victim[-8:]))
        self._order.drop(victim)  # only there still if the head told another story
        if self._options.eviction == "gdsf":
            self._inflation = max(self._inflation, rank_of(victim[-24:-16]))
        return int(removed)

    def _remove_by_scan(self, entry_id: int) -> bool:
        """Remove an entry whose head is damaged: look for its id in every table."""
        txn, tables = self._txn, self._tables
        scope = scope_of(txn, tables, self._sealer, entry_id)
        for table, place in list(places_of(txn, tables, entry_id)):
            if table is tables.members:
                self._accounts.doubt(place.partition(b"\0")[0])
            txn.delete(place, db=table)
        for place in order_of(txn, tables, entry_id):
            self._order.discard(place)
        if scope is not None:
            self._log(scope, entry_id, added=False)
        else:  # nobody knows whose index has it: who follows the log is to read the tables anew
            txn.drop(tables.log, delete=False)
            self._sequence += 1
        return True

    # ----------------------------------------------------------------- touch

    def touch(self, uses: Mapping[int, Use]) -> None:
        """Move entries to their new place in the order of eviction, and their expiry where it slides."""
        for entry_id, use in uses.items():
            self._clock_ms = max(self._clock_ms, use.last_ms)
            try:
                head = self._tables.head(self._txn, self._sealer, entry_id)
            except BadRecordError:
                continue  # met and dropped when it is next read
            if head is not None:
                self._move(entry_id, head, self._used(head, use))

    def _used(self, head: Head, use: Use) -> Head:
        hits = head.hits + use.count
        expires_ms = min(use.last_ms + head.sliding_ms, head.latest_ms)
        slides = head.sliding_ms and expires_ms - head.expires_ms >= head.sliding_ms // _SLIDE_SHARE
        return msgspec.structs.replace(
            head,
            used_ms=max(head.used_ms, use.last_ms),
            hits=hits,
            rank=rank(self._options.eviction, head.worth_usd, head.size_bytes, hits, self._inflation),
            expires_ms=expires_ms if slides else head.expires_ms,
        )

    def _move(self, entry_id: int, head: Head, moved: Head) -> None:
        key, tables = key_of(entry_id), self._tables
        if moved.expires_ms != head.expires_ms:
            sealed = get(self._txn, tables.entries, key)
            try:
                body = self._sealer.open(EntryBody, head.scope + key, sealed or b"")
            except BadRecordError:
                return
            body = msgspec.structs.replace(body, expires_ms=moved.expires_ms)
            self._txn.put(key, self._sealer.seal(body, head.scope + key), db=tables.entries)
        before, after = tables.keys_of(entry_id, head), tables.keys_of(entry_id, moved)
        if after.expiry != before.expiry:
            self._txn.delete(before.expiry, db=tables.expiry)
            self._txn.put(after.expiry, b"", db=tables.expiry)
        if after.order != before.order:
            self._order.discard(before.order)
            self._order.add(after.order)
        self._txn.put(key, self._sealer.seal(moved, key), db=tables.heads)

    def reorder(self, limit: int) -> int:
        """Rank the next entries by the policy in force. How many it looked at; fewer than asked: all are."""
        reached = get(self._txn, self._tables.meta, REORDER_AFTER)
        if reached is None:
            return 0
        keys = [
            key for key, _ in islice(scan(self._txn, self._tables.heads, key_of(integer(reached) + 1)), limit)
        ]
        self.touch({integer(key): Use(0, 0) for key in keys})
        if len(keys) < limit:
            self._txn.delete(REORDER_AFTER, db=self._tables.meta)
        else:
            self._txn.put(REORDER_AFTER, keys[-1], db=self._tables.meta)
        return len(keys)

    # ------------------------------------------------------------------- log

    def _log(self, scope: bytes, entry_id: int, *, added: bool) -> None:
        self._sequence += 1
        key = key_of(self._sequence)
        self._append(key, self._sealer.seal(LogRecord(scope, entry_id, added), key), self._tables.log)

    def _trim_log(self) -> None:
        came = self._sequence - integer(self._before[SEQUENCE])
        surplus = self._txn.stat(self._tables.log)["entries"] - self._options.log_max_records
        surplus = min(surplus, came + _TRIM_COUNT)
        if surplus <= 0:
            return
        with self._txn.cursor(db=self._tables.log) as cursor:
            while surplus > 0 and cursor.first():
                cursor.delete()
                surplus -= 1
