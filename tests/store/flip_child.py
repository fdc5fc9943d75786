"""Damages copies of a store and reads each copy in a process of its own. Run by test_lmdb_bitflips.

``bits``: a few are flipped. ``pages``: each page in turn is zeroed, replaced by garbage, or by another page.
LMDB trusts its pages, so damage may crash whoever reads them; a crash serves nothing. For each
copy one word is printed: ``served`` (all of it), ``lost`` (some of it), ``refused`` (it did not open),
``failed`` (a read was a CacheError), ``crashed``, or what must not be: ``wrong`` and ``raised``.
"""

import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.identity import identify
from cachesvc.core.types import Change, Draft, Entry, Identity, Lost, Message, Payload, Request, Row, Use

PRINT = "engine:test"
COUNT = 60
PAGE = 4096
WORDS = ("served", "lost", "refused", "failed", "wrong", "raised")


def identity(n: int) -> Identity:
    return identify(Request(f"space{n % 3}", (Message("user", f"question {n}"),), "m", {}), PRINT)


def draft(n: int, edition: int) -> Draft:
    source = np.random.default_rng([n, edition])
    response = f"answer {n} edition {edition} ".encode() * (1 + n * n // 8)
    payload = Payload(response, tags=("t",), metadata={"n": str(n)})
    return Draft(identity(n), payload, f"question {n}", source.normal(size=16).astype(np.float32), n, 1 << 50)


def open_store(path: Path) -> LmdbStore:
    return LmdbStore(StoreOptions(path, 8 << 20, 4 << 20, "async", 64, 2048, 1000), PRINT)


class Truth:
    """What a whole store answers."""

    def __init__(self, store: LmdbStore) -> None:
        self.rows = {n: store.find(identity(n).scope, identity(n).exact_key) for n in range(COUNT)}
        self.vectors = {entry_id: row for n in range(3) for entry_id, row in vectors(store, n).items()}
        self.log = changes(store, 0)


def vectors(store: LmdbStore, n: int) -> dict[int, bytes]:
    held = store.scope_vectors(identity(n).scope, 1000)
    assert held is not None
    return {entry_id: row.tobytes() for entry_id, row in zip(held.ids.tolist(), held.vectors, strict=True)}


def changes(store: LmdbStore, after: int) -> dict[int, Change]:
    return {change.sequence: change for change in store.changes(after, 1000) or ()}


def fill(path: Path) -> Truth:
    store = open_store(path)
    for edition in range(2):
        for n in range(0, COUNT, 1 + edition):
            store.put([draft(n, edition)], None)
    store.touch({n: Use(COUNT + n, 1) for n in range(1, 100, 3)})
    store.evict(5)
    truth = Truth(store)
    assert store.check() == []
    store.close()
    return truth


def read(path: Path, truth: Truth) -> str:
    """Everything that is served must be as it was."""
    try:
        store = open_store(path)
    except CacheError:
        return "refused"
    words = {judge_rows(store, n, truth) for n in range(COUNT)}
    words |= {judge_views(store, n, truth) for n in range(3)}
    try:
        store.check()
        store.stats()
    except CacheError:
        words.add("failed")
    return max(words, key=WORDS.index)


def judge_rows(store: LmdbStore, n: int, truth: Truth) -> str:
    of, right = identity(n), truth.rows[n]
    try:
        rows = [store.find(of.scope, of.exact_key)]
        if isinstance(right, Entry):
            rows += store.fetch(of.scope, [right.id])
            rows.append(by_id(store, right.id))
    except CacheError:
        return "failed"
    if any(isinstance(row, Entry) and row != right for row in rows):
        return "wrong"
    return "served" if all(row == right for row in rows) else "lost"


def by_id(store: LmdbStore, entry_id: int) -> Row | None:
    try:
        return store.get(entry_id)
    except CacheError as error:
        if error.kind is Kind.CORRUPT:
            return Lost(entry_id, corrupt=True)
        raise


def judge_views(store: LmdbStore, n: int, truth: Truth) -> str:
    try:
        held, log = vectors(store, n), changes(store, n * 40)
    except CacheError:
        return "failed"
    if not held.items() <= truth.vectors.items() or not log.items() <= truth.log.items():
        return "wrong"
    return "served"


def flipped(whole: bytes, source: random.Random) -> bytes:
    """A few bits are flipped, most of them in one page."""
    data = bytearray(whole)
    page = source.randrange(len(data) // PAGE) * PAGE
    for _ in range(source.choice((1, 1, 2, 8, 64))):
        at = source.randrange(len(data)) if source.random() < 0.3 else page + source.randrange(PAGE)
        data[at] ^= 1 << source.randrange(8)
    return bytes(data)


def replaced(whole: bytes, source: random.Random) -> Iterator[bytes]:
    """Each page is lost in three ways: zeros, garbage, and another page of the file in its place."""
    for at in range(0, len(whole), PAGE):
        other = source.randrange(len(whole) // PAGE) * PAGE
        for page in (bytes(PAGE), source.randbytes(PAGE), whole[other : other + PAGE]):
            yield whole[:at] + page + whole[at + PAGE :]


def one_copy(data: bytes, copy: Path, truth: Truth) -> str:
    """What came of one copy."""
    copy.mkdir()
    (copy / "data.mdb").write_bytes(data)
    child = os.fork()
    if not child:
        signal.alarm(10)  # a cycle of pages would be read for ever
        try:
            code = WORDS.index(read(copy, truth))
        except BaseException:  # noqa: BLE001 - the edge of the process
            traceback.print_exc()
            code = WORDS.index("raised")
        os._exit(code)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(copy)
    return "crashed" if os.WIFSIGNALED(status) else WORDS[os.WEXITSTATUS(status)]


def main() -> None:
    directory, seed = Path(sys.argv[1]), int(sys.argv[2])
    source = random.Random(seed)
    truth = fill(directory / "whole")
    whole = (directory / "whole" / "data.mdb").read_bytes()
    if sys.argv[3] == "pages":
        copies = replaced(whole, source)
    else:
        copies = (flipped(whole, source) for _ in range(int(sys.argv[4])))
    for n, data in enumerate(copies):
        word = one_copy(data, directory / f"copy{n}", truth)
        sys.stdout.write(word + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
