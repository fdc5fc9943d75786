"""LmdbStore when something is full: the map, the disk, the write queue, the caller's patience."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.lmdb_write import Write
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.identity import identify
from cachesvc.core.selection import Near, Selector
from cachesvc.core.types import Draft, Entry, Identity, Message, Payload, Receipt, Request

PRINT = "engine:test"
WAIT_S = 20.0


def open_store(path: Path, map_size_bytes: int = 8 << 20, write_queue_length: int = 64) -> LmdbStore:
    options = StoreOptions(
        path=path,
        map_size_bytes=map_size_bytes,
        max_bytes=map_size_bytes // 2,
        durability="sync",
        write_queue_length=write_queue_length,
        compress_min_bytes=1 << 30,
        log_max_records=1024,
        eviction="lru",
    )
    return LmdbStore(options, PRINT)


def identity(text: str) -> Identity:
    return identify(Request("default", (Message("user", text),), "m", {}), PRINT)


def draft(text: str, size: int = 10, created_ms: int = 0) -> Draft:
    response = np.random.default_rng(len(text) + size).bytes(size)
    return Draft(identity(text), Payload(response), text, np.ones(16, np.float32), created_ms, 1 << 50)


def is_whole(store: LmdbStore, one: Draft) -> bool:
    row = store.find(one.identity.scope, one.identity.exact_key)
    return isinstance(row, Entry) and row.payload == one.payload


def kind_of(call: Callable[[], object]) -> Kind | None:
    try:
        call()
    except CacheError as error:
        return error.kind
    return None


def fill(store: LmdbStore, make: Callable[[int], Draft]) -> list[Draft]:
    """Store until the first refusal, which must be FULL. What was acknowledged."""
    kept: list[Draft] = []
    while len(kept) < 10_000:
        batch = [make(len(kept) + n) for n in range(20 if len(make(0).payload.response) < 100 else 1)]
        kind = kind_of(partial(store.put, batch, None))
        if kind is not None:
            assert kind is Kind.FULL
            return kept
        kept += batch
    raise AssertionError("it never fills up")


def make_room(store: LmdbStore, limit: int, size: int) -> int:
    """Evict in rounds until a store works again, as housekeeping does. How many entries it took.

    More rounds than one, since LMDB uses a page again two commits after it was freed.
    """
    evicted = 0
    for _ in range(64):
        evicted += store.evict(limit)
        if kind_of(lambda: store.put([draft("again", size, 1 << 20)], None)) is None:
            return evicted
    raise AssertionError(f"no room after {evicted} evictions")


@pytest.mark.parametrize("size", [10, 3000, 100_000])
@pytest.mark.parametrize("limit", [1, 256], ids=["one at a time", "in rounds of housekeeping"])
def test_a_full_map_refuses_writes_and_serves_reads(tmp_path: Path, limit: int, size: int) -> None:
    """Past the map a write is FULL, everything acknowledged is served, and eviction makes room again."""
    with closing(open_store(tmp_path / "store", map_size_bytes=1 << 20)) as store:
        kept = fill(store, lambda n: draft(f"q{n}", size, n))
        assert kept
        assert all(is_whole(store, one) for one in kept)
        assert store.stats().entries == len(kept)
        assert store.check() == []
        evicted = make_room(store, limit, size)
        assert is_whole(store, draft("again", size))
        assert all(is_whole(store, one) for one in kept[evicted:])
        assert store.check() == []


@pytest.mark.parametrize("size", [10, 1000, 3000])
def test_an_invalidation_needs_no_room(tmp_path: Path, size: int) -> None:
    """With not one more entry to fit, bans are written and entries from all over the tables removed."""
    with closing(open_store(tmp_path / "store", map_size_bytes=4 << 20)) as store:
        fill(store, lambda n: draft(f"q{n}", size, n))
        fill(store, lambda n: draft(f"small{n}", 10, n))
        singles = count()
        while kind_of(lambda: store.put([draft(f"single{next(singles)}", 1)], None)) is None:
            pass
        near = Near(np.ones(384, np.float32), 0.5)
        assert [store.forbid(Selector(near=near)) for _ in range(40)] == list(range(1, 41))
        scattered = np.random.default_rng(1).permutation(store.ids(0, 1 << 20))[:256].tolist()
        assert store.remove(scattered) == 256
        assert store.check() == []


def test_a_full_map_stays_usable_round_after_round(tmp_path: Path) -> None:
    """Filling up and evicting over and over neither leaks room nor loses what was kept."""
    with closing(open_store(tmp_path / "store", map_size_bytes=1 << 20)) as store:
        counts = [fill_and_empty(store, turn) for turn in range(5)]
        assert min(counts[1:]) > 0.8 * counts[0]
        assert store.check() == []


def fill_and_empty(store: LmdbStore, turn: int) -> int:
    count = len(fill(store, lambda n: draft(f"{turn}-{n}", 5000, turn * 1000 + n)))
    while store.evict(2):
        pass
    assert store.stats().entries == 0
    return count


_DISK_FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_lmdb_full import draft, fill, is_whole, kind_of, make_room, open_store
from cachesvc.core.errors import Kind
path, size, limit = Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
store = open_store(path)
kept = [draft(f"q{n}", size, n) for n in range(20)]
for one in kept:
    store.put([one], None)
room = (path / "data.mdb").stat().st_size + (64 << 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
kept += fill(store, lambda n: draft(f"q{n + 20}", size, n + 20))
assert all(is_whole(store, one) for one in kept), "a read failed on a full disk"
evicted = 0
if limit:
    evicted = make_room(store, limit, size)
    assert is_whole(store, draft("again", size))
assert store.check() == []
assert kind_of(lambda: store.put([draft(f"more{n}", size) for n in range(2000)], None)) is Kind.FULL
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.put([draft(f"free{n}", size, 1 << 21) for n in range(20)], None)
assert all(is_whole(store, one) for one in kept[evicted:])
store.close()
store = open_store(path)
assert store.check() == []
assert all(is_whole(store, one) for one in kept[evicted:])
print("done")
"""


