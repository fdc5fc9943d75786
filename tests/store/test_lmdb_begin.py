"""How a server comes by its store: what is damaged is refused or moved aside, a forked child is kept out, a remote
file system is not taken, and what others left in LMDB's lock file or in the environment does no harm.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from cachesvc.adapters.lmdb_open import refuse_remote
from cachesvc.adapters.lmdb_preflight import is_readable
from cachesvc.adapters.lmdb_schema import Tables
from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.adapters.lmdb_trust import DIRECTORY, LmdbTrust, TrustBounds
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.trust.labels import Tally
from cachesvc.offline import check_store, rebuild_store
from cachesvc.settings import Settings
from tests.store.damaging import PRINT, draft, is_there, options, quarantining

PAGE = 4096


def garbage(data: Path) -> None:
    data.write_bytes(b"garbage " * 2048)


def truncated(data: Path) -> None:
    os.truncate(data, data.stat().st_size // 3)


def without_its_key(data: Path) -> None:
    with closing(lmdb.open(str(data.parent), max_dbs=Tables.COUNT, map_size=8 << 20)) as env:
        table = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.delete(b"mac_key", db=table)


@pytest.mark.parametrize("damage", [garbage, truncated, without_its_key])
def test_a_store_too_damaged_to_open_is_moved_aside(path: Path, damage: Callable[[Path], None]) -> None:
    """Where it is wanted: the file is kept, an empty store takes its place and lasts; it is refused by default."""
    data = path / "data.mdb"
    damage(data)
    with pytest.raises(CacheError) as caught:
        LmdbStore(options(path), PRINT)
    assert caught.value.kind is Kind.CORRUPT
    damaged = data.read_bytes()
    with closing(LmdbStore(quarantining(path), PRINT)) as store:
        assert store.moved_aside == path / "data.mdb.corrupt"
        assert store.stats().entries == 0
        store.put([draft(1)], None)
        assert store.check() == []
    assert (path / "data.mdb.corrupt").read_bytes() == damaged
    with closing(LmdbStore(quarantining(path), PRINT)) as store:
        assert store.moved_aside is None
        assert is_there(store, 1)


def test_a_store_of_another_embedder_is_never_moved_aside(path: Path) -> None:
    """It is whole; only what is corrupt is quarantined."""
    with pytest.raises(CacheError) as caught:
        LmdbStore(quarantining(path), "engine:other")
    assert caught.value.kind is Kind.INCOMPATIBLE
    with closing(LmdbStore(quarantining(path), PRINT)) as store:
        assert is_there(store, 1)


_DIE = """
import os, signal, sys
from pathlib import Path
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
LmdbStore(StoreOptions(Path(sys.argv[1]), 8 << 20, 4 << 20, "sync", 64, 2048, 1000), "engine:test")
os.kill(os.getpid(), signal.SIGKILL)
"""


def die(path: Path) -> None:
    """A process opens the store and ends without closing it."""
    died = subprocess.run(
        [sys.executable, "-c", _DIE, str(path)], capture_output=True, timeout=60, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr


def damage_a_page_that_kills(path: Path, *tables: str) -> None:
    """Zero a page that opening does not touch and that reading the tables, or all, cannot do without."""
    data = path / "data.mdb"
    whole = data.read_bytes()
    for at in range(len(whole) // PAGE - 1, 1, -1):
        data.write_bytes(whole[: at * PAGE] + bytes(PAGE) + whole[(at + 1) * PAGE :])
        if not is_readable(data, tables):
            try:
                LmdbStore(options(path), PRINT).close()
            except CacheError:
                continue
            return
    raise AssertionError("no page matters")


def test_a_server_that_dies_again_and_again_looks_at_its_store(path: Path) -> None:
    """A damaged store opens twice; then it is refused for good, or moved aside where that is wanted."""
    damage_a_page_that_kills(path)
    die(path)
    die(path)
    for _ in range(2):
        with pytest.raises(CacheError, match="died again and again") as caught:
            LmdbStore(options(path), PRINT)
        assert caught.value.kind is Kind.CORRUPT
    with closing(LmdbStore(quarantining(path), PRINT)) as store:
        assert store.moved_aside is not None
        assert store.stats().entries == 0
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert store.moved_aside is None


def test_a_server_that_dies_again_and_again_looks_at_its_store_of_trust(path: Path) -> None:
    """A page there may kill as well: it is moved aside, and what it held is learned again; the entries stay."""
    bounds = TrustBounds(max_labels=100, max_vetoes=10, max_bytes=8 << 20, max_namespaces=10)
    with closing(LmdbTrust(path / DIRECTORY, PRINT, bounds)) as trust:
        trust.add("n", [], Tally(searched=1))
    (data,) = (path / DIRECTORY).glob("*/data.mdb")
    whole = data.read_bytes()
    for at in range(len(whole) // PAGE - 1, 1, -1):
        data.write_bytes(whole[: at * PAGE] + bytes(PAGE) + whole[(at + 1) * PAGE :])
        if not is_readable(data):
            break
    die(path)
    die(path)
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert (store.moved_aside, store.keeps_dying) == (None, True)
        assert is_there(store, 199)
        with closing(LmdbTrust(path / DIRECTORY, PRINT, bounds, is_doubtful=True)) as trust:
            assert trust.tally("n") == Tally()
            assert trust.moved_aside is not None
    assert data.with_name("data.mdb.corrupt").exists()


def test_a_rebuild_says_what_it_cannot_read(path: Path) -> None:
    """Where entries are on pages that make no sense it refuses, instead of dying, and leaves all as it was."""
    damage_a_page_that_kills(path, "entries")
    before = (path / "data.mdb").read_bytes()
    settings = Settings.model_validate(
        {"store": {"path": path, "max_bytes": 4 << 20, "map_size_bytes": 8 << 20}}
    )
    with pytest.raises(CacheError, match="restore a backup") as caught:
        rebuild_store(settings, lambda _: None)
    assert caught.value.kind is Kind.CORRUPT
    assert (path / "data.mdb").read_bytes() == before


def test_a_check_names_a_page_that_kills(path: Path) -> None:
    """It looks before it reads, and says what to do."""
    damage_a_page_that_kills(path)
    settings = Settings.model_validate(
        {"store": {"path": path, "max_bytes": 4 << 20, "map_size_bytes": 8 << 20}}
    )
    with pytest.raises(CacheError, match="run cachesvc rebuild") as caught:
        list(check_store(settings))
    assert caught.value.kind is Kind.CORRUPT


def test_a_look_that_finds_nothing_out_is_not_repeated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start that cannot look is refused; the next one opens the store, which is whole."""
    die(path)
    die(path)
    monkeypatch.setenv("PYTHONHOME", "/nowhere")  # so that no Python starts
    with pytest.raises(CacheError, match="not touched") as caught:
        LmdbStore(quarantining(path), PRINT)
    assert caught.value.kind is Kind.UNAVAILABLE
    with closing(LmdbStore(quarantining(path), PRINT)) as store:
        assert store.moved_aside is None
        assert is_there(store, 199)


