"""How a server comes by its store: locked, on a local disk, looked at where that is called for, of this schema and
embedder; else refused with what to do, or, for one that is damaged and where it is wanted, moved aside.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import lmdb

from cachesvc.adapters import lmdb_open, lmdb_rewrite
from cachesvc.adapters.lmdb_lock import DirectoryLock, LentLock
from cachesvc.adapters.lmdb_preflight import is_readable
from cachesvc.adapters.lmdb_records import Sealer
from cachesvc.adapters.lmdb_schema import SCHEMA_VERSION, StoreIdentity, Tables
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.eviction import EvictionPolicy
from cachesvc.core.types import Durability

OnCorruption: TypeAlias = Literal["refuse", "quarantine"]

_MANY_CRASHES = 2  # in a row; one or two may be kills


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How a store is opened. Sizes in bytes; ``map_size_bytes`` is address space, not disk. ``lent_lock`` is the
    descriptor of the directory's lock in a process that shares the store with others (``LentLock``).
    """

    path: Path
    map_size_bytes: int
    max_bytes: int
    durability: Durability
    write_queue_length: int
    compress_min_bytes: int
    log_max_records: int
    eviction: EvictionPolicy = "gdsf"
    on_corruption: OnCorruption = "refuse"
    lent_lock: int | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """A store that is open. ``moved_aside`` is where one went that could not be, so that this one is empty. With
    ``keeps_dying`` its server died again and again, and it was not this store that it died of.
    """

    env: lmdb.Environment
    tables: Tables
    sealer: Sealer
    lock: DirectoryLock | LentLock
    moved_aside: Path | None
    keeps_dying: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A store that others can open now, and its lock. ``clock_ms`` is the latest time it knows."""

    lock: DirectoryLock
    moved_aside: Path | None
    clock_ms: int
    keeps_dying: bool


def begin(options: StoreOptions, fingerprint: str, migrating: Callable[[lmdb_rewrite.Told], None]) -> Opened:
    """Open or create. Raises LOCKED, INCOMPATIBLE, CORRUPT, FULL or UNAVAILABLE; nothing is left open then.

    ``migrating`` is told how far it is with writing a store of an older schema anew.
    """
    if options.lent_lock is not None:
        return _attach(options, fingerprint, LentLock(options.path, options.lent_lock))
    return _begin(options, fingerprint, migrating)[0]


def prepare(
    options: StoreOptions, fingerprint: str, migrating: Callable[[lmdb_rewrite.Told], None]
) -> Prepared:
    """Do for several processes, once, what ``begin`` does for one; they open the store themselves. Raises as it does."""
    opened, lock = _begin(options, fingerprint, migrating)
    try:
        with opened.env.begin() as txn:
            clock_ms = opened.tables.clock_ms(txn)
    finally:
        opened.env.close()
    return Prepared(lock, opened.moved_aside, clock_ms, opened.keeps_dying)


def _begin(
    options: StoreOptions, fingerprint: str, migrating: Callable[[lmdb_rewrite.Told], None]
) -> tuple[Opened, DirectoryLock]:
    path = options.path
    lmdb_open.make_private(path)
    lmdb_open.refuse_remote(path)
    lock = DirectoryLock(path)
    try:
        try:
            keeps_dying = _look_for_what_kills(path, lock)
            _bring_up_to_date(options, fingerprint, migrating)
            return replace(_open(options, fingerprint, lock, None), keeps_dying=keeps_dying), lock
        except CacheError as error:
            if error.kind is not Kind.CORRUPT or options.on_corruption == "refuse":
                raise
        return _open(options, fingerprint, lock, lmdb_open.move_aside(path)), lock
    except BaseException:
        lock.release(stopped=False)
        raise


def target_of(
    options: StoreOptions, fingerprint: str, embed: lmdb_rewrite.Embed | None = None
) -> lmdb_rewrite.Target:
    """What a store opened so is to be rewritten to."""
    return lmdb_rewrite.Target(
        fingerprint, options.map_size_bytes, options.compress_min_bytes, options.eviction, embed
    )


def _look_for_what_kills(path: Path, lock: DirectoryLock) -> bool:
    """LMDB ends the process at the first use of a page that makes no sense, so that a server on a damaged store
    would be started again and again. Not looked for at each start: reading all of a store takes long. Returns
    whether it was looked for, in vain.
    """
    if lock.crashes < _MANY_CRASHES:
        return False
    crashes, lock.crashes = lock.crashes, 0
    lock.note(0)  # should it be killed while it looks, or find nothing out, the next start does not look
    if not is_readable(path / "data.mdb"):
        lock.crashes = crashes
        raise lmdb_open.unopenable(path, "its server died again and again, and so does who reads all of it")
    lock.note(1)
    return True


def _attach(options: StoreOptions, fingerprint: str, lock: LentLock) -> Opened:
    """Open what is prepared. Others may have it open and write to it: nothing is looked for, and nothing changed."""
    path, map_size_bytes = options.path, options.map_size_bytes
    try:
        env = lmdb_open.map_env(path, map_size_bytes, metasync=options.durability == "sync")
    except BaseException:
        lock.release(stopped=False)
        raise
    try:
        env.reader_check()  # of a worker that died, whose place this one may take
        tables = Tables(env, map_size_bytes)
        found = _prepared_identity(env, tables, path)
        lmdb_open.refuse_foreign(path, found, fingerprint)
    except BaseException as error:
        env.close()
        lock.release(stopped=False)
        if isinstance(error, lmdb.Error):
            raise lmdb_open.refusal(path, "opened", error) from None
        raise
    return Opened(env, tables, Sealer(found.mac_key, options.compress_min_bytes), lock, None)


def _prepared_identity(env: lmdb.Environment, tables: Tables, path: Path) -> StoreIdentity:
    with env.begin() as txn:
        found = tables.identity(txn)
    if found is None:
        raise lmdb_open.unopenable(path, "it has no identity")
    return found


def _open(options: StoreOptions, fingerprint: str, lock: DirectoryLock, moved_aside: Path | None) -> Opened:
    path, map_size_bytes = options.path, options.map_size_bytes
    env = lmdb_open.open_env(path, map_size_bytes, metasync=options.durability == "sync")
    try:
        env.reader_check()
        tables = Tables(env, map_size_bytes)
        sealer = Sealer(_meet(env, tables, options, fingerprint), options.compress_min_bytes)
        lmdb_open.sync(path)
        lmdb_open.sync(path.parent)
    except BaseException as error:
        env.close()
        if isinstance(error, lmdb.Error):
            raise lmdb_open.refusal(path, "opened", error) from None
        raise
    return Opened(env, tables, sealer, lock, moved_aside)


def _bring_up_to_date(
    options: StoreOptions, fingerprint: str, migrating: Callable[[lmdb_rewrite.Told], None]
) -> None:
    """Refuse a store that is not ours; write one of an older schema anew."""
    found = lmdb_rewrite.identity_of(options.path)
    if found is None:
        return
    lmdb_open.refuse_foreign(options.path, found, fingerprint)
    if found.schema_version < SCHEMA_VERSION:
        lmdb_rewrite.rewrite(options.path, target_of(options, fingerprint), migrating)


def _meet(env: lmdb.Environment, tables: Tables, options: StoreOptions, fingerprint: str) -> bytes:
    """Check that the store is ours, or make it so. Returns its MAC key."""
    with env.begin() as txn:
        meta = tables.identity(txn)
    if meta is None:
        with env.begin(write=True) as txn:
            mac_key = tables.create_identity(txn, fingerprint)
    else:
        mac_key = meta.mac_key
    with env.begin(write=True) as txn:
        tables.rank_by(txn, options.eviction)
        tables.begin_session(txn)
    return mac_key
