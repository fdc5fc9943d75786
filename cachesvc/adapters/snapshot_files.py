"""Snapshots of indexes as files: pieces in frames, each sealed with a keyed digest of it and all before it.

Whoever takes a piece may trust it: none is given out before its digest fitted. Its end is sealed too. A file says of which embedder, scope and
session of the store it is. One that was left behind when the store was put back to an older state, or written anew,
is stale; what does not fit this store's key was damaged or is another store's, which cannot be told apart.
"""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import SnapshotDone
from cachesvc.core.ports import Failpoint, Observer, no_failpoint
from cachesvc.core.types import Session, Snapshot

_MAGIC = b"cachesvc-snapshot-2\n"
_MAC_BYTES = 32
_LENGTH_BYTES = 4
_AGEING_SESSIONS = 32  # the store knows its last 64


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
        is_shared: bool = False,
    ) -> None:
        """``sessions`` are those of the store, oldest first, the one under way last. ``is_shared``: another process
        may be saving right now, and who starts them removes parts.
        """
        self._directory = directory
        self._key = key
        self._fingerprint = fingerprint
        self._sessions = sessions
        self._observer = observer
        self._failpoint = failpoint
        if not is_shared:
            remove_parts(directory)

    def load(self, scope: bytes) -> Snapshot | None:
        """See ``SnapshotStore.load``. Pieces are read one by one, and each is checked before it is given out."""
        try:
            file = self._path(scope).open("rb")
        except FileNotFoundError:
            return None
        except OSError:
            self._give_up(scope, "rejected")
            return None
        pieces = self._pieces(file)
        try:
            header = msgspec.msgpack.decode(next(pieces), type=_Header)
        except (ValueError, StopIteration):
            header = None
        is_ours = header is not None and (header.fingerprint, header.scope) == (self._fingerprint, scope)
        sessions_ago = None if header is None else self._sessions_ago(header)
        if header is None or not is_ours or sessions_ago is None:
            pieces.close()
            self._give_up(scope, "stale" if is_ours else "rejected")
            return None
        return Snapshot(header.sequence, pieces, is_ageing=sessions_ago >= _AGEING_SESSIONS)

    def _pieces(self, file: BinaryIO) -> Generator[bytes, None, None]:
        """The header, then what it heads. Raises ValueError for damage, a missing end and anything after it."""
        with file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError("not a snapshot")
            mac = b""
            while True:
                length = int.from_bytes(file.read(_LENGTH_BYTES), "big")
                piece, sealed = file.read(length), file.read(_MAC_BYTES)
                mac = self._mac(mac, piece)
                if sealed != mac:
                    raise ValueError("damaged")
                if not piece:
                    break
                yield piece
            if file.read(1):
                raise ValueError("goes on after its end")

    def _mac(self, before: bytes, piece: bytes) -> bytes:
        """Of a piece and, by the digest before it, of all that came before. The last piece is empty."""
        mac = blake2b(before, digest_size=_MAC_BYTES, key=self._key)
        mac.update(piece)
        return mac.digest()

    def save(self, scope: bytes, snapshot: Snapshot) -> None:
        """See ``SnapshotStore.save``."""
        session = self._sessions()[-1]
        header = msgspec.msgpack.encode(_Header(self._fingerprint, scope, session.name, snapshot.sequence))
        path = self._path(scope)
        part = path.with_suffix(".part")
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            with part.open("wb") as file:
                file.write(_MAGIC)
                mac = b""
                for piece in chain([header], snapshot.pieces):
                    mac = self._write(file, mac, piece)
                self._failpoint("snapshot.half_written")
                self._write(file, mac, b"")
                file.flush()
                os.fsync(file.fileno())
            self._failpoint("snapshot.before_rename")
            part.replace(path)
            self._failpoint("snapshot.after_rename")
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise CacheError(Kind.FULL, f"a snapshot could not be written: {error.strerror}") from None

    def _write(self, file: BinaryIO, before: bytes, piece: bytes) -> bytes:
        mac = self._mac(before, piece)
        file.writelines((len(piece).to_bytes(_LENGTH_BYTES, "big"), piece, mac))
        return mac

    def scopes(self) -> list[bytes]:
        """See ``SnapshotStore.scopes``."""
        return [bytes.fromhex(path.stem) for path in self._directory.glob("*.snapshot")]

    def forget(self, scope: bytes) -> None:
        """See ``SnapshotStore.forget``."""
        with suppress(OSError):  # it is checked each time it is read
            self._path(scope).unlink(missing_ok=True)

    def _sessions_ago(self, header: _Header) -> int | None:
        """How many sessions ago it was saved; None when that is not known, or the store has not just gone on since."""
        sessions = self._sessions()
        for n, session in enumerate(sessions):
            if session.name == header.session:
                ended = sessions[n + 1].began if n + 1 < len(sessions) else None
                is_within = session.began <= header.sequence and (ended is None or header.sequence <= ended)
                return len(sessions) - 1 - n if is_within else None
        return None

    def _give_up(self, scope: bytes, why: Literal["stale", "rejected"]) -> None:
        self._observer.on(SnapshotDone(why, 0))
        self.forget(scope)

    def _path(self, scope: bytes) -> Path:
        return self._directory / f"{scope.hex()}.snapshot"


def remove_parts(directory: Path) -> None:
    """What a process that died was writing. Nobody may be saving."""
    for part in directory.glob("*.part"):
        part.unlink(missing_ok=True)
