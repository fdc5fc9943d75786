"""Snapshots of indexes: the contract of dumps and stores, every kind of damage, and views that start from one."""

import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.faiss_index import FaissIndex, Growing, row_bytes
from cachesvc.adapters.lmdb_rewrite import Target, rewrite
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.memory import MemoryIndex, MemorySnapshots, MemoryStore
from cachesvc.adapters.snapshot_files import SnapshotFiles
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Event, IndexSettled, SnapshotDone
from cachesvc.core.identity import identify
from cachesvc.core.ports import ResponseStore, SnapshotStore
from cachesvc.core.types import Draft, Message, Payload, Request, Session, Snapshot, Vector
from cachesvc.engine.settling import Behind, Settler
from cachesvc.engine.snapshots import Snapshots
from cachesvc.engine.views import ScopeLoadingError, ScopeTooLargeError, Views

DIMENSION = 8
SCOPE, OTHER = b"s" * 32, b"o" * 32
KEY = b"k" * 32


class Events:
    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.moved = threading.Event()

    def on(self, event: Event) -> None:
        self.seen.append(event)
        if isinstance(event, IndexSettled) and event.result == "finished":
            self.moved.set()

    def results(self) -> list[str]:
        return [event.result for event in self.seen if isinstance(event, SnapshotDone)]


@pytest.fixture
def events() -> Events:
    return Events()


def files(directory: Path, events: Events, **changes: Any) -> SnapshotFiles:
    sessions = [Session(b"one", 0), Session(b"two", 50)]
    options: dict[str, Any] = {"key": KEY, "fingerprint": "f", "sessions": lambda: sessions, **changes}
    return SnapshotFiles(directory / "snapshots", observer=events, **options)


def snapshot(sequence: int, *pieces: bytes) -> Snapshot:
    return Snapshot(sequence, iter(pieces))


def loaded(held: SnapshotStore, scope: bytes) -> tuple[int, list[bytes]] | None:
    """What there is of a scope; None when there is none, or it turns out to be damaged."""
    found = held.load(scope)
    try:
        return None if found is None else (found.sequence, list(found.pieces))
    except ValueError:
        return None


@pytest.fixture(params=["files", "memory"])
def snapshots(request: pytest.FixtureRequest, tmp_path: Path, events: Events) -> SnapshotStore:
    """Each implementation in turn, empty."""
    return files(tmp_path, events) if request.param == "files" else MemorySnapshots()


def test_what_was_saved_last_is_loaded(snapshots: SnapshotStore) -> None:
    """Of each scope its own, until it is forgotten."""
    assert loaded(snapshots, SCOPE) is None
    snapshots.save(SCOPE, snapshot(60, b"first"))
    snapshots.save(SCOPE, snapshot(70, b"second" * 1000, b"part"))
    snapshots.save(OTHER, snapshot(71))
    assert loaded(snapshots, SCOPE) == (70, [b"second" * 1000, b"part"])
    assert loaded(snapshots, OTHER) == (71, [])
    assert sorted(snapshots.scopes()) == [OTHER, SCOPE]
    snapshots.forget(SCOPE)
    snapshots.forget(SCOPE)
    assert snapshots.load(SCOPE) is None
    assert snapshots.scopes() == [OTHER]


