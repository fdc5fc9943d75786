"""How a record looks on disk: framed, versioned, compressed above a size, sealed with a keyed digest.

LMDB 0.9 has no checksums and serves a flipped bit silently, so every record ends in a BLAKE2b MAC
over what it is (its kind), where it belongs (scope and id) and its bytes. A record that moved to
another key, or lost a bit, does not open. The key lives in the store's meta table: the MAC is an
integrity check, not a defence against somebody who can write the files.

Records are msgpack arrays; a field may be added at the end with a default, never moved.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from cachesvc.core.selection import Near, Selector
from cachesvc.core.types import Draft, Entry, Payload, Source, Vector

MAC_BYTES = 16
SOURCE_BYTES = 16
_FRAME_VERSION = 1
_ZSTD_LEVEL = 3
_FRAMES = (bytes((_FRAME_VERSION, 0)), bytes((_FRAME_VERSION, 1)))  # plain, compressed


class EntryBody(msgspec.Struct, array_like=True, frozen=True):
    """All of an entry but its id and scope, which the MAC binds."""

    namespace: str
    model: str
    context: bytes
    exact_key: bytes
    prompt: str
    response: bytes
    content_type: str
    metadata: dict[str, str]
    tags: list[str]
    sources: list[tuple[str, str]]
    input_tokens: int
    output_tokens: int
    cost_usd: float
    created_ms: int
    expires_ms: int
    sliding_ms: int = 0
    latest_ms: int = 0


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What is needed to find, rank, age or remove an entry without reading its body.

    ``sources`` holds digests of their ids, which may be long, and their versions.
    """

    scope: bytes
    exact_key: bytes
    namespace: str
    model: str
    tags: list[str]
    sources: list[tuple[bytes, str]]
    created_ms: int
    expires_ms: int
    sliding_ms: int
    latest_ms: int
    used_ms: int
    hits: int
    rank: float
    worth_usd: float
    size_bytes: int
    semantic: bool


class LogRecord(msgspec.Struct, array_like=True, frozen=True):
    """A change of a scope."""

    scope: bytes
    entry_id: int
    added: bool


class Usage(msgspec.Struct, array_like=True, frozen=True):
    """What a namespace holds."""

    entries: int
    size_bytes: int


class Ban(msgspec.Struct, array_like=True, frozen=True):
    """An invalidation: what began before it and is meant by it is not stored."""

    namespace: str | None
    tags: list[str]
    source_id: str | None
    except_version: str | None
    model: str | None
    before_ms: int | None
    since_ms: int | None
    near_vector: bytes | None
    near_min_score: float


_R = TypeVar("_R", bound=msgspec.Struct)


class BadRecordError(Exception):
    """A record does not open: wrong digest, wrong place, or unreadable bytes."""


class Sealer:
    """Seals and opens records with one key. Thread-safe: what it holds besides the key is decoders."""

    def __init__(self, key: bytes, compress_min_bytes: int) -> None:
        self._key = key
        self._compress_min_bytes = compress_min_bytes
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoders: dict[type[msgspec.Struct], msgspec.msgpack.Decoder[msgspec.Struct]] = {}

    def seal(self, record: msgspec.Struct, place: bytes) -> bytes:
        """``version, flags, body, MAC``; the MAC covers kind and place too."""
        return self.sealed(type(record), self.pack(record), place)

    def sealed(self, kind: type[msgspec.Struct], framed: bytes, place: bytes) -> bytes:
        """What ``pack`` gave, with its MAC."""
        return framed + self._mac(kind.__name__, place, framed)

    def pack(self, record: msgspec.Struct) -> bytes:
        """``version, flags, body``: what can be done before the place is known."""
        body = self._encode(record)
        compressed = 0
        if len(body) >= self._compress_min_bytes:
            packed = zstd.compress(body, _ZSTD_LEVEL)
            if len(packed) < len(body):
                body, compressed = packed, 1
        return _FRAMES[compressed] + body

    def open(self, kind: type[_R], place: bytes, sealed: bytes) -> _R:
        """The record, checked. Raises BadRecordError."""
        return self.open_as(kind, kind.__name__, place, sealed)

    def open_whole(self, kind: type[_R], place: bytes, sealed: bytes | None) -> _R | None:
        """As ``open``, for who passes over what is damaged as over what is not there: None."""
        try:
            return None if sealed is None else self.open(kind, place, sealed)
        except BadRecordError:
            return None

    def open_as(self, kind: type[_R], name: str, place: bytes, sealed: bytes) -> _R:
        """As ``open``, of a record that was sealed under the name of a kind in another schema."""
        framed, mac = sealed[:-MAC_BYTES], sealed[-MAC_BYTES:]
        if len(framed) < 2 or framed[0] != _FRAME_VERSION or mac != self._mac(name, place, framed):
            raise BadRecordError(name)
        return self._decode(kind, framed)

    def peek(self, kind: type[_R], sealed: bytes) -> _R:
        """What a record claims to be, its digest not looked at: to learn its place. Raises BadRecordError."""
        if len(sealed) < MAC_BYTES + 2:
            raise BadRecordError(kind.__name__)
        return self._decode(kind, sealed[:-MAC_BYTES])

    def _decode(self, kind: type[_R], framed: bytes) -> _R:
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.msgpack.Decoder(kind)
        try:
            body = zstd.ZstdDecompressor().decompress(framed[2:]) if framed[1] else framed[2:]
            record = decoder.decode(body)
        except (zstd.ZstdError, EOFError, msgspec.MsgspecError) as error:
            raise BadRecordError(kind.__name__) from error
        if not isinstance(record, kind):
            raise BadRecordError(kind.__name__)
        return record

    def pack_vector(self, vector: Vector) -> bytes:
        """float16 little-endian values. Scores from them are off by 0.00006 at most."""
        return bytes(vector.astype("<f2").data)

    def sealed_vector(self, values: bytes, place: bytes) -> bytes:
        """What ``pack_vector`` gave, with its MAC."""
        return values + self._mac("Vector", place, values)

    def open_vector(self, place: bytes, sealed: bytes) -> Vector:
        """The vector, checked, of unit norm and writable. Raises BadRecordError."""
        vector: Vector = unit(np.frombuffer(self.values(place, sealed), dtype="<f2")[np.newaxis])[0]
        return vector

    def values(self, place: bytes, sealed: bytes) -> bytes:
        """The bytes of a vector, checked: to make many at once of them. Raises BadRecordError."""
        values, mac = sealed[:-MAC_BYTES], sealed[-MAC_BYTES:]
        if mac != self._mac("Vector", place, values):
            raise BadRecordError("Vector")
        return values

    def key_for(self, purpose: bytes) -> bytes:
        """Another key, made from this one."""
        return blake2b(purpose, digest_size=32, key=self._key, person=b"key").digest()

    def _mac(self, kind: str, place: bytes, framed: bytes) -> bytes:
        mac = blake2b(place, digest_size=MAC_BYTES, key=self._key, person=kind.encode())
        mac.update(framed)
        return mac.digest()


