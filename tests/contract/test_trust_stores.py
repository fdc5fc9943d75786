"""The contract of the TrustStore port, over every implementation; and what the durable one owes beyond it."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from cachesvc.adapters.lmdb_trust import LmdbTrust, TrustBounds
from cachesvc.adapters.memory_trust import MemoryTrust
from cachesvc.core.gates import Gate
from cachesvc.core.ports import TrustStore
from cachesvc.core.trust.labels import (
    NOTHING,
    Comparator,
    Label,
    LabelledCandidate,
    News,
    Origin,
    Tally,
    VetoPair,
)
from cachesvc.core.trust.state import Step, TrustState

Make: TypeAlias = Callable[..., TrustStore]

SCOPE = b"s" * 32
FINGERPRINT = "engine:test"


def lmdb_trust(
    path: Path,
    max_labels: int = 1000,
    max_vetoes: int = 100,
    max_bytes: int = 8 << 20,
    max_namespaces: int = 1000,
) -> LmdbTrust:
    bounds = TrustBounds(max_labels, max_vetoes, max_bytes, max_namespaces)
    return LmdbTrust(path / "trust", FINGERPRINT, bounds)


@pytest.fixture(params=["memory", "lmdb"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Each implementation in turn."""
    if request.param == "memory":
        yield MemoryTrust
        return
    with ExitStack() as stack:
        yield lambda **bounds: stack.enter_context(closing(lmdb_trust(tmp_path, **bounds)))


def label(n: int, origin: Origin = Origin.MISS) -> Label:
    return Label(
        key=n.to_bytes(16, "big"),
        at_ms=1_000_000 + n,
        origin=origin,
        comparator=Comparator.TEXT,
        share=0.5,
        rule_version=3,
        features_version=1,
        served=None if n % 2 else 0,
        candidates=(
            LabelledCandidate(np.array([0.25, -1.5, n], np.float32), 0.875, Gate.NUMBER, same=None),
            LabelledCandidate(np.array([0.5, 0.0, n], np.float32), 0.75, None, same=bool(n % 3)),
        ),
    )


def veto(ours: int, theirs: int, scope: bytes = SCOPE) -> VetoPair:
    vector = np.zeros(8, np.float32)
    vector[ours % 8] = 1
    return VetoPair(scope, ours.to_bytes(32, "big"), theirs.to_bytes(32, "big"), vector, vector[::-1], 77)


def same(one: Label, other: Label) -> bool:
    """Arrays have no equality of their own."""
    plain = [replace(each, candidates=()) for each in (one, other)]
    return plain[0] == plain[1] and all(
        np.array_equal(ours.features, theirs.features)
        and (ours.score, ours.gate, ours.same) == (theirs.score, theirs.gate, theirs.same)
        for ours, theirs in zip(one.candidates, other.candidates, strict=True)
    )


def test_labels_come_back_as_they_were_in_order(make: Make) -> None:
    """What is told of a namespace is read again in order, from a place on, and nothing of another one."""
    trust = make()
    trust.add("a", [label(n) for n in range(5)], NOTHING)
    trust.add("ab", [label(9)], NOTHING)
    trust.add("a", [label(5)], NOTHING)
    held = trust.labels("a", 0, 100)
    assert [same(kept, label(n)) for n, (_, kept) in enumerate(held)] == [True] * 6
    sequences = [sequence for sequence, _ in held]
    assert sequences == sorted(set(sequences))
    assert [sequence for sequence, _ in trust.labels("a", sequences[3], 1)] == [sequences[4]]
    assert trust.namespaces() == ["a", "ab"]
    assert trust.labels("b", 0, 100) == []


def test_the_same_label_twice_is_one(make: Make) -> None:
    """A label has a key: told again it changes nothing."""
    trust = make()
    trust.add("a", [label(1), label(1)], NOTHING)
    trust.add("a", [label(1), label(2)], NOTHING)
    assert len(trust.labels("a", 0, 100)) == 2


