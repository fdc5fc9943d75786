"""A few vectors in FAISS: every one is compared, in half precision.

Half precision halves the memory, and the time of a search, which is that of reading it; scores are
off by at most 0.0001 (measured: 0.00006). FAISS keeps the memory of removed rows, so rows are copied when half of
them are gone. Not thread-safe: ``faiss_index`` locks.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cachesvc.adapters.faiss_codes import READ_COUNT, Codes, Place
from cachesvc.adapters.faiss_threads import stay_on_this_thread
from cachesvc.core.types import Candidate, Vector

_COMPACT_MIN_COUNT = 1024  # below, there is less than a megabyte to win


class FlatRows:
    """Vectors in order of arrival, and their ids beside them."""

    kind = b"fp16"
    is_exact = True
    change_count = 4096  # rows that are changed at once: each removal, however large, looks at all

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._index: Any = faiss.IndexScalarQuantizer(
            dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        self._ids = np.empty(0, np.int64)  # with room for more
        self._held_count = 0  # rows there is memory for: the most there were since the last copy
        self._last_id = -1  # no row has an id above
        self.removed_count = 0  # ever

    def prepare(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """What ``insert`` takes; may run beside anything."""
        codes: NDArray[np.uint8] = vectors.astype(np.float16).view(np.uint8)
        return codes

    def insert(self, ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        """Add rows that are absent, each once."""
        count = len(self) + len(ids)
        if count > len(self._ids):
            grown = np.empty(count + count // 8, np.int64)
            grown[: len(self)] = self.ids()
            self._ids = grown
        self._ids[len(self) : count] = ids
        self._index.add_sa_codes(codes)
        self._held_count = max(self._held_count, count)
        self._last_id = max(self._last_id, int(ids.max(initial=-1)))

    def has(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of them are there."""
        if not len(ids) or int(ids.min()) > self._last_id:
            return np.zeros(len(ids), np.bool_)
        return np.isin(ids, self.ids())

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Remove rows that are there, each once. The later ones move up and keep their order."""
        places = np.flatnonzero(np.isin(self.ids(), ids))
        kept = np.delete(self.ids(), places)
        self._index.remove_ids(faiss.IDSelectorBatch(places.astype(np.int64)))
        self._ids[: len(kept)] = kept
        self.removed_count += len(places)
        is_large = self._held_count >= _COMPACT_MIN_COUNT
        if not len(self) or (is_large and len(self) < self._held_count // 2):
            self._index = faiss.clone_index(self._index)
            self._ids = kept
            self._held_count = len(self)

    def search(self, vector: Vector, count: int) -> list[Candidate]:
        """The nearest, best first."""
        stay_on_this_thread()
        scores, places = self._index.search(vector[np.newaxis], min(count, len(self)) or 1)
        return [
            Candidate(int(self._ids[place]), score)
            for place, score in zip(places[0].tolist(), scores[0].tolist(), strict=True)
            if place >= 0  # FAISS pads with -1
        ]

    def ids(self) -> NDArray[np.int64]:
        """In order of arrival; not to be kept."""
        return self._ids[: len(self)]

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def memory_bytes(self) -> int:
        """Of the rows."""
        return self._held_count * row_bytes(self._dimension)

    def begin(self) -> Place:
        """Where reading begins."""
        return Place(self.removed_count)

    def read(self, place: Place) -> Codes | None:
        """Rows from a place on, which moves on; None when there are no more.

        Removals move later rows up, and new ones come last: the next row to take is at most as far up as rows
        were removed meanwhile. Some are taken twice then, and none is missed.
        """
        first = max(place.position - (self.removed_count - place.removed_count), 0)
        end = min(len(self), first + READ_COUNT)
        if first >= end:
            return None
        # Past the end where there are fewer: what is added from now on need not be read.
        place.position, place.removed_count = first + READ_COUNT, self.removed_count
        size = self._index.code_size
        rows = faiss.rev_swig_ptr(self._index.codes.data(), len(self) * size)[first * size : end * size]
        return Codes(self._ids[first:end].copy(), rows.reshape(-1, size).copy())

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The vectors, as near as they are kept."""
        return codes.view(np.float16).astype(np.float32)


def row_bytes(dimension: int) -> int:
    """Memory of one vector and its id."""
    return dimension * 2 + 8
