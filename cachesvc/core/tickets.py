"""What is remembered of a miss, so that the Store that follows embeds nothing again."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

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
