"""The N-th write or sync of the store's file fails, for every N: nothing acknowledged is lost, and writing ends."""

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Entry, Message, Payload, Request

HERE = Path(__file__).parent
STORES = 4


def options(path: Path) -> StoreOptions:
    return StoreOptions(path, 8 << 20, 4 << 20, "sync", 64, 2048, 1000)


def draft(n: int) -> Draft:
    of = identify(Request("default", (Message("user", f"q{n}"),), "m", {}), "eio:1")
    return Draft(of, Payload(f"answer {n}".encode() * 100), of.text, np.full(4, 0.5, np.float32), n, 1 << 50)


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_lmdb_eio as here
from cachesvc.core.errors import CacheError, Kind
store = here.LmdbStore(here.options(Path(sys.argv[1])), "eio:1")
Path(sys.argv[3]).touch()
failed = False
for n in range(here.STORES):
    try:
        store.put([here.draft(n)], None)
        print("stored", n)
        assert not failed, "a write after a failed one was acknowledged"
    except CacheError as error:
        assert error.kind is Kind.UNAVAILABLE, error
        assert "restart" in error.message, error
        failed = True
        assert not store.alive
print("failed" if failed else "whole")
sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("the shim needs a C compiler")
    library = tmp_path_factory.mktemp("eio") / "eio.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "eio.c"), "-ldl"],
        check=True,
        timeout=60,
    )
    return library


def write(path: Path, shim: Path, **variables: str) -> list[str]:
    """What a child says that stores, with the shim before it."""
    gate = path.with_name("gate")
    gate.unlink(missing_ok=True)
    run = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), str(HERE), str(gate)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "LD_PRELOAD": str(shim), "EIO_GATE": str(gate), **variables},
    )
    assert run.stdout.endswith(("failed\n", "whole\n")), run.stderr[-2000:]
    return run.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from then on"])
def test_every_write_and_sync_may_fail(tmp_path: Path, shim: Path, *, sticky: bool) -> None:
    """For N = 1, 2, … until none fails: acknowledged entries are there after a restart, and it is clean."""
    count = tmp_path / "count"
    write(tmp_path / "dry", shim, EIO_COUNT=str(count))
    calls = len(count.read_text())
    assert calls > 2 * STORES
    failures = 0
    for at in range(1, calls + 2):
        path = tmp_path / f"store-{at}"
        lines = write(path, shim, EIO_AT=str(at), **({"EIO_STICKY": "1"} if sticky else {}))
        failures += lines[-1] == "failed"
        with closing(LmdbStore(options(path), "eio:1")) as store:
            assert store.check() == []
            for line in lines[:-1]:
                of = draft(int(line.split()[1])).identity
                assert isinstance(store.find(of.scope, of.exact_key), Entry), f"lost at {at}: {line}"
            store.put([draft(100)], None)
    assert failures >= calls // 2


_START = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_lmdb_eio as here
from cachesvc.core.errors import CacheError
try:
    here.LmdbStore(replace(here.options(Path(sys.argv[1])), on_corruption="quarantine"), "eio:1")
    print("opened")
except CacheError as error:
    print(error.kind.name)
"""


def test_a_start_on_a_failing_disk_moves_nothing_aside(tmp_path: Path, shim: Path) -> None:
    """For each write and sync of a start: refused as a disk that fails, and the store is there afterwards."""
    path = tmp_path / "store"
    with closing(LmdbStore(options(path), "eio:1")) as store:
        store.put([draft(n) for n in range(STORES)], None)
    told = ""
    for at in range(1, 20):
        run = subprocess.run(
            [sys.executable, "-c", _START, str(path), str(HERE)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "LD_PRELOAD": str(shim), "EIO_AT": str(at), "EIO_STICKY": "1"},
        )
        told = run.stdout.strip()
        assert told in {"UNAVAILABLE", "FULL", "opened"}, run.stderr[-2000:]
        if told == "opened":
            assert at > 2, "nothing failed"
            break
    assert told == "opened"
    assert not (path / "data.mdb.corrupt").exists()
    with closing(LmdbStore(options(path), "eio:1")) as store:
        assert store.check() == []
        assert store.stats().entries == STORES
