"""A stream of labelled requests served one after the other: what hits, rightly or wrongly, and what is stored.

Each request looks up; a hit is served and is right iff its answer id is that of the request; a miss stores the
right answer. The texts are those that the embedder sees, and no two are the same to the exact tier.
"""

from collections.abc import Sequence
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
    """Decides on requests in order, and may learn from them."""

    def choose(self, place: int, near: Neighbours) -> int | None:
        """Which of the neighbours serves this request: its place in the stream; None for a miss."""

    def learn(self, place: int) -> None:
        """The request is over."""


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


def simulate(answers: Sequence[str], index: Index, judge: Judge, count: int = 5) -> Run:
    """Serve the stream in order; ``count`` neighbours are looked at."""
    served = np.full(len(answers), -1, np.int64)
    for place in range(len(answers)):
        near = index.nearest(place, count)
        chosen = judge.choose(place, near)
        judge.learn(place)
        if chosen is None:
            index.add(place)
        else:
            served[place] = chosen
    ids = np.asarray(answers)
    return Run(served, (served >= 0) & (ids[served] == ids))


class Searched:
    """An ``Index`` of vectors (n, dimension) of unit norm: each is held against every other that was added."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._stored = np.empty_like(vectors)
        self._places = np.empty(len(vectors), np.int64)
        self._size = 0

    def nearest(self, place: int, count: int) -> Neighbours:
        """See ``Index``."""
        found = nearest(self._stored[: self._size], self._vectors[place], count)
        return Neighbours(self._places[found.places], found.scores)

    def add(self, place: int) -> None:
        """See ``Index``."""
        self._stored[self._size], self._places[self._size] = self._vectors[place], place
        self._size += 1


def nearest(stored: NDArray[np.float32], vector: NDArray[np.float32], count: int) -> Neighbours:
    """Rows of ``stored`` and their scores, at most ``count``."""
    scores = stored @ vector
    if len(scores) > count:
        top = np.argpartition(scores, -count)[-count:]
        top = top[np.argsort(-scores[top], kind="stable")]
    else:
        top = np.argsort(-scores, kind="stable")
    return Neighbours(top, scores[top])
