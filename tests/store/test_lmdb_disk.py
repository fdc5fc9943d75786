"""LmdbStore on a real directory: who may open it, who may read it, and what a restart keeps."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import lmdb
import numpy as np
import pytest

from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.lmdb_schema import SCHEMA_VERSION, key_of
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Durability, Entry, Identity, Lost, Message, Payload, Request, Use

PRINT = "onnx-int8:abc"
NOW_MS = 1_700_000_000_000
Open: TypeAlias = Callable[..., LmdbStore]


def options(path: Path, *, durability: Durability = "sync", compress_min_bytes: int = 1024) -> StoreOptions:
    return StoreOptions(
        path=path,
        map_size_bytes=32 << 20,
        max_bytes=16 << 20,
        durability=durability,
        write_queue_length=64,
        compress_min_bytes=compress_min_bytes,
        log_max_records=10_000,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store goes; nothing is there yet."""
    return tmp_path / "data" / "store"


@pytest.fixture
def store(path: Path) -> Iterator[LmdbStore]:
    """A new store."""
    with closing(LmdbStore(options(path), PRINT)) as made:
        yield made


def identity(text: str = "q") -> Identity:
    return identify(Request("default", (Message("user", text),), "m", {}), PRINT)


def draft(
    text: str = "q", response: bytes = b"r", created_ms: int = NOW_MS, ttl_ms: int = 3_600_000
) -> Draft:
    vector = np.zeros(4, np.float32)
    return Draft(identity(text), Payload(response), text, vector, created_ms, created_ms + ttl_ms)


def found(store: LmdbStore, text: str = "q") -> Entry | None:
    row = store.find(identity(text).scope, identity(text).exact_key)
    assert not isinstance(row, Lost)
    return row


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_a_store_is_private(path: Path, umask: int) -> None:
    """Directory 0700, files 0600, whatever the umask."""
    before = os.umask(umask)
    try:
        with closing(LmdbStore(options(path), PRINT)) as store:
            store.put([draft()], None)
            assert mode(path) == "0o700"
            files = {file.name: mode(file) for file in path.iterdir()}
    finally:
        os.umask(before)
    assert files == dict.fromkeys(("data.mdb", "lock.mdb", "server.lock"), "0o600")


def test_a_directory_that_was_open_to_others_is_made_private(path: Path) -> None:
    """An existing directory of mode 0755 is 0700 once the store is open."""
    path.mkdir(parents=True)
    path.chmod(0o755)
    with closing(LmdbStore(options(path), PRINT)):
        assert mode(path) == "0o700"


def test_somebody_else_s_directory_is_left_alone(path: Path) -> None:
    """One that others can enter and that holds other things is refused as it is; a new volume is not."""
    path.mkdir(parents=True)
    path.chmod(0o755)
    (path / "lost+found").mkdir()
    (path / "homework").write_text("x")
    with pytest.raises(CacheError, match=r"store\.path .*holds no store") as caught:
        LmdbStore(options(path), PRINT)
    assert caught.value.kind is Kind.UNAVAILABLE
    assert mode(path) == "0o755"
    assert {file.name for file in path.iterdir()} == {"lost+found", "homework"}
    (path / "homework").unlink()
    with closing(LmdbStore(options(path), PRINT)):
        assert mode(path) == "0o700"


def test_a_path_that_is_a_file_is_refused(path: Path) -> None:
    """The message names the setting and the path."""
    path.parent.mkdir()
    path.write_text("not a store")
    with pytest.raises(CacheError, match=r"store\.path .*store") as caught:
        LmdbStore(options(path), PRINT)
    assert caught.value.kind is Kind.UNAVAILABLE


