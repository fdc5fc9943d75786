"""Scopes that move from layout to layout while entries come and go, are unloaded, and come back after restarts."""

import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.faiss_flat import row_bytes
from cachesvc.adapters.faiss_index import FaissIndex, Growing
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.scope_notes import NoteFile
from cachesvc.adapters.snapshot_files import SnapshotFiles
from cachesvc.core.events import Event, IndexSettled
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Identity, Message, Payload, Request, Vector
from cachesvc.engine.settling import Behind, Settler
from cachesvc.engine.snapshots import Snapshots
from cachesvc.engine.views import Views
from cachesvc.engine.warmup import Warmup, WarmupOptions

DIMENSION = 24
LISTS_MIN_COUNT = 40
SCOPES = ("a", "b", "c")
ENGINE = "engine:test"
ROUNDS = 30
SHORT_LOG = 50
MOST_ROWS = 400  # of a scope, which fit the smaller bound alone
WAIT_S = 20.0


class Events:
    """An Observer that can be waited for."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self._changed = threading.Condition()

    def on(self, event: Event) -> None:
        """See ``Observer.on``."""
        if isinstance(event, IndexSettled):
            with self._changed:
                self.results.append(event.result)
                self._changed.notify_all()

    def wait_for(self, result: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: result in self.results, WAIT_S)


def identity(scope: str, number: int) -> Identity:
    return identify(Request(scope, (Message("user", f"text {number}"),), "m", {}), ENGINE)


def scope_of(scope: str) -> bytes:
    return identity(scope, 0).scope


class Served:
    """A store on disk with all that is made over it, as the service does."""

    def __init__(self, path: Path, events: Events, max_bytes: int = 1 << 20, log_max: int = 10_000) -> None:
        options = StoreOptions(path / "store", 64 << 20, 32 << 20, "async", 64, 1024, log_max)
        self.store = store = LmdbStore(options, ENGINE)
        clock = SystemClock(0)
        files = SnapshotFiles(
            path / "indexes",
            key=store.key_for(b"snapshots"),
            fingerprint=ENGINE,
            sessions=store.sessions,
            observer=events,
        )
        self.settler = Settler(clock, events, lambda: None)
        self.settler.start()
        self.views = Views(
            store,
            lambda scope: FaissIndex(DIMENSION, Growing(partial(store.vectors, scope), LISTS_MIN_COUNT)),
            row_bytes=row_bytes(DIMENSION),
            max_bytes=max_bytes,
            clock=clock,
            observer=events,
            behind=Behind(Snapshots(files, store, events, min_rows=30), self.settler),
        )
        notes = NoteFile(path / "scopes.recent", store.key_for(b"scopes"))
        self.warmup = Warmup(self.views, notes, WarmupOptions(100, 1.0), clock=clock, observer=events)
        self.warmup.start()

    def close(self) -> None:
        self.warmup.stop()
        self.settler.stop()
        self.store.close()


class Truth:
    """What was acknowledged: the vectors of each scope by id."""

    def __init__(self, seed: int) -> None:
        self.source = np.random.default_rng(seed)
        self.held: dict[str, dict[int, Vector]] = {scope: {} for scope in SCOPES}
        self._numbers = iter(range(1 << 30))

    def drawn(self) -> Vector:
        """One of few directions, now and then the very same."""
        middle = np.random.default_rng(int(self.source.integers(6))).normal(size=DIMENSION)
        row = middle + self.source.normal(size=DIMENSION) * self.source.choice([0, 0.3, 1])
        unit: Vector = (row / np.linalg.norm(row)).astype(np.float32)
        return unit

    def change(self, store: LmdbStore) -> None:
        scope = str(self.source.choice(SCOPES))
        held = self.held[scope]
        if self.source.random() < 0.6 and len(held) < MOST_ROWS:
            rows = [self.drawn() for _ in range(int(self.source.integers(1, 60)))]
            drafts = []
            for row in rows:
                of = identity(scope, next(self._numbers))
                drafts.append(Draft(of, Payload(b"r"), of.text, row, 0, 1 << 60))
            receipts = store.put(drafts, None)
            held.update(
                {one.entry_id: row for one, row in zip(receipts, rows, strict=True) if one is not None}
            )
        elif held:
            share = self.source.choice([0.1, 0.5, 1])
            gone = [n for n in held if self.source.random() < share]
            assert store.remove(gone) == len(gone)
            for n in gone:
                del held[n]

    def check(self, views: Views) -> None:
        """All that is there is found, and nothing else; the best is the best by brute force, and scores are cosines."""
        scope = str(self.source.choice(SCOPES))
        held, asked = self.held[scope], self.drawn()
        if self.source.random() < 0.3:
            everything = views.search(scope_of(scope), asked, 10_000, WAIT_S)
            assert {one.entry_id for one in everything} == set(held)
            assert len(everything) == len(held)
        found = views.search(scope_of(scope), asked, 5, WAIT_S)
        assert len(found) == min(5, len(held))
        scores = {n: float(row @ asked) for n, row in held.items()}
        for one in found:
            assert one.score == pytest.approx(scores[one.entry_id], abs=1e-3)
        if found:
            assert found[0].score == pytest.approx(max(scores.values()), abs=2e-3)


@pytest.mark.parametrize("seed", [1, 3])
@pytest.mark.parametrize("max_bytes", [1 << 20, 64 << 10], ids=["room for all", "room for some"])
def test_searches_are_those_of_brute_force_through_moves_and_restarts(
    tmp_path: Path, seed: int, max_bytes: int
) -> None:
    """Whatever comes and goes while indexes move, are unloaded, saved, warmed and restored, nothing that was
    acknowledged is invisible, and nothing that was removed is found.
    """
    events, truth = Events(), Truth(seed)
    served = Served(tmp_path, events, max_bytes, SHORT_LOG)
    for _ in range(ROUNDS):
        for _ in range(int(truth.source.integers(1, 4))):
            truth.change(served.store)
        for _ in range(3):
            truth.check(served.views)
        what = truth.source.random()
        if what < 0.15:
            served.views.save_snapshots()
        elif what < 0.3:
            served.close()
            served = Served(tmp_path, events, max_bytes, SHORT_LOG)
    assert list(served.views.disagreements()) == []
    assert served.store.check() == []
    served.close()
    assert served.views.memory_bytes <= max_bytes
    assert "failed" not in events.results
    assert "finished" in events.results


def test_a_move_that_does_not_fit_is_given_up_rather_than_the_index(tmp_path: Path) -> None:
    """The index that both layouts have no room for is searched as it is, and not moved again and again."""
    events = Events()
    served = Served(tmp_path, events, 400_000)
    rows = np.random.default_rng(4).normal(size=(6001, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    drafts = [Draft(identity("a", n), Payload(b"r"), "t", row, 0, 1 << 60) for n, row in enumerate(rows)]
    served.store.put(drafts[:-1], None)
    served.views.search(scope_of("a"), rows[0], 1, WAIT_S)
    events.wait_for("abandoned")
    served.settler.stop()  # after which it has looked once more at what it left
    served.store.put(drafts[-1:], None)
    assert served.views.search(scope_of("a"), rows[-1], 1, 0)[0].score == pytest.approx(1, abs=1e-3)
    assert events.results == ["started", "abandoned"]
    assert served.views.loaded_count == 1
    assert next(iter(served.views._views.values())).is_cramped
    assert not served.settler._indexes
    served.close()


def test_a_scope_in_lists_comes_back_though_it_would_not_fit_flat(tmp_path: Path) -> None:
    """What was in memory before a restart is so after it, if its snapshot fits."""
    events = Events()
    served = Served(tmp_path, events)
    rows = np.random.default_rng(5).normal(size=(4000, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    served.store.put(
        [Draft(identity("a", n), Payload(b"r"), "t", row, 0, 1 << 60) for n, row in enumerate(rows)], None
    )
    served.views.search(scope_of("a"), rows[0], 1, WAIT_S)
    events.wait_for("finished")
    served.views.save_snapshots()
    in_lists_bytes = served.views.memory_bytes
    served.close()
    again = Served(tmp_path, events, 2 * in_lists_bytes)
    again.views._max_rows = 3999  # of whole vectors, which take more with more values each
    assert again.views.search(scope_of("a"), rows[7], 1, WAIT_S)[0].score == pytest.approx(1, abs=1e-3)
    again.close()
