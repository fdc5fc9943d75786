"""The write path: store and delete. Also reading one entry by its id, which needs the same checks.

A row is written, durable, before the caller is answered, and its log record is part of the same
transaction; the indexes follow the log before they next search. So there is no moment at which an
index knows what the store does not, or an acknowledged entry is not found.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EntriesRemoved, StoreDone
from cachesvc.core.identity import identify
from cachesvc.core.policy import lifetime_ms
from cachesvc.core.tickets import Ticket, check_agrees
from cachesvc.core.types import (
    Draft,
    Entry,
    Identity,
    Keep,
    Lost,
    Receipt,
    Removal,
    StoreResult,
    Unseen,
    Vector,
)
from cachesvc.engine.parts import EmbedBudget, Parts, check_size, put_with_room, tell_removed

_EXACT_ONLY = "the policy of this namespace has the exact tier only"


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A Keep that passed every check. ``reason`` says why it is exact-only, if it is; ``ticket`` is of its lookup."""

    keep: Keep
    draft: Draft
    unseen: Unseen | None
    reason: str
    ticket: Ticket | None


@dataclass(frozen=True, slots=True)
class _Begun:
    """When a call began, before anything was embedded: an invalidation that comes meanwhile is to cover it."""

    epoch: int
    at_ms: int