def untold(n: int, origin: Origin = Origin.AUDIT) -> Label:
    """Of the same key as ``label(n)``, but nobody could tell."""
    one = label(n, origin)
    return replace(one, candidates=tuple(replace(each, same=None) for each in one.candidates))


def test_what_could_not_be_told_gives_way(make: Make) -> None:
    """A label that tells takes the place of one under its key that does not, behind all others; and never the reverse."""
    trust = make()
    trust.add("a", [untold(1), label(2)], NOTHING)
    assert trust.add("a", [untold(1)], NOTHING) == 0
    ((_, first), (last, second)) = trust.labels("a", 0, 9)
    assert (first.verdict, second.key) == (None, label(2).key)
    assert trust.add("a", [label(1, Origin.AUDIT)], NOTHING) == 1
    assert trust.add("a", [untold(1), label(1, Origin.AUDIT)], NOTHING) == 0
    held = trust.labels("a", 0, 9)
    assert [one.key for _, one in held] == [label(2).key, label(1).key]
    assert same(held[1][1], label(1, Origin.AUDIT))
    assert held[1][0] > last
    assert trust.label_counts("a") == {Origin.MISS: 1, Origin.AUDIT: 1}


def test_bounds_hold_where_labels_gave_way(make: Make) -> None:
    """Counts stay right: no label more goes than must."""
    trust = make(max_labels=3)
    trust.add("a", [untold(1), untold(5), label(2)], NOTHING)
    trust.add("a", [label(1, Origin.AUDIT), label(5, Origin.AUDIT)], NOTHING)
    assert len(trust.labels("a", 0, 9)) == 3
    trust.add("a", [label(7)], NOTHING)
    assert [one.key for _, one in trust.labels("a", 0, 9)] == [label(n).key for n in (1, 5, 7)]


def test_the_oldest_labels_go(make: Make) -> None:
    """Past the bound each new label pushes out the oldest, and sequences go on; one that went may be told again."""
    trust = make(max_labels=10)
    for n in range(25):
        trust.add("a", [label(n)], NOTHING)
    held = trust.labels("a", 0, 100)
    assert [kept.at_ms - 1_000_000 for _, kept in held] == list(range(15, 25))
    trust.add("a", [label(0)], NOTHING)
    assert trust.labels("a", held[-1][0], 100)[0][1].at_ms == 1_000_000


def test_news_of_several_namespaces_go_in_together(make: Make) -> None:
    """What is told of many at once is as if it were told of each; how many labels were new is told."""
    trust = make()
    trust.add_all([News("a", (label(1), label(2)), Tally(searched=2)), News("b", (label(1),))])
    trust.add_all([])
    assert [len(trust.labels(name, 0, 9)) for name in ("a", "b")] == [2, 1]
    assert trust.tally("a") == Tally(searched=2)
    assert trust.add("a", [label(2), label(3)], NOTHING) == 1


def test_the_last_veto_of_a_scope_is_told(make: Make) -> None:
    """Whoever keeps a scope's vetoes sees by one number whether there are more, whatever is told of other scopes."""
    trust = make(max_vetoes=2)
    assert trust.last_veto(SCOPE) == 0
    seen = [0]
    for n in range(4):
        trust.add_veto("a", veto(n, 9), None)
        seen.append(trust.last_veto(SCOPE))
        assert [held.ours_key for held in trust.vetoes(SCOPE, seen[-2])] == [veto(n, 9).ours_key]
    assert seen == sorted(set(seen))
    for scope in (b"r" * 32, b"t" * 32, b"\xff" * 32):
        trust.add_veto("a", veto(1, 9, scope), None)
    trust.add_veto("a", veto(3, 9), None)
    assert trust.last_veto(SCOPE) == seen[-1]
    assert (trust.veto_count("a"), trust.veto_count("b")) == (7, 0)
    assert trust.namespaces() == ["a"]
    assert trust.last_veto(b"u" * 32) == 0


