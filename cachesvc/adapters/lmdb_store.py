"""The truth on disk: entries, vectors, secondary keys and the log, in one LMDB environment.

Called by the engine through ``ResponseStore``. Must never: open a map that another server has open,
use LMDB's data-losing modes (nosync, writemap), hold a read transaction beyond a call, or serve a
record whose digest does not fit its place. ``lmdb_schema`` has the tables and the changes made to
them inside one transaction; here is who may call, when, and what failure means.
"""

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Protocol, TypeVar, cast

import lmdb
import numpy as np

from cachesvc.adapters import lmdb_open, lmdb_select
from cachesvc.adapters.lmdb_begin import StoreOptions, begin
from cachesvc.adapters.lmdb_files import OpenFiles
from cachesvc.adapters.lmdb_fork import Forsaken
from cachesvc.adapters.lmdb_read import Reading
from cachesvc.adapters.lmdb_records import (
    BadRecordError,
    EntryBody,
    Head,
    LogRecord,
    entry_of,
    packed,
    stacked,
)
from cachesvc.adapters.lmdb_rewrite import Told
from cachesvc.adapters.lmdb_schema import get, integer, is_key, key_of, scan, vector_key
from cachesvc.adapters.lmdb_verify import check_steps
from cachesvc.adapters.lmdb_write import Write, WriteOptions
from cachesvc.adapters.lmdb_writer import GroupWriter
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import Failpoint, no_failpoint
from cachesvc.core.selection import Selector
from cachesvc.core.types import (
    Change,
    CheckStep,
    Draft,
    Lost,
    NamespaceUsage,
    Place,
    Receipt,
    Row,
    ScopeVectors,
    Selection,
    Session,
    StoreStats,
    Use,
    Vector,
)

__all__ = ["LmdbStore", "StoreOptions"]

T = TypeVar("T")

_PAGE_BYTES = 4096
_CLOCK_MS = 60_000


