"""Before a store is mapped: is its file whole? A page that the file lacks kills the process (SIGBUS).

LMDB's meta pages name the last page in use. A file may rightly end before it (pages that a transaction
took and gave back are never written), so a short file is first made as long as it claims to be, which
turns missing pages into zeroed ones, and then read in a process of its own, which LMDB's assertions may
kill. Whole files, the usual case, cost reading two pages; all of one is read that way when its server died
again and again, and before an offline command reads it.

A store is damaged only where LMDB says so, or dies of it. A look that was killed, did not end in time or could not
begin says nothing of the store: it raises UNAVAILABLE, and nobody may move the store aside for that.
"""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NoReturn

import lmdb

from cachesvc.core.errors import CacheError, Kind

# What LMDB raises for pages that make no sense. Its other errors are of memory, disk, rights or use.
DAMAGE = (
    *(lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.PanicError),
    *(lmdb.VersionMismatchError, lmdb.IncompatibleError, lmdb.CursorFullError, lmdb.PageFullError),
)

_HEADER = 16
_PAGE_BYTES = 4096  # where a damaged first meta page does not tell
_MAGIC = 0xBEEFC0DE
_META = struct.Struct("<IIQQ I44x 48x QQ")  # magic, version, address, map size, page size, …, last page, txn
_LIMIT_S = 600.0  # at least
_SLOWEST_BYTES_S = 20_000_000
_MAX_TABLES = 32
_DAMAGED = 65  # no code that Python ends with by itself
_DEATHS = frozenset(-death for death in (signal.SIGABRT, signal.SIGBUS, signal.SIGSEGV, signal.SIGFPE))


def is_whole(data: Path) -> bool:
    """Whether a store's data file can be mapped safely. True for one that does not exist yet.

    Raises UNAVAILABLE where that cannot be found out. A file that is not whole stays as it was.
    """
    try:
        with data.open("rb") as file:
            needed_bytes = _needed_bytes(file.read(2 * 65_536))
        size_bytes = data.stat().st_size
        if needed_bytes <= size_bytes:
            return True
        os.truncate(data, needed_bytes)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise CacheError(
            Kind.UNAVAILABLE,
            f"{data} cannot be read, or not be made as long as it says it is: {error.strerror}",
        ) from None
    is_found_whole = False
    try:
        is_found_whole = is_readable(data)
    finally:
        if not is_found_whole:
            os.truncate(data, size_bytes)  # so that whoever opens it next finds out, too
    return is_found_whole


def is_readable(data: Path, tables: Sequence[str] = ()) -> bool:
    """Whether all keys of the tables (of all, if none is named) can be read without dying of it. Takes long.

    True for a store that is not there yet. Raises UNAVAILABLE where it cannot be found out.
    """
    if not data.exists() or not data.stat().st_size:
        return True
    command = [sys.executable, "-P", "-m", "cachesvc.adapters.lmdb_preflight", str(data.parent), *tables]
    return _judge(data, command, _limit_s(data.stat().st_size))


def _limit_s(size_bytes: int) -> float:
    return max(_LIMIT_S, size_bytes / _SLOWEST_BYTES_S)


def _judge(data: Path, command: Sequence[str], limit_s: float) -> bool:
    """What the end of a process that reads the file says of it."""
    try:
        code = subprocess.run(command, capture_output=True, timeout=limit_s, check=False).returncode  # noqa: S603 - ours
    except subprocess.TimeoutExpired:
        _cannot_tell(data, f"in {limit_s:.0f} s: is the disk so slow?")
    except OSError as error:
        _cannot_tell(data, f"for want of a process: {error.strerror}.")
    if code == -signal.SIGKILL:
        _cannot_tell(data, "because the process that read it was killed: is there memory?")
    if code not in {0, _DAMAGED, *_DEATHS}:
        _cannot_tell(data, f"(exit {code}): is there memory, and may this user read it?")
    return code == 0


def _cannot_tell(data: Path, why: str) -> NoReturn:
    raise CacheError(
        Kind.UNAVAILABLE, f"{data} could not be read through {why} The store was not touched"
    ) from None


def _needed_bytes(start: bytes) -> int:
    """What the newer meta page claims; 0 when there is none, which LMDB refuses by itself."""
    at, newest, needed_bytes = _HEADER, -1, 0
    for _ in range(2):  # one meta page after the other
        if len(start) < at + _META.size:
            break
        magic, _, _, _, page_bytes, last_page, transaction = _META.unpack_from(start, at)
        if magic == _MAGIC and transaction > newest:
            newest, needed_bytes = transaction, (last_page + 1) * page_bytes
        at += page_bytes or _PAGE_BYTES
    return needed_bytes


def _can_read_all_keys(path: str, tables: Sequence[str]) -> bool:
    env = lmdb.open(path, readonly=True, lock=False, max_dbs=_MAX_TABLES)
    with env.begin() as txn, txn.cursor() as names:
        for name in list(islice(names.iternext(keys=True, values=False), _MAX_TABLES)):
            if tables and name.decode() not in tables:
                continue
            table = env.open_db(bytes(name), txn=txn, create=False)
            keys_count = txn.stat(table)["entries"]
            with txn.cursor(db=table) as cursor:
                keys = islice(cursor.iternext(keys=True, values=False), keys_count + 1)
                if sum(1 for _ in keys) > keys_count:  # the same pages again and again
                    return False
    return True


if __name__ == "__main__":
    try:
        is_intact = _can_read_all_keys(sys.argv[1], sys.argv[2:])
    except DAMAGE:
        is_intact = False
    sys.exit(0 if is_intact else _DAMAGED)
