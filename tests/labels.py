"""Labels of one request with one candidate."""

import numpy as np

from cachesvc.core.gates import Gate
from cachesvc.core.trust.labels import Comparator, Label, LabelledCandidate, Origin


def make_label(
    *,
    same: bool | None = True,
    origin: Origin = Origin.AUDIT,
    score: float = 0.98,
    share: float = 0.2,
    at_ms: int = 0,
    gate: Gate | None = None,
) -> Label:
    """An audit of a hit that was right, unless something else is said."""
    candidate = LabelledCandidate(np.zeros(1, np.float32), score, gate, same)
    served = None if origin is Origin.MISS else 0
    return Label(bytes(16), at_ms, origin, Comparator.TEXT, share, 0, 0, served, (candidate,))