def on_a_full_disk(store: Path, size: int, limit: int) -> None:
    """A file size limit stands for the disk; it is a process's own, so it is set in one of its own."""
    arguments = [str(store), str(Path(__file__).parent), str(size), str(limit)]
    run = subprocess.run(
        [sys.executable, "-c", _DISK_FULL, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout == "done\n", run.stderr


@pytest.mark.parametrize("size", [10, 5000, 50_000])
def test_a_full_disk_refuses_writes_and_serves_reads(tmp_path: Path, size: int) -> None:
    """With no room in the file writes are FULL, reads go on, and once there is room so do writes."""
    on_a_full_disk(tmp_path / "store", size, 0)


@pytest.mark.parametrize("size", [5000, 50_000])
@pytest.mark.parametrize("limit", [1, 256], ids=["one at a time", "in rounds of housekeeping"])
def test_eviction_brings_writes_back_on_a_full_disk(tmp_path: Path, limit: int, size: int) -> None:
    """Pages that eviction frees are used again though the file cannot grow."""
    on_a_full_disk(tmp_path / "store", size, limit)


_TMPFS_FULL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_lmdb_full import draft, fill, is_whole, kind_of, make_room, open_store
from cachesvc.core.errors import Kind
disk = Path(sys.argv[1])
ballast = disk / "ballast"
ballast.write_bytes(bytes(1 << 20))
store = open_store(disk / "store", map_size_bytes=16 << 20)
kept = fill(store, lambda n: draft(f"q{n}", 5000, n))
assert store.alive, "a full disk is no broken one"
assert all(is_whole(store, one) for one in kept), "a read failed on a full disk"
(disk / "copy").mkdir()
assert kind_of(lambda: store.backup(disk / "copy")) is Kind.FULL
evicted = make_room(store, 1, 5000)
assert all(is_whole(store, one) for one in kept[evicted:])
(disk / "copy" / "data.mdb").unlink()
fill(store, lambda n: draft(f"more{n}", 5000, n + 1000))
ballast.unlink()
store.put([draft(f"free{n}", 5000, 1 << 21) for n in range(20)], None)
assert store.check() == []
store.close()
store = open_store(disk / "store", map_size_bytes=16 << 20)
assert store.check() == []
assert all(is_whole(store, draft(f"free{n}", 5000)) for n in range(20))
print(len(kept), "kept")
"""


def test_a_full_tmpfs_refuses_writes_and_serves_reads(tmp_path: Path) -> None:
    """A real file system without room: writes and backups are FULL, reads go on, and room brings writes back."""
    space = [
        "unshare",
        "--map-root-user",
        "--mount",
    ]  # so that no rights are needed and nothing stays mounted
    if shutil.which("unshare") is None or subprocess.run([*space, "true"], check=False).returncode:
        pytest.skip("mounting needs user namespaces")
    mounted = 'mount -t tmpfs -o size=4m tmpfs "$1" && shift && exec "$@"'
    child = [sys.executable, "-c", _TMPFS_FULL, str(tmp_path), str(Path(__file__).parent)]
    run = subprocess.run(
        [*space, "sh", "-c", mounted, "sh", str(tmp_path), *child],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.endswith("kept\n"), run.stderr


@contextmanager
def writer_held(store: LmdbStore) -> Iterator[None]:
    """The writer thread stands inside a transaction until the block is left."""
    entered, release = threading.Event(), threading.Event()

    def hold(write: Write) -> None:
        entered.set()
        assert release.wait(WAIT_S)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(store._writer.run, hold)
        assert entered.wait(WAIT_S)
        try:
            yield
        finally:
            release.set()
            held.result()


def queued(store: LmdbStore, count: int) -> None:
    """Return once so many writes wait."""
    reached(lambda: len(store._writer._jobs) == count)


def reached(state: Callable[[], bool]) -> None:
    """Return once it is so."""
    tick = threading.Event()
    for _ in range(4000):
        if state():
            return
        tick.wait(0.005)
    raise AssertionError("it did not come to that")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    """A store whose queue holds three writes."""
    with closing(open_store(tmp_path / "store", write_queue_length=3)) as made:
        yield made


def test_a_full_queue_refuses_at_once(store: LmdbStore) -> None:
    """What does not fit the queue is OVERLOADED; what does is written; reads do not wait."""
    store.put([draft("before")], None)
    with ThreadPoolExecutor(3) as pool, writer_held(store):
        waiting = [pool.submit(store.put, [draft(f"q{n}")], None) for n in range(3)]
        queued(store, 3)
        assert kind_of(lambda: store.put([draft("one too many")], None)) is Kind.OVERLOADED
        assert kind_of(lambda: store.evict(1)) is Kind.OVERLOADED
        assert is_whole(store, draft("before"))
        assert not any(job.done() for job in waiting)
    assert [_receipt(job.result()).replaced_id for job in waiting] == [None] * 3
    assert store.find(identity("one too many").scope, identity("one too many").exact_key) is None
    assert store.stats().entries == 4


@pytest.mark.parametrize("wait_s", [0.0, 0.01])
def test_a_write_that_is_late_says_so(store: LmdbStore, wait_s: float) -> None:
    """Not durable in time is DEADLINE; one that had not begun does not happen; the next one is written."""
    with writer_held(store):
        assert kind_of(lambda: store.put([draft("late")], wait_s)) is Kind.DEADLINE
    store.put([draft("next")], WAIT_S)
    assert not is_whole(store, draft("late"))
    assert is_whole(store, draft("next"))
    assert store.check() == []


def test_one_bad_write_does_not_fail_its_group(store: LmdbStore) -> None:
    """Writes that were gathered with one that fails are committed all the same, each whole."""

    def fail(write: Write) -> None:
        write._txn.drop(store._tables.exact, delete=False)
        raise ZeroDivisionError

    store.put([draft("before")], None)
    with ThreadPoolExecutor(3) as pool, writer_held(store):
        first = pool.submit(store.put, [draft("first")], None)
        queued(store, 1)
        bad = pool.submit(store._writer.run, fail)
        queued(store, 2)
        last = pool.submit(store.put, [draft("last")], None)
        queued(store, 3)
    assert _receipt(first.result()).entry_id < _receipt(last.result()).entry_id
    assert kind_of(bad.result) is Kind.INTERNAL
    assert all(is_whole(store, draft(text)) for text in ("before", "first", "last"))
    assert store.check() == []


def test_close_commits_what_is_queued(tmp_path: Path) -> None:
    """Writes that wait when the store closes are durable; later ones are UNAVAILABLE."""
    store = open_store(tmp_path / "store")
    with ThreadPoolExecutor(5) as pool:
        with writer_held(store):
            waiting = [pool.submit(store.put, [draft(f"q{n}")], None) for n in range(4)]
            queued(store, 4)
            closed = pool.submit(store.close)
            reached(lambda: store._writer._closing)
            assert kind_of(lambda: store.put([draft("late")], None)) is Kind.UNAVAILABLE
        closed.result()
        assert all(len(job.result()) == 1 for job in waiting)
    with closing(open_store(tmp_path / "store")) as store:
        assert all(is_whole(store, draft(f"q{n}")) for n in range(4))
        assert store.stats().entries == 4


def _receipt(receipts: list[Receipt | None]) -> Receipt:
    assert receipts[0] is not None
    return receipts[0]
