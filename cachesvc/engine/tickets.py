"""Remembers misses for a while, so that the Store that follows embeds nothing again."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from cachesvc.core.ports import Clock
from cachesvc.core.types import Identity, Unseen, Vector

_OVERHEAD_BYTES = 1024  # of a ticket without text and vector


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a miss knew: its identity, the canonical vary, what embedding came to (None: not embedded), and
    the store's epoch, for the answer is made after it.
    """

    identity: Identity
    vary: Mapping[str, str]
    embedded: Vector | Unseen | None
    epoch: int

    @property
    def size_bytes(self) -> int:
        """Memory that it holds, roughly."""
        texts = [self.identity.text, *self.vary.keys(), *self.vary.values()]
        vector_bytes = (
            0 if self.embedded is None or isinstance(self.embedded, Unseen) else self.embedded.nbytes
        )
        return _OVERHEAD_BYTES + vector_bytes + sum(map(sys.getsizeof, texts))


@dataclass(frozen=True, slots=True)
class TicketBounds:
    """How many tickets are kept, how much memory they hold, and for how long each is good."""

    max_count: int
    max_bytes: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class _Kept:
    ticket: Ticket
    until_s: float
    size_bytes: int


class Tickets:
    """A bounded memory of tickets by lookup id; the oldest go first. Thread-safe."""

    def __init__(self, clock: Clock, bounds: TicketBounds) -> None:
        self._clock = clock
        self._bounds = bounds
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # oldest first
        self._size_bytes = 0

    def keep(self, lookup_id: str, ticket: Ticket) -> None:
        """Remember a miss, and forget those that are too old or too many."""
        now_s = self._clock.monotonic_s()
        kept = _Kept(ticket, now_s + self._bounds.ttl_s, ticket.size_bytes)
        with self._lock:
            self._kept[lookup_id] = kept
            self._size_bytes += kept.size_bytes
            while self._kept and self._is_over(next(iter(self._kept.values())), now_s):
                self._size_bytes -= self._kept.popitem(last=False)[1].size_bytes

    def find(self, lookup_id: str) -> Ticket | None:
        """The ticket, or None when it is unknown, too old, or was pushed out. It may be used again."""
        with self._lock:
            kept = self._kept.get(lookup_id)
        if kept is None or kept.until_s < self._clock.monotonic_s():
            return None
        return kept.ticket

    def _is_over(self, oldest: _Kept, now_s: float) -> bool:
        bounds = self._bounds
        too_many = len(self._kept) > bounds.max_count or self._size_bytes > bounds.max_bytes
        return too_many or oldest.until_s < now_s