def test_kills_alone_are_no_damage(path: Path) -> None:
    """However often its server is killed, a whole store opens; it says that something else may be the cause."""
    for _ in range(4):
        die(path)
    with closing(LmdbStore(quarantining(path), PRINT)) as store:
        assert store.keeps_dying
        assert store.moved_aside is None
        assert is_there(store, 199)
        assert store.check() == []


_FORK = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_lmdb_begin as here
path = Path(sys.argv[1])
store = here.LmdbStore(here.options(path), here.PRINT)
told, tell = os.pipe()
ended, end = os.pipe()
child = os.fork()
if not child:
    os.close(end)
    kinds = []
    for use in (lambda: here.is_there(store, 1), lambda: store.put([here.draft(900)], None), store.stats):
        try:
            use()
            kinds.append("used")
        except here.CacheError as error:
            kinds.append(error.kind.name)
    kinds.append(str(store.alive))
    store.close()
    os.write(tell, " ".join(kinds).encode())
    os.read(ended, 1)  # lives on until the parent ends it
    os._exit(0)
print(os.read(told, 100).decode())
store.put([here.draft(901)], None)
print(here.is_there(store, 901), here.is_there(store, 900), store.check())
store.close()
again = here.LmdbStore(here.options(path), here.PRINT)  # though the child lives
print(here.is_there(again, 901))
again.close()
os.close(end)
os.waitpid(child, 0)
"""


def test_a_forked_child_is_kept_out(path: Path) -> None:
    """It reads and writes nothing and holds no lock; its parent goes on."""
    run = subprocess.run(
        [sys.executable, "-c", _FORK, str(path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    expected = "UNAVAILABLE UNAVAILABLE UNAVAILABLE False\nTrue False []\nTrue\n"
    assert (run.returncode, run.stdout) == (0, expected), run.stderr


_LINE = "36 35 {device} / /mnt/x rw,noatime shared:1 - {kind} /dev/x rw\n"


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        *((kind, True) for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse", "fuse.sshfs")),
        *(
            (kind, False)
            for kind in ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk", "fuse.fuse-overlayfs")
        ),
    ],
)
def test_a_remote_file_system_is_refused(tmp_path: Path, kind: str, *, refused: bool) -> None:
    """By the type of the mount that a directory's device is; the message says so and what to do."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    here = f"{os.major(device)}:{os.minor(device)}"
    mounts.write_text(_LINE.format(device="0:999", kind="nfs") + _LINE.format(device=here, kind=kind))
    if not refused:
        refuse_remote(tmp_path, mounts)
        return
    with pytest.raises(CacheError, match=rf"remote file system \({re.escape(kind)}\)") as caught:
        refuse_remote(tmp_path, mounts)
    assert caught.value.kind is Kind.UNAVAILABLE


