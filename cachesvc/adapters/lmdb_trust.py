"""Labels, vetoes and the state of trust: an LMDB environment of its own, below the store's directory.

Called by the engine through ``TrustStore``. It is apart from the entries so that neither their damage nor their
writes concern it: where it cannot be opened it begins anew, and the cache goes on by its policy. Several processes
may have it open; LMDB's lock keeps their writes apart. Each embedder has one of its own: labels hold its scores.
"""

import os
import secrets
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from errno import ENOSPC
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import lmdb
import msgspec

from cachesvc.adapters import lmdb_open
from cachesvc.adapters.lmdb_preflight import DAMAGE, is_readable, is_whole
from cachesvc.adapters.lmdb_records import BadRecordError, Sealer
from cachesvc.adapters.lmdb_schema import get, integer, key_of, scan
from cachesvc.adapters.lmdb_trust_records import (
    LabelRecord,
    StateRecord,
    TallyRecord,
    label_of,
    record_of,
)
from cachesvc.adapters.lmdb_vetoes import VETO_TABLES, LmdbVetoes, size_bytes
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.trust.labels import NOTHING, Label, News, Origin, Tally, VetoPair
from cachesvc.core.trust.records import state_of, state_record
from cachesvc.core.trust.state import TrustState

DIRECTORY = "trust"
"""Where stores of trust are, below that of the entries."""

_MAX_READERS = 4096
_TABLES = (
    *("meta", "labels", "label_keys", "counts", "origins", "tallies", "states"),
    *VETO_TABLES,
)
_ORIGINS = struct.Struct(f">{len(Origin)}Q")  # labels of each, in order; new origins come last
_MAC_KEY = b"mac_key"
_SEQUENCE = b"sequence"
# Pages that a transaction replaces are free when it and its readers are done, not before.
_MAP_FACTOR = 3
_ROOM_BYTES = 16 << 20
_TRIM_COUNT = 512  # labels that go at once where there are too many bytes
_MAX_TRIMS = 8
_SLACK = 10  # one in so many namespaces goes beyond what must, so that not each new one costs a look at all
_NO_COMPRESSION = 1 << 62  # features do not compress


@dataclass(frozen=True, slots=True)
class TrustBounds:
    """Labels of a namespace, vetoes of a scope, bytes of all, and namespaces, that are kept at most."""

    max_labels: int
    max_vetoes: int
    max_bytes: int
    max_namespaces: int


def _put_aside(directory: Path) -> Path:
    """Only the last that was damaged is kept: what it held can be learned again."""
    aside = directory / "data.mdb.corrupt"
    (directory / "data.mdb").replace(aside)
    (directory / "lock.mdb").unlink(missing_ok=True)
    lmdb_open.sync(directory)
    return aside


