"""One scope's vectors in FAISS, under our own ids: few are all compared, many lie in the lists of an inverted file.

An index that has outgrown its layout, or shrunk far below it, says so and is moved to another one by whoever calls
``settle``, step by step: the new rows are made beside the old, which are searched and changed until the last is there,
and changes go to both. FAISS searches may run together, but one thread adding while another searches crashes the process
(measured), so searches share a lock and changes take it alone, a few rows at a time. Vectors have unit norm, so
inner product is cosine.
"""

import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cachesvc.adapters.faiss_codes import Codes, kind_of, packed, unpacked
from cachesvc.adapters.faiss_flat import FlatRows, row_bytes
from cachesvc.adapters.faiss_ivf import IvfRows, encoded
from cachesvc.adapters.kmeans import centres_of
from cachesvc.adapters.shared_lock import SharedLock
from cachesvc.core.types import Candidate, Vector

__all__ = ["FaissIndex", "Growing", "row_bytes"]

_OVERHEAD_BYTES = 4096  # of an empty index and its Python objects, measured
_COPY_COUNT = 64  # rows that are moved in a step
_MORE_CANDIDATES = 8  # that may be ranked anew, for the order by codes is nearly right
_CODE_ERROR = 0.005  # of a score by codes, at most (measured: 0.0038 in 200,000)
_GROWTH = 4  # lists are laid out anew when rows are this many times more than they were for
_FLAT_SHARE = 4  # and are given up when rows are this many times fewer than lists begin at
_LISTS_FACTOR = 2.8  # lists for the square root of the rows: some more than is best, for they will grow
_FEWEST_LISTS = 2  # that rows can be in
_MIN_LISTS, _MAX_LISTS = 16, 65_536
_SAMPLE_PER_LIST = 40  # rows that centres are found from
_HEADROOM = 1.1  # of the scale, for values larger than the sample's
_IVF_HEAD = struct.Struct("<4sIIQd")  # kind, dimension, lists, rows laid out for, scale; then centres
_IVF_HEAD_KIND = b"ivfh"

Rows: TypeAlias = FlatRows | IvfRows
Fetch: TypeAlias = Callable[[Sequence[int]], Sequence[Vector | None]]
"""The stored vectors of ids, None for one that is gone."""


@dataclass(frozen=True, slots=True)
class Growing:
    """From how many rows on an index has lists, and where it takes the vectors from that it then ranks by."""

    fetch: Fetch
    lists_min_count: int


