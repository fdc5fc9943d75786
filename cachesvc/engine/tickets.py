"""Remembers misses for a while, so that the Store that follows embeds nothing again."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from cachesvc.core.ports import Clock
from cachesvc.core.types import Identity, Request, Unseen, Vector


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a miss knew: the request, its identity, and what embedding came to (None: not embedded)."""

    request: Request
    identity: Identity
    embedded: Vector | Unseen | None


class Tickets:
    """A bounded memory of tickets by lookup id; the oldest go first. Thread-safe."""

    def __init__(self, clock: Clock, max_count: int, ttl_s: float) -> None:
        self._clock = clock
        self._max_count = max_count
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Ticket]] = OrderedDict()

    def keep(self, lookup_id: str, ticket: Ticket) -> None:
        """Remember a miss."""
        until_s = self._clock.monotonic_s() + self._ttl_s
        with self._lock:
            self._kept[lookup_id] = (until_s, ticket)
            while len(self._kept) > self._max_count:
                self._kept.popitem(last=False)

    def find(self, lookup_id: str) -> Ticket | None:
        """The ticket, or None when it is unknown, too old, or was pushed out. It may be used again."""
        with self._lock:
            kept = self._kept.get(lookup_id)
        if kept is None or kept[0] < self._clock.monotonic_s():
            return None
        return kept[1]
