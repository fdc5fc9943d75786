"""The contract of the TicketBook port, over every implementation: bounded in number, bytes and time."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeAlias

import lmdb
import numpy as np
import pytest

from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.lmdb_tickets import KEY_BYTES, LmdbTickets
from cachesvc.adapters.memory import ManualClock
from cachesvc.core.identity import identify
from cachesvc.core.ports import TicketBook
from cachesvc.core.tickets import Ticket, TicketBounds
from cachesvc.core.trust.labels import Origin
from cachesvc.core.types import Candidate, Message, Request, Unseen
from cachesvc.engine.tickets import Tickets

Make: TypeAlias = Callable[[ManualClock, TicketBounds], TicketBook]

KEY = bytes(range(KEY_BYTES))


@pytest.fixture(params=["memory", "lmdb"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Each implementation in turn."""
    if request.param == "memory":
        yield Tickets
        return
    with ExitStack() as stack:

        def shared(clock: ManualClock, bounds: TicketBounds) -> LmdbTickets:
            made = LmdbTickets(tmp_path / "tickets", KEY, clock, bounds)
            stack.callback(made.close)
            return made

        yield shared


def ticket(text: str = "q") -> Ticket:
    request = Request("default", (Message("user", text),), "m", {})
    return Ticket(identify(request, "engine:test"), {}, Unseen.PAST_WINDOW, 0)


def bounds(max_count: int, max_bytes: int = 1 << 20) -> TicketBounds:
    return TicketBounds(max_count, max_bytes, 60.0)


def test_long_texts_push_out_more_than_one(make: Make) -> None:
    """The memory of misses is bounded in bytes, whatever their number."""
    tickets = make(ManualClock(), bounds(1000, 100_000))
    for n in range(20):
        tickets.keep(f"{n}", ticket("x" * 20_000))
    assert [n for n in range(20) if tickets.find(f"{n}")] == [16, 17, 18, 19]


def test_candidates_count_in_the_bound(make: Make) -> None:
    """A ticket with candidates takes the room of what it holds."""
    tickets = make(ManualClock(), bounds(1000, 100_000))
    near = tuple(Candidate(n, 0.5) for n in range(100))
    for n in range(20):
        tickets.keep(f"{n}", Ticket(ticket().identity, {}, None, 0, near))
    assert [n for n in range(20) if tickets.find(f"{n}")] == list(range(13, 20))


def test_a_ticket_is_found_again_and_again(make: Make) -> None:
    """Using a ticket does not use it up; an unknown id is None."""
    tickets = make(ManualClock(), bounds(10))
    kept = ticket()
    tickets.keep("a", kept)
    assert tickets.find("a") == kept
    assert tickets.find("a") == kept
    assert tickets.find("b") is None
    assert tickets.find("") is None


@pytest.mark.parametrize(
    ("after_ms", "known"),
    [
        pytest.param(0, True, id="at once"),
        pytest.param(59_999, True, id="before its time"),
        pytest.param(60_001, False, id="after its time"),
        pytest.param(86_400_000, False, id="a day later"),
    ],
)
def test_a_ticket_has_a_lifetime(make: Make, after_ms: int, *, known: bool) -> None:
    """A ticket is known for its ttl and not longer."""
    clock = ManualClock()
    tickets = make(clock, bounds(10))
    tickets.keep("a", ticket())
    clock.advance(after_ms)
    assert (tickets.find("a") is not None) == known


def test_the_oldest_tickets_go_first(make: Make) -> None:
    """Past the bound each new ticket pushes out the oldest one."""
    tickets = make(ManualClock(), bounds(3))
    for name in "abcde":
        tickets.keep(name, ticket(name))
    assert [name for name in "abcde" if tickets.find(name)] == ["c", "d", "e"]


