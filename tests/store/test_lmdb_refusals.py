"""What is no damage is not taken for it: a store that cannot be opened for want of memory, disk, rights or time is
refused and left alone, and what was moved aside is never replaced.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import lmdb
import pytest

from cachesvc.adapters.lmdb_begin import target_of
from cachesvc.adapters.lmdb_preflight import _judge, _limit_s, is_readable
from cachesvc.adapters.lmdb_rewrite import Told, rewrite
from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.core.errors import CacheError, Kind
from cachesvc.offline import check_store, rebuild_store
from cachesvc.settings import Settings
from tests.store.damaging import PRINT, is_there, options, quarantining

HERE = Path(__file__).parent
PAGE = 4096
ROOT_AT = 16 + 24 + 40  # of the table of free pages, in a meta page


def settings_of(path: Path) -> Settings:
    return Settings.model_validate(
        {
            "store": {
                "path": path,
                "max_bytes": 4 << 20,
                "map_size_bytes": 8 << 20,
                "on_corruption": "quarantine",
            }
        }
    )


def child(code: str, *arguments: str, **variables: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **variables},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.splitlines()


# -------------------------------------------------------------- at the start


def test_want_of_memory_is_no_damage(path: Path) -> None:
    """A map larger than the machine can make is refused as that; nothing is moved aside."""
    for _ in range(2):
        with pytest.raises(CacheError, match=r"memory for store\.map_size_bytes") as caught:
            LmdbStore(replace(quarantining(path), map_size_bytes=1 << 60), PRINT)
        assert caught.value.kind is Kind.UNAVAILABLE
    with closing(LmdbStore(quarantining(path), PRINT)) as store:
        assert store.moved_aside is None
        assert is_there(store, 199)


_FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_lmdb_refusals as here
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
for _ in range(12):
    try:
        here.LmdbStore(here.quarantining(path), here.PRINT).close()
    except here.CacheError as error:
        print(error.kind.name)
"""


def test_a_full_disk_is_no_damage(path: Path) -> None:
    """Starts that find no room for their session are refused; the store is there once there is room."""
    kinds = child(_FULL, str(path), str(HERE))
    assert kinds
    assert set(kinds) <= {"FULL", "UNAVAILABLE"}
    with closing(LmdbStore(quarantining(path), PRINT)) as store:
        assert store.moved_aside is None
        assert not (path / "data.mdb.corrupt").exists()
        assert is_there(store, 199)
        assert store.check() == []


def test_what_was_moved_aside_is_never_replaced(path: Path) -> None:
    """Each has a name of its own, and there are four at most: then the fifth is refused where it is."""
    data = path / "data.mdb"
    for n in range(4):
        data.write_bytes(b"garbage " * 2048 + bytes([n]))
        LmdbStore(quarantining(path), PRINT).close()
    data.write_bytes(b"garbage")
    with pytest.raises(CacheError, match="remove the files") as caught:
        LmdbStore(quarantining(path), PRINT)
    assert caught.value.kind is Kind.CORRUPT
    aside = sorted(path.glob("data.mdb.corrupt*"))
    assert [one.read_bytes()[-1] for one in aside] == [0, 1, 2, 3]


def test_a_file_that_cannot_be_read_is_no_damage(tmp_path: Path) -> None:
    """The message says which one and why."""
    (tmp_path / "store" / "data.mdb").mkdir(parents=True)
    (tmp_path / "store").chmod(0o700)
    with pytest.raises(CacheError, match=r"data\.mdb cannot be read.*Is a directory") as caught:
        LmdbStore(quarantining(tmp_path / "store"), PRINT)
    assert caught.value.kind is Kind.UNAVAILABLE


