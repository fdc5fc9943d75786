"""Analyses of entries are kept by id, boundedly, and are those of their prompts."""

from concurrent.futures import ThreadPoolExecutor

from cachesvc.core.gates import analyse
from cachesvc.core.types import Entry, Payload
from cachesvc.engine.analyses import Analyses


def entry(entry_id: int) -> Entry:
    return Entry(
        id=entry_id,
        namespace="n",
        model="m",
        context=b"c",
        scope=b"s",
        exact_key=b"k",
        prompt=f"boil {entry_id} eggs",
        payload=Payload(b"r"),
        created_ms=0,
        expires_ms=1,
    )


def test_an_entry_is_analysed_once() -> None:
    """The same analysis is given again, and it is that of the prompt."""
    analyses = Analyses(10)
    first = analyses.of(entry(1))
    assert first == analyse("boil 1 eggs")
    assert analyses.of(entry(1)) is first


def test_the_least_recently_used_go_first() -> None:
    """No more than the bound are kept, and what is asked for stays."""
    analyses = Analyses(3)
    kept = analyses.of(entry(1))
    for entry_id in (2, 3):
        analyses.of(entry(entry_id))
    assert analyses.of(entry(1)) is kept
    analyses.of(entry(4))
    assert len(analyses) == 3
    assert analyses.of(entry(1)) is kept


def test_the_bound_holds_under_threads() -> None:
    """However many threads ask, each gets the right one and no more than the bound are kept."""
    analyses = Analyses(16)

    def ask(worker: int) -> bool:
        return all(
            analyses.of(entry(n % 40)) == analyse(f"boil {n % 40} eggs") for n in range(worker, worker + 80)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    assert len(analyses) == 16
