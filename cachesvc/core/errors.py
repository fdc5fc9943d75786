"""The one exception of the service and the kinds it comes in.

Adapters turn their library's exceptions into these; ``serve.errors`` has the one table from
kinds to gRPC codes. Messages are for callers and operators: they never hold a prompt, a
response or another exception's text.
"""

from dataclasses import dataclass
from enum import Enum, unique


@unique
class Kind(Enum):
    """What sort of failure it is, and so who has to act."""

    INVALID = "invalid"  # the caller sent something wrong
    NOT_FOUND = "not_found"  # what was named does not exist
    REFUSED = "refused"  # the request is fine, but the state of things does not allow it
    OVERLOADED = "overloaded"  # too much at once; later may work
    FULL = "full"  # the store or its disk has no room
    DEADLINE = "deadline"  # the caller's time ran out
    UNAVAILABLE = "unavailable"  # a part is down or going down
    CORRUPT = "corrupt"  # stored data fails its checks
    INCOMPATIBLE = "incompatible"  # stored data belongs to another schema or model
    LOCKED = "locked"  # another process has it
    INTERNAL = "internal"  # a fault of ours


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that is wrong, and what would be right."""

    field: str
    description: str


class CacheError(Exception):
    """A failure with a kind, a message fit for callers, and the fields at fault."""

    def __init__(self, kind: Kind, message: str, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.violations = violations

    def within(self, place: str) -> "CacheError":
        """The same, of an item: ``place`` goes before each field, for example ``items[3].``."""
        violations = tuple(Violation(place + v.field, v.description) for v in self.violations)
        return CacheError(self.kind, f"{place}{self.message}" if violations else self.message, violations)

    @classmethod
    def invalid(cls, field: str, description: str) -> "CacheError":
        """One field is wrong."""
        return cls(Kind.INVALID, f"{field}: {description}", (Violation(field, description),))
