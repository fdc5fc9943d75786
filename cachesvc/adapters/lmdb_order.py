"""The order of eviction: one for each namespace, and who is first of all.

Called by ``lmdb_write`` inside a write transaction. The order table has a namespace's entries by rank; the firsts
table has each namespace once, under the place of its first entry, so that a round of eviction over all looks
at as many namespaces as it takes entries, and not at all there are. A namespace is moved there once for all that
was done to it: before the firsts are read, and when the transaction ends.
"""

import heapq
from collections.abc import Iterator
from itertools import islice

import lmdb

from cachesvc.adapters.lmdb_schema import PLACE_BYTES, Table, Tables, scan


class Order:
    """The order as one transaction sees it. Places are keys of the order table."""

    def __init__(self, txn: lmdb.Transaction, tables: Tables) -> None:
        self._txn = txn
        self._tables = tables
        self._moved: dict[bytes, bytes | None] = {}  # by namespace that changed: where firsts has it

    def add(self, place: bytes) -> None:
        """An entry came."""
        self._note(namespace_of(place))
        self._txn.put(place, b"", db=self._tables.order)

    def discard(self, place: bytes) -> None:
        """An entry went, or was not there."""
        self._note(namespace_of(place))
        self._txn.delete(place, db=self._tables.order)

    def drop(self, place: bytes) -> None:
        """As ``discard``, of a place that may be damaged: whatever names it goes."""
        self.discard(place)
        self._txn.delete(first_key(place), db=self._tables.firsts)

    def write(self) -> None:
        """Put what changed into the firsts."""
        for namespace, before in self._moved.items():
            after = self._first(namespace)
            if after != before:
                self._put_first(before, after)
        self._moved.clear()

    def _note(self, namespace: bytes) -> None:
        if namespace not in self._moved:
            self._moved[namespace] = self._first(namespace)

    def of(self, namespace: bytes) -> Iterator[bytes]:
        """The places of a namespace."""
        prefix = namespace + b"\0"
        for place, _ in scan(self._txn, self._tables.order, prefix):
            if not place.startswith(prefix):
                return
            yield place

    def least(self, limit: int) -> list[bytes]:
        """The first places of all. Where the firsts do not give them, they are damaged: then by reading everything."""
        self.write()
        found = list(islice(self._merged(_places_of(self._txn, self._tables.firsts)), limit))
        if len(found) < limit and len(found) < self._txn.stat(self._tables.order)["entries"]:
            self._mend()
            found = list(islice(self._merged(_places_of(self._txn, self._tables.firsts)), limit))
        return found

    def _merged(self, firsts: Iterator[bytes]) -> Iterator[bytes]:
        """Places by rank, whatever their namespace. ``firsts`` are ordered, too, and are looked at one ahead."""
        heap: list[tuple[bytes, bytes]] = []
        ahead = next(firsts, None)
        while heap or ahead is not None:
            if ahead is not None and (not heap or _rank(ahead) <= heap[0][0]):
                place, ahead = ahead, next(firsts, None)
            else:
                _, place = heapq.heappop(heap)
            following = self._after(place)
            if following is not None:
                heapq.heappush(heap, (_rank(following), following))
            yield place

    def _after(self, place: bytes) -> bytes | None:
        return self._from(place + b"\0", namespace_of(place))

    def _first(self, namespace: bytes) -> bytes | None:
        return self._from(namespace + b"\0", namespace)

    def _from(self, start: bytes, namespace: bytes) -> bytes | None:
        with self._txn.cursor(db=self._tables.order) as cursor:
            place = bytes(cursor.key()) if cursor.set_range(start) else b""
        return place if place.startswith(namespace + b"\0") else None

    def _put_first(self, before: bytes | None, after: bytes | None) -> None:
        if before is not None:
            self._txn.delete(first_key(before), db=self._tables.firsts)
        if after is not None:
            self._txn.put(first_key(after), b"", db=self._tables.firsts)

    def _mend(self) -> None:
        """Slow and rare."""
        self._txn.drop(self._tables.firsts, delete=False)
        for namespace in list(self._tables.namespaces(self._txn, self._tables.order)):
            self._put_first(None, self._first(namespace))


def namespace_of(place: bytes) -> bytes:
    """Whose it is."""
    return place[: -PLACE_BYTES - 1]


def first_key(place: bytes) -> bytes:
    """The key of the firsts table for a namespace whose first place this is."""
    return _rank(place) + namespace_of(place)


def _rank(place: bytes) -> bytes:
    """Rank, last use and id: what places are ordered by."""
    return place[-PLACE_BYTES:]


def _places_of(txn: lmdb.Transaction, firsts: Table) -> Iterator[bytes]:
    for key, _ in scan(txn, firsts):
        yield key[PLACE_BYTES:] + b"\0" + key[:PLACE_BYTES]
