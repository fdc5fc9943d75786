"""Labels in the store of trust: by namespace in the order of their telling, one of a key, the oldest first to go.

Called by ``lmdb_trust`` only, within its transactions; what is damaged is passed over.
"""

import struct
from collections.abc import Mapping, Sequence

import lmdb

from cachesvc.adapters.lmdb_records import Sealer
from cachesvc.adapters.lmdb_schema import Table, get, integer, key_of, scan, size_bytes
from cachesvc.adapters.lmdb_trust_records import LabelRecord, label_of, record_of
from cachesvc.core.trust.labels import Label, Origin

LABEL_TABLES = ("labels", "label_keys", "counts", "origins")

_ORIGINS = struct.Struct(f">{len(Origin)}Q")  # labels of each, in order; new origins come last
_TRIM_COUNT = 512  # that go at once where there are too many bytes


class LmdbLabels:
    """Tables of an environment. How many there are is kept of each namespace of which anything is known, labels or not."""

    def __init__(self, sealer: Sealer, tables: Sequence[Table]) -> None:
        """``tables`` are those of ``LABEL_TABLES``."""
        self._sealer = sealer
        self._labels, self._keys, self._counts, self._origins = tables
        self._tables = tuple(tables)

    def add(self, txn: lmdb.Transaction, name: bytes, sequence: int, label: Label) -> bool:
        """Keep one of a namespace, unless there is one of its key that does not give way."""
        known = get(txn, self._keys, name + b"\0" + label.key)
        if known is not None and not self._gives_way(txn, name + b"\0" + known, label):
            return False
        place = name + b"\0" + key_of(sequence)
        txn.put(place, self._sealer.seal(record_of(label), place), db=self._labels)
        txn.put(name + b"\0" + label.key, key_of(sequence), db=self._keys)
        self._count_origin(txn, name, label.origin.name, 1)
        txn.put(name, key_of(self._count(txn, name) + (known is None)), db=self._counts)
        return True

    def name(self, txn: lmdb.Transaction, name: bytes) -> None:
        """Something is known of a namespace."""
        txn.put(name, key_of(self._count(txn, name)), db=self._counts)

    def keep_bound(self, txn: lmdb.Transaction, name: bytes, most: int) -> None:
        """The oldest of a namespace that has more go."""
        count = self._count(txn, name)
        dropped = self._drop_oldest(txn, name, max(count - most, 0))
        txn.put(name, key_of(count - dropped), db=self._counts)

    def page(self, txn: lmdb.Transaction, name: bytes, after: int, limit: int) -> list[tuple[int, Label]]:
        """Those with later sequences, in order."""
        prefix = name + b"\0"
        found: list[tuple[int, Label]] = []
        for place, sealed in scan(txn, self._labels, prefix + key_of(after + 1)):
            if not place.startswith(prefix) or len(found) == limit:
                break
            record = self._sealer.open_whole(LabelRecord, place, sealed)
            label = None if record is None else label_of(record)
            if label is not None:
                found.append((integer(place[len(prefix) :]), label))
        return found

    def by_origin(self, txn: lmdb.Transaction, name: bytes) -> Mapping[Origin, int]:
        """How many there are; none of which there are none."""
        counts = self._origins_of(txn, name)
        return {origin: count for origin, count in zip(Origin, counts, strict=True) if count}

    def counts(self, txn: lmdb.Transaction) -> list[tuple[bytes, int]]:
        """Namespaces in order, and how many each has."""
        return [(name, integer(count)) for name, count in scan(txn, self._counts)]

    def namespace_count(self, txn: lmdb.Transaction) -> int:
        """How many namespaces there are. Cheap."""
        return int(txn.stat(self._counts)["entries"])

    def size_bytes(self, txn: lmdb.Transaction) -> int:
        """What they take."""
        return size_bytes(txn, self._tables)

    def trim(self, txn: lmdb.Transaction) -> bool:
        """Some of the oldest go, of the namespace that has most. Whether there were any."""
        name, count = max(self.counts(txn), key=lambda held: held[1], default=(b"", 0))
        if count:
            self.keep_bound(txn, name, max(count - _TRIM_COUNT, 0))
        return bool(count)

    def forget(self, txn: lmdb.Transaction, name: bytes) -> None:
        """All of a namespace."""
        self._drop_oldest(txn, name, self._count(txn, name))
        for table in (self._counts, self._origins):
            txn.delete(name, db=table)

    def _gives_way(self, txn: lmdb.Transaction, place: bytes, label: Label) -> bool:
        """Whether what is kept there went: it does where it has no verdict, and this one has."""
        record = self._sealer.open_whole(LabelRecord, place, get(txn, self._labels, place))
        kept = None if record is None else label_of(record)
        if kept is None or kept.verdict is not None or label.verdict is None:
            return False
        txn.delete(place, db=self._labels)
        self._count_origin(txn, place[: place.index(b"\0")], kept.origin.name, -1)
        return True

    def _drop_oldest(self, txn: lmdb.Transaction, name: bytes, count: int) -> int:
        """How many there were to drop."""
        prefix = name + b"\0"
        dropped = 0
        with txn.cursor(db=self._labels) as cursor:
            found = cursor.set_range(prefix)
            while found and dropped < count and bytes(cursor.key()).startswith(prefix):
                record = self._sealer.open_whole(LabelRecord, bytes(cursor.key()), bytes(cursor.value()))
                if record is not None:  # else its key stays, and costs a few bytes
                    txn.delete(prefix + record.key, db=self._keys)
                    self._count_origin(txn, name, record.origin, -1)
                found = cursor.delete()
                dropped += 1
        return dropped

    def _count(self, txn: lmdb.Transaction, name: bytes) -> int:
        return integer(get(txn, self._counts, name) or b"")

    def _origins_of(self, txn: lmdb.Transaction, name: bytes) -> list[int]:
        held = get(txn, self._origins, name) or b""
        return list(_ORIGINS.unpack(held.ljust(_ORIGINS.size, b"\0")[: _ORIGINS.size]))

    def _count_origin(self, txn: lmdb.Transaction, name: bytes, origin: str, by: int) -> None:
        counts = self._origins_of(txn, name)
        places = {one.name: place for place, one in enumerate(Origin)}
        if origin in places:
            counts[places[origin]] = max(counts[places[origin]] + by, 0)
        txn.put(name, _ORIGINS.pack(*counts), db=self._origins)
