"""Many vectors in FAISS: an inverted file, of which a search reads the lists nearest to it, in one byte a value.

Scores are near (off by about 0.002): ``faiss_index`` ranks the best anew by the vectors themselves. FAISS keeps signed bytes
as they are (``QT_8bit_direct_signed``) and compares them as integers, in half the time of its other byte codes; it cuts what it
is asked for down to integers too. So values are scaled by one factor for all, and a query's by its own. The lists'
centres are kept in the same way. Not thread-safe: ``faiss_index`` locks.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cachesvc.adapters.faiss_codes import READ_COUNT, Codes, Place
from cachesvc.adapters.faiss_threads import stay_on_this_thread
from cachesvc.adapters.id_lists import ABSENT, IdLists
from cachesvc.core.types import Candidate, Vector

_PROBED_LISTS = 16  # 12 had the same recall as 28 at a million rows (measured)
_LIST_BYTES = 256  # of an empty list, besides its centre
_LARGEST = 127.0  # that a signed byte holds, both ways
_TINY = 1e-6
_SIGNED = faiss.ScalarQuantizer.QT_8bit_direct_signed


class IvfRows:
    """Vectors in lists around centres."""

    kind = b"ivf8"
    is_exact = False
    change_count = 64  # rows that are changed at once: under a ms

    def __init__(self, centres: NDArray[np.uint8], scale: float, laid_out_for: int) -> None:
        """``centres`` as codes (lists, dimension), two lists at least; ``scale`` makes bytes of values."""
        self.centres = centres
        self.scale = scale
        self.laid_out_for = laid_out_for  # rows there were when the centres were found
        lists, self._dimension = len(centres), int(centres.shape[1])
        self._quantizer: Any = faiss.IndexScalarQuantizer(
            self._dimension, _SIGNED, faiss.METRIC_INNER_PRODUCT
        )
        self._quantizer.add_sa_codes(centres)
        self._index: Any = faiss.IndexIVFScalarQuantizer(
            self._quantizer, self._dimension, lists, _SIGNED, faiss.METRIC_INNER_PRODUCT, False
        )
        self._index.is_trained = True
        self._index.nprobe = min(_PROBED_LISTS, lists)
        self._prefix_bytes = ((lists - 1).bit_length() + 7) // 8
        self._lists = IdLists()
        self.held_count = 0  # rows there is memory for: the most there were

    @property
    def code_bytes(self) -> int:
        """Of a row: the number of its list and its code."""
        return self._prefix_bytes + self._dimension

    def prepare(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """What ``insert`` takes; may run beside anything. Some 40 µs a row for each 1,000 lists."""
        stay_on_this_thread()
        scaled = _rounded(vectors, self.scale)
        lists = self._quantizer.search(scaled, 1)[1]
        prefix = lists.astype("<i8").view(np.uint8).reshape(len(vectors), 8)[:, : self._prefix_bytes]
        return np.hstack([prefix, _bytes(scaled)])

    def insert(self, ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        """Add rows that are absent, each once."""
        self._index.add_sa_codes(np.ascontiguousarray(codes), ids)
        self._lists.put(ids, self._list_numbers(codes))
        self.held_count = max(self.held_count, len(self))

    def _list_numbers(self, codes: NDArray[np.uint8]) -> NDArray[np.int32]:
        padded = np.zeros((len(codes), 4), np.uint8)
        padded[:, : self._prefix_bytes] = codes[:, : self._prefix_bytes]
        return padded.view("<i4")[:, 0].astype(np.int32)

    def knows(self, codes: NDArray[np.uint8]) -> bool:
        """Whether rows from outside are in lists that there are."""
        return bool((self._list_numbers(codes) < len(self.centres)).all())

    def has(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of them are there."""
        there: NDArray[np.bool_] = self._lists.find(ids) != ABSENT
        return there

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Remove rows that are there, each once: the last of its list takes a row's place."""
        held = self._index.invlists
        for entry_id, number in zip(ids.tolist(), self._lists.find(ids).tolist(), strict=True):
            size = held.list_size(number)
            its_ids = faiss.rev_swig_ptr(held.get_ids(number), size)
            codes = faiss.rev_swig_ptr(held.get_codes(number), size * self._dimension).reshape(size, -1)
            place = int(np.flatnonzero(its_ids == entry_id)[0])
            its_ids[place], codes[place] = its_ids[-1], codes[-1]
            held.resize(number, size - 1)
        self._lists.drop(ids)
        self._index.ntotal -= len(ids)

    def search(self, vector: Vector, count: int) -> list[Candidate]:
        """The nearest by their codes, best first; of the nearest lists, unless these have too few."""
        stay_on_this_thread()
        count = min(count, len(self)) or 1
        scale = _LARGEST / max(float(np.abs(vector).max()), _TINY)
        asked = _rounded(vector[np.newaxis], scale)
        scores, ids = self._index.search(asked, count)
        if ids[0, -1] < 0 and len(self):
            everywhere = faiss.SearchParametersIVF()
            everywhere.nprobe = len(self.centres)
            scores, ids = self._index.search(asked, count, params=everywhere)
        return [
            Candidate(entry_id, score / (self.scale * scale))
            for entry_id, score in zip(ids[0].tolist(), scores[0].tolist(), strict=True)
            if entry_id >= 0  # FAISS pads with -1
        ]

    def ids(self) -> NDArray[np.int64]:
        """In no order."""
        return self._lists.ids()

    def __len__(self) -> int:
        return len(self._lists)

    @property
    def memory_bytes(self) -> int:
        """Of the rows and the lists."""
        of_lists = len(self.centres) * (2 * self._dimension + _LIST_BYTES)
        return of_lists + self.held_count * (self._dimension + 8) + self._lists.memory_bytes

    def begin(self) -> Place:
        """Where reading begins."""
        return Place()

    def read(self, place: Place) -> Codes | None:
        """Rows of the next lists, each list at one moment; the place moves on. None when there are no more."""
        found: list[Codes] = []
        count = 0
        while place.position < len(self.centres) and count < READ_COUNT:
            rows = self._list(place.position)
            place.position += 1
            if rows is not None:
                found.append(rows)
                count += len(rows.ids)
        if not found:
            return None
        return Codes(np.concatenate([one.ids for one in found]), np.concatenate([one.codes for one in found]))

    def _list(self, number: int) -> Codes | None:
        held = self._index.invlists
        size = held.list_size(number)
        if not size:
            return None
        prefix = np.frombuffer(number.to_bytes(self._prefix_bytes, "little"), np.uint8)
        codes = faiss.rev_swig_ptr(held.get_codes(number), size * self._dimension).reshape(size, -1)
        return Codes(
            faiss.rev_swig_ptr(held.get_ids(number), size).copy(),
            np.hstack([np.broadcast_to(prefix, (size, self._prefix_bytes)), codes]),
        )

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The vectors, as near as they are kept."""
        values: NDArray[np.float32] = codes[:, self._prefix_bytes :].astype(np.float32)
        return (values - 128) / np.float32(self.scale)


def encoded(vectors: NDArray[np.float32], scale: float) -> NDArray[np.uint8]:
    """Values as bytes around 128; those beyond what a byte holds are cut off."""
    return _bytes(_rounded(vectors, scale))


def _rounded(vectors: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    rounded: NDArray[np.float32] = np.clip(np.rint(vectors * np.float32(scale)), -_LARGEST, _LARGEST)
    return rounded


def _bytes(rounded: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (rounded + 128).astype(np.uint8)
