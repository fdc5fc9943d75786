"""Labels of one request with one candidate."""

from collections.abc import Callable

import numpy as np
import pytest

from cachesvc.core.gates import Gate
from cachesvc.core.trust.labels import Comparator, Label, LabelledCandidate, Origin

MakeLabel = Callable[..., Label]


@pytest.fixture
def label() -> MakeLabel:
    """Makes a label: an audit of a hit by default."""
    return make_label


def make_label(
    *,
    same: bool | None = True,
    origin: Origin = Origin.AUDIT,
    score: float = 0.98,
    share: float = 0.2,
    at_ms: int = 0,
    gate: Gate | None = None,
) -> Label:
    candidate = LabelledCandidate(np.zeros(1, np.float32), score, gate, same)
    served = None if origin is Origin.MISS else 0
    return Label(bytes(16), at_ms, origin, Comparator.TEXT, share, 0, 0, served, (candidate,))