class Admit:
    """Takes Keeps. Thread-safe."""

    def __init__(
        self,
        parts: Parts,
        learn: Callable[[str, Ticket, bytes], None] = lambda lookup_id, ticket, answer: None,
    ) -> None:
        """``learn`` takes the fresh answer to a lookup that is remembered; it does not block."""
        self._learn = learn
        self._store = parts.store
        self._embedder = parts.embedder
        self._tickets = parts.tickets
        self._janitor = parts.janitor
        self._tuning = parts.tuning
        self._clock = parts.clock
        self._observer = parts.observer

    def store(self, keep: Keep) -> StoreResult:
        """Store one response. Raises INVALID, REFUSED, OVERLOADED, DEADLINE or UNAVAILABLE."""
        result = self.store_many([keep])[0]
        if isinstance(result, CacheError):
            raise result
        return result

    def store_many(
        self, keeps: Sequence[Keep], wanted: Callable[[], bool] = lambda: True
    ) -> list[StoreResult | CacheError]:
        """Store responses in one durable commit. An item that is wrong fails alone.

        ``wanted`` is asked before each item; once it says no, nothing is stored. Raises UNAVAILABLE then.
        """
        started_s = self._clock.monotonic_s()
        begun = _Begun(self._store.epoch(), self._clock.now_ms())
        admitted = [self._try_admit(keep, begun) for keep in keeps if wanted()]
        if len(admitted) < len(keeps):
            raise CacheError(Kind.UNAVAILABLE, "the caller is gone, or the server is stopping")
        good = [item for item in admitted if isinstance(item, _Admitted)]
        if not good:
            return [item for item in admitted if isinstance(item, CacheError)]
        try:
            drafts = [item.draft for item in good]
            receipts = iter(put_with_room(self._store, self._janitor, drafts, self._wait_s(good)))
        except CacheError as error:
            return [error if isinstance(item, _Admitted) else item for item in admitted]
        took_us = int((self._clock.monotonic_s() - started_s) * 1e6)
        return [
            self._done(item, next(receipts), took_us) if isinstance(item, _Admitted) else item
            for item in admitted
        ]

    def delete(self, namespace: str, entry_id: int) -> bool:
        """Remove an entry of a namespace. Whether it was there."""
        if self._store.namespace_of(entry_id) != namespace:
            return False
        removed = self._store.remove([entry_id])
        self._observer.on(EntriesRemoved(Removal.DELETED, removed))
        return removed > 0

    def get(self, namespace: str, entry_id: int) -> Entry | None:
        """An entry of a namespace that has not expired, or None; a damaged one is dropped and None."""
        if self._store.namespace_of(entry_id) != namespace:
            return None
        row = self._store.get(entry_id)
        if isinstance(row, Lost):
            self._janitor.quarantine(entry_id)
            return None
        return None if row is None or row.expires_ms <= self._clock.now_ms() else row

    def _try_admit(self, keep: Keep, begun: _Begun) -> "_Admitted | CacheError":
        try:
            return self._admit(keep, begun)
        except CacheError as error:
            return error

    def _admit(self, keep: Keep, begun: _Begun) -> _Admitted:
        identity, ticket = self._identity(keep)
        tuning = self._tuning()
        policy = tuning.policies.of(identity.namespace)
        if not policy.enabled:
            raise CacheError(
                Kind.REFUSED, f"the policy of namespace {identity.namespace!r} turns the cache off"
            )
        vector, unseen, reason = None, None, _EXACT_ONLY
        semantic = policy.embeds
        if semantic:
            embedded = None if ticket is None else ticket.embedded
            vector, unseen, reason = self._vector(keep, identity, embedded, tuning.budget)
        lives_ms = lifetime_ms(policy, keep.ttl_ms)
        draft = Draft(
            identity=identity,
            payload=keep.payload,
            prompt=identity.text if policy.store_prompts else "",
            vector=vector,
            created_ms=begun.at_ms,
            expires_ms=begun.at_ms + lives_ms,
            sliding_ms=lives_ms if policy.sliding_ttl else 0,
            latest_ms=begun.at_ms + policy.max_ttl_ms,
            epoch=begun.epoch if ticket is None else ticket.epoch,
            quota=policy.quota,
            unembedded=semantic and vector is None and unseen is None,
        )
        check_size(draft)
        return _Admitted(keep, draft, unseen, reason, ticket)

    def _identity(self, keep: Keep) -> tuple[Identity, Ticket | None]:
        ticket = self._tickets.find(keep.lookup_id) if keep.lookup_id else None
        if ticket is not None:
            if keep.request is not None:
                check_agrees(keep.request, ticket, self._embedder.fingerprint)
            return ticket.identity, ticket
        if keep.request is None or not keep.request.messages:
            raise CacheError(
                Kind.REFUSED,
                "lookup_id: is not known any more; send the identity fields (prompt or chat, model, vary) too",
            )
        return identify(keep.request, self._embedder.fingerprint), None

    def _vector(
        self, keep: Keep, identity: Identity, embedded: Vector | Unseen | None, budget: EmbedBudget
    ) -> tuple[Vector | None, Unseen | None, str]:
        """The vector to store, or why there is none. A failing embedder costs the semantic tier only."""
        if embedded is None:
            try:
                embedded = self._embedder.embed(
                    identity.text, self._embed_wait_s(keep, budget), identity.namespace
                )
            except CacheError as error:
                return None, None, error.message
        if isinstance(embedded, Unseen):
            return None, embedded, embedded.value
        return embedded, None, ""

    def _embed_wait_s(self, keep: Keep, budget: EmbedBudget) -> float:
        if keep.deadline_s is None:
            return budget.max_wait_s
        return max(min(budget.max_wait_s, keep.deadline_s - self._clock.monotonic_s()), 0.0)

    def _wait_s(self, admitted: Sequence[_Admitted]) -> float | None:
        deadlines = [item.keep.deadline_s for item in admitted if item.keep.deadline_s is not None]
        return max(min(deadlines) - self._clock.monotonic_s(), 0.0) if deadlines else None

    def _done(self, item: _Admitted, receipt: Receipt | None, took_us: int) -> StoreResult | CacheError:
        if receipt is None:
            return CacheError(
                Kind.REFUSED,
                "an invalidation that came after this response was begun covers it: make it anew",
            )
        if item.ticket is not None:
            self._learn(item.keep.lookup_id, item.ticket, item.draft.payload.response)
        semantic = item.draft.vector is not None
        tell_removed(self._observer, receipt)
        self._observer.on(
            StoreDone(
                namespace=item.draft.identity.namespace,
                trace=item.keep.trace,
                journey=item.keep.journey,
                request_id=item.keep.request_id,
                entry_id=receipt.entry_id,
                replaced=receipt.replaced_id is not None,
                semantic=semantic,
                unseen=item.unseen,
                response_bytes=len(item.draft.payload.response),
                total_us=took_us,
            )
        )
        return StoreResult(
            receipt.entry_id, receipt.replaced_id, item.draft.expires_ms, semantic, item.reason
        )
