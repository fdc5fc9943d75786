"""Labels, vetoes and the state of trust: an LMDB environment of its own, below the store's directory.

Called by the engine through ``TrustStore``. It is apart from the entries so that neither their damage nor their
writes concern it: where it cannot be opened it begins anew, and the cache goes on by its policy. Several processes
may have it open; LMDB's lock keeps their writes apart. Each embedder has one of its own: labels hold its scores.
"""

import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from errno import ENOSPC
from hashlib import blake2b
from pathlib import Path

import lmdb
import msgspec

from cachesvc.adapters import lmdb_open
from cachesvc.adapters.lmdb_files import OpenFiles
from cachesvc.adapters.lmdb_labels import LABEL_TABLES, LmdbLabels
from cachesvc.adapters.lmdb_preflight import DAMAGE, is_readable, is_whole
from cachesvc.adapters.lmdb_records import Sealer
from cachesvc.adapters.lmdb_schema import get, integer, key_of, size_bytes
from cachesvc.adapters.lmdb_trust_records import StateRecord, TallyRecord
from cachesvc.adapters.lmdb_vetoes import VETO_TABLES, LmdbVetoes
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.trust.labels import NOTHING, Label, News, Origin, Tally, VetoPair
from cachesvc.core.trust.records import state_of, state_record
from cachesvc.core.trust.state import TrustState

DIRECTORY = "trust"
"""Where stores of trust are, below that of the entries."""

