"""Before a store is mapped: is its file whole? A page that the file lacks kills the process (SIGBUS).

LMDB's meta pages name the last page in use. A file may rightly end before it (pages that a transaction
took and gave back are never written), so a short file is first made as long as it claims to be, which
turns missing pages into zeroed ones, and then read in a process of its own, which LMDB's assertions may
kill. Whole files, the usual case, cost reading two pages; all of one is read that way when its server died
again and again, or before it is written anew.
"""

import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import lmdb

_HEADER = 16
_PAGE_BYTES = 4096  # where a damaged first meta page does not tell
_MAGIC = 0xBEEFC0DE
_META = struct.Struct("<IIQQ I44x 48x QQ")  # magic, version, address, map size, page size, …, last page, txn
_LIMIT_S = 600.0


def is_whole(data: Path) -> bool:
    """Whether a store's data file can be mapped safely. True for one that does not exist yet."""
    try:
        with data.open("rb") as file:
            needed_bytes = _needed_bytes(file.read(2 * 65_536))
    except FileNotFoundError:
        return True
    if needed_bytes <= data.stat().st_size:
        return True
    os.truncate(data, needed_bytes)
    return is_readable(data)


def is_readable(data: Path, tables: Sequence[str] = ()) -> bool:
    """Whether all keys of the tables (of all, if none is named) can be read without dying of it. Takes long."""
    if not data.exists():
        return True
    command = [sys.executable, "-m", "cachesvc.adapters.lmdb_preflight", str(data.parent), *tables]
    try:
        probe = subprocess.run(command, capture_output=True, timeout=_LIMIT_S, check=False)  # noqa: S603 - ours
    except subprocess.TimeoutExpired:
        return False  # pages that point in a circle
    return probe.returncode == 0


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


def _read_all_keys(path: str, tables: Sequence[str]) -> None:
    env = lmdb.open(path, readonly=True, lock=False, max_dbs=32)
    with env.begin() as txn, txn.cursor() as names:
        for name in list(names.iternext(keys=True, values=False)):
            if tables and name.decode() not in tables:
                continue
            with txn.cursor(db=env.open_db(bytes(name), txn=txn, create=False)) as cursor:
                for _ in cursor.iternext(keys=True, values=False):
                    pass


if __name__ == "__main__":
    _read_all_keys(sys.argv[1], sys.argv[2:])