def test_the_bound_holds_under_threads(make: Make) -> None:
    """However many threads keep tickets, no more than the bound are known."""
    tickets = make(ManualClock(), bounds(50))
    kept = ticket()
    barrier = threading.Barrier(8)

    def keep(worker: int) -> None:
        barrier.wait()
        for n in range(200):
            tickets.keep(f"{worker}-{n}", kept)
            tickets.find(f"{worker}-{n // 2}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(8)))
    known = [f"{worker}-{n}" for worker in range(8) for n in range(200) if tickets.find(f"{worker}-{n}")]
    assert len(known) == 50


def test_what_was_kept_is_found_as_it_was(make: Make) -> None:
    """A ticket comes back with its vector, its vary, its epoch and its candidates."""
    tickets = make(ManualClock(), bounds(10))
    identity = identify(Request("default", (Message("user", "é ✓"),), "m", {"t": "0"}), "engine:test")
    vector = np.linspace(-1, 1, 384, dtype=np.float32)
    tickets.keep("a", Ticket(identity, {"t": "0"}, vector, 7))
    tickets.keep("b", Ticket(identity, {}, None, 8))
    near = (Candidate(2**62, 0.991), Candidate(1, 0.6))
    held_back = Ticket(identity, {}, None, 8, near, 1, Origin.HELD_BACK, 0.05, 3)
    audited = Ticket(identity, {}, None, 8, near, 2**62, None, 0.01, audit=True)
    tickets.keep("c", held_back)
    tickets.keep("d", audited)
    found, other = tickets.find("a"), tickets.find("b")
    assert (tickets.find("c"), tickets.find("d")) == (held_back, audited)
    assert found is not None
    assert isinstance(found.embedded, np.ndarray)
    assert (found.identity, found.vary, found.epoch) == (identity, {"t": "0"}, 7)
    assert found.embedded.tobytes() == vector.tobytes()
    assert other == Ticket(identity, {}, None, 8)


def test_what_cannot_be_read_is_forgotten(tmp_path: Path) -> None:
    """While all places for readers are taken no ticket is known, and who asks for one is not failed for that."""
    tickets = LmdbTickets(tmp_path / "t", KEY, ManualClock(), bounds(10))
    tickets.keep("a", ticket())
    readers = []
    try:
        with suppress(lmdb.ReadersFullError):
            while True:
                readers.append(tickets._env.begin())
        assert tickets.find("a") is None
        readers.pop().abort()
        assert tickets.find("a") == ticket()
    finally:
        for reader in readers:
            reader.abort()
        tickets.close()


def test_more_than_its_pages_hold_is_forgotten(tmp_path: Path) -> None:
    """Tickets that take more room than was reckoned make it begin anew; keeping goes on."""
    tickets = LmdbTickets(tmp_path / "t", KEY, ManualClock(), bounds(1_000_000, 1 << 20))
    try:
        for n in range(12):
            tickets.keep(f"{n}", Ticket(ticket("x" * 3_000_000).identity, {}, None, 0))
            tickets.keep(f"small {n}", ticket())
        assert tickets.find("small 11") is not None
    finally:
        tickets.close()


_OTHER = """
import sys
from pathlib import Path
from cachesvc.adapters.lmdb_tickets import LmdbTickets
from cachesvc.adapters.clock import SystemClock
from cachesvc.core.identity import identify
from cachesvc.core.tickets import Ticket, TicketBounds
from cachesvc.core.types import Message, Request
import os, signal
tickets = LmdbTickets(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), SystemClock(0), TicketBounds(10, 1 << 20, 60.0))
request = Request("default", (Message("user", "of another process"),), "m", {})
tickets.keep("theirs", Ticket(identify(request, "engine:test"), {}, None, 3))
with tickets._env.begin(write=True):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_share_them(tmp_path: Path) -> None:
    """What another process kept is found here, though it was killed inside of a write; not with another key, nor
    when a bit of it is another one, and never in the clear.
    """
    clock = SystemClock(0)
    tickets = LmdbTickets(tmp_path / "t", KEY, clock, bounds(10))
    try:
        subprocess.run(
            [sys.executable, "-c", _OTHER, str(tmp_path / "t"), KEY.hex()], check=False, timeout=60
        )
        found = tickets.find("theirs")
        assert found is not None
        assert found.identity.text == "of another process"
        tickets.keep("ours", ticket())
        assert tickets.find("ours") is not None
    finally:
        tickets.close()
    assert b"another process" not in (tmp_path / "t" / "data.mdb").read_bytes()
    strange = LmdbTickets(tmp_path / "t", os.urandom(KEY_BYTES), clock, bounds(10))
    try:
        assert strange.find("theirs") is None
    finally:
        strange.close()
