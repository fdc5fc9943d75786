"""Which earlier requests of a stream are near to each, found once for every threshold that is tried."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Nearby:
    """For request ``n`` the earlier ones of its scope that score at least ``floor``: ``places`` and ``scores`` from
    ``starts[n]`` to ``starts[n + 1]``, best score first.
    """

    floor: float
    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    scores: NDArray[np.float32]

    def of(self, place: int, threshold: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Places and scores of those that reach a threshold, which must not be below the floor."""
        assert threshold >= self.floor, "nothing is known below the floor"
        start, end = self.starts[place], self.starts[place + 1]
        scores = self.scores[start:end]
        count = int(np.searchsorted(-scores, -threshold, side="right"))
        return self.places[start : start + count], scores[:count]


def nearby(
    vectors: NDArray[np.float32], seen: NDArray[np.bool_], scopes: NDArray[np.int64], floor: float
) -> Nearby:
    """All pairs, in blocks. ``vectors`` (n, dimension) of unit norm; what is not ``seen`` is near to nothing;
    ``scopes`` (n,): only equal ones meet.
    """
    counts = np.zeros(len(vectors), np.int64)
    places: list[NDArray[np.int32]] = []
    scores: list[NDArray[np.float32]] = []
    for start in range(0, len(vectors), _BLOCK):
        end = min(start + _BLOCK, len(vectors))
        block = vectors[start:end] @ vectors[:end].T
        for row, place in zip(block, range(start, end), strict=True):
            before = row[:place]
            near = np.flatnonzero(before >= floor)
            near = near[seen[near] & (scopes[near] == scopes[place])] if seen[place] else near[:0]
            near = near[np.argsort(-before[near], kind="stable")]
            counts[place] = len(near)
            places.append(near.astype(np.int32))
            scores.append(before[near])
    return Nearby(
        floor, np.concatenate([[0], np.cumsum(counts)]), np.concatenate(places), np.concatenate(scores)
    )
