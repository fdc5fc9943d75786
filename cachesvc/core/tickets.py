"""What is remembered of a lookup, so that the Store that follows a miss embeds nothing again, and what becomes known of
the answer later can be held against what was near.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from cachesvc.core.errors import CacheError
from cachesvc.core.identity import canonical_text, canonical_vary, identify
from cachesvc.core.trust.labels import Origin
from cachesvc.core.types import Candidate, Identity, Request, Unseen, Vector

_OVERHEAD_BYTES = 1024  # of a ticket without text, vector and candidates
_CANDIDATE_BYTES = 128


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a miss, or a semantic hit, knew: its identity, the canonical vary, what embedding came to (None: not
    embedded), and the store's epoch, for the answer is made after it.

    ``candidates`` are those near enough to be learned from, best score first. ``served`` is the entry that the rule of
    ``rule_version`` chose among them, or None. ``origin`` is None where it was served; else what a fresh answer is
    there for, with ``share``, the chance that such a request is answered afresh. Of a hit ``share`` is the chance that
    it is audited, and ``audit`` says whether it is.
    """

    identity: Identity
    vary: Mapping[str, str]
    embedded: Vector | Unseen | None
    epoch: int
    candidates: tuple[Candidate, ...] = ()
    served: int | None = None
    origin: Origin | None = Origin.MISS
    share: float = 1.0
    rule_version: int = 0
    audit: bool = False

    @property
    def size_bytes(self) -> int:
        """Memory that it holds, roughly."""
        texts = [self.identity.text, *self.vary.keys(), *self.vary.values()]
        vector_bytes = (
            0 if self.embedded is None or isinstance(self.embedded, Unseen) else self.embedded.nbytes
        )
        candidates_bytes = _CANDIDATE_BYTES * len(self.candidates)
        return _OVERHEAD_BYTES + vector_bytes + candidates_bytes + sum(map(sys.getsizeof, texts))


@dataclass(frozen=True, slots=True)
class TicketBounds:
    """How many tickets are kept, how much memory they hold, and for how long each is good."""

    max_count: int
    max_bytes: int
    ttl_s: float


def check_agrees(given: Request, ticket: Ticket, fingerprint: str) -> None:
    """What a call says of the request beside a lookup_id must be what the lookup said. Raises INVALID, naming the field.

    Without messages it may say a part of it, or nothing. ``fingerprint`` as in ``identify``.
    """
    asked = ticket.identity
    if given.messages:
        if identify(given, fingerprint).exact_key != asked.exact_key:
            raise CacheError.invalid("lookup_id", "is of another request than the identity fields give")
        return
    pairs: tuple[tuple[str, object, object], ...] = (
        ("namespace", given.namespace, asked.namespace),
        ("model", canonical_text(given.model), asked.model),
        ("vary", canonical_vary(given), ticket.vary),
    )
    for field, value, expected in pairs:
        if value and value != expected:
            raise CacheError.invalid(field, "is not that of the lookup that lookup_id names")
