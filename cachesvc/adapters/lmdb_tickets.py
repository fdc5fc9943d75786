"""Lookups that several processes remember together: an LMDB environment of its own, never synced and of no use later.

Called by the engine through ``TicketBook`` where a Store may come to another process than its Lookup did. What is
kept is unreadable without a key that only those processes have, in memory: a policy may say that prompts are not kept,
and this is a file. The supervisor removes it before it starts them. A ticket that cannot be kept or read is forgotten.
"""

import hashlib
import shutil
import struct
import threading
from contextlib import suppress
from pathlib import Path

import lmdb
import msgspec
import numpy as np

from cachesvc.core.ports import Clock
from cachesvc.core.tickets import Ticket, TicketBounds
from cachesvc.core.trust.labels import Origin
from cachesvc.core.types import Candidate, Identity, Unseen, Vector

KEY_BYTES = 32
_MAC_BYTES = 16
_MAX_ID_BYTES = 128
_MAX_READERS = 4096
_PLACE = struct.Struct(">dQ")  # until when it is good, its size; then its id
_SIZE = b"size_bytes"
# Small tickets share pages, others take whole ones; a transaction copies a few before it frees any.
_PAGES_FACTOR = 3
_ROOM_BYTES = 16 << 20


class _Record(msgspec.Struct, array_like=True, frozen=True):
    namespace: str
    model: str
    context: bytes
    scope: bytes
    exact_key: bytes
    text: str
    vary: dict[str, str]
    vector: bytes | None
    unseen: str | None
    epoch: int
    until_s: float
    candidates: list[tuple[int, float]]
    served: int | None
    origin: str | None
    share: float
    rule_version: int
    audit: bool


def wipe(directory: Path) -> None:
    """Remove what an earlier server left. Nobody may have it open."""
    shutil.rmtree(directory, ignore_errors=True)


