"""Entries out of a store and into one: exported as they are, imported where they are not yet, or not as new.

An import is idempotent: what is there already, as new or newer, is left alone, and so is the same response up
to a minute older, for one from a clock that is ahead is stored as of now. So one that was cut off is done again. Entries keep when they were stored and when they end; their ids are the new store's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.identity import carried
from cachesvc.core.types import Draft, Entry, Identity, Lost, Payload, Unseen, Vector
from cachesvc.engine.parts import Parts, check_size, put_with_room, tell_removed

_BATCH_COUNT = 64
_MAX_ERRORS = 20
_UNIT_TOLERANCE = 1e-3
_EMBED_WAIT_S = 30.0  # nobody waits for an import as for a lookup: it takes its turn among them
_MAX_AHEAD_MS = 60_000  # by which the clock of another machine may differ


@dataclass(frozen=True, slots=True)
class Exported:
    """An entry on its way out. ``vector`` is None when it has none, or none was asked for."""

    entry: Entry
    vector: Vector | None
    semantic: bool


@dataclass(frozen=True, slots=True)
class Incoming:
    """An entry on its way in. ``fingerprint`` is of the embedder that ``exact_key`` and ``vector`` are of."""

    namespace: str
    model: str
    context: bytes
    exact_key: bytes
    prompt: str
    payload: Payload
    vector: Vector | None
    semantic: bool
    created_ms: int
    expires_ms: int
    sliding_ms: int
    latest_ms: int
    fingerprint: str


@dataclass(slots=True)
class Tally:
    """What an import came to so far; ``errors`` are the first few reasons."""

    read: int = 0
    stored: int = 0
    unchanged: int = 0
    expired: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        """An entry could not be stored."""
        self.failed += 1
        if len(self.errors) < _MAX_ERRORS:
            self.errors.append(f"record {self.read}: {reason}")


class Mover:
    """Thread-safe: every export and import has a state of its own."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._embedder = parts.embedder
        self._tuning = parts.tuning
        self._janitor = parts.janitor
        self._clock = parts.clock
        self._observer = parts.observer

    @property
    def fingerprint(self) -> str:
        """Of the embedder in use."""
        return self._embedder.fingerprint

    def export(self, namespace: str, after_id: int, *, vectors: bool) -> Iterator[Exported]:
        """Entries in order of id that have not expired. What is stored meanwhile may or may not be among them."""
        while ids := self._store.ids(after_id, _BATCH_COUNT):
            for entry_id in ids:
                row = self._store.get(entry_id)
                if isinstance(row, Lost):
                    self._janitor.quarantine(entry_id)
                elif row is not None and self._is_meant(row, namespace):
                    yield self._exported(row, vectors=vectors)
            after_id = ids[-1]

    def _is_meant(self, entry: Entry, namespace: str) -> bool:
        return namespace in ("", entry.namespace) and entry.expires_ms > self._clock.now_ms()

    def _exported(self, entry: Entry, *, vectors: bool) -> Exported:
        (vector,) = self._store.vectors(entry.scope, [entry.id])
        return Exported(entry, vector if vectors else None, vector is not None)

    def import_(self, entries: Iterable[Incoming | CacheError]) -> Iterator[Tally]:
        """Store what is not there as new. A tally after each batch, and the last one."""
        tally, epoch = Tally(), self._store.epoch()
        batch: list[Draft] = []
        for incoming in entries:
            tally.read += 1
            try:
                draft = self._draft(incoming, epoch, tally)
            except CacheError as error:
                tally.fail(error.message)
                continue
            if draft is not None:
                batch.append(draft)
            if len(batch) == _BATCH_COUNT:
                self._put(batch, tally)
                batch.clear()
                yield tally
        if batch:
            self._put(batch, tally)
        yield tally

    def _draft(self, incoming: Incoming | CacheError, epoch: int, tally: Tally) -> Draft | None:
        if isinstance(incoming, CacheError):
            raise incoming
        now_ms = self._clock.now_ms()
        if (
            incoming.created_ms > now_ms + _MAX_AHEAD_MS
        ):  # the store's time, which never goes back, would follow
            raise CacheError.invalid("entry.create_time", "lies in the future")
        policy = self._tuning().policies.of(incoming.namespace)
        created_ms = min(incoming.created_ms, now_ms)  # time goes on from the latest that a store has seen
        last_ms = created_ms + policy.max_ttl_ms
        if min(incoming.expires_ms, last_ms) <= now_ms:
            tally.expired += 1
            return None
        if not policy.enabled:
            raise CacheError(
                Kind.REFUSED, f"the policy of namespace {incoming.namespace!r} turns the cache off"
            )
        identity = self._identity(incoming)
        row = self._store.find(identity.scope, identity.exact_key)
        if isinstance(row, Entry) and _is_as_new(row, incoming):
            tally.unchanged += 1
            return None
        semantic = policy.semantic and policy.store_prompts and incoming.semantic
        draft = Draft(
            identity=identity,
            payload=incoming.payload,
            prompt=incoming.prompt if policy.store_prompts else "",
            vector=self._vector(incoming) if semantic else None,
            created_ms=created_ms,
            expires_ms=min(incoming.expires_ms, last_ms),
            sliding_ms=incoming.sliding_ms,
            latest_ms=min(incoming.latest_ms, last_ms),
            epoch=epoch,
            quota=policy.quota,
        )
        check_size(draft)
        return draft

    def _identity(self, incoming: Incoming) -> Identity:
        identity = carried(
            incoming.namespace, incoming.model, incoming.context, incoming.prompt, self.fingerprint
        )
        if incoming.fingerprint != self.fingerprint:
            if not incoming.prompt:
                raise CacheError(Kind.REFUSED, "has no prompt, and its keys are another embedder's")
            return identity
        if not incoming.prompt:  # its key is all that is known
            return Identity(
                identity.namespace, identity.model, identity.context, identity.scope, incoming.exact_key, ""
            )
        if identity.exact_key != incoming.exact_key:
            raise CacheError.invalid("exact_key", "is not that of the context and the prompt")
        return identity

    def _vector(self, incoming: Incoming) -> Vector | None:
        vector = incoming.vector
        if vector is None or incoming.fingerprint != self.fingerprint:
            if not incoming.prompt:
                return None
            embedded = self._embedder.embed(incoming.prompt, _EMBED_WAIT_S, incoming.namespace)
            return None if isinstance(embedded, Unseen) else embedded
        if vector.shape != (self._embedder.dimension,) or not np.isfinite(vector).all():
            raise CacheError.invalid("vector", f"must be {self._embedder.dimension} finite float32 values")
        if abs(float(vector @ vector) - 1) > _UNIT_TOLERANCE:
            raise CacheError.invalid("vector", "must have unit norm")
        return vector

    def _put(self, batch: list[Draft], tally: Tally) -> None:
        try:
            receipts = put_with_room(self._store, self._janitor, batch, None)
        except CacheError as error:
            for _ in batch:
                tally.fail(error.message)
            return
        for receipt in receipts:
            if receipt is None:
                tally.fail("an invalidation since the import began covers it")
            else:
                tally.stored += 1
                tell_removed(self._observer, receipt)


def _is_as_new(row: Entry, incoming: Incoming) -> bool:
    """Whether what is there need not be replaced: it may be the same entry, stored before its time had come."""
    same_ms = _MAX_AHEAD_MS if row.payload == incoming.payload else 0
    return row.created_ms >= incoming.created_ms - same_ms
