"""The files of a store are removed, or others put in their place, while it is open: LMDB would go on without a word."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.adapters.lmdb_trust import LmdbTrust, TrustBounds
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.trust.labels import Tally, VetoPair
from cachesvc.core.trust.state import TrustState
from tests.store.damaging import PRINT, draft, is_there, options

Harm = Callable[[Path], object]


def replace_data(directory: Path) -> None:
    shutil.copy(directory / "data.mdb", directory / "other")
    (directory / "other").replace(directory / "data.mdb")


HARMS: dict[str, Harm] = {
    "all": shutil.rmtree,
    "data": lambda directory: (directory / "data.mdb").unlink(),
    "lock": lambda directory: (directory / "lock.mdb").unlink(),
    "moved": lambda directory: directory.rename(directory.with_name("moved")),
    "replaced": replace_data,
}
harms = pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())


def refused(write: Callable[[], object]) -> str:
    with pytest.raises(CacheError) as caught:
        write()
    assert caught.value.kind is Kind.UNAVAILABLE
    return caught.value.message


@harms
def test_entries_are_stored_no_more_and_still_read(path: Path, tmp_path: Path, harm: Harm) -> None:
    """What would be gone with the process is not acknowledged; a backup has all that was."""
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert store.in_place
        harm(path)
        assert not store.in_place
        told = refused(lambda: store.put([draft(1000)], None))
        assert told.startswith("the files of the store were removed or replaced")
        refused(lambda: store.remove([1]))
        assert is_there(store, 1)
        assert not is_there(store, 1000)
        (tmp_path / "copy").mkdir(mode=0o700)
        store.backup(tmp_path / "copy")
    with closing(LmdbStore(options(tmp_path / "copy"), PRINT)) as copy:
        assert copy.in_place
        assert is_there(copy, 199)


@harms
def test_trust_is_told_no_more_and_still_read(tmp_path: Path, harm: Harm) -> None:
    """Neither labels nor vetoes nor states; a backup has all that was."""
    bounds = TrustBounds(10, 10, 8 << 20, 10)
    one = np.ones(4, np.float32)
    veto = VetoPair(b"s" * 32, b"a" * 32, b"b" * 32, one, one, 1)
    with closing(LmdbTrust(tmp_path / "trust", PRINT, bounds)) as trust:
        trust.add_veto("n", veto, None)
        (directory,) = (tmp_path / "trust").iterdir()
        trust.refuse_removed()
        harm(directory)
        for write in (
            trust.refuse_removed,
            lambda: trust.add("n", [], Tally(searched=1)),
            lambda: trust.add_veto("n", VetoPair(b"s" * 32, b"c" * 32, b"d" * 32, one, one, 2), None),
            lambda: trust.put_state(TrustState("n", 1)),
        ):
            assert refused(write).startswith("the files of trust were removed or replaced")
        assert not trust.in_place
        assert len(trust.vetoes(veto.scope)) == 1
        trust.backup(tmp_path / "copy" / "trust")
    with closing(LmdbTrust(tmp_path / "copy" / "trust", PRINT, bounds)) as copy:
        assert (len(copy.vetoes(veto.scope)), copy.in_place) == (1, True)
