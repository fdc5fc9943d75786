"""What is done to a store while no server runs on it: check it, write it anew, bring it to another embedder.

Each takes the lock that servers take. Called by the command line.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace

from cachesvc.adapters import lmdb_rewrite
from cachesvc.adapters.lmdb_begin import StoreOptions, target_of
from cachesvc.adapters.lmdb_lock import DirectoryLock
from cachesvc.adapters.lmdb_preflight import is_readable
from cachesvc.adapters.lmdb_rewrite import Told
from cachesvc.adapters.lmdb_schema import SCHEMA_VERSION, StoreIdentity
from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.types import CheckStep, Unseen, Vector
from cachesvc.making import concurrency, make_embedder, store_options
from cachesvc.settings import Settings

_EMBED_WAIT_S = 60.0


def check_store(settings: Settings) -> Iterator[CheckStep]:
    """Read everything, and move nothing aside. Raises LOCKED, CORRUPT, INCOMPATIBLE or UNAVAILABLE."""
    options = replace(store_options(settings), on_corruption="refuse")
    with _locked(options):
        if not is_readable(options.path / "data.mdb"):
            raise CacheError(
                Kind.CORRUPT,
                f"the store at {options.path} is too damaged to be checked: run cachesvc rebuild, which brings over "
                "what can be read, or restore a backup",
            )
        found = _found(options)
    if found.schema_version < SCHEMA_VERSION:  # opening it would write it anew
        raise CacheError(
            Kind.INCOMPATIBLE,
            f"the store at {options.path} has the older schema {found.schema_version}, and was not touched: "
            "run cachesvc rebuild, or start the server, which bring it over and check it",
        )
    with closing(LmdbStore(options, found.fingerprint)) as store:
        yield from store.checking()


def rebuild_store(settings: Settings, progress: Callable[[Told], None]) -> Told:
    """Write the store anew from its intact records. Raises LOCKED, CORRUPT, FULL, UNAVAILABLE or INCOMPATIBLE."""
    options = store_options(settings)
    with _locked(options):
        _refuse_unreadable(options)
        return lmdb_rewrite.rewrite(options.path, target_of(options, _found(options).fingerprint), progress)


def reembed_store(
    settings: Settings, progress: Callable[[Told], None], say: Callable[[str], None]
) -> Told | None:
    """Bring the store to the configured embedder. None when it is that one's already."""
    options = store_options(settings)
    embedder = make_embedder(settings.embedder, say)
    with _locked(options), ThreadPoolExecutor(concurrency(settings.embedder)) as pool:
        _refuse_unreadable(options)
        if _found(options).fingerprint == embedder.fingerprint:
            return None

        def embed(texts: Sequence[str]) -> list[Vector | Unseen]:
            return list(pool.map(lambda text: embedder.embed(text, _EMBED_WAIT_S), texts))

        return lmdb_rewrite.rewrite(options.path, target_of(options, embedder.fingerprint, embed), progress)


def _refuse_unreadable(options: StoreOptions) -> None:
    """A rewrite reads the entries, vectors and heads itself, and would die where LMDB's pages make no sense."""
    if not is_readable(options.path / "data.mdb", ("meta", "entries", "vectors", "heads")):
        raise CacheError(
            Kind.CORRUPT,
            f"the store at {options.path} cannot be read: restore a backup, or move the directory aside",
        )


@contextmanager
def _locked(options: StoreOptions) -> Iterator[None]:
    if not (options.path / "data.mdb").exists():
        raise CacheError(Kind.INVALID, f"store.path {options.path}: there is no store")
    lock = DirectoryLock(options.path)
    try:
        yield
    finally:
        lock.release(stopped=False)


def _found(options: StoreOptions) -> StoreIdentity:
    found = lmdb_rewrite.identity_of(options.path)
    if found is None:
        raise CacheError(
            Kind.INVALID,
            f"store.path {options.path}: there is no store yet, only what was left of creating one",
        )
    return found