class LmdbTrust:
    """``TrustStore``. ``is_doubtful``: the server died again and again, so look whether this is what it dies of."""

    def __init__(
        self, directory: Path, fingerprint: str, bounds: TrustBounds, *, is_doubtful: bool = False
    ) -> None:
        """Open or create. Raises FULL or UNAVAILABLE; what is damaged is moved aside."""
        self._bounds = bounds
        self._lock = threading.Lock()  # one thread of a process at a time waits for the others' transactions
        self._directory = directory / blake2b(fingerprint.encode(), digest_size=8).hexdigest()
        self.moved_aside: Path | None = None
        for path in (directory, self._directory):
            path.mkdir(mode=0o700, exist_ok=True)
        data = self._directory / "data.mdb"
        if not is_whole(data) or (is_doubtful and not is_readable(data)):
            self.moved_aside = _put_aside(self._directory)
        try:
            self._open()
        except DAMAGE:
            self.moved_aside = _put_aside(self._directory)
            self._open()
        except lmdb.Error as error:
            raise self._refusal(error) from None

    def _open(self) -> None:
        self._env = lmdb.open(
            str(self._directory),
            map_size=_MAP_FACTOR * self._bounds.max_bytes + _ROOM_BYTES,
            max_dbs=len(_TABLES),
            max_readers=_MAX_READERS,
            mode=0o600,
            max_spare_txns=4,
        )
        try:
            self._env.reader_check()
            (
                self._meta,
                self._labels,
                self._label_keys,
                self._counts,
                self._origins,
                self._tallies,
                self._states,
                *veto_tables,
            ) = (self._env.open_db(name.encode()) for name in _TABLES)
            with self._env.begin(write=True, db=self._meta) as txn:
                mac_key = get(txn, self._meta, _MAC_KEY)
                if mac_key is None:
                    mac_key = secrets.token_bytes(32)
                    txn.put(_MAC_KEY, mac_key)
            self._sealer = Sealer(mac_key, _NO_COMPRESSION)
            self._vetoes = LmdbVetoes(self._sealer, veto_tables)
        except BaseException:
            self._env.close()
            raise

    def close(self) -> None:
        """Let go of it."""
        self._env.close()

    def backup(self, directory: Path) -> None:
        """A compacted copy, as of one moment, into a directory where it can be opened as it is here. Raises FULL."""
        target = directory / self._directory.name
        try:
            target.mkdir(mode=0o700, parents=True)
            self._env.copy(str(target), compact=True)
            lmdb_open.sync(target / "data.mdb")
            lmdb_open.sync(target)
        except (lmdb.Error, OSError) as error:
            raise CacheError(Kind.FULL, f"the copy of trust failed: {type(error).__name__}") from None

    # ---------------------------------------------------------------- labels

    def add(self, namespace: str, labels: Sequence[Label], tally: Tally) -> int:
        """See ``TrustStore.add``."""
        with self._writing() as txn:
            added = self._add(txn, News(namespace, tuple(labels), tally))
            self._keep_bounds(txn)
        return added

    def add_all(self, news: Sequence[News]) -> None:
        """See ``TrustStore.add_all``."""
        with self._writing() as txn:
            for one in news:
                self._add(txn, one)
            self._keep_bounds(txn)

    def _add(self, txn: lmdb.Transaction, news: News) -> int:
        name = news.namespace.encode()
        added = gave_way = 0
        sequence = self._sequence_of(txn)
        for label in news.labels:
            if txn.get(name + b"\0" + label.key, db=self._label_keys) is not None:
                if not self._give_way(txn, name, label):
                    continue
                gave_way += 1
            sequence += 1
            self._put_label(txn, name, sequence, label)
            added += 1
        if news.tally != NOTHING:
            self._put_tally(txn, name, self._tally_of(txn, name).plus(news.tally))
        txn.put(_SEQUENCE, key_of(max(sequence, self._sequence_of(txn) + 1)), db=self._meta)
        count = self._count_of(txn, name) + added - gave_way
        excess = max(count - self._bounds.max_labels, 0)
        txn.put(name, key_of(count - self._drop_oldest(txn, name, excess)), db=self._counts)
        return added

    def labels(self, namespace: str, after: int, limit: int) -> list[tuple[int, Label]]:
        """See ``TrustStore.labels``."""
        prefix = namespace.encode() + b"\0"
        found: list[tuple[int, Label]] = []
        with self._reading() as txn:
            for place, sealed in scan(txn, self._labels, prefix + key_of(after + 1)):
                if not place.startswith(prefix) or len(found) == limit:
                    break
                record = self._opened(LabelRecord, place, sealed)
                label = None if record is None else label_of(record)
                if label is not None:
                    found.append((integer(place[len(prefix) :]), label))
        return found

    def label_counts(self, namespace: str) -> Mapping[Origin, int]:
        """See ``TrustStore.label_counts``."""
        with self._reading() as txn:
            counts = self._origins_of(txn, namespace.encode())
        return {origin: count for origin, count in zip(Origin, counts, strict=True) if count}

    def tally(self, namespace: str) -> Tally:
        """See ``TrustStore.tally``."""
        with self._reading() as txn:
            return self._tally_of(txn, namespace.encode())

    def namespaces(self) -> list[str]:
        """See ``TrustStore.namespaces``."""
        with self._reading() as txn:
            return [name.decode() for name, _ in scan(txn, self._counts)]

    # ---------------------------------------------------------------- vetoes

    def add_veto(self, namespace: str, veto: VetoPair, label: Label | None, since_ms: int = 0) -> bool:
        """See ``TrustStore.add_veto``."""
        name = namespace.encode()
        with self._writing() as txn:
            sequence = self._sequence_of(txn) + 1
            if not self._vetoes.add(txn, sequence, name, veto, since_ms):
                return False
            txn.put(_SEQUENCE, key_of(sequence), db=self._meta)
            count = self._count_of(txn, name)
            if label is not None and txn.get(name + b"\0" + label.key, db=self._label_keys) is None:
                self._put_label(txn, name, sequence, label)
                count += 1
            txn.put(name, key_of(count), db=self._counts)
            self._vetoes.keep_bound(txn, veto.scope, self._bounds.max_vetoes)
            self._keep_bounds(txn)
        return True

    def vetoes(self, scope: bytes, after: int = 0) -> list[VetoPair]:
        """See ``TrustStore.vetoes``."""
        with self._reading() as txn:
            return self._vetoes.of_scope(txn, scope, after)

    def veto_count(self, namespace: str) -> int:
        """See ``TrustStore.veto_count``."""
        with self._reading() as txn:
            return self._vetoes.count(txn, namespace.encode())

    def last_veto(self, scope: bytes) -> int:
        """See ``TrustStore.last_veto``."""
        with self._reading() as txn:
            return self._vetoes.last(txn, scope)

    # ----------------------------------------------------------------- state

    def sequence(self) -> int:
        """See ``TrustStore.sequence``."""
        with self._reading() as txn:
            return self._sequence_of(txn)

    def state(self, namespace: str) -> TrustState | None:
        """See ``TrustStore.state``."""
        name = namespace.encode()
        with self._reading() as txn:
            sealed = get(txn, self._states, name)
        record = None if sealed is None else self._opened(StateRecord, name, sealed)
        if record is None:
            return None
        try:
            return state_of(msgspec.msgpack.decode(record.state))
        except (ValueError, msgspec.MsgspecError):
            return None

    def generation(self, namespace: str) -> int:
        """See ``TrustStore.generation``."""
        name = namespace.encode()
        with self._reading() as txn:
            sealed = get(txn, self._states, name)
        record = None if sealed is None else self._opened(StateRecord, name, sealed)
        return 0 if record is None else record.generation

    def put_state(self, state: TrustState) -> bool:
        """See ``TrustStore.put_state``."""
        name = state.namespace.encode()
        with self._writing() as txn:
            sealed = get(txn, self._states, name)
            kept = None if sealed is None else self._opened(StateRecord, name, sealed)
            if kept is not None and kept.generation >= state.generation:
                return False
            record = StateRecord(state.generation, msgspec.msgpack.encode(state_record(state)))
            txn.put(name, self._sealer.seal(record, name), db=self._states)
            txn.put(name, key_of(self._count_of(txn, name)), db=self._counts)
            txn.put(_SEQUENCE, key_of(self._sequence_of(txn) + 1), db=self._meta)
        return True

    # --------------------------------------------------------------- helpers

    def _put_label(self, txn: lmdb.Transaction, name: bytes, sequence: int, label: Label) -> None:
        place = name + b"\0" + key_of(sequence)
        txn.put(place, self._sealer.seal(record_of(label), place), db=self._labels)
        txn.put(name + b"\0" + label.key, key_of(sequence), db=self._label_keys)
        self._count_origin(txn, name, label.origin.name, 1)

    def _give_way(self, txn: lmdb.Transaction, name: bytes, label: Label) -> bool:
        """Whether what is kept under its key went: it does where it has no verdict, and this one has."""
        sequence = get(txn, self._label_keys, name + b"\0" + label.key)
        if sequence is None or label.verdict is None:
            return False
        place = name + b"\0" + sequence
        sealed = get(txn, self._labels, place)
        record = None if sealed is None else self._opened(LabelRecord, place, sealed)
        kept = None if record is None else label_of(record)
        if kept is None or kept.verdict is not None:
            return False
        txn.delete(place, db=self._labels)
        self._count_origin(txn, name, kept.origin.name, -1)
        return True

    def _drop_oldest(self, txn: lmdb.Transaction, name: bytes, count: int) -> int:
        """How many there were to drop."""
        prefix = name + b"\0"
        dropped = 0
        with txn.cursor(db=self._labels) as cursor:
            found = cursor.set_range(prefix)
            while found and dropped < count and bytes(cursor.key()).startswith(prefix):
                record = self._opened(LabelRecord, bytes(cursor.key()), bytes(cursor.value()))
                if record is not None:  # else its key stays, and costs a few bytes
                    txn.delete(prefix + record.key, db=self._label_keys)
                    self._count_origin(txn, name, record.origin, -1)
                found = cursor.delete()
                dropped += 1
        return dropped

    def _keep_bounds(self, txn: lmdb.Transaction) -> None:
        """Of too many namespaces those go of which least is known. Of too many bytes the oldest vetoes go where these take
        more than half, else the oldest labels of the namespaces that have most.
        """
        excess = txn.stat(self._counts)["entries"] - self._bounds.max_namespaces
        if excess > 0:
            for name in self._least_known(txn)[: excess + self._bounds.max_namespaces // _SLACK]:
                self._forget(txn, name)
        others = (self._labels, self._label_keys, self._counts, self._origins, self._tallies, self._states)
        for _ in range(_MAX_TRIMS):
            vetoes_bytes, max_bytes = self._vetoes.size_bytes(txn), self._bounds.max_bytes
            if vetoes_bytes + size_bytes(txn, others) <= max_bytes:
                return
            if vetoes_bytes > max_bytes // 2:
                self._vetoes.drop_oldest(txn)
            elif not self._trim_labels(txn):
                return

    def _least_known(self, txn: lmdb.Transaction) -> list[bytes]:
        """Namespaces, those first that would be missed least."""

        def worth(held: tuple[bytes, bytes]) -> tuple[bool, int, int]:
            name, count = held
            has_state = get(txn, self._states, name) is not None
            return has_state, integer(count), self._tally_of(txn, name).searched

        return [name for name, _ in sorted(scan(txn, self._counts), key=worth)]

    def _forget(self, txn: lmdb.Transaction, name: bytes) -> None:
        """Vetoes are by scope, and stay: they refuse and never serve."""
        self._drop_oldest(txn, name, self._count_of(txn, name))
        for table in (self._counts, self._origins, self._tallies, self._states):
            txn.delete(name, db=table)
        self._vetoes.forget(txn, name)

    def _trim_labels(self, txn: lmdb.Transaction) -> bool:
        """Whether there were any."""
        name, count = max(
            ((name, integer(count)) for name, count in scan(txn, self._counts)),
            key=lambda held: held[1],
            default=(b"", 0),
        )
        if count:
            txn.put(name, key_of(count - self._drop_oldest(txn, name, _TRIM_COUNT)), db=self._counts)
        return bool(count)

    def _sequence_of(self, txn: lmdb.Transaction) -> int:
        return integer(get(txn, self._meta, _SEQUENCE) or b"")

    def _count_of(self, txn: lmdb.Transaction, name: bytes) -> int:
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

    def _tally_of(self, txn: lmdb.Transaction, name: bytes) -> Tally:
        sealed = get(txn, self._tallies, name)
        record = None if sealed is None else self._opened(TallyRecord, name, sealed)
        known = () if record is None else record.counts[: len(Tally.__slots__)]
        return Tally(*known)

    def _put_tally(self, txn: lmdb.Transaction, name: bytes, tally: Tally) -> None:
        record = TallyRecord(list(astuple(tally)))
        txn.put(name, self._sealer.seal(record, name), db=self._tallies)

    def _opened(self, kind: "type[_R]", place: bytes, sealed: bytes) -> "_R | None":
        try:
            return self._sealer.open(kind, place, sealed)
        except BadRecordError:
            return None

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        try:
            with self._env.begin() as txn:
                yield txn
        except lmdb.Error as error:
            raise self._refusal(error) from None

    @contextmanager
    def _writing(self) -> Iterator[lmdb.Transaction]:
        with self._lock:
            try:
                with self._env.begin(write=True) as txn:
                    yield txn
            except lmdb.Error as error:
                raise self._refusal(error) from None

    def _refusal(self, error: lmdb.Error) -> CacheError:
        # LMDB has no class for a disk without room; its text is of the call and the system's reason.
        full = isinstance(error, lmdb.DiskError | lmdb.MapFullError) or os.strerror(ENOSPC) in str(error)
        return CacheError(
            Kind.FULL if full else Kind.UNAVAILABLE,
            f"what is known of trust, in {self._directory}, could not be read or written ({error})",
        )


_R = TypeVar("_R", bound=msgspec.Struct)