def test_labels_are_counted_by_origin(make: Make) -> None:
    """Those that are kept, whichever way they came and went."""
    trust = make(max_labels=3)
    trust.add("a", [label(n, Origin.AUDIT if n < 2 else Origin.MISS) for n in range(4)], NOTHING)
    assert trust.label_counts("a") == {Origin.AUDIT: 1, Origin.MISS: 2}
    trust.add_veto("b", veto(1, 2), label(9, Origin.FEEDBACK))
    assert trust.label_counts("b") == {Origin.FEEDBACK: 1}


def test_tallies_add_up(make: Make) -> None:
    """What is counted is counted up, by namespace."""
    trust = make()
    trust.add("a", [], Tally(searched=3, near=2))
    trust.add("a", [], Tally(searched=1, served=1))
    assert trust.tally("a") == Tally(searched=4, near=2, served=1)
    assert trust.tally("b") == NOTHING


def test_a_veto_is_kept_once_with_its_label(make: Make) -> None:
    """A veto pair comes back with its vectors; known again it changes nothing, its label included."""
    trust = make()
    assert trust.add_veto("a", veto(1, 2), label(1, Origin.FEEDBACK))
    before = trust.sequence()
    assert not trust.add_veto("a", veto(1, 2), label(2, Origin.FEEDBACK))
    assert trust.sequence() == before
    assert len(trust.labels("a", 0, 10)) == 1
    (kept,) = trust.vetoes(SCOPE)
    assert (kept.ours_key, kept.theirs_key, kept.at_ms) == (veto(1, 2).ours_key, veto(1, 2).theirs_key, 77)
    assert np.array_equal(kept.ours, veto(1, 2).ours)
    assert np.array_equal(kept.theirs, veto(1, 2).theirs)
    assert trust.vetoes(b"t" * 32) == []


def test_a_veto_of_an_entry_that_was_stored_anew_is_told_anew(make: Make) -> None:
    """What was told before an entry came to be was of another one under its key: it takes the place of that."""
    trust = make()
    assert trust.add_veto("a", veto(1, 7), None)
    last = trust.last_veto(SCOPE)
    assert not trust.add_veto("a", veto(1, 7), None, since_ms=77)
    assert trust.add_veto("a", replace(veto(1, 7), at_ms=99), None, since_ms=78)
    assert [kept.at_ms for kept in trust.vetoes(SCOPE, last)] == [99]
    assert [kept.at_ms for kept in trust.vetoes(SCOPE)] == [99]
    assert not trust.add_veto("a", veto(1, 7), None, since_ms=99)


def test_the_oldest_vetoes_go(make: Make) -> None:
    """A scope keeps its newest vetoes."""
    trust = make(max_vetoes=3)
    for ours in range(6):
        trust.add_veto("a", veto(ours, 7), None)
    assert [int.from_bytes(kept.ours_key, "big") for kept in trust.vetoes(SCOPE)] == [3, 4, 5]


def test_a_state_replaces_older_ones_only(make: Make) -> None:
    """Whoever is late with a state does not undo what came after it."""
    trust = make()
    newer = TrustState("a", generation=2, applied=9, pinned=True, steps=(Step(5, "opened"),))
    assert (trust.state("a"), trust.generation("a")) == (None, 0)
    assert trust.put_state(newer)
    assert not trust.put_state(replace(newer, pinned=False))
    assert not trust.put_state(TrustState("a", generation=1))
    assert (trust.state("a"), trust.generation("a")) == (newer, 2)


def test_every_change_shows_in_the_sequence(make: Make) -> None:
    """Who follows sees that there is something new."""
    trust = make()
    seen = [trust.sequence()]
    changes: tuple[Callable[[], object], ...] = (
        lambda: trust.add("a", [label(1)], NOTHING),
        lambda: trust.add("a", [], Tally(searched=1)),
        lambda: trust.add_veto("a", veto(1, 2), None),
        lambda: trust.put_state(TrustState("a", generation=1)),
    )
    for change in changes:
        change()
        seen.append(trust.sequence())
    assert seen == sorted(set(seen))


