"""Rows as an index keeps them, on their way into another one or into a snapshot. Called by the indexes on FAISS."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

READ_COUNT = 2048  # rows that are copied under a lock at once: some 2 ms
_HEAD = struct.Struct("<4sIII")  # kind, dimension, rows, bytes of a code; then ids, then codes


@dataclass(frozen=True, slots=True)
class Codes:
    """Ids (n,) and what is kept of their vectors (n, bytes)."""

    ids: NDArray[np.int64]
    codes: NDArray[np.uint8]


class Place:
    """How far the reading of all rows has come."""

    def __init__(self, removed_count: int = 0) -> None:
        self.position = 0
        self.removed_count = removed_count


def packed(kind: bytes, dimension: int, rows: Codes) -> bytes:
    """A piece of a dump."""
    head = _HEAD.pack(kind, dimension, len(rows.ids), rows.codes.shape[1])
    return b"".join((head, rows.ids.tobytes(), rows.codes.tobytes()))


def kind_of(piece: bytes) -> bytes:
    """What kind of piece it is, if it is one."""
    return piece[:4]


def unpacked(piece: bytes, dimension: int, code_bytes: int | None) -> Codes:
    """The rows of a piece. Raises ValueError when it is none, or of another shape than expected (None: any)."""
    if len(piece) < _HEAD.size:
        raise ValueError("not of a dump")
    _, its_dimension, count, size = _HEAD.unpack_from(piece)
    codes_at = _HEAD.size + 8 * count
    if its_dimension != dimension or size != (code_bytes or size) or len(piece) != codes_at + size * count:
        raise ValueError("of another kind of index")
    ids = np.frombuffer(piece, np.int64, count, _HEAD.size)
    return Codes(ids, np.frombuffer(piece, np.uint8, offset=codes_at).reshape(count, size))
