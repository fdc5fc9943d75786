"""A data file that lost its end is refused before it is mapped; one that rightly ends early is not."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cachesvc.adapters.lmdb_preflight import is_whole
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Message, Payload, Request

_OPEN = """
import sys
from pathlib import Path
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.errors import CacheError
try:
    LmdbStore(StoreOptions(Path(sys.argv[1]), 1 << 28, 1 << 27, "async", 64, 1 << 20, 1 << 20), "engine:test")
except CacheError as error:
    print(error.kind.name)
"""


def draft(n: int, size: int) -> Draft:
    identity = identify(Request("default", (Message("user", f"q{n}"),), "m", {}), "engine:test")
    return Draft(identity, Payload(os.urandom(size)), f"q{n}", np.ones(4, np.float32), 0, 1 << 50)


def options(path: Path) -> StoreOptions:
    return StoreOptions(path, 1 << 28, 1 << 27, "async", 64, 1 << 20, 1 << 20)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.03])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    """With part of the file missing, opening says CORRUPT and the process lives."""
    with closing(LmdbStore(options(tmp_path / "store"), "engine:test")) as store:
        for first in range(0, 2000, 100):
            store.put([draft(n, 1500) for n in range(first, first + 100)], None)
    data = tmp_path / "store" / "data.mdb"
    os.truncate(data, int(data.stat().st_size * share))
    opened = subprocess.run(
        [sys.executable, "-c", _OPEN, str(data.parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (opened.returncode, opened.stdout.strip()) == (0, "CORRUPT"), opened.stderr


def test_a_file_that_ends_early_by_right_is_opened(tmp_path: Path) -> None:
    """Pages that a transaction took and gave back are never written; such a store is whole."""
    short = 0
    for turn in range(40):
        with closing(LmdbStore(options(tmp_path / "store"), "engine:test")) as store:
            store.put([draft(n, 20_000) for n in range(turn)], None)
            store.put([draft(n % 3, 60_000 - n) for n in range(12)], None)
            store.evict(turn // 2)
            assert store.check() == []
        short += is_whole(tmp_path / "store" / "data.mdb")
    assert short == 40


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    """Bytes that LMDB did not write are CORRUPT, whatever they claim."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(os.urandom(10_000))
    with pytest.raises(CacheError) as caught:
        LmdbStore(options(tmp_path / "store"), "engine:test")
    assert caught.value.kind is Kind.CORRUPT