def test_namespaces_are_bounded(make: Make) -> None:
    """Callers choose their names: where there are too many, those go of which least is known, but for vetoes."""
    trust = make(max_namespaces=20)
    trust.add("learned", [label(1)], NOTHING)
    trust.put_state(TrustState("learned", generation=1))
    trust.add("busy", [], Tally(searched=50))
    trust.add_veto("told", veto(1, 2), None)
    for n in range(100):
        trust.add_all([News(f"n{n}.{k}", (), Tally(searched=1)) for k in range(3)])
    names = trust.namespaces()
    assert 10 < len(names) <= 20
    assert {"learned", "busy"} <= set(names)
    assert len(trust.vetoes(SCOPE)) == 1
    gone = "n0.0"
    assert gone not in names
    assert (trust.labels(gone, 0, 10), trust.tally(gone), trust.generation(gone)) == ([], NOTHING, 0)
    trust.add(gone, [label(1)], Tally(searched=1))
    assert len(trust.labels(gone, 0, 10)) == trust.tally(gone).searched == 1


def test_threads_lose_nothing(make: Make) -> None:
    """Labels from many threads are all there."""
    trust = make()
    barrier = threading.Barrier(4)

    def add(worker: int) -> None:
        barrier.wait()
        for n in range(20):
            trust.add("a", [label(worker * 100 + n)], Tally(searched=1))

    threads = [threading.Thread(target=add, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trust.labels("a", 0, 1000)) == 80
    assert trust.tally("a").searched == 80


# --------------------------------------------------------------- the durable one


def test_it_is_there_after_closing(tmp_path: Path) -> None:
    """Labels, vetoes and states survive."""
    with closing(lmdb_trust(tmp_path)) as trust:
        trust.add("a", [label(1)], Tally(searched=1))
        trust.add_veto("a", veto(1, 2), None)
        trust.put_state(TrustState("a", generation=1))
    with closing(lmdb_trust(tmp_path)) as trust:
        assert len(trust.labels("a", 0, 10)) == len(trust.vetoes(SCOPE)) == trust.tally("a").searched == 1
        assert trust.state("a") == TrustState("a", generation=1)


_CHILD = """
import sys
from pathlib import Path
from tests.contract.test_trust_stores import NOTHING, label, lmdb_trust, veto
trust = lmdb_trust(Path(sys.argv[1]), max_labels=100_000)
for n in range(100_000):
    trust.add("a", [label(n)], NOTHING)
    trust.add_veto("a", veto(n % 90, n), None)
    print(n, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """SIGKILL in the midst of writes loses nothing that was acknowledged, and leaves nothing half done."""
    command = [sys.executable, "-c", _CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        done = -1
        while done < 40:
            done = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        done = max([done, *(int(line) for line in child.stdout if line.endswith("\n"))])
    with closing(lmdb_trust(tmp_path, max_labels=100_000)) as trust:
        held = trust.labels("a", 0, 1_000_000)
        assert [kept.at_ms - 1_000_000 for _, kept in held] == list(range(len(held)))
        assert len(held) >= done + 1
        assert len(trust.vetoes(SCOPE)) >= min(done + 1, 100)


def test_damaged_records_are_left_out(tmp_path: Path) -> None:
    """A flipped bit in a label costs that label."""
    with closing(lmdb_trust(tmp_path)) as trust:
        trust.add("a", [label(n) for n in range(3)], NOTHING)
    (data,) = (tmp_path / "trust").glob("*/data.mdb")
    content = bytearray(data.read_bytes())
    marker = label(1).key
    at = content.find(marker, content.find(b"MISS") - 200)
    content[at + len(marker) + 12] ^= 1
    data.write_bytes(content)
    with closing(lmdb_trust(tmp_path)) as trust:
        assert len(trust.labels("a", 0, 10)) in {2, 3}  # 3 where the bit was of a page no longer in use


@pytest.mark.parametrize(
    "content",
    [pytest.param(b"x" * 8192, id="rubbish"), pytest.param(b"", id="empty"), pytest.param(b"ab", id="short")],
)
def test_a_damaged_file_begins_anew(tmp_path: Path, content: bytes) -> None:
    """Trust that cannot be opened is moved aside and learned again; it never keeps the server from starting."""
    with closing(lmdb_trust(tmp_path)) as trust:
        trust.add("a", [label(1)], NOTHING)
    (data,) = (tmp_path / "trust").glob("*/data.mdb")
    data.write_bytes(content)
    with closing(lmdb_trust(tmp_path)) as trust:
        trust.add("a", [label(2)], NOTHING)
        assert len(trust.labels("a", 0, 10)) == 1
        assert trust.moved_aside is None or trust.moved_aside.exists()


def test_each_embedder_has_its_own(tmp_path: Path) -> None:
    """Labels hold an embedder's scores: another one does not learn from them, and loses them not."""
    with closing(lmdb_trust(tmp_path)) as trust:
        trust.add("a", [label(1)], NOTHING)
    with closing(LmdbTrust(tmp_path / "trust", "engine:other", TrustBounds(10, 10, 8 << 20, 10))) as other:
        assert other.labels("a", 0, 10) == []
    with closing(lmdb_trust(tmp_path)) as trust:
        assert len(trust.labels("a", 0, 10)) == 1


def test_bytes_are_bounded(tmp_path: Path) -> None:
    """However many namespaces there are, all of it stays within its bytes, and goes on taking labels."""
    with closing(lmdb_trust(tmp_path, max_labels=5_000, max_vetoes=10, max_bytes=1 << 20)) as trust:
        for n in range(60):
            trust.add(f"n{n}", [label(n * 1000 + k) for k in range(200)], NOTHING)
        assert trust.labels("n59", 0, 1000)
        kept = sum(len(trust.labels(name, 0, 10_000)) for name in trust.namespaces())
        assert 500 < kept < 12_000


def test_bytes_of_vetoes_are_bounded(tmp_path: Path) -> None:
    """However many scopes callers have, and however much is told: the oldest vetoes go, and new ones are taken."""
    with closing(lmdb_trust(tmp_path, max_labels=10, max_vetoes=10, max_bytes=1 << 20)) as trust:
        wide = np.ones(1536, np.float32)
        scopes = [n.to_bytes(32, "big") for n in range(300)]
        for n, scope in enumerate(scopes):
            assert trust.add_veto("a", replace(veto(1, 2, scope), ours=wide, theirs=wide), label(n))
        assert [len(trust.vetoes(scope)) for scope in (scopes[0], scopes[-1])] == [0, 1]
        assert trust.last_veto(scopes[0]) == 0
        assert trust.add_veto("a", veto(1, 2, scopes[0]), None)


def test_two_processes_share_it(tmp_path: Path) -> None:
    """What another process writes is seen at once."""
    with closing(lmdb_trust(tmp_path)) as trust:
        trust.add("a", [label(100_001)], NOTHING)
        before = trust.sequence()
        code = _CHILD.replace("range(100_000)", "range(3)").replace("100_000", "1000")
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
        assert trust.sequence() > before
        assert len(trust.labels("a", 0, 10)) == 4


def test_a_copy_opens(tmp_path: Path) -> None:
    """A backup holds what there was, and is opened as the original is."""
    with closing(lmdb_trust(tmp_path)) as trust:
        trust.add("a", [label(1)], NOTHING)
        trust.backup(tmp_path / "copy" / "trust")
    with closing(lmdb_trust(tmp_path / "copy")) as copy:
        assert len(copy.labels("a", 0, 10)) == 1


def test_it_is_private(tmp_path: Path) -> None:
    """Nobody else can read what is known of a namespace."""
    with closing(lmdb_trust(tmp_path)):
        for path in (tmp_path / "trust").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0