def test_no_damaged_piece_is_given_out(tmp_path: Path, events: Events) -> None:
    """Any flipped bit, any shortening, any garbage: only what was saved comes out, and the rest is told."""
    held = files(tmp_path, events)
    pieces = [np.random.default_rng(n).bytes(100) for n in range(3)]
    held.save(SCOPE, snapshot(60, *pieces))
    (path,) = (tmp_path / "snapshots").iterdir()
    whole = path.read_bytes()
    random = np.random.default_rng(2)
    damages = [whole[:n] for n in random.integers(0, len(whole), 100)]
    damages += [b"", b"garbage" * 50, whole + b"x", bytes(len(whole))]
    for n in random.integers(0, 8 * len(whole), 400):
        flipped = bytearray(whole)
        flipped[n // 8] ^= 1 << (n % 8)
        damages.append(bytes(flipped))
    for damaged in damages:
        path.write_bytes(damaged)
        found = held.load(SCOPE)
        if found is None:
            assert events.results() == ["rejected"]
            assert not path.exists()
            events.seen.clear()
            continue
        came: list[bytes] = []
        with pytest.raises(ValueError, match=r"damaged|goes on"):
            came.extend(found.pieces)
        assert came == pieces[: len(came)]
    path.write_bytes(whole)
    assert loaded(held, SCOPE) == (60, pieces)


def test_pieces_cannot_change_places(tmp_path: Path, events: Events) -> None:
    """A piece that is whole but stands elsewhere, or is left out, does not fit."""
    held = files(tmp_path, events)
    held.save(SCOPE, snapshot(60, b"a" * 10, b"b" * 10))
    (path,) = (tmp_path / "snapshots").iterdir()
    whole, frame = path.read_bytes(), 4 + 10 + 32
    first, second = whole[-2 * frame - 36 : -frame - 36], whole[-frame - 36 : -36]
    for frames in (second + first, second, first, first + first):
        path.write_bytes(whole[: -2 * frame - 36] + frames + whole[-36:])
        assert loaded(held, SCOPE) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"fingerprint": "g"}, "rejected", id="another embedder"),
        pytest.param({"key": b"x" * 32}, "rejected", id="another store"),
        pytest.param({"sessions": lambda: [Session(b"three", 0)]}, "stale", id="a session that is not known"),
        pytest.param({"sessions": lambda: [Session(b"two", 61)]}, "stale", id="before its session"),
        pytest.param(
            {"sessions": lambda: [Session(b"two", 50), Session(b"three", 55)]},
            "stale",
            id="after its session's end",
        ),
        pytest.param({"sessions": list}, "stale", id="no sessions"),
    ],
)
def test_a_foreign_snapshot_is_not_used(
    tmp_path: Path, events: Events, changes: dict[str, Any], why: str
) -> None:
    """Of another embedder or store it is rejected, of a past that the store has left stale; none is kept."""
    files(tmp_path, events).save(SCOPE, snapshot(60, b"x"))
    held = files(tmp_path, events, **changes)
    assert held.load(SCOPE) is None
    assert events.results() == [why]
    assert held.scopes() == []


def test_a_snapshot_under_another_scope_s_name_is_rejected(tmp_path: Path, events: Events) -> None:
    """A file that was renamed to another scope is not that scope's."""
    held = files(tmp_path, events)
    held.save(SCOPE, snapshot(60, b"x"))
    (path,) = (tmp_path / "snapshots").iterdir()
    path.rename(path.with_name(f"{OTHER.hex()}.snapshot"))
    assert held.load(OTHER) is None


def test_a_part_that_was_left_is_removed(tmp_path: Path, events: Events) -> None:
    """What a process was writing when it died is gone with the next start; so is nothing else."""
    files(tmp_path, events).save(SCOPE, snapshot(60, b"x"))
    part = tmp_path / "snapshots" / "x.part"
    part.write_bytes(b"half")
    assert files(tmp_path, events).load(SCOPE) is not None
    assert not part.exists()


def test_a_disk_that_is_full_is_told(tmp_path: Path, events: Events) -> None:
    """It is FULL, and leaves no part behind."""
    (tmp_path / "snapshots").write_text("not a directory")
    with pytest.raises(CacheError) as caught:
        files(tmp_path, events).save(SCOPE, snapshot(60, b"x"))
    assert caught.value.kind is Kind.FULL


