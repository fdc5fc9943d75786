"""One scope's vectors in FAISS: every vector is compared, in half precision, under our own ids.

Half precision halves the memory, and the time of a search, which is that of reading it; scores are
off by at most 0.0001 (measured: 0.00006). FAISS searches may run together, but one thread adding
while another searches crashes the process (measured), so searches share a lock and changes take it
alone. FAISS keeps the memory of removed rows, so an index that lost half of its rows is copied.
Vectors have unit norm, so inner product is cosine.
"""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from cachesvc.core.types import Candidate, Vector

# One thread per search: as many searches run at once as there are callers.
faiss.omp_set_num_threads(1)

_ID_BYTES = 8 + 64  # FAISS's and, as a Python set's member, ours
_OVERHEAD_BYTES = 4096  # of an empty index and its Python objects, measured
_PIECE_COUNT = 2048  # rows of a dump that are copied under the lock at once: some 2 ms
_PIECE_HEAD = struct.Struct("<4sII")  # kind, dimension, rows; then ids, then float16s
_PIECE_KIND = b"fp16"
_COMPACT_MIN_COUNT = 1024  # below, there is less than a megabyte to win


class FaissIndex:
    """``VectorIndex`` on ``IndexIDMap(IndexScalarQuantizer(fp16))``."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        flat = faiss.IndexScalarQuantizer(
            dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        self._index: faiss.Index = faiss.IndexIDMap(flat)
        self._ids: set[int] = set()
        self._held_count = 0  # rows there is memory for: the most there were since the last copy
        self._removed_count = 0  # ever
        self._lock = SharedLock()

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See ``VectorIndex.add``."""
        with self._lock.alone():
            self._drop(ids)
            self._index.add_with_ids(vectors, ids)
            self._note_added(ids)

    def _note_added(self, ids: NDArray[np.int64]) -> None:
        self._ids.update(ids.tolist())
        self._held_count = max(self._held_count, len(self._ids))

    def remove(self, ids: NDArray[np.int64]) -> None:
        """See ``VectorIndex.remove``."""
        with self._lock.alone():
            self._drop(ids)

    def _drop(self, ids: NDArray[np.int64]) -> None:
        known = self._ids.intersection(ids.tolist())
        if known:  # each removal scans the index
            selector = faiss.IDSelectorBatch(np.fromiter(known, dtype=np.int64))
            self._index.remove_ids(selector)
            self._ids -= known
            self._removed_count += len(known)
            if self._held_count >= _COMPACT_MIN_COUNT and len(self._ids) < self._held_count // 2:
                self._index = faiss.clone_index(self._index)
                self._ids = set(self._ids)
                self._held_count = len(self._ids)

    def search(self, vector: Vector, count: int) -> list[Candidate]:
        """See ``VectorIndex.search``."""
        with self._lock.shared():
            scores, ids = self._index.search(vector[np.newaxis, :], count)
        return [
            Candidate(entry_id, min(score, 1.0))  # rounding can take it a little over
            for entry_id, score in zip(ids[0].tolist(), scores[0].tolist(), strict=True)
            if entry_id >= 0  # FAISS pads with -1
        ]

    def dump(self) -> Iterator[bytes]:
        """See ``VectorIndex.dump``.

        Removals move later rows up and keep their order, and new ones come last: the next row to take is at
        most as far up as rows were removed meanwhile. Some are taken twice then, and none is missed.
        """
        position, removed = 0, self._removed_count
        while True:
            with self._lock.shared():
                position = max(position - (self._removed_count - removed), 0)
                removed = self._removed_count
                piece = self._piece(position)
            if piece is None:
                return
            position += _PIECE_COUNT
            yield piece

    def _piece(self, position: int) -> bytes | None:
        index: Any = self._index
        end = min(index.ntotal, position + _PIECE_COUNT)
        if position >= end:
            return None
        flat: Any = faiss.downcast_index(index.index)
        ids = faiss.rev_swig_ptr(index.id_map.data(), index.ntotal)[position:end]
        rows = faiss.rev_swig_ptr(flat.codes.data(), index.ntotal * flat.code_size)
        head = _PIECE_HEAD.pack(_PIECE_KIND, self._dimension, end - position)
        return b"".join(
            (head, ids.tobytes(), rows[position * flat.code_size : end * flat.code_size].tobytes())
        )

    def load(self, piece: bytes) -> None:
        """See ``VectorIndex.load``."""
        if len(piece) < _PIECE_HEAD.size:
            raise ValueError("not of a dump")
        kind, dimension, count = _PIECE_HEAD.unpack_from(piece)
        rows_at = _PIECE_HEAD.size + 8 * count
        if (kind, dimension) != (_PIECE_KIND, self._dimension) or len(
            piece
        ) != rows_at + 2 * dimension * count:
            raise ValueError("of another kind of index")
        ids = np.frombuffer(piece, np.int64, count, _PIECE_HEAD.size)
        rows = np.frombuffer(piece, np.uint8, offset=rows_at).reshape(count, 2 * dimension)
        with self._lock.alone():
            self._drop(ids)
            index: Any = self._index
            index.add_sa_codes(rows, ids)
            self._note_added(ids)

    def ids(self) -> frozenset[int]:
        """See ``VectorIndex.ids``."""
        with self._lock.shared():
            return frozenset(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def memory_bytes(self) -> int:
        """See ``VectorIndex.memory_bytes``."""
        return _OVERHEAD_BYTES + self._held_count * row_bytes(self._dimension)


def row_bytes(dimension: int) -> int:
    """Memory of one vector and its id."""
    return dimension * 2 + _ID_BYTES


class SharedLock:
    """Many readers or one writer. A waiting writer goes before new readers, so that it gets its turn."""

    def __init__(self) -> None:
        self._state = threading.Condition(threading.Lock())
        self._readers = 0
        self._writers_waiting = 0
        self._writing = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold it with other readers."""
        with self._state:
            while self._writing or self._writers_waiting:
                self._state.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._state:
                self._readers -= 1
                if not self._readers:
                    self._state.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold it alone."""
        with self._state:
            self._writers_waiting += 1
            while self._writing or self._readers:
                self._state.wait()
            self._writers_waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._state:
                self._writing = False
                self._state.notify_all()