def test_another_embedder_s_store_is_refused(path: Path) -> None:
    """The message names both embedders and what to set; the store is left as it was."""
    with closing(LmdbStore(options(path), PRINT)) as store:
        store.put([draft()], None)
    with pytest.raises(CacheError) as caught:
        LmdbStore(options(path), "onnx-int8:other")
    assert caught.value.kind is Kind.INCOMPATIBLE
    for part in (PRINT, "onnx-int8:other", "embedder.model", "store.path", str(path)):
        assert part in caught.value.message
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert found(store) is not None


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 999, 0], ids=["newer", "much newer", "older"])
def test_a_store_of_another_schema_is_refused(path: Path, version: int) -> None:
    """The message names both versions and what to do."""
    LmdbStore(options(path), PRINT).close()
    with (
        closing(lmdb.open(str(path), max_dbs=9, map_size=32 << 20, lib_version=0)) as env,
        env.begin(write=True) as txn,
    ):
        txn.put(b"schema_version", key_of(version), db=env.open_db(b"meta", txn=txn))
    with pytest.raises(CacheError) as caught:
        LmdbStore(options(path), PRINT)
    assert caught.value.kind is Kind.INCOMPATIBLE
    for part in (f"schema {version}", f"reads {SCHEMA_VERSION}", "store.path", str(path)):
        assert part in caught.value.message


@pytest.mark.parametrize("name", [b"fingerprint", b"mac_key"], ids=["fingerprint", "key"])
def test_a_store_without_its_identity_is_corrupt(path: Path, name: bytes) -> None:
    """What is missing is not made up."""
    LmdbStore(options(path), PRINT).close()
    with (
        closing(lmdb.open(str(path), max_dbs=9, map_size=32 << 20, lib_version=0)) as env,
        env.begin(write=True) as txn,
    ):
        txn.delete(name, db=env.open_db(b"meta", txn=txn))
    with pytest.raises(CacheError) as caught:
        LmdbStore(options(path), PRINT)
    assert caught.value.kind is Kind.CORRUPT


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"garbage " * 1024, id="garbage"),
        pytest.param(b"\0" * 8192, id="zeros"),
        pytest.param(b"short", id="too short"),
    ],
)
def test_a_data_file_that_is_none_is_refused(path: Path, content: bytes) -> None:
    """A file that LMDB cannot read is CORRUPT with what to do, and not written over."""
    path.mkdir(parents=True)
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(CacheError, match="move the directory aside") as caught:
        LmdbStore(options(path), PRINT)
    assert caught.value.kind is Kind.CORRUPT
    assert (path / "data.mdb").read_bytes() == content


def test_a_second_server_is_kept_out(store: LmdbStore, path: Path) -> None:
    """The message names the process that has it, and the first goes on."""
    with pytest.raises(CacheError) as caught:
        LmdbStore(options(path), PRINT)
    assert caught.value.kind is Kind.LOCKED
    assert f"process {os.getpid()}:" in caught.value.message
    assert "store.path" in caught.value.message
    store.put([draft()], None)
    assert found(store) is not None


_HOLD = """
import sys
from pathlib import Path
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
options = StoreOptions(Path(sys.argv[1]), 32 << 20, 16 << 20, "sync", 64, 1024, 10_000)
store = LmdbStore(options, "onnx-int8:abc")
print("open", flush=True)
sys.stdin.readline()
"""


