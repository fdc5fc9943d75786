"""A label: what became known of one request, candidate by candidate. Holds no text.

The labels of a namespace, in order, are the truth; everything else that trust knows is a fold over them
(``core.trust.state``), and can be made anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.gates import Gate


@unique
class Origin(Enum):
    """How a fresh answer came to be there to compare with."""

    MISS = "a miss was answered and stored"
    HELD_BACK = "a request that would have hit was answered as a miss, by chance"
    SHADOW = "the mode or the brake of the namespace answered a request that would have hit as a miss"
    AUDIT = "a hit that was served was asked anew behind the request"
    FEEDBACK = "somebody said so of a hit that was served"
    IMPORT = "an operator brought it"

    @property
    def is_sampled(self) -> bool:
        """Whether such labels come by a chance that is known, so that rates may be reckoned from them."""
        return self not in (Origin.FEEDBACK, Origin.IMPORT)

    @property
    def counts_requests(self) -> bool:
        """Whether such labels, each with its share, stand for all requests once. An audited hit is one of those that
        were served, for all of which those that were held back stand already.
        """
        return self.is_sampled and self is not Origin.AUDIT


@unique
class Comparator(Enum):
    """How two answers were compared. Each errs in its own way: see docs/trust.md."""

    TEXT = "equal text, white space and case aside"
    JSON = "equal JSON"
    EMBEDDING = "the answers' embeddings are near"
    VERDICT = "the caller's verdict"


@dataclass(frozen=True, slots=True)
class LabelledCandidate:
    """A candidate of a request. ``features`` are those of ``core.trust.features``, float32; ``gate`` is the first that
    refused it, of those that were on. ``same``: whether its answer is right; None when that could not be told.
    """

    features: NDArray[np.float32]
    score: float
    gate: Gate | None
    same: bool | None


@dataclass(frozen=True, slots=True)
class Label:
    """One request with the candidates that were near, best score first.

    ``served`` is the place of the candidate that was served, or would have been but for the origin; None for none.
    ``share`` is the chance that such a request is labelled: 1 for what always is. ``key`` is 16 bytes that are
    the same when the same thing is told again.
    """

    key: bytes
    at_ms: int
    origin: Origin
    comparator: Comparator
    share: float
    rule_version: int
    features_version: int
    served: int | None
    candidates: tuple[LabelledCandidate, ...]

    @property
    def verdict(self) -> bool | None:
        """Whether the candidate that it is about before all is right. None when that could not be told."""
        if not self.candidates:
            return None
        return self.candidates[foremost(self.served, [one.gate for one in self.candidates])].same


def foremost(served: int | None, gates: Sequence[Gate | None]) -> int:
    """The candidate that a label is about before all: that which was served, else the first that no gate refused."""
    if served is not None:
        return served
    return next((place for place, gate in enumerate(gates) if gate is None), 0)


@dataclass(frozen=True, slots=True)
class Tally:
    """What a namespace's lookups came to since it was made. Semantic tier only: exact hits are in none of them.

    ``searched`` counts all that had candidates to judge or none at all; ``near`` those with a candidate near enough
    to be labelled; ``would_hit`` those that the rule would have served: served, held back, shadowed and braked.
    """

    searched: int = 0
    near: int = 0
    would_hit: int = 0
    served: int = 0
    held_back: int = 0
    audits_asked: int = 0
    audits_answered: int = 0
    vetoed: int = 0

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(*(getattr(self, name) + getattr(other, name) for name in Tally.__slots__))


NOTHING = Tally()


@dataclass(frozen=True, slots=True)
class News:
    """What became known of a namespace, on its way into the store."""

    namespace: str
    labels: tuple[Label, ...] = ()
    tally: Tally = NOTHING


@dataclass(frozen=True, slots=True)
class VetoPair:
    """A reuse that somebody said was wrong: of the entry under ``theirs_key`` for the request ``ours_key``, both exact
    keys of one scope, with the vectors of both (float32, unit norm) so that their near neighbours are meant too.
    """

    scope: bytes
    ours_key: bytes
    theirs_key: bytes
    ours: NDArray[np.float32]
    theirs: NDArray[np.float32]
    at_ms: int
