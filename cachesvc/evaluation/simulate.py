"""A stream of labelled requests served one after the other: what hits, rightly or wrongly, and what is stored.

Each request looks up; a hit is served and is right iff its answer id is that of the request; a miss stores the
right answer. The texts are those that the embedder sees, and no two are the same to the exact tier.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest requests before one, by place in the stream, best first, and their scores."""

    places: NDArray[np.int64]
    scores: NDArray[np.float32]


class Judge(Protocol):
    """Decides on requests in order, and may learn from the misses."""

    def choose(self, place: int, near: Neighbours) -> int | None:
        """Which of the neighbours serves this request: its place in the stream; None for a miss."""

    def learn(self, place: int, near: Neighbours, served: int | None) -> None:
        """The request is over; ``served`` as chosen."""


class Index(Protocol):
    """Finds, among the requests that were added, those nearest to another."""

    def nearest(self, place: int, count: int) -> Neighbours:
        """Of the request at this place of the stream, at most ``count``."""

    def add(self, place: int) -> None:
        """The answer of this one is stored."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a stream: for each request the place whose answer was served, or -1, and whether that was right."""

    served: NDArray[np.int64]
    right: NDArray[np.bool_]

    @property
    def useful_share(self) -> float:
        """Right hits ÷ requests."""
        return float(self.right.mean())

    @property
    def error_share(self) -> float:
        """Wrong hits ÷ requests."""
        return float(((self.served >= 0) & ~self.right).mean())


def simulate(
    answers: Sequence[str],
    vectors: NDArray[np.float32],
    judge: Judge,
    *,
    count: int = 5,
    stores: Callable[[int, int | None], bool] = lambda place, served: served is None,
    index: Index | None = None,
) -> Run:
    """Serve the stream in order. ``vectors`` (n, dimension) are of unit norm; ``count`` neighbours are looked at.

    Who runs a stream many times may bring an ``index`` that knows the scores already.
    """
    searched = Searched(vectors) if index is None else index
    served = np.full(len(answers), -1, np.int64)
    for place in range(len(answers)):
        near = searched.nearest(place, count)
        chosen = judge.choose(place, near)
        if chosen is not None:
            served[place] = chosen
        judge.learn(place, near, chosen)
        if stores(place, chosen):
            searched.add(place)
    ids = np.asarray(answers)
    return Run(served, (served >= 0) & (ids[served] == ids))


class Searched:
    """Every vector held against every other that is stored."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._stored = np.empty_like(vectors)
        self._places = np.empty(len(vectors), np.int64)
        self._size = 0

    def nearest(self, place: int, count: int) -> Neighbours:
        """See ``Index``."""
        return _nearest(self._stored[: self._size], self._places, self._vectors[place], count)

    def add(self, place: int) -> None:
        """See ``Index``."""
        self._stored[self._size], self._places[self._size] = self._vectors[place], place
        self._size += 1


def _nearest(
    stored: NDArray[np.float32], places: NDArray[np.int64], vector: NDArray[np.float32], count: int
) -> Neighbours:
    scores = stored @ vector
    if len(scores) > count:
        top = np.argpartition(scores, -count)[-count:]
        top = top[np.argsort(-scores[top], kind="stable")]
    else:
        top = np.argsort(-scores, kind="stable")
    return Neighbours(places[top], scores[top])