class LmdbStore:
    """``ResponseStore`` on LMDB. One per directory: a lock file keeps other servers out."""

    def __init__(
        self,
        options: StoreOptions,
        fingerprint: str,
        failpoint: Failpoint = no_failpoint,
        migrating: Callable[[Told], None] = lambda told: None,
    ) -> None:
        """Open or create. Raises LOCKED, INCOMPATIBLE, CORRUPT or UNAVAILABLE with what to do.

        A store of an older schema is written anew first, which takes a while: ``migrating`` is told how far it is.
        """
        self._options = options
        opened = begin(options, fingerprint, migrating)
        self._env = opened.env
        self._files = OpenFiles(options.path, "the store")
        self._tables = opened.tables
        self._sealer = opened.sealer
        self._lock = opened.lock
        self._moved_aside = opened.moved_aside
        self._keeps_dying = opened.keeps_dying
        self._write_options = WriteOptions(options.log_max_records, options.eviction)
        self._writer = GroupWriter(self._env, self._opening, options.write_queue_length, failpoint)
        self._is_open = True
        os.register_at_fork(after_in_child=partial(_forsake, weakref.ref(self)))

    # ---------------------------------------------------------------- writes

    def put(self, drafts: Sequence[Draft], wait_s: float | None) -> list[Receipt | None]:
        """See ``ResponseStore.put``."""
        made = [packed(self._sealer, draft) for draft in drafts]
        return self._write(lambda write: [write.put(one) for one in made], wait_s)

    def remove(self, entry_ids: Sequence[int]) -> int:
        """See ``ResponseStore.remove``."""
        try:
            return self._removing(lambda write: sum(write.remove(entry_id) for entry_id in entry_ids))
        except CacheError as error:
            if error.kind is not Kind.FULL or len(entry_ids) < 2:
                raise
        half = len(entry_ids) // 2  # removals copy pages before they free them: fewer need less room
        return self.remove(entry_ids[:half]) + self.remove(entry_ids[half:])

    def touch(self, uses: Mapping[int, Use]) -> None:
        """See ``ResponseStore.touch``."""
        self._write(lambda write: write.touch(uses))

    def forbid(self, selector: Selector) -> int:
        """See ``ResponseStore.forbid``."""
        return self._removing(lambda write: write.forbid(selector))

    def reorder(self, limit: int) -> int:
        """See ``ResponseStore.reorder``."""
        with self._read() as txn:
            if not self._tables.is_reordering(txn):
                return 0
        return self._write(lambda write: write.reorder(limit))

    def expire(self, now_ms: int, limit: int) -> int:
        """See ``ResponseStore.expire``."""
        with self._read() as txn:
            first = next(scan(txn, self._tables.expiry), None)
            is_due = first is not None and integer(first[0][:8]) <= now_ms
            is_idle = now_ms - self._tables.clock_ms(txn) < _CLOCK_MS
        if not is_due and is_idle:
            return 0  # an idle store writes nothing but, now and then, the time
        if not is_due:  # as seldom
            self._env.reader_check()  # slots of readers that died hold back free pages
            self._restore_ballast()
        return self._fewer_if_full(lambda write, count: write.expire(count, now_ms), limit)

    def evict(self, limit: int, namespace: str | None = None) -> int:
        """See ``ResponseStore.evict``."""
        return self._fewer_if_full(lambda write, count: write.evict(count, namespace), limit)

    def _fewer_if_full(self, remove: "_Removal", limit: int) -> int:
        """Where there is no room for so many removals (they copy pages before they free them), do fewer."""
        while limit > 1:
            try:
                return self._write(partial(remove, count=limit))
            except CacheError as error:
                if error.kind is not Kind.FULL:
                    raise
                limit //= 2
        return self._removing(partial(remove, count=limit))

    def _removing(self, work: Callable[[Write], T]) -> T:
        """A write that must succeed on a full map or disk too: there the ballast makes room for it.

        Where it was dropped already, what was removed last does: LMDB uses a page again two commits later.
        """
        try:
            return self._write(work)
        except CacheError as error:
            if error.kind is not Kind.FULL:
                raise
        self._write(Write.drop_ballast)
        self._write(Write.change_nothing)
        return self._write(work)

    def _restore_ballast(self) -> None:
        stats = self.stats()
        free_bytes = (self._env.info()["last_pgno"] + 1) * _PAGE_BYTES - stats.used_bytes
        if free_bytes > 2 * self._tables.ballast_bytes:  # else it would take what was just made free
            self._write(Write.put_ballast)

    def _write(self, work: Callable[[Write], T], wait_s: float | None = None) -> T:
        return self._writer.run(work, wait_s)

    def _opening(self, txn: lmdb.Transaction) -> Write:
        self._files.refuse_removed()
        return Write(txn, self._tables, self._sealer, self._write_options)

    # ----------------------------------------------------------------- reads

    def find(self, scope: bytes, exact_key: bytes) -> Row | None:
        """See ``ResponseStore.find``."""
        with self._read() as txn:
            found = get(txn, self._tables.exact, exact_key)
            if found is None or not is_key(found):
                return None
            row = self._row(txn, scope, integer(found))
            if isinstance(row, Lost):
                head = self._head(txn, row.entry_id)
                intact = head is not None and head.exact_key != exact_key
            else:
                intact = row.exact_key != exact_key
        return None if intact else row  # intact: a damaged key that names another; the next store mends it

    def fetch(self, scope: bytes, entry_ids: Sequence[int]) -> list[Row]:
        """See ``ResponseStore.fetch``."""
        with self._read() as txn:
            return [self._row(txn, scope, entry_id) for entry_id in entry_ids]

    def namespace_of(self, entry_id: int) -> str | None:
        """See ``ResponseStore.namespace_of``."""
        with self._read() as txn:
            head = self._head(txn, entry_id)
        return None if head is None else head.namespace

    def get(self, entry_id: int) -> Row | None:
        """See ``ResponseStore.get``."""
        with self._read() as txn:
            head = self._head(txn, entry_id)
            return None if head is None else self._row(txn, head.scope, entry_id)

    def _head(self, txn: lmdb.Transaction, entry_id: int) -> Head | None:
        try:
            return self._tables.head(txn, self._sealer, entry_id)
        except BadRecordError:
            return None

    def sequence(self) -> int:
        """See ``ResponseStore.sequence``."""
        with self._read() as txn:
            return self._tables.sequence(txn)

    def changes(self, after: int, limit: int) -> list[Change] | None:
        """See ``ResponseStore.changes``."""
        with self._read() as txn:
            if after >= self._tables.sequence(txn):
                return []
            records = list(islice(scan(txn, self._tables.log, key_of(after + 1)), limit))
            if not records or integer(records[-1][0]) != after + len(records):
                return None
            try:
                return [self._change(key, sealed) for key, sealed in records]
            except BadRecordError:
                return None

    def _change(self, key: bytes, sealed: bytes) -> Change:
        record = self._sealer.open(LogRecord, key, sealed)
        return Change(integer(key), record.scope, record.entry_id, record.added)

    def vectors(self, scope: bytes, entry_ids: Sequence[int]) -> list[Vector | None]:
        """See ``ResponseStore.vectors``."""
        keys = [key_of(entry_id) for entry_id in entry_ids]
        with self._read() as txn:
            found = [get(txn, self._tables.vectors, vector_key(scope, key)) for key in keys]
        values = [
            None if sealed is None else self._values(scope + key, sealed)
            for key, sealed in zip(keys, found, strict=True)
        ]
        opened = iter(stacked([one for one in values if one is not None]))
        return [None if one is None else next(opened) for one in values]

    def scope_vectors(
        self, scope: bytes, max_count: int, *, after_id: int = 0, limit: int | None = None
    ) -> ScopeVectors | None:
        """See ``ResponseStore.scope_vectors``."""
        ids: list[int] = []
        vectors: list[bytes] = []
        prefix = vector_key(scope, b"")
        with self._read() as txn:
            if not after_id and self._has_more_vectors(txn, prefix, max_count):
                return None
            sequence = self._tables.sequence(txn)
            for place, sealed in scan(txn, self._tables.vectors, prefix + key_of(after_id + 1)):
                if len(ids) == limit or not place.startswith(prefix):
                    break
                key = place[len(prefix) :]
                values = self._values(scope + key, sealed)
                if values is not None:
                    ids.append(integer(key))
                    vectors.append(values)
        return ScopeVectors(sequence, np.array(ids, dtype=np.int64), stacked(vectors))

    def _has_more_vectors(self, txn: lmdb.Transaction, prefix: bytes, max_count: int) -> bool:
        """Whether a scope has more than this. Counts keys and reads no vector."""
        if txn.stat(self._tables.vectors)["entries"] <= max_count:
            return False
        with txn.cursor(db=self._tables.vectors) as cursor:
            if not cursor.set_range(prefix):
                return False
            keys = takewhile(lambda key: bytes(key).startswith(prefix), cursor.iternext(values=False))
            return sum(1 for _ in islice(keys, max_count + 1)) > max_count

    def epoch(self) -> int:
        """See ``ResponseStore.epoch``."""
        with self._read() as txn:
            return self._tables.epoch(txn)

    def next_id(self) -> int:
        """See ``ResponseStore.next_id``."""
        with self._read() as txn:
            return self._tables.next_id(txn)

    def select(self, selector: Selector, after: Place | None, limit: int, first_id: int = 0) -> Selection:
        """See ``ResponseStore.select``."""
        step = lmdb_select.Step(selector, after, limit, first_id)
        with self._read() as txn:
            return lmdb_select.select(txn, self._tables, self._sealer, step)

    def usage(self, limit: int) -> list[NamespaceUsage]:
        """See ``ResponseStore.usage``."""
        with self._read() as txn:
            return lmdb_select.usage(txn, self._tables, self._sealer, limit)

    def stats(self) -> StoreStats:
        """See ``ResponseStore.stats``."""
        with self._read() as txn:
            return StoreStats(
                entries=txn.stat(self._tables.heads)["entries"],
                used_bytes=self._tables.used_pages(txn) * _PAGE_BYTES,
                max_bytes=self._options.max_bytes,
                sequence=self._tables.sequence(txn),
            )

    def check(self) -> list[str]:
        """See ``ResponseStore.check``."""
        return [problem for step in self.checking() for problem in step.problems]

    def checking(self) -> Iterator[CheckStep]:
        """See ``ResponseStore.checking``. Holds a read transaction: pages that are freed meanwhile stay."""
        with self._read() as txn:
            yield from check_steps(txn, self._tables, self._sealer)

    def ids(self, after_id: int, limit: int) -> list[int]:
        """See ``ResponseStore.ids``."""
        with self._read() as txn:
            found = islice(scan(txn, self._tables.heads, key_of(after_id + 1)), limit)
            return [integer(key) for key, _ in found]

    def backup(self, directory: Path) -> None:
        """Write a compacted copy, as of one moment, into a directory that is there and empty. Blocks long.

        The copy is whole and on disk when this returns. Raises FULL.
        """
        try:
            self._env.copy(str(directory), compact=True)
        except lmdb.Error as error:
            raise CacheError(Kind.FULL, f"the copy failed: {type(error).__name__}") from None
        for path in (directory / "data.mdb", directory, directory.parent):
            lmdb_open.sync(path)

    def _row(self, txn: lmdb.Transaction, scope: bytes, entry_id: int) -> Row:
        key = key_of(entry_id)
        sealed = get(txn, self._tables.entries, key)
        if sealed is None:
            return Lost(entry_id, corrupt=False)
        try:
            return entry_of(entry_id, scope, self._sealer.open(EntryBody, scope + key, sealed))
        except BadRecordError:
            return Lost(entry_id, corrupt=True)

    def _values(self, place: bytes, sealed: bytes) -> bytes | None:
        try:
            return self._sealer.values(place, sealed)
        except BadRecordError:
            return None

    def _read(self) -> Reading:
        return Reading(self._env)

    # ------------------------------------------------------------- lifecycle

    @property
    def alive(self) -> bool:
        """Whether it takes writes."""
        return self._writer.alive

    @property
    def in_place(self) -> bool:
        """Whether what it holds will be there after a restart; else its files were removed, and nothing more is stored."""
        return self._files.in_place

    @property
    def moved_aside(self) -> Path | None:
        """Where a store went that could not be opened, so that this one was started empty."""
        return self._moved_aside

    @property
    def keeps_dying(self) -> bool:
        """Whether the server died again and again, and not of this store."""
        return self._keeps_dying

    def close(self) -> None:
        """Commit what is queued, then close. Nothing may be called afterwards."""
        if self._is_open:  # else in a forked child, whose it is not
            self._writer.close()
            self._env.close()
            self._lock.release(stopped=True)
            self._is_open = False

    def forsake(self) -> None:
        """In a forked child: it has no part in this store."""
        if self._is_open:
            self._env = cast("lmdb.Environment", Forsaken(self._env))
            self._writer = cast("GroupWriter[Write]", Forsaken(self._writer))
            self._lock.leave()
            self._is_open = False

    def sessions(self) -> list[Session]:
        """The last times it was opened, oldest first; the last one is now."""
        with self._read() as txn:
            return self._tables.sessions(txn)

    def key_for(self, purpose: bytes) -> bytes:
        """A key for what is kept beside the store and belongs to it."""
        return self._sealer.key_for(purpose)

    def last_clock_ms(self) -> int:
        """The latest time a write was made at, 0 for a new store: time may not start before it."""
        with self._read() as txn:
            return self._tables.clock_ms(txn)


class _Removal(Protocol):
    """Removes at most ``count`` entries, and says how many."""

    def __call__(self, write: Write, count: int) -> int: ...


def _forsake(store: "weakref.ref[LmdbStore]") -> None:
    held = store()
    if held is not None:
        held.forsake()
