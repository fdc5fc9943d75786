"""A store written anew beside itself, and put in its place in one step: to mend it, to bring it to this
schema, or to another embedder.

Called with the directory locked and no server on it. Nothing of the old file is changed: records whose
digest fits are copied in order of id, in transactions that note how far they came, so that a rewrite that
was cut off goes on. The new file is checked as a whole before one rename makes it the store; until then
the old one is. It stays beside as ``data.mdb.before``.

Every record is found by its own digest: of the old tables only the entries and, where they are good, the
vectors and heads are read, so whatever else is damaged is mended by being made anew.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import lmdb
import msgspec
import numpy as np

from cachesvc.adapters import lmdb_open
from cachesvc.adapters.lmdb_preflight import is_readable, is_whole
from cachesvc.adapters.lmdb_records import BadRecordError, EntryBody, Head, Sealer, entry_of, source_digest
from cachesvc.adapters.lmdb_schema import (
    SCHEMA_VERSION,
    StoreIdentity,
    Tables,
    get,
    integer,
    key_of,
    scan,
    vector_key,
)
from cachesvc.adapters.lmdb_verify import check_steps
from cachesvc.adapters.lmdb_write import Write, WriteOptions
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.eviction import EvictionPolicy, rank, size_bytes, worth_usd
from cachesvc.core.identity import carried
from cachesvc.core.types import Identity, Unseen, Vector

_ROUND_COUNT = 256
_LAST_OF_FLOAT32 = 2  # the schemas whose vectors were float32, under their whole scope
_NEW = "rewrite"
_BEFORE = "data.mdb.before"
_REWRITE_OF = b"rewrite_of"
_REACHED = b"rewrite_reached"
_TOLD = b"rewrite_told"

Embed: TypeAlias = Callable[[Sequence[str]], Sequence[Vector | Unseen]]


@dataclass(frozen=True, slots=True)
class Target:
    """What the new store is to be. ``embed`` is needed where the embedder is another."""

    fingerprint: str
    map_size_bytes: int
    compress_min_bytes: int
    eviction: EvictionPolicy
    embed: Embed | None = None


@dataclass(slots=True)
class Told:
    """How far a rewrite came: entries read of those there are, carried over, embedded, and lost by reason."""

    total: int = 0
    read: int = 0
    carried: int = 0
    embedded: int = 0
    damaged: int = 0
    without_prompt: int = 0


def identity_of(path: Path) -> StoreIdentity | None:
    """What a store says it is, any schema; None for a new one. Raises CORRUPT or UNAVAILABLE."""
    data = path / "data.mdb"
    if not data.exists() or not data.stat().st_size:  # empty: killed while it was created
        return None
    try:
        with _opened_old(path) as env, env.begin() as txn:
            return Tables(env, 0, txn).identity(txn)
    except lmdb.Error as error:
        raise lmdb_open.refusal(path, "opened", error) from None


def rewrite(path: Path, target: Target, progress: Callable[[Told], None]) -> Told:
    """Rewrite the store at ``path``, which the caller has locked.

    Raises CORRUPT, FULL, UNAVAILABLE or INCOMPATIBLE.
    """
    new = path / _NEW
    try:
        with _opened_old(path) as old_env, old_env.begin() as old:
            source = _Source(old, Tables(old_env, 0, old))
            _make_new(new, source, target)
            env = lmdb_open.open_env(new, target.map_size_bytes, metasync=False)
            try:
                told = _Copy(env, source, target, progress).run()
                env.sync(True)
            finally:
                env.close()
    except lmdb.Error as error:
        raise lmdb_open.refusal(path, "rewritten", error) from None
    _put_in_place(path, new)
    return told


def _opened_old(path: Path) -> lmdb.Environment:
    data = path / "data.mdb"
    if not is_whole(data):
        raise lmdb_open.unopenable(path, "part of data.mdb is missing")
    try:
        return lmdb.open(
            str(path), readonly=True, lock=False, max_dbs=32, map_size=max(data.stat().st_size, 1 << 20)
        )
    except lmdb.Error as error:
        raise lmdb_open.refusal(path, "opened", error) from None


class _Source:
    """The old store, whatever its schema."""

    def __init__(self, txn: lmdb.Transaction, tables: Tables) -> None:
        self.txn = txn
        self.tables = tables
        identity = tables.identity(txn)
        if identity is None:
            raise CacheError(Kind.CORRUPT, "the store has no identity: move the directory aside")
        if identity.schema_version > SCHEMA_VERSION:
            raise CacheError(
                Kind.INCOMPATIBLE,
                f"the store has schema {identity.schema_version}, this version knows {SCHEMA_VERSION}: "
                "use the version that wrote it, or a newer one",
            )
        self.identity = identity
        self.sealer = Sealer(identity.mac_key, 1 << 30)
        self.count = txn.stat(tables.entries)["entries"]

    def entries(self, after_id: int) -> Iterator[tuple[int, EntryBody | None, Identity | None]]:
        """Ids and what their records hold; None for one that is damaged."""
        for key, sealed in scan(self.txn, self.tables.entries, key_of(after_id + 1)):
            try:
                claimed = self.sealer.peek(EntryBody, sealed)
                identity = carried(
                    claimed.namespace,
                    claimed.model,
                    claimed.context,
                    claimed.prompt,
                    self.identity.fingerprint,
                )
                yield integer(key), self.sealer.open(EntryBody, identity.scope + key, sealed), identity
            except BadRecordError:
                yield integer(key), None, None

    def vector(self, scope: bytes, entry_id: int) -> Vector | None:
        place = scope + key_of(entry_id)
        is_half = self.identity.schema_version > _LAST_OF_FLOAT32
        sealed = get(self.txn, self.tables.vectors, vector_key(scope, key_of(entry_id)) if is_half else place)
        try:
            if sealed is None or is_half:
                return None if sealed is None else self.sealer.open_vector(place, sealed)
            return np.frombuffer(self.sealer.values(place, sealed), dtype="<f4").astype(np.float32)
        except BadRecordError:
            return None

    def use(self, entry_id: int, body: EntryBody) -> tuple[int, int]:
        """When it was last used, and how often. Schema 1 did not count."""
        key = key_of(entry_id)
        sealed = get(self.txn, self.tables.heads, key)
        try:
            if sealed is None:
                return body.created_ms, 0
            if self.identity.schema_version == 1:
                return self.sealer.open_as(_Head1, "Head", key, sealed).used_ms, 0
            head = self.sealer.open(Head, key, sealed)
        except BadRecordError:
            return body.created_ms, 0
        return head.used_ms, head.hits


class _Head1(msgspec.Struct, array_like=True, frozen=True):
    """A head of schema 1."""

    scope: bytes
    exact_key: bytes
    namespace: str
    tags: list[str]
    expires_ms: int
    used_ms: int


def _make_new(new: Path, source: _Source, target: Target) -> None:
    """An empty store of the same key and counters, unless there is one already that can be gone on with."""
    sequence, next_id = source.tables.sequence(source.txn), source.tables.next_id(source.txn)
    # What an older version began has that version's tables.
    rewrite_of = b"%d:%d:%d:" % (SCHEMA_VERSION, sequence, next_id) + target.fingerprint.encode()
    if new.exists() and not _is_begun(new, target, rewrite_of):
        shutil.rmtree(new)
    if new.exists():
        return
    lmdb_open.make_private(new)
    env = lmdb_open.open_env(new, target.map_size_bytes, metasync=True)
    try:
        tables = Tables(env, target.map_size_bytes)
        with env.begin(write=True) as txn:
            tables.create_identity(txn, target.fingerprint, source.identity.mac_key)
            tables.rank_by(txn, target.eviction)
            tables.carry_counters(txn, source.txn, source.tables)
            txn.put(_REWRITE_OF, rewrite_of, db=tables.meta)
    finally:
        env.close()


def _is_begun(new: Path, target: Target, rewrite_of: bytes) -> bool:
    """Whether it can be gone on with: of this store as it is, and not damaged itself."""
    if not is_readable(new / "data.mdb"):
        return False
    try:
        env = lmdb_open.open_env(new, target.map_size_bytes, metasync=True)
    except CacheError as error:
        if error.kind is not Kind.CORRUPT:
            raise
        return False
    try:
        tables = Tables(env, target.map_size_bytes)
        with env.begin() as txn:
            return get(txn, tables.meta, _REWRITE_OF) == rewrite_of
    finally:
        env.close()


class _Copy:
    """Carries entries from the old store to the new one."""

    def __init__(
        self, env: lmdb.Environment, source: _Source, target: Target, progress: Callable[[Told], None]
    ) -> None:
        self._env = env
        self._source = source
        self._target = target
        self._progress = progress
        self._tables = Tables(env, target.map_size_bytes)
        self._sealer = Sealer(source.identity.mac_key, target.compress_min_bytes)
        self._is_another = source.identity.fingerprint != target.fingerprint

    def run(self) -> Told:
        """Copy what is missing, and check the whole."""
        with self._env.begin() as txn:
            told = self._told(txn)
            reached = integer(get(txn, self._tables.meta, _REACHED) or b"")
        told.total = self._source.count
        batch: list[tuple[int, EntryBody, Identity]] = []
        self._progress(told)
        for entry_id, body, identity in self._source.entries(reached):
            told.read += 1
            if body is None or identity is None:
                told.damaged += 1
            elif self._is_another and not body.prompt:
                told.without_prompt += 1
            else:
                batch.append((entry_id, body, identity))
            reached = entry_id
            if told.read % _ROUND_COUNT == 0:
                self._write(batch, reached, told)
                batch.clear()
        self._write(batch, reached, told)
        self._finish()
        return told

    def _told(self, txn: lmdb.Transaction) -> Told:
        noted = get(txn, self._tables.meta, _TOLD)
        return Told() if noted is None else msgspec.msgpack.decode(noted, type=Told)

    def _write(self, batch: list[tuple[int, EntryBody, Identity]], reached: int, told: Told) -> None:
        """One transaction: entries, and how far it came."""
        vectors = self._vectors(batch, told)
        options = WriteOptions(1, self._target.eviction)
        with self._env.begin(write=True) as txn:
            with Write(txn, self._tables, self._sealer, options) as write:
                for (entry_id, body, identity), vector in zip(batch, vectors, strict=True):
                    self._insert(write, entry_id, body, identity, vector)
            told.carried += len(batch)
            txn.put(_REACHED, key_of(reached), db=self._tables.meta)
            txn.put(_TOLD, msgspec.msgpack.encode(told), db=self._tables.meta)
        self._progress(told)

    def _vectors(self, batch: list[tuple[int, EntryBody, Identity]], told: Told) -> list[Vector | None]:
        if not self._is_another:
            return [self._source.vector(identity.scope, entry_id) for entry_id, _, identity in batch]
        if self._target.embed is None:
            raise CacheError(
                Kind.INCOMPATIBLE,
                f"the store was written with the embedder {self._source.identity.fingerprint}",
            )
        embedded = self._target.embed([body.prompt for _, body, _ in batch])
        told.embedded += len(embedded)
        return [None if isinstance(one, Unseen) else one for one in embedded]

    def _insert(
        self, write: Write, entry_id: int, body: EntryBody, old: Identity, vector: Vector | None
    ) -> None:
        identity, exact_key = old, body.exact_key
        if self._is_another:
            identity = carried(
                body.namespace, body.model, body.context, body.prompt, self._target.fingerprint
            )
            exact_key = identity.exact_key
            body = msgspec.structs.replace(body, exact_key=exact_key)
        payload = entry_of(entry_id, identity.scope, body).payload
        used_ms, hits = self._source.use(entry_id, body)
        worth, size = worth_usd(payload), size_bytes(body.prompt, payload, vector)
        head = Head(
            scope=identity.scope,
            exact_key=exact_key,
            namespace=body.namespace,
            model=body.model,
            tags=body.tags,
            sources=[(source_digest(source_id), version) for source_id, version in body.sources],
            created_ms=body.created_ms,
            expires_ms=body.expires_ms,
            sliding_ms=body.sliding_ms,
            latest_ms=body.latest_ms,
            used_ms=used_ms,
            hits=hits,
            rank=rank(self._target.eviction, worth, size, hits, write.inflation),
            worth_usd=worth,
            size_bytes=size,
            semantic=vector is not None,
        )
        write.replace(entry_id, body, head, vector)

    def _finish(self) -> None:
        with self._env.begin(
            write=True
        ) as txn:  # how far it came stays noted: killed now, it only checks again
            self._tables.skip_sequence(txn)
        with self._env.begin() as txn:
            steps = check_steps(txn, self._tables, self._sealer)
            problems = [problem for step in steps for problem in step.problems]
        if problems:
            with self._env.begin(write=True) as txn:
                txn.delete(_REWRITE_OF, db=self._tables.meta)  # the next one begins anew
            raise CacheError(  # not CORRUPT: for that the old store, which is as good as it was, may be moved aside
                Kind.UNAVAILABLE,
                f"the rewritten store is not clean and was not taken, the old one was not touched: {problems[0]}; "
                "do it again, which begins anew; if that fails, too, look at the disk and the memory",
            )


def _put_in_place(path: Path, new: Path) -> None:
    """One rename decides. What is left behind by a process that died in between is of no account."""
    before = path / _BEFORE
    try:
        before.unlink(missing_ok=True)
        os.link(path / "data.mdb", before)
        (new / "data.mdb").replace(path / "data.mdb")
    except OSError as error:
        raise CacheError(
            Kind.UNAVAILABLE,
            f"the new store is whole, but {before} could not be made, or {path / 'data.mdb'} replaced: "
            f"{error.strerror}; mend that and do it again, which takes no time",
        ) from None
    (path / "lock.mdb").unlink(missing_ok=True)
    lmdb_open.sync(path)
    shutil.rmtree(new)