@pytest.mark.parametrize("kind", [FaissIndex, MemoryIndex])
def test_an_index_is_its_dump(kind: type[FaissIndex] | type[MemoryIndex]) -> None:
    """Restored it has the same rows, finds the same, and can be changed; another kind's dump is a ValueError."""
    index = kind(DIMENSION)
    vectors = np.random.default_rng(3).normal(size=(50, DIMENSION)).astype(np.float32)
    index.add(np.arange(50, dtype=np.int64) * 3, vectors)
    index.remove(np.array([9]))
    again = kind(DIMENSION)
    for piece in index.dump():
        again.load(piece)
    assert again.ids() == index.ids() == frozenset(range(0, 150, 3)) - {9}
    assert again.search(vectors[5], 3) == index.search(vectors[5], 3)
    again.add(np.array([9]), vectors[3:4])
    again.remove(np.array([0]))
    assert 9 in again.ids()
    assert again.memory_bytes == index.memory_bytes
    for wrong in (b"", b"nonsense", b"x" * 1000, next(index.dump())[:-1], next(index.dump()) + b"x"):
        with pytest.raises(ValueError, match="of a"):
            again.load(wrong)
    with pytest.raises(ValueError, match="of a"):
        kind(DIMENSION * 2).load(next(index.dump()))