_MAX_READERS = 4096
_TABLES = ("meta", "tallies", "states", *LABEL_TABLES, *VETO_TABLES)
_MAC_KEY = b"mac_key"
_SEQUENCE = b"sequence"
# Pages that a transaction replaces are free when it and its readers are done, not before.
_MAP_FACTOR = 3
_ROOM_BYTES = 16 << 20
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
            self._meta, self._tallies, self._states, *tables = (
                self._env.open_db(name.encode()) for name in _TABLES
            )
            with self._env.begin(write=True, db=self._meta) as txn:
                mac_key = get(txn, self._meta, _MAC_KEY)
                if mac_key is None:
                    mac_key = secrets.token_bytes(32)
                    txn.put(_MAC_KEY, mac_key)
            self._sealer = Sealer(mac_key, _NO_COMPRESSION)
            self._labels = LmdbLabels(self._sealer, tables[: len(LABEL_TABLES)])
            self._vetoes = LmdbVetoes(self._sealer, tables[len(LABEL_TABLES) :])
            self._files = OpenFiles(self._directory, "trust")
        except BaseException:
            self._env.close()
            raise

    def close(self) -> None:
        """Let go of it."""
        self._env.close()

    @property
    def in_place(self) -> bool:
        """Whether what it holds will be there after a restart; else its files were removed, and nothing more is taken."""
        return self._files.in_place

    def refuse_removed(self) -> None:
        """Raises UNAVAILABLE when its files were removed."""
        self._files.refuse_removed()

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
        added = 0
        sequence = self._sequence_of(txn)
        for label in news.labels:
            if self._labels.add(txn, name, sequence + 1, label):
                sequence += 1
                added += 1
        if news.tally != NOTHING:
            self._put_tally(txn, name, self._tally_of(txn, name).plus(news.tally))
        txn.put(_SEQUENCE, key_of(max(sequence, self._sequence_of(txn) + 1)), db=self._meta)
        self._labels.keep_bound(txn, name, self._bounds.max_labels)
        return added

    def labels(self, namespace: str, after: int, limit: int) -> list[tuple[int, Label]]:
        """See ``TrustStore.labels``."""
        with self._reading() as txn:
            return self._labels.page(txn, namespace.encode(), after, limit)

    def label_counts(self, namespace: str) -> Mapping[Origin, int]:
        """See ``TrustStore.label_counts``."""
        with self._reading() as txn:
            return self._labels.by_origin(txn, namespace.encode())

    def tally(self, namespace: str) -> Tally:
        """See ``TrustStore.tally``."""
        with self._reading() as txn:
            return self._tally_of(txn, namespace.encode())

    def namespaces(self) -> list[str]:
        """See ``TrustStore.namespaces``."""
        with self._reading() as txn:
            return [name.decode() for name, _ in self._labels.counts(txn)]

    # ---------------------------------------------------------------- vetoes

    def add_veto(self, namespace: str, veto: VetoPair, label: Label | None, since_ms: int = 0) -> bool:
        """See ``TrustStore.add_veto``."""
        name = namespace.encode()
        with self._writing() as txn:
            sequence = self._sequence_of(txn) + 1
            if not self._vetoes.add(txn, sequence, name, veto, since_ms):
                return False
            txn.put(_SEQUENCE, key_of(sequence), db=self._meta)
            if label is not None:
                self._labels.add(txn, name, sequence, label)
            self._labels.name(txn, name)
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
        with self._reading() as txn:
            record = self._state_of(txn, namespace.encode())
        if record is None:
            return None
        try:
            return state_of(msgspec.msgpack.decode(record.state))
        except (ValueError, msgspec.MsgspecError):
            return None

    def generation(self, namespace: str) -> int:
        """See ``TrustStore.generation``."""
        with self._reading() as txn:
            record = self._state_of(txn, namespace.encode())
        return 0 if record is None else record.generation

    def put_state(self, state: TrustState) -> bool:
        """See ``TrustStore.put_state``."""
        name = state.namespace.encode()
        with self._writing() as txn:
            kept = self._state_of(txn, name)
            if kept is not None and kept.generation >= state.generation:
                return False
            record = StateRecord(state.generation, msgspec.msgpack.encode(state_record(state)))
            txn.put(name, self._sealer.seal(record, name), db=self._states)
            self._labels.name(txn, name)
            txn.put(_SEQUENCE, key_of(self._sequence_of(txn) + 1), db=self._meta)
        return True

    # --------------------------------------------------------------- helpers

    def _keep_bounds(self, txn: lmdb.Transaction) -> None:
        """Of too many namespaces those go of which least is known. Of too many bytes the oldest vetoes go where these take
        more than half, else the oldest labels of the namespaces that have most.
        """
        excess = self._labels.namespace_count(txn) - self._bounds.max_namespaces
        if excess > 0:
            for name in self._least_known(txn)[: excess + self._bounds.max_namespaces // _SLACK]:
                self._forget(txn, name)
        others = (self._tallies, self._states)
        for _ in range(_MAX_TRIMS):
            vetoes_bytes, max_bytes = self._vetoes.size_bytes(txn), self._bounds.max_bytes
            if vetoes_bytes + self._labels.size_bytes(txn) + size_bytes(txn, others) <= max_bytes:
                return
            if vetoes_bytes > max_bytes // 2:
                self._vetoes.drop_oldest(txn)
            elif not self._labels.trim(txn):
                return

    def _least_known(self, txn: lmdb.Transaction) -> list[bytes]:
        """Namespaces, those first that would be missed least."""

        def worth(held: tuple[bytes, int]) -> tuple[bool, int, int]:
            name, count = held
            has_state = get(txn, self._states, name) is not None
            return has_state, count, self._tally_of(txn, name).searched

        return [name for name, _ in sorted(self._labels.counts(txn), key=worth)]

    def _forget(self, txn: lmdb.Transaction, name: bytes) -> None:
        """Vetoes are by scope, and stay: they refuse and never serve."""
        for table in (self._tallies, self._states):
            txn.delete(name, db=table)
        self._labels.forget(txn, name)
        self._vetoes.forget(txn, name)

    def _sequence_of(self, txn: lmdb.Transaction) -> int:
        return integer(get(txn, self._meta, _SEQUENCE) or b"")

    def _state_of(self, txn: lmdb.Transaction, name: bytes) -> StateRecord | None:
        return self._sealer.open_whole(StateRecord, name, get(txn, self._states, name))

    def _tally_of(self, txn: lmdb.Transaction, name: bytes) -> Tally:
        record = self._sealer.open_whole(TallyRecord, name, get(txn, self._tallies, name))
        known = () if record is None else record.counts[: len(Tally.__slots__)]
        return Tally(*known)

    def _put_tally(self, txn: lmdb.Transaction, name: bytes, tally: Tally) -> None:
        record = TallyRecord(list(astuple(tally)))
        txn.put(name, self._sealer.seal(record, name), db=self._tallies)

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
            self._files.refuse_removed()
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
