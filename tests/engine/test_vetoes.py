"""Vetoed reuses: refused, with those much like them, by whoever asks; across processes; through failures."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cachesvc.adapters.memory import MemoryStore
from cachesvc.adapters.memory_trust import MemoryTrust
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.identity import identify
from cachesvc.core.trust.labels import VetoPair
from cachesvc.core.types import Draft, Entry, Message, Payload, Request, Vector
from cachesvc.engine.vetoes import Vetoes


class FailingTrust(MemoryTrust):
    """Fails when told to, and counts how often vetoes are read."""

    def __init__(self, max_vetoes: int = 1000) -> None:
        super().__init__(max_vetoes=max_vetoes)
        self.fails = False
        self.reads = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def last_veto(self, scope: bytes) -> int:
        if self.fails:
            raise CacheError(Kind.UNAVAILABLE, "as told")
        return super().last_veto(scope)

    def vetoes(self, scope: bytes, after: int = 0) -> list[VetoPair]:
        self.reads += 1
        self.meanwhile()
        return super().vetoes(scope, after)


def unit(angle: float, of: int = 0) -> Vector:
    """A direction in one of the planes of a space."""
    vector = np.zeros(8, np.float32)
    vector[2 * of], vector[2 * of + 1] = np.cos(angle), np.sin(angle)
    return vector


class Bench:
    """A store with entries, and who asks about them."""

    def __init__(self, max_held: int = 100, max_vetoes: int = 1000) -> None:
        self.trust = FailingTrust(max_vetoes)
        self.store = MemoryStore()
        self.failures: list[CacheError] = []
        self.vetoes = self.asker(max_held)

    def asker(self, max_held: int = 100) -> Vetoes:
        return Vetoes(self.trust, self.store, max_held, self.failures.append)

    def entry(self, text: str, vector: Vector, namespace: str = "n") -> Entry:
        identity = identify(Request(namespace, (Message("user", text),), "", {}), "e")
        (receipt,) = self.store.put([Draft(identity, Payload(b"r"), text, vector, 1000, 9000)], None)
        assert receipt is not None
        row = self.store.get(receipt.entry_id)
        assert isinstance(row, Entry)
        return row

    def veto(self, ours_key: bytes, ours: Vector, entry: Entry, theirs: Vector, at_ms: int = 2000) -> None:
        pair = VetoPair(entry.scope, ours_key, entry.exact_key, ours, theirs, at_ms)
        self.trust.add_veto(entry.namespace, pair, None)


QUERY = b"q" * 32
THEIRS = unit(0.0, of=1)


def same_reuse(bench: Bench, entry: Entry) -> bool:
    return bench.vetoes.refuses(entry.scope, QUERY, unit(0.0), entry)


def same_reuse_stored_anew(bench: Bench, entry: Entry) -> bool:
    assert bench.store.remove([entry.id])
    anew = bench.entry("stored", THEIRS)
    assert anew.id != entry.id
    return bench.vetoes.refuses(entry.scope, QUERY, unit(0.0), anew)


def near_request(bench: Bench, entry: Entry) -> bool:
    return bench.vetoes.refuses(entry.scope, b"r" * 32, unit(0.3), entry)  # cosine .955


def far_request(bench: Bench, entry: Entry) -> bool:
    return bench.vetoes.refuses(entry.scope, b"r" * 32, unit(0.4), entry)  # cosine .921


def near_request_near_entry(bench: Bench, entry: Entry) -> bool:
    return bench.vetoes.refuses(entry.scope, b"r" * 32, unit(0.1), bench.entry("other", unit(0.3, of=1)))


def near_request_far_entry(bench: Bench, entry: Entry) -> bool:
    return bench.vetoes.refuses(entry.scope, b"r" * 32, unit(0.1), bench.entry("other", unit(0.4, of=1)))


def the_other_way_round(bench: Bench, entry: Entry) -> bool:
    other = bench.entry("other", unit(0.0))
    return bench.vetoes.refuses(entry.scope, entry.exact_key, THEIRS, other)


def other_scope(bench: Bench, entry: Entry) -> bool:
    other = bench.entry("stored", THEIRS, namespace="another")
    return bench.vetoes.refuses(other.scope, QUERY, unit(0.0), other)


def near_request_lost_entry(bench: Bench, entry: Entry) -> bool:
    return bench.vetoes.refuses(entry.scope, b"r" * 32, unit(0.1), replace(entry, id=77, exact_key=b"x" * 32))


@pytest.mark.parametrize(
    ("ask", "refused"),
    [
        (same_reuse, True),
        (same_reuse_stored_anew, True),
        (near_request, True),
        (far_request, False),
        (near_request_near_entry, True),
        (near_request_far_entry, False),
        (the_other_way_round, False),
        (other_scope, False),
        (near_request_lost_entry, True),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_a_veto_refuses(ask: Callable[[Bench, Entry], bool], *, refused: bool) -> None:
    """That reuse, also of the entry stored anew, and request and entry both near; nothing else."""
    bench = Bench()
    entry = bench.entry("stored", THEIRS)
    bench.veto(QUERY, unit(0.0), entry, THEIRS)
    assert ask(bench, entry) is refused


def test_an_identical_request_is_no_reuse() -> None:
    """That an entry is wrong for its own request counts against it, and refuses no reuse."""
    bench = Bench()
    entry = bench.entry("stored", THEIRS)
    bench.veto(entry.exact_key, np.zeros(8, np.float32), entry, np.zeros(8, np.float32))
    assert not bench.vetoes.refuses(entry.scope, QUERY, THEIRS, entry)
    assert bench.vetoes.accusers(entry.scope, entry) == 1


def test_only_what_was_said_of_this_answer_counts_against_it() -> None:
    """What was said before the entry was stored was said of another answer."""
    bench = Bench()
    entry = bench.entry("stored", THEIRS)
    for n, at_ms in enumerate((500, 1000, 3000)):
        bench.veto(bytes([n]) * 32, unit(n), entry, THEIRS, at_ms)
    assert bench.vetoes.accusers(entry.scope, entry) == 2
    assert bench.vetoes.accusers(entry.scope, bench.entry("other", THEIRS)) == 0


def test_what_others_were_told_is_known_at_once() -> None:
    """A veto that another process kept refuses here with the next lookup; without news nothing is read again."""
    bench = Bench()
    entry = bench.entry("stored", THEIRS)
    assert not same_reuse(bench, entry)
    bench.veto(QUERY, unit(0.0), entry, THEIRS)
    assert same_reuse(bench, entry)
    assert same_reuse(bench, entry)
    assert bench.trust.reads == 1
    assert bench.asker().refuses(entry.scope, QUERY, unit(0.0), entry)


def test_only_what_is_new_is_read() -> None:
    """One veto more costs the reading of one, and those that were there go on to count."""
    bench = Bench()
    entry = bench.entry("stored", THEIRS)
    for n in range(5):
        query = bytes([n]) * 32
        bench.veto(query, unit(2.0 + n), entry, THEIRS)
        assert all(
            bench.vetoes.refuses(entry.scope, bytes([m]) * 32, unit(2.0 + m), entry) for m in range(n + 1)
        )
    assert (bench.trust.reads, bench.vetoes.count()) == (5, 5)
    assert bench.vetoes.accusers(entry.scope, entry) == 5


def test_where_the_store_of_trust_fails_those_held_go_on_to_count() -> None:
    """A failure is told, and serves nothing that was vetoed before."""
    bench = Bench()
    entry = bench.entry("stored", THEIRS)
    bench.veto(QUERY, unit(0.0), entry, THEIRS)
    assert same_reuse(bench, entry)
    bench.trust.fails = True
    assert same_reuse(bench, entry)
    assert not bench.asker().refuses(entry.scope, QUERY, unit(0.0), entry)
    assert len(bench.failures) == 2


def test_memory_is_bounded_by_scopes_that_were_asked_last() -> None:
    """Vetoes of a scope that had to go are read again when it is asked for."""
    bench = Bench(max_held=1)
    entries = [bench.entry("stored", THEIRS, namespace) for namespace in ("a", "b", "a")]
    for entry in entries[:2]:
        bench.veto(QUERY, unit(0.0), entry, THEIRS)
    assert all(same_reuse(bench, entry) for entry in entries)
    assert bench.trust.reads == 3
    assert bench.vetoes.count() == 1


def test_what_is_told_while_it_is_read_counts_once() -> None:
    """Another process keeps a veto between the look at the last and the reading: one request accuses an entry once."""
    bench = Bench()
    entry = bench.entry("stored", THEIRS)
    bench.veto(b"1" * 32, unit(1.0), entry, THEIRS)
    bench.trust.meanwhile = lambda: bench.veto(b"2" * 32, unit(2.0), entry, THEIRS)
    assert bench.vetoes.accusers(entry.scope, entry) == 2
    assert bench.vetoes.accusers(entry.scope, entry) == 2
    assert bench.vetoes.count() == 2


def test_memory_is_bounded_for_one_scope_too() -> None:
    """However many vetoes a scope is told of, those that the store has pushed out do not gather here."""
    bench = Bench(max_held=10, max_vetoes=5)
    entry = bench.entry("stored", THEIRS)
    for n in range(40):
        query = bytes([n]) * 32
        bench.veto(query, unit(1.0), entry, THEIRS)
        assert bench.vetoes.refuses(entry.scope, query, unit(1.0), entry)
        assert bench.vetoes.count() <= 10


def test_an_accusation_that_is_told_anew_is_of_the_newer_answer() -> None:
    """What was said of an answer before this one counts when it is said of this one."""
    bench = Bench()
    entry = bench.entry("stored", THEIRS)
    bench.veto(QUERY, unit(0.0), entry, THEIRS, at_ms=500)
    assert bench.vetoes.accusers(entry.scope, entry) == 0
    pair = VetoPair(entry.scope, QUERY, entry.exact_key, unit(0.0), THEIRS, 2000)
    assert bench.trust.add_veto(entry.namespace, pair, None, since_ms=1000)
    assert bench.vetoes.accusers(entry.scope, entry) == bench.vetoes.count() == 1
