"""A store to be damaged."""

from contextlib import closing
from pathlib import Path

import pytest

from cachesvc.adapters.lmdb_store import LmdbStore
from tests.store.damaging import PRINT, draft, options


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of two hundred entries, closed."""
    with closing(LmdbStore(options(tmp_path / "store"), PRINT)) as store:
        store.put([draft(n) for n in range(200)], None)
    return tmp_path / "store"