class LmdbTickets:
    """``TicketBook`` that processes with one ``key`` share; the bounds are of all of them together."""

    def __init__(self, directory: Path, key: bytes, clock: Clock, bounds: TicketBounds) -> None:
        self._key = key
        self._clock = clock
        self._bounds = bounds
        self._lock = threading.Lock()  # one thread of a process at a time waits for the others' transactions
        directory.mkdir(mode=0o700, exist_ok=True)
        self._env = lmdb.open(
            str(directory),
            map_size=_PAGES_FACTOR * bounds.max_bytes + _ROOM_BYTES,
            max_dbs=3,
            max_readers=_MAX_READERS,
            mode=0o600,
            sync=False,  # a kill loses nothing of it, and after a power cut it is removed
            metasync=False,
            max_spare_txns=8,
        )
        self._tickets = self._env.open_db(b"tickets")  # id → digest, ticket
        self._order = self._env.open_db(b"order")  # number, from 1 → place, id
        self._meta = self._env.open_db(b"meta")

    def keep(self, lookup_id: str, ticket: Ticket) -> None:
        """See ``TicketBook.keep``."""
        now_s = self._clock.monotonic_s()
        until_s = now_s + self._bounds.ttl_s
        sealed = self._sealed(lookup_id.encode(), _record(ticket, until_s))
        place = _PLACE.pack(until_s, ticket.size_bytes) + lookup_id.encode()
        with self._lock, suppress(lmdb.Error):  # no room on the disk
            try:
                self._put(lookup_id.encode(), sealed, place, now_s)
            except lmdb.MapFullError:  # its pages hold less than reckoned
                self._begin_anew()

    def find(self, lookup_id: str) -> Ticket | None:
        """See ``TicketBook.find``."""
        name = lookup_id.encode()
        if not 0 < len(name) <= _MAX_ID_BYTES:
            return None
        try:
            with self._env.begin(db=self._tickets) as txn:
                sealed = txn.get(name)
        except lmdb.Error:
            return None
        record = None if sealed is None else self._opened(name, sealed)
        if record is None or record.until_s < self._clock.monotonic_s():
            return None
        return _ticket(record)

    def close(self) -> None:
        """Let go of it."""
        self._env.close()

    def _begin_anew(self) -> None:
        with self._env.begin(write=True) as txn:
            for table in (self._tickets, self._order, self._meta):
                txn.drop(table, delete=False)

    def _put(self, name: bytes, sealed: bytes, place: bytes, now_s: float) -> None:
        with self._env.begin(write=True) as txn, txn.cursor(db=self._order) as order:
            last = int.from_bytes(order.key(), "big") if order.last() else 0
            size_bytes = int.from_bytes(txn.get(_SIZE, db=self._meta) or b"", "big")
            txn.put(name, sealed, db=self._tickets)
            txn.put((last + 1).to_bytes(8, "big"), place, db=self._order)
            size_bytes += _PLACE.unpack_from(place)[1]
            while order.first() and self._is_over(txn, order.value(), size_bytes, now_s):
                oldest = order.value()
                txn.delete(oldest[_PLACE.size :], db=self._tickets)
                size_bytes -= _PLACE.unpack_from(oldest)[1]
                order.delete()
            txn.put(_SIZE, size_bytes.to_bytes(8, "big"), db=self._meta)

    def _is_over(self, txn: lmdb.Transaction, oldest: bytes, size_bytes: int, now_s: float) -> bool:
        too_many = txn.stat(self._order)["entries"] > self._bounds.max_count
        return too_many or size_bytes > self._bounds.max_bytes or _PLACE.unpack_from(oldest)[0] < now_s

    def _sealed(self, name: bytes, record: _Record) -> bytes:
        hidden = self._crypt(name, msgspec.msgpack.encode(record))
        return self._mac(name, hidden) + hidden

    def _opened(self, name: bytes, sealed: bytes) -> _Record | None:
        mac, hidden = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if self._mac(name, hidden) != mac:
            return None
        return msgspec.msgpack.decode(self._crypt(name, hidden), type=_Record)

    def _crypt(self, name: bytes, text: bytes) -> bytes:
        """To and fro: with a stream that SHAKE256 makes of the key and the id, which is used once."""
        stream = hashlib.shake_256(self._key + name).digest(len(text))
        return (int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(text), "big")

    def _mac(self, name: bytes, hidden: bytes) -> bytes:
        return hashlib.blake2b(name + b"\0" + hidden, digest_size=_MAC_BYTES, key=self._key).digest()


def _record(ticket: Ticket, until_s: float) -> _Record:
    identity, embedded = ticket.identity, ticket.embedded
    unseen = embedded.name if isinstance(embedded, Unseen) else None
    vector = None if embedded is None or isinstance(embedded, Unseen) else embedded.tobytes()
    return _Record(
        namespace=identity.namespace,
        model=identity.model,
        context=identity.context,
        scope=identity.scope,
        exact_key=identity.exact_key,
        text=identity.text,
        vary=dict(ticket.vary),
        vector=vector,
        unseen=unseen,
        epoch=ticket.epoch,
        until_s=until_s,
        candidates=[(candidate.entry_id, candidate.score) for candidate in ticket.candidates],
        served=ticket.served,
        origin=None if ticket.origin is None else ticket.origin.name,
        share=ticket.share,
        rule_version=ticket.rule_version,
        audit=ticket.audit,
    )


def _ticket(record: _Record) -> Ticket:
    return Ticket(
        identity=Identity(
            record.namespace, record.model, record.context, record.scope, record.exact_key, record.text
        ),
        vary=record.vary,
        embedded=_embedded(record),
        epoch=record.epoch,
        candidates=tuple(Candidate(entry_id, score) for entry_id, score in record.candidates),
        served=record.served,
        origin=None if record.origin is None else Origin[record.origin],
        share=record.share,
        rule_version=record.rule_version,
        audit=record.audit,
    )


def _embedded(record: _Record) -> Vector | Unseen | None:
    if record.unseen is not None:
        return Unseen[record.unseen]
    return None if record.vector is None else np.frombuffer(record.vector, np.float32)
