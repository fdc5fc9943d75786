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
import numpy as np

from cachesvc.adapters import lmdb_open
from cachesvc.adapters.lmdb_preflight import DAMAGE, is_readable, is_whole
from cachesvc.adapters.lmdb_records import BadRecordError, Sealer
from cachesvc.adapters.lmdb_schema import get, integer, key_of, scan
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.gates import Gate
from cachesvc.core.trust.labels import (
    NOTHING,
    Comparator,
    Label,
    LabelledCandidate,
    News,
    Origin,
    Tally,
    VetoPair,
)
from cachesvc.core.trust.records import state_of, state_record
from cachesvc.core.trust.state import TrustState

_MAX_READERS = 4096
_TABLES = (
    *("meta", "labels", "label_keys", "counts", "origins", "tallies"),
    *("vetoes", "veto_keys", "veto_counts", "states"),
)
_ORIGINS = struct.Struct(f">{len(Origin)}Q")  # labels of each, in order; new origins come last
_MAC_KEY = b"mac_key"
_SEQUENCE = b"sequence"
# Pages that a transaction replaces are free when it and its readers are done, not before.
_MAP_FACTOR = 3
_ROOM_BYTES = 16 << 20
_TRIM_COUNT = 512  # labels that go at once where there are too many bytes
_MAX_TRIMS = 8
_BEYOND = b"\xff" * 8  # behind every sequence
_NO_COMPRESSION = 1 << 62  # features do not compress


@dataclass(frozen=True, slots=True)
class TrustBounds:
    """Labels of a namespace, vetoes of a scope, and bytes of all, that are kept at most."""

    max_labels: int
    max_vetoes: int
    max_bytes: int


class _CandidateRecord(msgspec.Struct, array_like=True, frozen=True):
    features: bytes
    score: float
    gate: str | None
    same: bool | None


class _LabelRecord(msgspec.Struct, array_like=True, frozen=True):
    key: bytes
    at_ms: int
    origin: str
    comparator: str
    share: float
    rule_version: int
    features_version: int
    served: int | None
    candidates: list[_CandidateRecord]


class _TallyRecord(msgspec.Struct, array_like=True, frozen=True):
    counts: list[int]


class _VetoRecord(msgspec.Struct, array_like=True, frozen=True):
    ours_key: bytes
    theirs_key: bytes
    ours: bytes
    theirs: bytes
    at_ms: int