# ------------------------------------------------------------------ the look


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        pytest.param("raise SystemExit(0)", True, id="read"),
        pytest.param("raise SystemExit(65)", False, id="damage"),
        *(
            pytest.param(f"import os, signal; os.kill(os.getpid(), signal.{name})", False, id=name)
            for name in ("SIGABRT", "SIGBUS", "SIGSEGV", "SIGFPE")
        ),
        pytest.param("import os; os.kill(os.getpid(), 9)", "was killed: is there memory", id="out of memory"),
        pytest.param("raise MemoryError", "exit 1", id="no memory"),
        pytest.param("import nothing_of_this_name", "exit 1", id="no import"),
        pytest.param("import signal; signal.pause()", "in 1 s: is the disk so slow", id="slow"),
    ],
)
def test_only_damage_is_damage(tmp_path: Path, code: str, verdict: bool | str) -> None:  # noqa: FBT001 - of a table
    """Of how the process that reads a store may end, what says nothing of the store is UNAVAILABLE."""
    limit_s = 1 if "pause" in code else 60
    if isinstance(verdict, bool):
        assert _judge(tmp_path, [sys.executable, "-c", code], limit_s) is verdict
        return
    with pytest.raises(CacheError, match=f"{verdict}.*not touched") as caught:
        _judge(tmp_path, [sys.executable, "-c", code], limit_s)
    assert caught.value.kind is Kind.UNAVAILABLE


def test_a_look_that_cannot_begin_is_no_damage(tmp_path: Path) -> None:
    """There may be no process to be had."""
    with pytest.raises(CacheError, match="want of a process") as caught:
        _judge(tmp_path, [str(tmp_path / "no such program")], 60)
    assert caught.value.kind is Kind.UNAVAILABLE


def test_a_large_store_has_longer_to_be_read() -> None:
    """Ten minutes, or what a slow disk takes."""
    assert _limit_s(1 << 20) == 600
    assert _limit_s(100 << 30) > 5000


def test_pages_that_point_in_a_circle_are_damage(path: Path) -> None:
    """They are met as more keys than there are: here the table says that it has one."""
    data = path / "data.mdb"
    whole = data.read_bytes()
    assert is_readable(data)
    name, count_at = b"entries", len(b"entries") + 32
    at = whole.find(name)
    while at >= 0:
        if whole[at + count_at : at + count_at + 8] == (200).to_bytes(8, "little"):
            whole = whole[: at + count_at] + (1).to_bytes(8, "little") + whole[at + count_at + 8 :]
        at = whole.find(name, at + 1)
    data.write_bytes(whole)
    assert not is_readable(data)


