"""Snapshots of indexes as files, each framed and sealed with a keyed digest over all of it.

FAISS crashes on bytes that are wrong and accepts others silently, so it never sees one before the digest
fitted. A file says of which embedder, scope and session of the store it is: one that was left behind when
the store was put back to an older state, or taken from another, is not used.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import SnapshotDone
from cachesvc.core.ports import Failpoint, Observer, no_failpoint
from cachesvc.core.types import Session, Snapshot

_MAGIC = b"cachesvc-snapshot-1\n"
_MAC_BYTES = 32
_LENGTH_BYTES = 4


class _Header(msgspec.Struct, array_like=True, frozen=True):
    fingerprint: str
    scope: bytes
    session: bytes
    sequence: int


class SnapshotFiles:
    """``SnapshotStore`` in a directory of its own. Thread-safe: files are put in place by renaming."""

    def __init__(
        self,
        directory: Path,
        *,
        key: bytes,
        fingerprint: str,
        sessions: Callable[[], Sequence[Session]],
        observer: Observer,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        """``sessions`` are those of the store, oldest first, the one under way last."""
        self._directory = directory
        self._key = key
        self._fingerprint = fingerprint
        self._sessions = sessions
        self._observer = observer
        self._failpoint = failpoint
        self._remove_parts()

    def load(self, scope: bytes) -> Snapshot | None:
        """See ``SnapshotStore.load``."""
        try:
            data = self._path(scope).read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            self._reject(scope, 0)
            return None
        mac = blake2b(memoryview(data)[:-_MAC_BYTES], digest_size=_MAC_BYTES, key=self._key).digest()
        if not data.startswith(_MAGIC) or data[-_MAC_BYTES:] != mac:
            self._reject(scope, len(data))
            return None
        begin = len(_MAGIC) + _LENGTH_BYTES
        length = int.from_bytes(data[len(_MAGIC) : begin], "big")
        header = msgspec.msgpack.decode(data[begin : begin + length], type=_Header)
        is_ours = header.fingerprint == self._fingerprint and header.scope == scope
        if not is_ours or not self._is_of_this_past(header):
            self._reject(scope, len(data))
            return None
        return Snapshot(header.sequence, data[begin + length : -_MAC_BYTES])

    def save(self, scope: bytes, snapshot: Snapshot) -> None:
        """See ``SnapshotStore.save``."""
        session = self._sessions()[-1]
        header = msgspec.msgpack.encode(_Header(self._fingerprint, scope, session.name, snapshot.sequence))
        path = self._path(scope)
        part = path.with_suffix(".part")
        digest = blake2b(digest_size=_MAC_BYTES, key=self._key)
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            with part.open("wb") as file:
                for piece in (_MAGIC, len(header).to_bytes(_LENGTH_BYTES, "big"), header, snapshot.payload):
                    digest.update(piece)
                    file.write(piece)
                self._failpoint("snapshot.half_written")
                file.write(digest.digest())
                file.flush()
                os.fsync(file.fileno())
            self._failpoint("snapshot.before_rename")
            part.replace(path)
            self._failpoint("snapshot.after_rename")
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise CacheError(Kind.FULL, f"a snapshot could not be written: {error.strerror}") from None
        self._observer.on(SnapshotDone("saved", len(snapshot.payload)))

    def forget(self, scope: bytes) -> None:
        """See ``SnapshotStore.forget``."""
        with suppress(OSError):  # it is checked each time it is read
            self._path(scope).unlink(missing_ok=True)

    def _is_of_this_past(self, header: _Header) -> bool:
        """Whether the store was at this sequence in this session, and has only gone on since."""
        sessions = self._sessions()
        for n, session in enumerate(sessions):
            if session.name == header.session:
                ended = sessions[n + 1].began if n + 1 < len(sessions) else None
                return session.began <= header.sequence and (ended is None or header.sequence <= ended)
        return False

    def _reject(self, scope: bytes, size_bytes: int) -> None:
        self._observer.on(SnapshotDone("rejected", size_bytes))
        self.forget(scope)

    def _path(self, scope: bytes) -> Path:
        return self._directory / f"{scope.hex()}.snapshot"

    def _remove_parts(self) -> None:
        """What a process that died was writing."""
        for part in self._directory.glob("*.part"):
            part.unlink(missing_ok=True)