class _StateRecord(msgspec.Struct, array_like=True, frozen=True):
    generation: int
    state: bytes


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
        if not is_whole(self._directory / "data.mdb") or (
            is_doubtful and not is_readable(self._directory / "data.mdb")
        ):
            self._move_aside()
        try:
            self._open()
        except DAMAGE:
            self._move_aside()
            self._open()
        except lmdb.Error as error:
            raise self._refusal(error) from None

    def _move_aside(self) -> None:
        """Only the last that was damaged is kept: what it held can be learned again."""
        self.moved_aside = self._directory / "data.mdb.corrupt"
        (self._directory / "data.mdb").replace(self.moved_aside)
        (self._directory / "lock.mdb").unlink(missing_ok=True)
        lmdb_open.sync(self._directory)

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
                self._vetoes,
                self._veto_keys,
                self._veto_counts,
                self._states,
            ) = (self._env.open_db(name.encode()) for name in _TABLES)
            with self._env.begin(write=True, db=self._meta) as txn:
                mac_key = get(txn, self._meta, _MAC_KEY)
                if mac_key is None:
                    mac_key = secrets.token_bytes(32)
                    txn.put(_MAC_KEY, mac_key)
            self._sealer = Sealer(mac_key, _NO_COMPRESSION)
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
            return self._add(txn, News(namespace, tuple(labels), tally))

    def add_all(self, news: Sequence[News]) -> None:
        """See ``TrustStore.add_all``."""
        with self._writing() as txn:
            for one in news:
                self._add(txn, one)

    def _add(self, txn: lmdb.Transaction, news: News) -> int:
        name = news.namespace.encode()
        added = 0
        sequence = self._sequence_of(txn)
        for label in news.labels:
            known = name + b"\0" + label.key
            if txn.get(known, db=self._label_keys) is not None:
                continue
            sequence += 1
            self._put_label(txn, name, sequence, label)
            added += 1
        if news.tally != NOTHING:
            self._put_tally(txn, name, self._tally_of(txn, name).plus(news.tally))
        txn.put(_SEQUENCE, key_of(max(sequence, self._sequence_of(txn) + 1)), db=self._meta)
        count = self._count_of(txn, name) + added
        excess = max(count - self._bounds.max_labels, 0)
        txn.put(name, key_of(count - self._drop_oldest(txn, name, excess)), db=self._counts)
        self._keep_bound(txn)
        return added

    def labels(self, namespace: str, after: int, limit: int) -> list[tuple[int, Label]]:
        """See ``TrustStore.labels``."""
        prefix = namespace.encode() + b"\0"
        found: list[tuple[int, Label]] = []
        with self._reading() as txn:
            for place, sealed in scan(txn, self._labels, prefix + key_of(after + 1)):
                if not place.startswith(prefix) or len(found) == limit:
                    break
                record = self._opened(_LabelRecord, place, sealed)
                label = None if record is None else _label(record)
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
            names = {
                name
                for table in (self._counts, self._veto_counts, self._states)
                for name, _ in scan(txn, table)
            }
        return sorted(name.decode("utf-8", "replace") for name in names)

    # ---------------------------------------------------------------- vetoes

    def add_veto(self, namespace: str, veto: VetoPair, label: Label | None) -> bool:
        """See ``TrustStore.add_veto``."""
        name = namespace.encode()
        pair = veto.scope + veto.theirs_key + veto.ours_key
        with self._writing() as txn:
            if txn.get(pair, db=self._veto_keys) is not None:
                return False
            sequence = self._sequence_of(txn) + 1
            place = veto.scope + key_of(sequence)
            record = _VetoRecord(
                veto.ours_key,
                veto.theirs_key,
                self._sealer.pack_vector(veto.ours),
                self._sealer.pack_vector(veto.theirs),
                veto.at_ms,
            )
            txn.put(place, self._sealer.seal(record, place), db=self._vetoes)
            txn.put(pair, key_of(sequence), db=self._veto_keys)
            txn.put(_SEQUENCE, key_of(sequence), db=self._meta)
            count = integer(get(txn, self._veto_counts, name) or b"") + 1
            txn.put(name, key_of(count), db=self._veto_counts)
            self._drop_vetoes(txn, veto.scope)
            if label is not None and txn.get(name + b"\0" + label.key, db=self._label_keys) is None:
                self._put_label(txn, name, sequence, label)
                txn.put(name, key_of(self._count_of(txn, name) + 1), db=self._counts)
        return True

    def vetoes(self, scope: bytes, after: int = 0) -> list[VetoPair]:
        """See ``TrustStore.vetoes``."""
        found = []
        with self._reading() as txn:
            for place, sealed in self._of_scope(txn, scope, after):
                record = self._opened(_VetoRecord, place, sealed)
                if record is not None:
                    ours, theirs = (
                        np.frombuffer(half, "<f2").astype(np.float32) for half in (record.ours, record.theirs)
                    )
                    found.append(
                        VetoPair(scope, record.ours_key, record.theirs_key, ours, theirs, record.at_ms)
                    )
        return found

    def veto_count(self, namespace: str) -> int:
        """See ``TrustStore.veto_count``."""
        with self._reading() as txn:
            return integer(get(txn, self._veto_counts, namespace.encode()) or b"")

    def last_veto(self, scope: bytes) -> int:
        """See ``TrustStore.last_veto``."""
        with self._reading() as txn, txn.cursor(db=self._vetoes) as cursor:
            found = cursor.prev() if cursor.set_range(scope + _BEYOND) else cursor.last()
            place = bytes(cursor.key()) if found else b""
        return integer(place[len(scope) :]) if place.startswith(scope) else 0

    def accusers(self, scope: bytes, theirs_key: bytes) -> int:
        """See ``TrustStore.accusers``."""
        prefix = scope + theirs_key
        count = 0
        with self._reading() as txn:
            for pair, _ in scan(txn, self._veto_keys, prefix):
                if not pair.startswith(prefix):
                    break
                count += 1
        return count

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
        record = None if sealed is None else self._opened(_StateRecord, name, sealed)
        if record is None:
            return None
        try:
            return state_of(msgspec.msgpack.decode(record.state))
        except (ValueError, msgspec.MsgspecError):
            return None

    def put_state(self, state: TrustState) -> bool:
        """See ``TrustStore.put_state``."""
        name = state.namespace.encode()
        with self._writing() as txn:
            sealed = get(txn, self._states, name)
            kept = None if sealed is None else self._opened(_StateRecord, name, sealed)
            if kept is not None and kept.generation >= state.generation:
                return False
            record = _StateRecord(state.generation, msgspec.msgpack.encode(state_record(state)))
            txn.put(name, self._sealer.seal(record, name), db=self._states)
            txn.put(_SEQUENCE, key_of(self._sequence_of(txn) + 1), db=self._meta)
        return True

    def forget(self, namespace: str) -> None:
        """See ``TrustStore.forget``. Vetoes are by scope, and stay: they refuse and never serve."""
        name = namespace.encode()
        with self._writing() as txn:
            self._drop_oldest(txn, name, self._count_of(txn, name))
            for table in (self._counts, self._origins, self._tallies, self._states):
                txn.delete(name, db=table)
            txn.put(_SEQUENCE, key_of(self._sequence_of(txn) + 1), db=self._meta)

    # --------------------------------------------------------------- helpers

    def _put_label(self, txn: lmdb.Transaction, name: bytes, sequence: int, label: Label) -> None:
        place = name + b"\0" + key_of(sequence)
        txn.put(place, self._sealer.seal(_record(label), place), db=self._labels)
        txn.put(name + b"\0" + label.key, key_of(sequence), db=self._label_keys)
        self._count_origin(txn, name, label.origin.name, 1)

    def _drop_oldest(self, txn: lmdb.Transaction, name: bytes, count: int) -> int:
        """How many there were to drop."""
        prefix = name + b"\0"
        dropped = 0
        with txn.cursor(db=self._labels) as cursor:
            found = cursor.set_range(prefix)
            while found and dropped < count and bytes(cursor.key()).startswith(prefix):
                record = self._opened(_LabelRecord, bytes(cursor.key()), bytes(cursor.value()))
                if record is not None:  # else its key stays, and costs a few bytes
                    txn.delete(prefix + record.key, db=self._label_keys)
                    self._count_origin(txn, name, record.origin, -1)
                found = cursor.delete()
                dropped += 1
        return dropped

    def _drop_vetoes(self, txn: lmdb.Transaction, scope: bytes) -> None:
        held = list(self._of_scope(txn, scope))
        for place, sealed in held[: max(len(held) - self._bounds.max_vetoes, 0)]:
            record = self._opened(_VetoRecord, place, sealed)
            if record is not None:
                txn.delete(scope + record.theirs_key + record.ours_key, db=self._veto_keys)
            txn.delete(place, db=self._vetoes)

    def _of_scope(self, txn: lmdb.Transaction, scope: bytes, after: int = 0) -> Iterator[tuple[bytes, bytes]]:
        for place, sealed in scan(txn, self._vetoes, scope + key_of(after + 1)):
            if not place.startswith(scope):
                return
            yield place, sealed

    def _keep_bound(self, txn: lmdb.Transaction) -> None:
        """Where there are too many bytes, the namespaces with most labels lose their oldest."""
        for _ in range(_MAX_TRIMS):
            if self._size_bytes(txn) <= self._bounds.max_bytes:
                return
            name, count = max(
                ((name, integer(count)) for name, count in scan(txn, self._counts)),
                key=lambda held: held[1],
                default=(b"", 0),
            )
            if not count:
                return
            txn.put(name, key_of(count - self._drop_oldest(txn, name, _TRIM_COUNT)), db=self._counts)

    def _size_bytes(self, txn: lmdb.Transaction) -> int:
        stats = [txn.stat(table) for table in (self._labels, self._label_keys, self._vetoes, self._states)]
        return sum(
            stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"])
            for stat in stats
        )

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
        record = None if sealed is None else self._opened(_TallyRecord, name, sealed)
        known = () if record is None else record.counts[: len(Tally.__slots__)]
        return Tally(*known)

    def _put_tally(self, txn: lmdb.Transaction, name: bytes, tally: Tally) -> None:
        record = _TallyRecord(list(astuple(tally)))
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


def _record(label: Label) -> _LabelRecord:
    return _LabelRecord(
        label.key,
        label.at_ms,
        label.origin.name,
        label.comparator.name,
        label.share,
        label.rule_version,
        label.features_version,
        label.served,
        [
            _CandidateRecord(
                candidate.features.astype("<f4").tobytes(),
                candidate.score,
                None if candidate.gate is None else candidate.gate.name,
                candidate.same,
            )
            for candidate in label.candidates
        ],
    )


def _label(record: _LabelRecord) -> Label | None:
    """None for one of a version that had other origins, comparators or gates."""
    try:
        return Label(
            record.key,
            record.at_ms,
            Origin[record.origin],
            Comparator[record.comparator],
            record.share,
            record.rule_version,
            record.features_version,
            record.served,
            tuple(
                LabelledCandidate(
                    np.frombuffer(candidate.features, "<f4").astype(np.float32),
                    candidate.score,
                    None if candidate.gate is None else Gate[candidate.gate],
                    candidate.same,
                )
                for candidate in record.candidates
            ),
        )
    except KeyError:
        return None