def test_a_file_that_lost_its_end_stays_as_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a look at it ends, the next one finds out, too."""
    left = (path / "data.mdb").read_bytes()[: 20 * PAGE]
    (path / "data.mdb").write_bytes(left)
    with monkeypatch.context() as context:
        context.setenv("PYTHONHOME", "/nowhere")
        with pytest.raises(CacheError) as caught:
            LmdbStore(quarantining(path), PRINT)
        assert caught.value.kind is Kind.UNAVAILABLE
    for _ in range(2):
        with pytest.raises(CacheError, match=r"part of data\.mdb is missing"):
            LmdbStore(options(path), PRINT)
        assert (path / "data.mdb").read_bytes() == left


# ---------------------------------------------------------- offline commands


def free_pages_lost(data: Path) -> None:
    """Reading all keys does not touch it, and a write cannot do without."""
    whole = data.read_bytes()
    for meta in (0, PAGE):
        root = int.from_bytes(whole[meta + ROOT_AT : meta + ROOT_AT + 8], "little")
        whole = whole[: root * PAGE] + bytes(PAGE) + whole[(root + 1) * PAGE :]
    data.write_bytes(whole)


def test_a_check_moves_nothing_aside(path: Path) -> None:
    """Whatever the settings say: a command that looks does not replace what it looks at."""
    free_pages_lost(path / "data.mdb")
    damaged = (path / "data.mdb").read_bytes()
    with pytest.raises(CacheError) as caught:
        list(check_store(settings_of(path)))
    assert caught.value.kind is Kind.CORRUPT
    assert (path / "data.mdb").read_bytes() == damaged
    assert not (path / "data.mdb.corrupt").exists()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(lambda settings: list(check_store(settings)), id="check"),
        pytest.param(lambda settings: rebuild_store(settings, lambda _: None), id="rebuild"),
    ],
)
def test_a_store_killed_while_it_was_created_is_none_yet(
    tmp_path: Path, command: Callable[[Settings], object]
) -> None:
    """An empty file is nothing to check or to mend."""
    (tmp_path / "data.mdb").touch()
    with pytest.raises(CacheError, match="there is no store yet") as caught:
        command(settings_of(tmp_path))
    assert caught.value.kind is Kind.INVALID


# ------------------------------------------------------------------- rewrite


def rewritten(path: Path, progress: Callable[[Told], None] = lambda _: None) -> Told:
    return rewrite(path, target_of(options(path), PRINT), progress)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lmdb.CorruptedError, Kind.CORRUPT),
        (lmdb.MapFullError, Kind.FULL),
        (lmdb.DiskError, Kind.FULL),
        (lmdb.MemoryError, Kind.UNAVAILABLE),
        (lmdb.Error, Kind.UNAVAILABLE),
    ],
)
def test_a_rewrite_says_what_failed(path: Path, error: type[lmdb.Error], kind: Kind) -> None:
    """Damage is not told as a full disk, nor a full disk as damage."""

    def fail(_: Told) -> None:
        raise error

    with pytest.raises(CacheError, match=f"rewritten .{error.__name__}.") as caught:
        rewritten(path, fail)
    assert caught.value.kind is kind


class CutError(Exception):
    """A rewrite was cut off."""


def cut_off(path: Path) -> Path:
    """The file of a rewrite that has all entries and was not checked."""

    def cut(told: Told) -> None:
        if told.read:
            raise CutError

    with pytest.raises(CutError):
        rewritten(path, cut)
    return path / "rewrite" / "data.mdb"


def test_a_rewrite_that_is_not_clean_is_not_taken_nor_gone_on_with(path: Path) -> None:
    """That is no damage of the old store; the next rewrite begins anew."""
    begun = cut_off(path)
    before = (path / "data.mdb").read_bytes()
    begun.write_bytes(begun.read_bytes().replace(b"answer 77" * 2, b"answer 78" * 2))
    with pytest.raises(CacheError, match="not clean and was not taken") as caught:
        rewritten(path)
    assert caught.value.kind is Kind.UNAVAILABLE
    assert (path / "data.mdb").read_bytes() == before
    assert rewritten(path).carried == 200


def test_a_damaged_rewrite_begins_anew(path: Path) -> None:
    """What was left of one is not gone on with, and is in nobody's way."""
    begun = cut_off(path)
    whole = begun.read_bytes()
    begun.write_bytes(whole[: 2 * PAGE] + bytes(len(whole) - 2 * PAGE))
    told = rewritten(path)
    assert (told.read, told.carried) == (200, 200)
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert store.check() == []
        assert is_there(store, 199)


# ------------------------------------------------------------------ the lock

_NO_ROOM = """
import os, resource, sys
from pathlib import Path
from cachesvc.adapters.lmdb_lock import DirectoryLock
from cachesvc.core.errors import CacheError
path = Path(sys.argv[1])
held = DirectoryLock(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
held.release(stopped=True)
before = len(os.listdir("/proc/self/fd"))
try:
    DirectoryLock(path)
except CacheError as error:
    print(error.kind.name, error.message)
print(len(os.listdir("/proc/self/fd")) - before)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
DirectoryLock(path).release(stopped=True)
print("free")
"""


def test_a_lock_on_a_full_disk_is_refused_and_let_go_of(tmp_path: Path) -> None:
    """Taking it says that there is no room and leaves nothing open; letting go needs none."""
    refused, left_open, end = child(_NO_ROOM, str(tmp_path))
    assert refused.startswith("FULL")
    assert "server.lock cannot be written: File too large" in refused
    assert (left_open, end) == ("0", "free")
