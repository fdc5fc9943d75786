"""The memory of misses is bounded in number and in time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cachesvc.adapters.memory import ManualClock
from cachesvc.core.identity import identify
from cachesvc.core.tickets import Ticket, TicketBounds
from cachesvc.core.types import Message, Request, Unseen
from cachesvc.engine.tickets import Tickets


def ticket(text: str = "q") -> Ticket:
    request = Request("default", (Message("user", text),), "m", {})
    return Ticket(identify(request, "engine:test"), {}, Unseen.PAST_WINDOW, 0)


def bounds(max_count: int, max_bytes: int = 1 << 20) -> TicketBounds:
    return TicketBounds(max_count, max_bytes, 60.0)


def test_long_texts_push_out_more_than_one() -> None:
    """The memory of misses is bounded in bytes, whatever their number."""
    tickets = Tickets(ManualClock(), bounds(1000, 100_000))
    for n in range(20):
        tickets.keep(f"{n}", ticket("x" * 20_000))
    assert [n for n in range(20) if tickets.find(f"{n}")] == [16, 17, 18, 19]


def test_a_ticket_is_found_again_and_again() -> None:
    """Using a ticket does not use it up; an unknown id is None."""
    tickets = Tickets(ManualClock(), bounds(10))
    kept = ticket()
    tickets.keep("a", kept)
    assert tickets.find("a") is kept
    assert tickets.find("a") is kept
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
def test_a_ticket_has_a_lifetime(after_ms: int, *, known: bool) -> None:
    """A ticket is known for its ttl and not longer."""
    clock = ManualClock()
    tickets = Tickets(clock, bounds(10))
    tickets.keep("a", ticket())
    clock.advance(after_ms)
    assert (tickets.find("a") is not None) == known


def test_the_oldest_tickets_go_first() -> None:
    """Past the bound each new ticket pushes out the oldest one."""
    tickets = Tickets(ManualClock(), bounds(3))
    for name in "abcde":
        tickets.keep(name, ticket(name))
    assert [name for name in "abcde" if tickets.find(name)] == ["c", "d", "e"]


def test_the_bound_holds_under_threads() -> None:
    """However many threads keep tickets, no more than the bound are known."""
    tickets = Tickets(ManualClock(), bounds(50))
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
