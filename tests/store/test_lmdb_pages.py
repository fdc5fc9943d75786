"""Pages of a store's map: many are given back, and nothing is lost by it."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from cachesvc.adapters.lmdb_pages import MappedPages
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Entry, Message, Payload, Request

COUNT = 600
RESPONSE_BYTES = 16_000
MANY_BYTES = 4 << 20


def mapped_bytes() -> int:
    """Pages of files that count as this process's."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")


def drafts() -> list[Draft]:
    identities = [identify(Request("n", (Message("user", f"{n}"),), "m", {}), "f") for n in range(COUNT)]
    return [
        Draft(of, Payload(of.exact_key + os.urandom(RESPONSE_BYTES)), of.text, None, 0, 1 << 40)
        for of in identities
    ]


@pytest.mark.parametrize(
    ("max_bytes", "given_back"),
    [(MANY_BYTES // 4, True), (1 << 40, False), (0, False)],
    ids=["many", "few", "never"],
)
def test_pages_are_given_back_when_they_are_many(tmp_path: Path, max_bytes: int, *, given_back: bool) -> None:
    """They no longer count as the process's, and every entry is read as before, by a reader under way too."""
    options = StoreOptions(tmp_path / "store", 1 << 30, 1 << 28, "async", 1024, 1 << 20, 100_000)
    with closing(LmdbStore(options, "f")) as store:
        pages = MappedPages(options.path / "data.mdb", max_bytes)
        stored = drafts()
        store.put(stored, None)

        def responses() -> list[bytes]:
            rows = [store.find(draft.identity.scope, draft.identity.exact_key) for draft in stored]
            return [row.payload.response for row in rows if isinstance(row, Entry)]

        expected = [draft.payload.response for draft in stored]
        assert responses() == expected
        checking = store.checking()
        next(checking)
        before_bytes = mapped_bytes()
        pages.give_back()
        assert (mapped_bytes() < before_bytes - MANY_BYTES) is given_back
        assert [problem for step in checking for problem in step.problems] == []
        assert responses() == expected