def test_where_mounts_are_not_told_nothing_is_refused(tmp_path: Path) -> None:
    """No /proc, or a device that it does not list."""
    refuse_remote(tmp_path, tmp_path / "nowhere")
    (tmp_path / "mountinfo").write_text(_LINE.format(device="0:999", kind="nfs"))
    refuse_remote(tmp_path, tmp_path / "mountinfo")


_OPEN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_lmdb_begin as here
try:
    here.LmdbStore(here.options(Path(sys.argv[1])), here.PRINT)
except here.CacheError as error:
    print(error.kind.name, error.message)
"""


@pytest.mark.parametrize("there", [True, False], ids=["a store", "nothing yet"])
def test_a_read_only_file_system_is_refused(path: Path, tmp_path: Path, *, there: bool) -> None:
    """The message says which file and why, whether a store is there already or not."""
    space = [
        "unshare",
        "--map-root-user",
        "--mount",
    ]  # so that no rights are needed and nothing stays mounted
    if shutil.which("unshare") is None or subprocess.run([*space, "true"], check=False).returncode:
        pytest.skip("mounting needs user namespaces")
    mounted = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    store = path if there else tmp_path / "new"
    child = [sys.executable, "-c", _OPEN, str(store), str(Path(__file__).parent)]
    run = subprocess.run(
        [*space, "sh", "-c", mounted, "sh", str(tmp_path), *child],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.startswith("UNAVAILABLE"), run.stderr
    assert str(store) in run.stdout
    assert "Read-only file system" in run.stdout


_READ = """
import os, signal, sys
import lmdb
env = lmdb.open(sys.argv[1], map_size=8 << 20, max_dbs=32)
txn = env.begin()
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_reader_that_died_holds_no_pages_back(path: Path) -> None:
    """Its slot is cleared by idle housekeeping, a minute on, and what it pinned is used again."""
    with closing(LmdbStore(options(path), PRINT)) as store:
        store.put([draft(0)], None)
        dead = subprocess.run(
            [sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        assert dead.stdout.strip() in store._env.readers()
        store.expire(200 + 60_000, 10)
        assert dead.stdout.strip() not in store._env.readers()
        for _ in range(60):
            store.put([draft(n) for n in range(100)], None)
        assert (path / "data.mdb").stat().st_size < 2 << 20


@pytest.mark.parametrize("version", ["1", "9"])
def test_the_environment_does_not_choose_the_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """LMDB_DEFAULT_LIB_VERSION, which py-lmdb reads, makes no store that others cannot open."""
    monkeypatch.setenv("LMDB_DEFAULT_LIB_VERSION", version)
    with closing(LmdbStore(options(tmp_path / "store"), PRINT)) as store:
        store.put([draft(1)], None)
    written = (tmp_path / "store" / "data.mdb").read_bytes()[:32]
    monkeypatch.delenv("LMDB_DEFAULT_LIB_VERSION")
    with closing(LmdbStore(options(tmp_path / "other"), PRINT)):
        assert (tmp_path / "other" / "data.mdb").read_bytes()[:32] == written
    with closing(LmdbStore(options(tmp_path / "store"), PRINT)) as store:
        assert is_there(store, 1)
        assert store.check() == []