def unit(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Stored vectors, one a row, as they are used: float32 and of unit norm again."""
    vectors: NDArray[np.float32] = halves.astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    vectors /= np.where(norms > 0, norms, 1)[:, np.newaxis]
    return vectors


def stacked(vectors: Sequence[bytes]) -> NDArray[np.float32]:
    """Stored values as vectors, one a row. Made all at once: one by one costs ten times as much."""
    if not vectors:
        return np.empty((0, 0), np.float32)
    return unit(np.frombuffer(b"".join(vectors), dtype="<f2").reshape(len(vectors), -1))


def body_of(draft: Draft) -> EntryBody:
    """A draft as the record that is stored."""
    payload = draft.payload
    return EntryBody(
        namespace=draft.identity.namespace,
        model=draft.identity.model,
        context=draft.identity.context,
        exact_key=draft.identity.exact_key,
        prompt=draft.prompt,
        response=payload.response,
        content_type=payload.content_type,
        metadata=dict(payload.metadata),
        tags=list(payload.tags),
        sources=[(source.id, source.version) for source in payload.sources],
        input_tokens=payload.input_tokens,
        output_tokens=payload.output_tokens,
        cost_usd=payload.cost_usd,
        created_ms=draft.created_ms,
        expires_ms=draft.expires_ms,
        sliding_ms=draft.sliding_ms,
        latest_ms=draft.latest_ms,
    )


@dataclass(frozen=True, slots=True)
class PackedDraft:
    """A draft with all done to it that can be done before it has an id."""

    draft: Draft
    body: bytes
    vector: bytes | None


def packed(sealer: Sealer, draft: Draft) -> PackedDraft:
    """For the caller's thread: encoding and compressing hold up no other write there."""
    vector = None if draft.vector is None else sealer.pack_vector(draft.vector)
    return PackedDraft(draft, sealer.pack(body_of(draft)), vector)


def source_digest(source_id: str) -> bytes:
    """What stands for a source's id in heads and keys."""
    return blake2b(source_id.encode(), digest_size=SOURCE_BYTES, person=b"source").digest()


def ban_of(selector: Selector) -> Ban:
    """An invalidation as the record that is stored."""
    near = selector.near
    return Ban(
        selector.namespace,
        list(selector.tags),
        selector.source_id,
        selector.except_version,
        selector.model,
        selector.before_ms,
        selector.since_ms,
        None if near is None else near.vector.astype("<f4").tobytes(),
        0.0 if near is None else near.min_score,
    )


def selector_of(ban: Ban) -> Selector:
    """A stored invalidation as the criteria it is."""
    near = None
    if ban.near_vector is not None:
        near = Near(np.frombuffer(ban.near_vector, dtype="<f4").astype(np.float32), ban.near_min_score)
    return Selector(
        ban.namespace,
        tuple(ban.tags),
        ban.source_id,
        ban.except_version,
        ban.model,
        ban.before_ms,
        ban.since_ms,
        near,
    )


def entry_of(entry_id: int, scope: bytes, body: EntryBody) -> Entry:
    """A stored record as the entry it is."""
    payload = Payload(  # by position: this is on the path of every hit
        body.response,
        body.content_type,
        body.metadata,
        tuple(body.tags),
        tuple([Source(*source) for source in body.sources]),
        body.input_tokens,
        body.output_tokens,
        body.cost_usd,
    )
    return Entry(
        entry_id,
        body.namespace,
        body.model,
        body.context,
        scope,
        body.exact_key,
        body.prompt,
        payload,
        body.created_ms,
        body.expires_ms,
        body.sliding_ms,
        body.latest_ms,
    )