class FaissIndex:
    """``VectorIndex``: flat in half precision, then ``IndexIVFScalarQuantizer`` with ranking by the stored vectors."""

    def __init__(self, dimension: int, growing: Growing | None = None) -> None:
        """Flat at any size without ``growing``."""
        self._dimension = dimension
        self._growing = growing
        self._rows: Rows = FlatRows(dimension)
        self._next: Rows | None = None  # being made, and changed beside
        self._removed: set[int] = set()  # since rows were last read for it
        self._lock = SharedLock()

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See ``VectorIndex.add``."""
        step = self._step_count()
        for first in range(0, len(ids), step):
            self._add(ids[first : first + step], vectors[first : first + step])

    def _step_count(self) -> int:
        """Rows that are changed before searches get their turn."""
        return min(rows.change_count for rows in self._layouts())

    def _add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        prepared: dict[Rows, NDArray[np.uint8]] = {}
        while True:
            for rows in self._layouts():  # the lists of new rows are looked for beside searches
                if rows not in prepared:
                    prepared[rows] = rows.prepare(vectors)
            with self._lock.alone():
                layouts = self._layouts()
                if all(rows in prepared for rows in layouts):
                    for rows in layouts:
                        _replace(rows, ids, prepared[rows])
                    return

    def _layouts(self) -> list[Rows]:
        following = self._next
        return [self._rows] if following is None else [self._rows, following]

    def remove(self, ids: NDArray[np.int64]) -> None:
        """See ``VectorIndex.remove``."""
        step = self._step_count()
        for first in range(0, len(ids), step):
            some = np.unique(ids[first : first + step])
            with self._lock.alone():
                for rows in self._layouts():
                    _drop(rows, some)
                if self._next is not None:
                    self._removed.update(some.tolist())

    def search(self, vector: Vector, count: int) -> list[Candidate]:
        """See ``VectorIndex.search``."""
        with self._lock.shared():
            rows = self._rows
            found = rows.search(vector, count if rows.is_exact else count + _MORE_CANDIDATES)
        if not rows.is_exact:
            found = self._ranked(_worth_ranking(found, count), vector)[:count]
        # Rounding can take a score a little over one. One that is no number stays that, and is near to nothing.
        return [Candidate(one.entry_id, 1.0) if one.score > 1.0 else one for one in found]

    def _ranked(self, found: list[Candidate], vector: Vector) -> list[Candidate]:
        """By the stored vectors. One that is gone keeps its place: whoever reads its row will find that."""
        assert self._growing is not None
        stored = self._growing.fetch([one.entry_id for one in found])
        exact = [
            one if row is None else Candidate(one.entry_id, float(row @ vector))
            for one, row in zip(found, stored, strict=True)
        ]
        return sorted(exact, key=lambda one: -one.score)

    @property
    def is_settled(self) -> bool:
        """See ``VectorIndex.is_settled``."""
        return self._growing is None or _fits(self._rows, self._growing.lists_min_count)

    def settle(self) -> Generator[None, None, None]:
        """See ``VectorIndex.settle``."""
        if self._growing is None or self.is_settled:
            return
        try:
            if _wants_lists(self._rows, self._growing.lists_min_count):
                following: Rows = yield from self._laid_out()
            else:
                following = FlatRows(self._dimension)
            with self._lock.alone():
                self._next = following
            yield from self._fill(following)
            with self._lock.alone():
                self._rows, self._next = following, None
        finally:
            with self._lock.alone():
                self._next = None
                self._removed.clear()

    def _laid_out(self) -> Generator[None, None, IvfRows]:
        """Lists for the rows there are, empty.

        Equal rows count as one: a row that is there a thousand times would have many centres in one place, and a search
        near it would read all of those and no other.
        """
        count = len(self)
        lists = min(max(int(_LISTS_FACTOR * count**0.5), _MIN_LISTS), _MAX_LISTS)
        sample, largest = [np.zeros((_FEWEST_LISTS, self._dimension), np.float16)], 1e-3
        stride = max(count // (lists * _SAMPLE_PER_LIST), 1)
        rows, seen = self._rows, set[int]()
        for codes in self._read_all(rows):
            some = rows.decode(_unseen(codes.codes[::stride], seen))
            sample.append(some.astype(np.float16))
            largest = max(largest, float(np.abs(some).max(initial=0)))
            yield
        distinct = np.concatenate(sample)[_FEWEST_LISTS if len(seen) >= _FEWEST_LISTS else 0 :]
        centres = yield from centres_of(distinct, min(lists, len(distinct)))
        scale = 127 / (_HEADROOM * largest)
        return IvfRows(encoded(centres, scale), scale, count)

    def _read_all(self, rows: Rows) -> Iterator[Codes]:
        place = rows.begin()
        while True:
            with self._lock.shared():
                codes = rows.read(place)
                self._removed = set()
            if codes is None:
                return
            yield codes

    def _fill(self, following: Rows) -> Iterator[None]:
        """Copy every row that stays; those that come meanwhile are there already."""
        rows = self._rows
        for codes in self._read_all(rows):
            for first in range(0, len(codes.ids), _COPY_COUNT):
                some = slice(first, first + _COPY_COUNT)
                self._copy(rows, following, Codes(codes.ids[some], codes.codes[some]))
                yield

    def _copy(self, rows: Rows, following: Rows, codes: Codes) -> None:
        ids, vectors = codes.ids, rows.decode(codes.codes)
        if following.is_exact and not rows.is_exact:
            ids, vectors = self._fetched(ids)
        prepared = following.prepare(vectors)
        with self._lock.alone():
            wanted = ~following.has(ids) & np.array([n not in self._removed for n in ids.tolist()], np.bool_)
            following.insert(ids[wanted], prepared[wanted])

    def _fetched(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids that are still stored, with their vectors: codes are not exact enough."""
        assert self._growing is not None
        stored = self._growing.fetch(ids.tolist())
        there = [n for n, row in enumerate(stored) if row is not None]
        vectors = [row for row in stored if row is not None]
        return ids[there], np.stack(vectors) if vectors else np.empty((0, self._dimension), np.float32)

    def dump(self) -> Iterator[bytes]:
        """See ``VectorIndex.dump``. Of the layout that is searched when it begins."""
        rows = self._rows
        if isinstance(rows, IvfRows):
            head = _IVF_HEAD.pack(
                _IVF_HEAD_KIND, self._dimension, len(rows.centres), rows.laid_out_for, rows.scale
            )
            yield head + rows.centres.tobytes()
        place = rows.begin()
        while True:
            with self._lock.shared():
                codes = rows.read(place)
            if codes is None:
                return
            yield packed(rows.kind, self._dimension, codes)

    def load(self, piece: bytes) -> None:
        """See ``VectorIndex.load``."""
        kind = kind_of(piece)
        if kind == _IVF_HEAD_KIND:
            self._begin_lists(piece)
            return
        rows = self._rows
        expected = 2 * self._dimension if isinstance(rows, FlatRows) else rows.code_bytes
        codes = unpacked(piece, self._dimension, expected)
        if kind != rows.kind:
            raise ValueError("of another kind of index")
        if isinstance(rows, IvfRows) and not rows.knows(codes.codes):
            raise ValueError("of another layout")
        with self._lock.alone():
            if self._next is None and self._rows is rows:
                _replace(rows, codes.ids, codes.codes)
                return
        self.add(codes.ids, rows.decode(codes.codes))  # it is being moved

    def _begin_lists(self, piece: bytes) -> None:
        if len(piece) < _IVF_HEAD.size:
            raise ValueError("not of a dump")
        _, dimension, lists, laid_out_for, scale = _IVF_HEAD.unpack_from(piece)
        if dimension != self._dimension or len(piece) != _IVF_HEAD.size + lists * dimension:
            raise ValueError("of another kind of index")
        if self._growing is None or len(self) or self._next is not None or lists < _FEWEST_LISTS:
            raise ValueError("of a larger index")
        centres = np.frombuffer(piece, np.uint8, offset=_IVF_HEAD.size).reshape(lists, dimension)
        self._rows = IvfRows(centres.copy(), scale, laid_out_for)

    def ids(self) -> frozenset[int]:
        """See ``VectorIndex.ids``."""
        with self._lock.shared():
            return frozenset(self._rows.ids().tolist())

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def memory_bytes(self) -> int:
        """See ``VectorIndex.memory_bytes``."""
        return _OVERHEAD_BYTES + sum(rows.memory_bytes for rows in self._layouts())

    @property
    def moving_bytes(self) -> int:
        """See ``VectorIndex.moving_bytes``."""
        following = self._next
        return 0 if following is None else following.memory_bytes


