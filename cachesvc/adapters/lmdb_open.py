"""Opening a store's directory: private, local, whole, on this schema. What is refused says what to do.

Must never map a file that another server has open, or one whose end is missing.
"""

import os
from pathlib import Path

import lmdb

from cachesvc.adapters.lmdb_preflight import DAMAGE, is_whole
from cachesvc.adapters.lmdb_schema import SCHEMA_VERSION, StoreIdentity, Tables
from cachesvc.core.errors import CacheError, Kind

_REMOTE = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs")
)
_LOCAL_FUSE = frozenset(("fuse.fuse-overlayfs",))  # containers without root
_MAX_ASIDE_COUNT = 4
_MAX_READERS = 4096  # reads at once, of all processes; 64 bytes each


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
    """Open or create the environment. Raises CORRUPT, FULL or UNAVAILABLE."""
    if not is_whole(path / "data.mdb"):
        raise unopenable(path, "part of data.mdb is missing")
    return map_env(path, map_size_bytes, metasync=metasync)


def map_env(path: Path, map_size_bytes: int, *, metasync: bool) -> lmdb.Environment:
    """Open one that is known to be whole: to look whether it is, and to mend it, others must not have it open."""
    try:
        return lmdb.open(
            str(path),
            map_size=map_size_bytes,
            max_dbs=Tables.COUNT,
            max_readers=_MAX_READERS,
            mode=0o600,
            metasync=metasync,
            max_spare_txns=8,
            lib_version=0,
        )
    except lmdb.Error as error:
        raise refusal(path, "opened", error) from None


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
    """Make room for an empty store. Where the data file went: never over one that went before it. Raises CORRUPT."""
    names = ("data.mdb.corrupt", *(f"data.mdb.corrupt.{n}" for n in range(1, _MAX_ASIDE_COUNT)))
    aside = next((path / name for name in names if not (path / name).exists()), None)
    if aside is None:
        raise CacheError(
            Kind.CORRUPT,
            f"the store at {path} cannot be opened, and {_MAX_ASIDE_COUNT} that could not be were moved aside before: "
            "look for the cause (disk, memory) and remove the files data.mdb.corrupt* that are not wanted",
        )
    (path / "data.mdb").replace(aside)
    (path / "lock.mdb").unlink(missing_ok=True)
    sync(path)
    return aside


def refusal(path: Path, done: str, error: lmdb.Error) -> CacheError:
    """What LMDB's failure to have a store ``done`` (opened, rewritten) means. CORRUPT, for which a store may be moved
    aside, is damage alone.
    """
    why = type(error).__name__
    if isinstance(error, DAMAGE):
        return unopenable(path, why, done)
    if isinstance(error, lmdb.DiskError | lmdb.MapFullError):
        return CacheError(
            Kind.FULL,
            f"the store at {path} could not be {done} ({why}), and was not touched: is there room on the disk, "
            "and below store.map_size_bytes?",
        )
    return CacheError(
        Kind.UNAVAILABLE,
        f"the store at {path} could not be {done} ({why}), and was not touched: is there room on the disk, memory for "
        "store.map_size_bytes, and is it this user's?",
    )


def unopenable(path: Path, why: str, done: str = "opened") -> CacheError:
    """The refusal of a store that is damaged."""
    return CacheError(
        Kind.CORRUPT,
        f"the store at {path} cannot be {done} ({why}): "
        "restore it, or move the directory aside to start empty",
    )
