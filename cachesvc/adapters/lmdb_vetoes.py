"""Vetoed reuses in the store of trust: by scope in the order of their telling, once each, the oldest first to go.

Called by ``lmdb_trust`` only, within its transactions; what is damaged is passed over.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import lmdb
import numpy as np

from cachesvc.adapters.lmdb_records import Sealer
from cachesvc.adapters.lmdb_schema import Table, get, integer, key_of, scan, size_bytes
from cachesvc.adapters.lmdb_trust_records import VetoRecord
from cachesvc.core.trust.labels import VetoPair

VETO_TABLES = ("vetoes", "veto_keys", "veto_counts", "veto_order")

_TRIM_COUNT = 64  # that go at once where there are too many bytes
_BEYOND = b"\xff" * 8  # behind every sequence


class LmdbVetoes:
    """Tables of an environment. A place is a scope and a sequence, which grows with every change of the store."""

    def __init__(self, sealer: Sealer, tables: Sequence[Table]) -> None:
        """``tables`` are those of ``VETO_TABLES``."""
        self._sealer = sealer
        self._vetoes, self._keys, self._counts, self._order = tables

    def add(self, txn: lmdb.Transaction, sequence: int, name: bytes, veto: VetoPair, since_ms: int) -> bool:
        """Keep one of a namespace, unless it was told since then. What was told before goes, to be told anew."""
        if self._is_told(txn, veto, since_ms):
            return False
        place = veto.scope + key_of(sequence)
        record = VetoRecord(
            veto.ours_key,
            veto.theirs_key,
            self._sealer.pack_vector(veto.ours),
            self._sealer.pack_vector(veto.theirs),
            veto.at_ms,
        )
        txn.put(place, self._sealer.seal(record, place), db=self._vetoes)
        txn.put(veto.scope + veto.theirs_key + veto.ours_key, key_of(sequence), db=self._keys)
        txn.put(key_of(sequence), veto.scope, db=self._order)
        txn.put(name, key_of(self.count(txn, name) + 1), db=self._counts)
        return True

    def of_scope(self, txn: lmdb.Transaction, scope: bytes, after: int) -> list[VetoPair]:
        """Those with later sequences, in order."""
        found = []
        for place, sealed in self._placed(txn, scope, after):
            record = self._sealer.open_whole(VetoRecord, place, sealed)
            if record is not None:
                ours, theirs = (
                    np.frombuffer(half, "<f2").astype(np.float32) for half in (record.ours, record.theirs)
                )
                found.append(VetoPair(scope, record.ours_key, record.theirs_key, ours, theirs, record.at_ms))
        return found

    def last(self, txn: lmdb.Transaction, scope: bytes) -> int:
        """The sequence of a scope's last, or 0."""
        with txn.cursor(db=self._vetoes) as cursor:
            found = cursor.prev() if cursor.set_range(scope + _BEYOND) else cursor.last()
            place = bytes(cursor.key()) if found else b""
        return integer(place[len(scope) :]) if place.startswith(scope) else 0

    def count(self, txn: lmdb.Transaction, name: bytes) -> int:
        """How many were kept of a namespace, with those that went."""
        return integer(get(txn, self._counts, name) or b"")

    def keep_bound(self, txn: lmdb.Transaction, scope: bytes, most: int) -> None:
        """The oldest of a scope that has more go."""
        held = [place for place, _ in self._placed(txn, scope, 0)]
        for place in held[: max(len(held) - most, 0)]:
            self._drop(txn, place)

    def size_bytes(self, txn: lmdb.Transaction) -> int:
        """What they take."""
        return size_bytes(txn, (self._vetoes, self._keys, self._order))

    def drop_oldest(self, txn: lmdb.Transaction) -> None:
        """Some of them, of whatever scope."""
        for sequence, scope in list(islice(scan(txn, self._order), _TRIM_COUNT)):
            self._drop(txn, scope + sequence)

    def forget(self, txn: lmdb.Transaction, name: bytes) -> None:
        """The count of a namespace. They are by scope, and stay: they refuse and never serve."""
        txn.delete(name, db=self._counts)

    def _is_told(self, txn: lmdb.Transaction, veto: VetoPair, since_ms: int) -> bool:
        sequence = get(txn, self._keys, veto.scope + veto.theirs_key + veto.ours_key)
        if sequence is None:
            return False
        place = veto.scope + sequence
        record = self._at(txn, place)
        if record is not None and record.at_ms >= since_ms:
            return True
        self._drop(txn, place)
        return False

    def _drop(self, txn: lmdb.Transaction, place: bytes) -> None:
        scope, sequence = place[: -len(_BEYOND)], place[-len(_BEYOND) :]
        record = self._at(txn, place)
        if record is not None:  # else its key stays, and costs a few bytes
            txn.delete(scope + record.theirs_key + record.ours_key, db=self._keys)
        txn.delete(place, db=self._vetoes)
        txn.delete(sequence, db=self._order)

    def _placed(self, txn: lmdb.Transaction, scope: bytes, after: int) -> Iterator[tuple[bytes, bytes]]:
        for place, sealed in scan(txn, self._vetoes, scope + key_of(after + 1)):
            if not place.startswith(scope):
                return
            yield place, sealed

    def _at(self, txn: lmdb.Transaction, place: bytes) -> VetoRecord | None:
        return self._sealer.open_whole(VetoRecord, place, get(txn, self._vetoes, place))