def _unseen(codes: NDArray[np.uint8], seen: set[int]) -> NDArray[np.uint8]:
    """Each row that is not like one before, which are then seen, too."""
    new = []
    for n, row in enumerate(codes):
        known = hash(row.tobytes())  # a row that is left out for another of the same hash is one of very many
        if known not in seen:
            seen.add(known)
            new.append(n)
    return codes[new]


def _worth_ranking(found: list[Candidate], count: int) -> list[Candidate]:
    """The first, and those after them that may be the best of all: each costs a read of the store."""
    least = max((one.score for one in found), default=0.0) - 2 * _CODE_ERROR
    return [one for n, one in enumerate(found) if n < count or one.score >= least]


def _replace(rows: Rows, ids: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
    """Add rows in place of those of the same ids. Of an id that comes twice the last counts."""
    if len(np.unique(ids)) < len(ids):
        last = np.sort(len(ids) - 1 - np.unique(ids[::-1], return_index=True)[1])
        ids, codes = ids[last], codes[last]
    _drop(rows, ids)
    rows.insert(ids, codes)


def _drop(rows: Rows, ids: NDArray[np.int64]) -> None:
    there = ids[rows.has(ids)]
    if len(there):
        rows.remove(there)


def _fits(rows: Rows, lists_min_count: int) -> bool:
    if isinstance(rows, FlatRows):
        return len(rows) < lists_min_count
    is_whole = rows.held_count // 2 <= len(rows)  # FAISS keeps the memory of removed rows
    return is_whole and _wants_lists(rows, lists_min_count) and len(rows) < rows.laid_out_for * _GROWTH


def _wants_lists(rows: Rows, lists_min_count: int) -> bool:
    return len(rows) >= (lists_min_count if isinstance(rows, FlatRows) else lists_min_count // _FLAT_SHARE)