@pytest.mark.parametrize("kind", [FaissIndex, MemoryIndex])
def test_a_dump_has_every_row_that_stays(kind: type[FaissIndex] | type[MemoryIndex]) -> None:
    """Rows that come and go between its pieces move the others about; no other is missed or changed."""
    random = np.random.default_rng(4)
    vectors = random.normal(size=(9000, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index, again = kind(DIMENSION), kind(DIMENSION)
    index.add(np.arange(8000, dtype=np.int64), vectors[:8000])
    gone: set[int] = set()
    for n, piece in enumerate(index.dump()):
        again.load(piece)
        if kind is FaissIndex or n % 2000 == 0:
            some = random.choice(8000, 700, replace=False).astype(np.int64)
            index.remove(some)
            gone |= set(some.tolist())
            new = np.arange(8000 + 10 * n, 8000 + 10 * n + 10, dtype=np.int64) % 9000
            index.add(new, vectors[new])
            index.add(np.array([7999]), vectors[7999:8000])  # the last row again, at another place
    staying = sorted(frozenset(range(8000)) - gone)
    assert again.ids() >= frozenset(staying)
    assert len(staying) > 4000
    for n in staying[::50]:
        best = again.search(vectors[n], 1)[0]
        assert best.score == pytest.approx(1, abs=1e-3)


def test_a_dump_holds_others_up_for_a_piece_at_most() -> None:
    """Between its pieces rows can be added, by a thread that nothing else would let go on."""
    index = FaissIndex(DIMENSION)
    index.add(np.arange(8000, dtype=np.int64), np.ones((8000, DIMENSION), np.float32))
    pieces = index.dump()
    next(pieces)
    adding = threading.Thread(
        target=lambda: index.add(np.array([9000]), np.ones((1, DIMENSION), np.float32)), daemon=True
    )
    adding.start()
    adding.join(10)
    assert not adding.is_alive()
    assert len(list(pieces)) == 3


# ------------------------------------------------------------ views that start from one


def vector(n: int) -> Vector:
    drawn = np.random.default_rng(n).normal(size=DIMENSION)
    scaled: Vector = (drawn / np.linalg.norm(drawn)).astype(np.float32)
    return scaled


def draft(n: int) -> Draft:
    of = identify(Request("default", (Message("user", f"q{n}"),), "m", {}), "f")
    return Draft(of, Payload(b"r"), of.text, vector(n), n, 1 << 50)


THE_SCOPE = draft(0).identity.scope


class Counting(MemoryStore):
    """Counts how many vectors are read as a scope."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def scope_vectors(self, *arguments: Any, **more: Any) -> Any:
        held = super().scope_vectors(*arguments, **more)
        self.read += 0 if held is None else len(held.ids)
        return held


def views_of(
    store: ResponseStore, held: SnapshotStore, events: Events, min_rows: int = 10, max_bytes: int = 1 << 24
) -> Views:
    return Views(
        store,
        lambda scope: FaissIndex(DIMENSION),
        row_bytes=row_bytes(DIMENSION),
        max_bytes=max_bytes,
        clock=SystemClock(0),
        observer=events,
        behind=Behind(Snapshots(held, store, events, min_rows=min_rows)),
    )


def nearest(views: Views, n: int) -> int:
    return views.search(THE_SCOPE, vector(n), 1, None)[0].entry_id


def test_a_restart_reads_the_snapshot_and_what_came_since(events: Events) -> None:
    """No vector is read from the store again, and additions and removals since are followed."""
    store, held = Counting(), MemorySnapshots()
    store.put([draft(n) for n in range(50)], None)
    views = views_of(store, held, events)
    assert nearest(views, 7) == 8
    views.save_snapshots()
    store.put([draft(n) for n in range(50, 60)], None)
    store.remove([8])
    read = store.read
    views = views_of(store, held, events)
    assert nearest(views, 55) == 56
    assert nearest(views, 7) != 8
    assert store.read == read
    assert list(views.disagreements()) == []
    assert events.results() == ["saved", "loaded"]


def test_small_and_unchanged_indexes_are_not_saved(events: Events) -> None:
    """Below the least size none is written; an unchanged one is not written twice; a tenth more is."""
    store, held = MemoryStore(), MemorySnapshots()
    saved: list[int] = []

    class Noting(MemorySnapshots):
        def save(self, scope: bytes, snapshot: Snapshot) -> None:
            saved.append(snapshot.sequence)
            super().save(scope, snapshot)

    held = Noting()
    store.put([draft(n) for n in range(9)], None)
    views = views_of(store, held, events)
    nearest(views, 1)
    views.save_snapshots()
    assert saved == []
    for count in (40, 41, 60):
        store.put([draft(n) for n in range(store.sequence(), count)], None)
        nearest(views, 1)
        views.save_snapshots()
    assert saved == [40, 60]


def test_an_index_that_has_moved_is_saved_anew(events: Events) -> None:
    """Else a restart would begin with the layout before, and move it once more."""
    store, held = MemoryStore(), MemorySnapshots()
    store.put([draft(n) for n in range(60)], None)

    def growing(scope: bytes) -> FaissIndex:
        return FaissIndex(DIMENSION, Growing(lambda ids: store.vectors(scope, ids), 50))

    settler = Settler(SystemClock(0), events, lambda: None)
    views = Views(
        store,
        growing,
        row_bytes=row_bytes(DIMENSION),
        max_bytes=1 << 24,
        clock=SystemClock(0),
        observer=events,
        behind=Behind(Snapshots(held, store, events, min_rows=10), settler),
    )
    nearest(views, 1)
    views.save_snapshots()
    assert events.results() == ["saved"]
    settler.start()
    assert events.moved.wait(30)
    settler.stop()
    views.save_snapshots()
    assert events.results() == ["saved", "saved"]
    snapshot = held.load(THE_SCOPE)
    assert snapshot is not None
    restored = growing(THE_SCOPE)
    for piece in snapshot.pieces:
        restored.load(piece)
    assert restored.is_settled
    assert len(restored) == 60


def test_a_full_disk_is_written_to_once(events: Events) -> None:
    """An index that could not be saved is not dumped again until it changed as much anew: it would fill the disk.

    What is of no use goes first, and the failure of one scope, which is told, keeps no other from being saved.
    """
    asked: list[bytes] = []

    class Full(MemorySnapshots):
        full = True

        def save(self, scope: bytes, snapshot: Snapshot) -> None:
            asked.append(scope)
            if self.full and scope == THE_SCOPE:
                assert OTHER not in self.scopes()
                raise CacheError(Kind.FULL, "as told")
            super().save(scope, snapshot)

    store, held = MemoryStore(), Full()
    elsewhere = identify(Request("other", (Message("user", "q"),), "m", {}), "f")
    there = [identify(Request("other", (Message("user", f"q{n}"),), "m", {}), "f") for n in range(20)]
    store.put([draft(n) for n in range(50)], None)
    store.put([Draft(of, Payload(b"r"), "q", vector(n), n, 1 << 50) for n, of in enumerate(there)], None)
    MemorySnapshots.save(held, OTHER, snapshot(1, b"of no use"))
    views = views_of(store, held, events)
    nearest(views, 7)
    views.search(elsewhere.scope, vector(1), 1, None)
    with pytest.raises(CacheError) as caught:
        views.save_snapshots()
    assert caught.value.kind is Kind.FULL
    views.save_snapshots()
    assert asked == [THE_SCOPE, elsewhere.scope]
    held.full = False
    store.put([draft(n) for n in range(50, 60)], None)
    nearest(views, 7)
    views.save_snapshots()
    assert asked == [THE_SCOPE, elsewhere.scope, THE_SCOPE]
    assert sorted(held.scopes()) == sorted([THE_SCOPE, elsewhere.scope])


@pytest.mark.parametrize("ruin", ["trimmed", "ahead", "garbage"])
def test_what_cannot_be_used_is_read_from_the_store(events: Events, ruin: str) -> None:
    """A snapshot that the log does not reach, that is ahead of the store, or is no index: read anew, counted."""

    class Trimmed(Counting):
        def changes(self, after: int, limit: int) -> Any:
            return None if after < 40 else super().changes(after, limit)

    store, held = Trimmed(), MemorySnapshots()
    store.put([draft(n) for n in range(50)], None)
    index = FaissIndex(DIMENSION)
    index.add(np.array([77]), vector(77)[np.newaxis])
    pieces = [*index.dump(), *([b"garbage"] if ruin == "garbage" else [])]
    sequence = {"trimmed": 20, "ahead": 99, "garbage": 50}[ruin]
    held.save(THE_SCOPE, snapshot(sequence, *pieces))
    views = views_of(store, held, events)
    assert nearest(views, 7) == 8
    assert store.read == 50
    assert events.results() == ["rejected" if ruin == "garbage" else "stale"]
    assert held.load(THE_SCOPE) is None
    assert list(views.disagreements()) == [], "nor is a piece that was read before the damage left over"


def test_a_snapshot_is_read_as_far_as_the_caller_s_time_goes(events: Events) -> None:
    """A caller whose time is up leaves after a piece, and the next goes on from there."""
    store, held = Counting(), MemorySnapshots()
    store.put([draft(n) for n in range(50)], None)
    views = views_of(store, held, events)
    nearest(views, 7)
    views.save_snapshots()
    (pieces,) = [list(held.load(THE_SCOPE).pieces)]  # type: ignore[union-attr]  # just saved
    index = FaissIndex(DIMENSION)
    index.load(pieces[0])
    one_by_one = [piece for n in sorted(index.ids()) for piece in [_single(n, vector(n - 1))]]
    held.save(THE_SCOPE, snapshot(50, *one_by_one))
    read, views = store.read, views_of(store, held, events)
    refused = 0
    while True:
        try:
            found = views.search(THE_SCOPE, vector(7), 1, 0.0)
            break
        except ScopeLoadingError:
            refused += 1
    assert found[0].entry_id == 8
    assert refused == 50
    assert store.read == read


def _single(entry_id: int, row: Vector) -> bytes:
    index = FaissIndex(DIMENSION)
    index.add(np.array([entry_id]), row[np.newaxis])
    (piece,) = index.dump()
    return piece


def test_a_snapshot_beyond_a_bound_made_smaller_is_not_used(events: Events) -> None:
    """The scope is too large, as it would be without one; it is not loaded again for each search."""
    store, held = MemoryStore(), MemorySnapshots()
    store.put([draft(n) for n in range(100)], None)
    views = views_of(store, held, events)
    nearest(views, 7)
    views.save_snapshots()
    views = views_of(store, held, events, max_bytes=4096 + 50 * row_bytes(DIMENSION))
    for _ in range(2):
        with pytest.raises(ScopeTooLargeError):
            nearest(views, 7)
    assert events.results() == ["saved", "stale"]
    assert views.memory_bytes == 0


def test_changes_of_other_scopes_do_not_count(events: Events) -> None:
    """An index that did not change is not saved again, until the log is about to leave its snapshot behind."""

    class Trimming(MemoryStore):
        first = 0

        def changes(self, after: int, limit: int) -> Any:
            return None if after < self.first else super().changes(after, limit)

    store, held = Trimming(), MemorySnapshots()
    store.put([draft(n) for n in range(50)], None)
    views = views_of(store, held, events)
    nearest(views, 7)
    views.save_snapshots()
    elsewhere = identify(Request("other", (Message("user", "q"),), "m", {}), "f")
    for n in range(60):
        store.put([Draft(elsewhere, Payload(b"r"), "q", vector(n), n, 1 << 50)], None)
    nearest(views, 7)
    views.save_snapshots()
    assert events.results() == ["saved"]
    store.first = 60
    views.save_snapshots()
    assert events.results() == ["saved", "saved"]


def test_snapshots_of_scopes_that_are_gone_go_too(events: Events) -> None:
    """What was removed, or is another embedder's, does not stay on the disk."""
    store, held = MemoryStore(), MemorySnapshots()
    store.put([draft(n) for n in range(50)], None)
    views = views_of(store, held, events)
    nearest(views, 7)
    held.save(OTHER, snapshot(1, b"of another embedder"))
    views.save_snapshots()
    assert held.scopes() == [THE_SCOPE]
    store.remove(list(range(1, 51)))
    views.save_snapshots()
    assert held.scopes() == []


def held_of(store: LmdbStore, path: Path, events: Events) -> SnapshotFiles:
    return SnapshotFiles(
        path / "snapshots",
        key=store.key_for(b"snapshot"),
        fingerprint="f",
        sessions=store.sessions,
        observer=events,
    )


def opened(path: Path) -> LmdbStore:
    return LmdbStore(StoreOptions(path, 1 << 24, 1 << 22, "async", 64, 2048, 1000), "f")


def test_a_store_put_back_to_an_older_state_is_not_given_a_newer_snapshot(
    tmp_path: Path, events: Events
) -> None:
    """Ids and sequences are given again after a restore; an index of the other past is never searched."""
    path, copy = tmp_path / "store", tmp_path / "copy"
    copy.mkdir()
    with closing(opened(path)) as store:
        store.put([draft(n) for n in range(30)], None)
        store.backup(copy)
        store.put([draft(n) for n in range(100, 130)], None)
        views = views_of(store, held_of(store, path, events), events)
        nearest(views, 7)
        views.save_snapshots()
    with closing(opened(path)) as store:
        assert nearest(views_of(store, held_of(store, path, events), events), 110) == 41
    assert events.results() == ["saved", "loaded"]
    (copy / "data.mdb").replace(path / "data.mdb")
    with closing(opened(path)) as store:
        store.put([draft(n) for n in range(200, 240)], None)
        views = views_of(store, held_of(store, path, events), events)
        assert nearest(views, 210) == 41
        assert list(views.disagreements()) == []
    assert events.results() == ["saved", "loaded", "stale"]


def test_a_store_written_anew_leaves_stale_snapshots(tmp_path: Path, events: Events) -> None:
    """A rebuild or an upgrade is no damage: nobody is called for it."""
    with closing(opened(tmp_path)) as store:
        store.put([draft(n) for n in range(30)], None)
        views = views_of(store, held_of(store, tmp_path, events), events)
        nearest(views, 7)
        views.save_snapshots()
    rewrite(tmp_path, Target("f", 1 << 24, 2048, "gdsf"), lambda _: None)
    with closing(opened(tmp_path)) as store:
        views = views_of(store, held_of(store, tmp_path, events), events)
        assert nearest(views, 7) == 8
        views.save_snapshots()
    assert events.results() == ["saved", "stale", "saved"]


def test_a_snapshot_of_a_quiet_scope_lasts(tmp_path: Path, events: Events) -> None:
    """A store knows its last sessions only: what has not changed for many is saved anew before they are forgotten."""
    with closing(opened(tmp_path)) as store:
        store.put([draft(n) for n in range(30)], None)
    for _ in range(80):
        with closing(opened(tmp_path)) as store:
            views = views_of(store, held_of(store, tmp_path, events), events)
            nearest(views, 7)
            views.save_snapshots()
            views.save_snapshots()
    results = events.results()
    assert (results.count("saved"), results.count("loaded")) == (3, 79)
    assert len(results) == 82
