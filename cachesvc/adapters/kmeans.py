"""Centres of unit vectors, found in short steps and always the same for the same sample.

Spherical k-means after Lloyd. Many centres are found in two levels, some at first and in each part then, which takes
a hundredth of the time, and are put right by a last round over all. Called by the index that trains its lists.
"""

from collections.abc import Generator, Iterator

import faiss
import numpy as np
from numpy.typing import NDArray

from cachesvc.adapters.faiss_threads import stay_on_this_thread
from cachesvc.core.types import Vector

_ROUNDS = 8
_LAST_ROUNDS = 1
_ONE_LEVEL_COUNT = 256  # centres that are found at once
_STEP_PAIRS = 1 << 18  # of a vector and a centre that are compared in a step: some 5 ms
_SEED = 20261125


def centres_of(sample: NDArray[np.float16], count: int) -> Generator[None, None, Vector]:
    """Returns ``count`` unit vectors (count, dimension), float32. Yields between steps of some ms."""
    source = np.random.default_rng(_SEED)
    if count <= _ONE_LEVEL_COUNT:
        return (yield from _rounds(sample, _begin(sample, count, source), _ROUNDS))
    coarse = yield from _rounds(sample, _begin(sample, int(count**0.5), source), _ROUNDS)
    part_of = yield from _nearest(sample, coarse)
    sizes = np.bincount(part_of, minlength=len(coarse))
    fine = []
    for part, share in enumerate(_shares(sizes, count)):
        if share:
            rows = sample[part_of == part]
            fine.append((yield from _rounds(rows, _begin(rows, share, source), _ROUNDS)))
    return (yield from _rounds(sample, np.concatenate(fine), _LAST_ROUNDS))


def _begin(sample: NDArray[np.float16], count: int, source: np.random.Generator) -> Vector:
    chosen: Vector = sample[source.choice(len(sample), count, replace=len(sample) < count)].astype(np.float32)
    return chosen


def _shares(sizes: NDArray[np.int64], count: int) -> list[int]:
    """``count`` divided by size: what is left by rounding down goes to those that lost most."""
    exact = sizes * count / sizes.sum()
    shares = exact.astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: count - shares.sum()]] += 1
    return [int(share) for share in shares]


def _rounds(sample: NDArray[np.float16], centres: Vector, rounds: int) -> Generator[None, None, Vector]:
    for _ in range(rounds):
        nearest = yield from _nearest(sample, centres)
        sums = np.zeros_like(centres)
        for some in _steps(len(sample), len(centres)):
            _add_up(sums, sample[some].astype(np.float32), nearest[some])
            yield
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        # A centre that nothing is near to stays where it was.
        centres = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centres)
    return centres


def _nearest(sample: NDArray[np.float16], centres: Vector) -> Generator[None, None, NDArray[np.int64]]:
    stay_on_this_thread()
    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(centres)
    nearest = np.empty(len(sample), np.int64)
    for some in _steps(len(sample), len(centres)):
        nearest[some] = index.search(sample[some].astype(np.float32), 1)[1][:, 0]
        yield
    return nearest


def _steps(rows: int, centres: int) -> Iterator[slice]:
    size = max(min(_STEP_PAIRS // centres, 4096), 32)
    return (slice(first, first + size) for first in range(0, rows, size))


def _add_up(sums: Vector, rows: Vector, nearest: NDArray[np.int64]) -> None:
    order = np.argsort(nearest, kind="stable")
    centres, firsts = np.unique(nearest[order], return_index=True)
    sums[centres] += np.add.reduceat(rows[order], firsts)
