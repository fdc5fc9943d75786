"""Opening a store's directory: private, local, whole, on this schema. What is refused says what to do.

Must never map a file that another server has open, or one whose end is missing.
"""

import os
from pathlib import Path

import lmdb

from cachesvc.adapters.lmdb_preflight import is_whole
from cachesvc.adapters.lmdb_schema import SCHEMA_VERSION, StoreIdentity, Tables
from cachesvc.core.errors import CacheError, Kind

_REMOTE = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs")
)
_LOCAL_FUSE = frozenset(("fuse.fuse-overlayfs",))  # containers without root


def make_private(path: Path) -> None:
    """A directory that only its owner can enter; LMDB's own default is 0755."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o077:
            _refuse_others_directory(path)
            path.chmod(0o700)
    except OSError as error:
        raise CacheError(
            Kind.UNAVAILABLE, f"store.path {path}: cannot be made a private directory: {error.strerror}"
        ) from None


def _refuse_others_directory(path: Path) -> None:
    """A mistyped path must not make somebody else's directory private: /var, say, by a server run as root."""
    names = {entry.name for entry in path.iterdir()} - {"lost+found"}  # in a volume that is new
    if names and not names & {"data.mdb", "lock.mdb", "server.lock"}:
        raise CacheError(
            Kind.UNAVAILABLE,
            f"store.path {path} is open to others, holds no store and is not empty: name a directory of its own, "
            "or make it private (0700) first",
        )


def refuse_remote(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """LMDB's locks and its memory map do not hold on file systems over a network (lmdb.h). Raises UNAVAILABLE."""
    kind = _file_system(path, mounts)
    if kind in _REMOTE or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE):
        raise CacheError(
            Kind.UNAVAILABLE,
            f"store.path {path} is on a remote file system ({kind}), where a store is not safe: "
            "use a directory on a local disk",
        )


def _file_system(path: Path, mounts: Path) -> str:
    """The type of the file system, found by its device; empty where that is not told (not Linux, btrfs)."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    kinds = [line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == number]
    return kinds[-1] if kinds else ""


def sync(path: Path) -> None:
    """Make a file's content durable, or the names of new files in a directory."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        return  # a parent that we may pass through and not read; whoever made it answers for it
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_env(path: Path, map_size_bytes: int, *, metasync: bool) -> lmdb.Environment:
    """Open or create the environment. Raises CORRUPT."""
    if not is_whole(path / "data.mdb"):
        raise unopenable(path, "part of data.mdb is missing")
    try:
        return lmdb.open(
            str(path),
            map_size=map_size_bytes,
            max_dbs=Tables.COUNT,
            max_readers=512,
            mode=0o600,
            metasync=metasync,
            max_spare_txns=8,
            lib_version=0,
        )
    except lmdb.Error as error:
        raise unopenable(path, type(error).__name__) from None


def refuse_foreign(path: Path, found: StoreIdentity, fingerprint: str) -> None:
    """Raises INCOMPATIBLE for a store of a newer schema or of another embedder."""
    if not 1 <= found.schema_version <= SCHEMA_VERSION:
        raise CacheError(
            Kind.INCOMPATIBLE,
            f"the store at {path} has schema {found.schema_version}, this version reads {SCHEMA_VERSION} and "
            "older: run the version that wrote it; to come back with its entries, run cachesvc export there and "
            "cachesvc import here; or set store.path to another directory",
        )
    if found.fingerprint != fingerprint:
        raise CacheError(
            Kind.INCOMPATIBLE,
            f"the store at {path} was written with the embedder {found.fingerprint}, but "
            f"{fingerprint} is configured: run cachesvc reembed with the same --config to bring it over, set "
            "embedder.model, engine and precision back, or set store.path to another directory",
        )


def move_aside(path: Path) -> Path:
    """Make room for an empty store. Where the data file went; one that went before it is gone."""
    aside = path / "data.mdb.corrupt"
    (path / "data.mdb").replace(aside)
    (path / "lock.mdb").unlink(missing_ok=True)
    sync(path)
    return aside


def unopenable(path: Path, why: str) -> CacheError:
    """The refusal of a store that LMDB cannot open."""
    return CacheError(
        Kind.CORRUPT,
        f"the store at {path} cannot be opened ({why}): "
        "restore it, or move the directory aside to start empty",
    )