def test_a_lock_goes_with_its_process(path: Path) -> None:
    """Another process is named while it lives, and keeps nobody out once it was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(CacheError) as caught:
            LmdbStore(options(path), PRINT)
        holder.kill()
    assert caught.value.kind is Kind.LOCKED
    assert f"process {holder.pid}:" in caught.value.message
    LmdbStore(options(path), PRINT).close()


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("compress_min_bytes", [0, 1024, 1 << 30], ids=["all", "large", "none"])
def test_what_was_stored_is_there_after_a_restart(
    path: Path, durability: Durability, compress_min_bytes: int
) -> None:
    """Entries, vectors, ids, sequence and log go on where they were, however they were written."""
    responses = {"small": b"s", "large": b"large " * 10_000, "random": np.random.default_rng(1).bytes(30_000)}
    kept = options(path, durability=durability, compress_min_bytes=compress_min_bytes)
    with closing(LmdbStore(kept, PRINT)) as store:
        receipts = store.put([draft(text, response) for text, response in responses.items()], None)
        ids = [receipt.entry_id for receipt in receipts if receipt is not None]
        store.remove([ids[0]])
        log = store.changes(0, 100)
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert found(store, "small") is None
        for text in ("large", "random"):
            entry = found(store, text)
            assert entry is not None
            assert entry.payload.response == responses[text]
        assert store.changes(0, 100) == log
        assert store.sequence() == 4
        (new,) = store.put([draft("new")], None)
        assert new is not None
        assert new.entry_id > ids[-1]
        assert store.check() == []


def test_compression_makes_the_store_smaller(tmp_path: Path) -> None:
    """The same entries take fewer pages with compression than without."""
    used = []
    for name, least in (("on", 0), ("off", 1 << 30)):
        with closing(LmdbStore(options(tmp_path / name, compress_min_bytes=least), PRINT)) as store:
            store.put([draft(str(n), b"again and " * 2000) for n in range(20)], None)
            used.append(store.stats().used_bytes)
    assert used[0] * 4 < used[1]


def test_a_closed_store_takes_no_writes(path: Path) -> None:
    """After close a write is UNAVAILABLE, not lost."""
    store = LmdbStore(options(path), PRINT)
    assert store.alive
    store.close()
    assert not store.alive
    with pytest.raises(CacheError) as caught:
        store.put([draft()], None)
    assert caught.value.kind is Kind.UNAVAILABLE


@pytest.mark.parametrize(
    ("act", "at_ms"),
    [
        pytest.param(lambda store: None, 0, id="new"),
        pytest.param(lambda store: store.put([draft(created_ms=NOW_MS)], None), NOW_MS, id="put"),
        pytest.param(lambda store: store.expire(NOW_MS + 7, 10), NOW_MS + 7, id="expire"),
        pytest.param(lambda store: store.touch({1: Use(NOW_MS + 9, 1)}), NOW_MS + 9, id="touch"),
    ],
)
def test_the_store_remembers_the_time(path: Path, act: Callable[[LmdbStore], object], at_ms: int) -> None:
    """The latest time it was written at outlives a restart, and an older write takes nothing back."""
    with closing(LmdbStore(options(path), PRINT)) as store:
        act(store)
        store.put([draft("old", created_ms=min(at_ms, 5))], None)
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert store.last_clock_ms() == at_ms


def test_a_wall_clock_set_back_resurrects_nothing(path: Path) -> None:
    """An entry that expired before a restart is expired after it, though the wall clock went back a day."""
    wall_ms = SystemClock(floor_ms=0).now_ms()
    tomorrow_ms = wall_ms + 86_400_000
    with closing(LmdbStore(options(path), PRINT)) as store:
        store.put([draft("gone", created_ms=tomorrow_ms, ttl_ms=1000)], None)
        store.put([draft("later", created_ms=tomorrow_ms + 1000, ttl_ms=1000)], None)
    with closing(LmdbStore(options(path), PRINT)) as store:
        clock = SystemClock(floor_ms=store.last_clock_ms())
        entry, later = found(store, "gone"), found(store, "later")
        assert entry is not None
        assert entry.expires_ms <= clock.now_ms()
        assert later is not None
        assert store.expire(clock.now_ms(), 10) >= 1
        assert found(store, "gone") is None


def test_the_clock_starts_at_the_later_of_wall_and_floor() -> None:
    """It never starts before what the store knows, nor before the wall, and goes on from there."""
    wall_ms = time.time_ns() // 1_000_000
    assert abs(SystemClock(floor_ms=0).now_ms() - wall_ms) < 60_000
    ahead = SystemClock(floor_ms=wall_ms + 1_000_000_000)
    first = ahead.now_ms()
    assert 0 <= first - (wall_ms + 1_000_000_000) < 60_000
    readings = [ahead.now_ms() for _ in range(1000)]
    assert readings == sorted(readings)
    assert readings[0] >= first
