"""Which scopes were in memory, in a small file beside the store, sealed with the store's key.

Put in place by renaming and not synced: a power cut may take it, or leave the one before, and either is only a
start that loads scopes in another order. What does not fit its digest is as good as none.
"""

from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.warming import ScopeNote

_MAGIC = b"cachesvc-scopes-1\n"
_MAC_BYTES = 32
_MAX_BYTES = 64 << 20  # some 1,300,000 scopes: what is larger is not ours


class NoteFile:
    """``ScopeNotes`` in a file. ``save`` is for one thread at a time."""

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._key = key

    def load(self) -> list[ScopeNote]:
        """See ``ScopeNotes.load``."""
        try:
            with self._path.open("rb") as file:
                data = file.read(_MAX_BYTES)
        except OSError:
            return []
        body, mac = data[len(_MAGIC) : -_MAC_BYTES], data[-_MAC_BYTES:]
        if not data.startswith(_MAGIC) or mac != self._mac(body):
            return []
        try:
            packed = msgspec.msgpack.decode(body, type=list[tuple[bytes, int, int]])
        except msgspec.DecodeError:  # of another version
            return []
        return [ScopeNote(scope, rows, size_bytes) for scope, rows, size_bytes in packed]

    def save(self, notes: Sequence[ScopeNote]) -> None:
        """See ``ScopeNotes.save``."""
        body = msgspec.msgpack.encode([(note.scope, note.rows, note.size_bytes) for note in notes])
        part = self._path.with_suffix(".part")
        try:
            part.write_bytes(_MAGIC + body + self._mac(body))
            part.replace(self._path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise CacheError(Kind.FULL, f"the scopes in use could not be noted: {error.strerror}") from None

    def _mac(self, body: bytes) -> bytes:
        return blake2b(body, digest_size=_MAC_BYTES, key=self._key).digest()
