"""Remembers lookups for a while, so that the Store that follows embeds nothing again, and feedback finds what it means."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from cachesvc.core.ports import Clock
from cachesvc.core.tickets import Ticket, TicketBounds


@dataclass(frozen=True, slots=True)
class _Kept:
    ticket: Ticket
    until_s: float
    size_bytes: int


class Tickets:
    """``TicketBook`` in memory."""

    def __init__(self, clock: Clock, bounds: TicketBounds) -> None:
        self._clock = clock
        self._bounds = bounds
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # oldest first
        self._size_bytes = 0

    def keep(self, lookup_id: str, ticket: Ticket) -> None:
        """See ``TicketBook.keep``."""
        now_s = self._clock.monotonic_s()
        kept = _Kept(ticket, now_s + self._bounds.ttl_s, ticket.size_bytes)
        with self._lock:
            self._kept[lookup_id] = kept
            self._size_bytes += kept.size_bytes
            while self._kept and self._is_over(next(iter(self._kept.values())), now_s):
                self._size_bytes -= self._kept.popitem(last=False)[1].size_bytes

    def find(self, lookup_id: str) -> Ticket | None:
        """See ``TicketBook.find``."""
        with self._lock:
            kept = self._kept.get(lookup_id)
        if kept is None or kept.until_s < self._clock.monotonic_s():
            return None
        return kept.ticket

    def _is_over(self, oldest: _Kept, now_s: float) -> bool:
        bounds = self._bounds
        too_many = len(self._kept) > bounds.max_count or self._size_bytes > bounds.max_bytes
        return too_many or oldest.until_s < now_s
