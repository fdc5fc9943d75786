"""What somebody says of a reuse: right, wrong, or a fresh answer to compare with. Durable before the reply.

A verdict of wrong is a veto: that reuse is refused from then on, and those much like it; after some, each of another
request, the entry goes. A fresh answer is a label and no veto: models answer the same question in different ways, and
what a comparator takes for another answer is not worth refusing a reuse for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EntriesRemoved, FeedbackDone
from cachesvc.core.identity import identify
from cachesvc.core.ports import TicketBook
from cachesvc.core.tickets import Ticket, check_agrees
from cachesvc.core.trust.labels import NOTHING, Label, Origin, Tally, VetoPair
from cachesvc.core.types import Candidate, Entry, Identity, Lost, Removal, Request, Unseen, Vector
from cachesvc.engine.guard import Guard
from cachesvc.engine.labelling import Case, Labeller, answered, label_key
from cachesvc.engine.trust_parts import TrustParts
from cachesvc.engine.vetoes import Vetoes

_EMBED_WAIT_S = 5.0  # at most: nobody's answer waits for it


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said, of which reuse: by ``lookup_id``, or by entry and request. ``said`` is a verdict, or a fresh answer.

    A request without messages gives no identity, but what it has must agree with the lookup's. ``deadline_s`` as in Ask.
    """

    request: Request
    lookup_id: str
    entry_id: int | None
    said: bool | bytes
    source: str
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of it: see ``SubmitFeedbackResponse``."""

    same: bool | None
    known: bool
    vetoed: bool
    quarantined: bool


@dataclass(frozen=True, slots=True)
class _Reuse:
    """An entry and the request that it was, or may be, served for. ``vector`` is None for an identical request."""

    identity: Identity
    vector: Vector | None
    entry: Entry
    candidates: tuple[Candidate, ...]
    ticket: Ticket | None

    @property
    def is_exact(self) -> bool:
        return self.identity.exact_key == self.entry.exact_key


class Feedback:
    """Takes judgements. Thread-safe. Raises INVALID, NOT_FOUND, REFUSED, OVERLOADED, FULL or UNAVAILABLE."""

    def __init__(
        self,
        parts: TrustParts,
        tickets: TicketBook,
        embedder: Guard,
        labeller: Labeller,
        vetoes: Vetoes,
        count: Callable[[str, Tally], None],
    ) -> None:
        """``count`` takes what a namespace's lookups came to."""
        self._parts = parts
        self._tickets = tickets
        self._embedder = embedder
        self._labeller = labeller
        self._vetoes = vetoes
        self._count = count

    def __call__(self, judgement: Judgement) -> Heard:
        """Take one."""
        reuse = self._reuse(judgement)
        heard = self._heard(judgement, reuse)
        self._parts.observer.on(
            FeedbackDone(
                namespace=reuse.entry.namespace,
                source=judgement.source,
                entry_id=reuse.entry.id,
                same=heard.same,
                fresh=isinstance(judgement.said, bytes),
                known=heard.known,
                vetoed=heard.vetoed,
                quarantined=heard.quarantined,
            )
        )
        return heard

    def _reuse(self, judgement: Judgement) -> _Reuse:
        ticket = self._tickets.find(judgement.lookup_id) if judgement.lookup_id else None
        if ticket is not None:
            return self._of_ticket(judgement, ticket)
        if judgement.entry_id is None or not judgement.request.messages:
            raise CacheError(
                Kind.REFUSED,
                "lookup_id: is not of a semantic hit that is remembered; send entry_id and the request (prompt or chat, "
                "model, vary) too",
            )
        return self._of_entry(judgement, judgement.entry_id)

    def _of_ticket(self, judgement: Judgement, ticket: Ticket) -> _Reuse:
        if ticket.served is None or ticket.origin is not None:
            raise CacheError.invalid("lookup_id", "is of a miss: nothing was served that could be judged")
        check_agrees(judgement.request, ticket, self._embedder.fingerprint)
        if judgement.entry_id not in (None, ticket.served):
            raise CacheError.invalid("entry_id", "is not the entry that was served to this lookup_id")
        entry = self._entry(ticket.identity.namespace, ticket.served)
        vector = None if isinstance(ticket.embedded, Unseen) else ticket.embedded
        return _Reuse(ticket.identity, vector, entry, ticket.candidates, ticket)

    def _of_entry(self, judgement: Judgement, entry_id: int) -> _Reuse:
        request = judgement.request
        identity = identify(request, self._embedder.fingerprint)
        entry = self._entry(identity.namespace, entry_id)
        if entry.scope != identity.scope:
            raise CacheError.invalid(
                request.query_field,
                "is of a request that this entry cannot be served for: model, vary and the turns before must be those "
                "of the lookup",
            )
        if entry.exact_key == identity.exact_key:
            return _Reuse(identity, None, entry, (), None)
        (theirs,) = self._parts.store.vectors(identity.scope, [entry.id])
        if theirs is None:
            raise CacheError.invalid(
                "entry_id", "is of an entry that is served for its identical request only"
            )
        vector = self._embedder.embed(identity.text, self._wait_s(judgement), identity.namespace)
        if isinstance(vector, Unseen):
            raise CacheError.invalid(
                request.query_field, f"is a request that no entry is served for by meaning: {vector.value}"
            )
        return _Reuse(identity, vector, entry, (Candidate(entry.id, float(vector @ theirs)),), None)

    def _entry(self, namespace: str, entry_id: int) -> Entry:
        row = None
        if self._parts.store.namespace_of(entry_id) == namespace:
            row = self._parts.store.get(entry_id)
        if row is None or isinstance(row, Lost):
            raise CacheError(Kind.NOT_FOUND, f"entry_id: no entry {entry_id:016x} in namespace {namespace}")
        return row

    def _wait_s(self, judgement: Judgement) -> float:
        if judgement.deadline_s is None:
            return _EMBED_WAIT_S
        return max(min(_EMBED_WAIT_S, judgement.deadline_s - self._parts.clock.monotonic_s()), 0.0)

    def _heard(self, judgement: Judgement, reuse: _Reuse) -> Heard:
        if reuse.is_exact:
            return self._heard_exact(judgement, reuse)
        label = self._labeller.judge(
            _case(judgement, reuse),
            self._parts.policies().of(reuse.entry.namespace),
            self._wait_s(judgement),
        )
        if judgement.said is False:
            return self._vetoed(reuse, label)
        if label is None or label.served is None:
            raise CacheError(Kind.NOT_FOUND, f"entry_id: entry {reuse.entry.id:016x} has expired")
        same = label.candidates[label.served].same
        added = self._parts.trust.add(reuse.entry.namespace, [label], NOTHING)
        if added:
            self._told(reuse, label)
        return Heard(same, known=not added, vetoed=False, quarantined=False)

    def _heard_exact(self, judgement: Judgement, reuse: _Reuse) -> Heard:
        """Of the identical request: nothing is learned of reuse, but that an entry is wrong counts against it."""
        if judgement.said is not False:
            same = judgement.said if isinstance(judgement.said, bool) else None
            return Heard(same, known=False, vetoed=False, quarantined=False)
        return self._vetoed(reuse, None)

    def _vetoed(self, reuse: _Reuse, label: Label | None) -> Heard:
        parts, entry = self._parts, reuse.entry
        (theirs,) = parts.store.vectors(entry.scope, [entry.id])
        nothing = np.zeros(self._embedder.dimension, np.float32)
        veto = VetoPair(
            entry.scope,
            reuse.identity.exact_key,
            entry.exact_key,
            nothing if reuse.vector is None else reuse.vector,
            nothing if theirs is None else theirs,
            parts.clock.now_ms(),
        )
        is_new = parts.trust.add_veto(entry.namespace, veto, label, entry.created_ms)
        if is_new and label is not None:
            self._told(reuse, label)
        quarantined = self._quarantined(entry)
        return Heard(False, known=not is_new, vetoed=not reuse.is_exact, quarantined=quarantined)

    def _quarantined(self, entry: Entry) -> bool:
        """An entry that is wrong for so many requests is wrong: it goes. Asked again when this was told before, for
        the service may have died in between.
        """
        most = self._parts.policies().of(entry.namespace).trust.quarantine_after
        if self._vetoes.accusers(entry.scope, entry) < most:
            return False
        removed = self._parts.store.remove([entry.id])
        if removed:
            self._parts.observer.on(EntriesRemoved(Removal.JUDGED_WRONG, removed))
        return True

    def _told(self, reuse: _Reuse, label: Label) -> None:
        self._labeller.tell(label)
        if label.origin is Origin.AUDIT and label.verdict is not None:
            self._count(reuse.entry.namespace, Tally(audits_answered=1))


def _case(judgement: Judgement, reuse: _Reuse) -> Case:
    ticket, said = reuse.ticket, judgement.said
    if ticket is not None and isinstance(said, bytes):
        audited = answered(judgement.lookup_id, ticket, said)
        if audited is not None:
            return audited
    what = f"{Origin.FEEDBACK.name} {said if isinstance(said, bool) else 'fresh'}"
    pair = (reuse.identity.exact_key, reuse.entry.exact_key)
    return Case(
        key=label_key(what, *(pair if ticket is None else (judgement.lookup_id.encode(),))),
        identity=reuse.identity,
        candidates=reuse.candidates,
        served=reuse.entry.id,
        origin=Origin.FEEDBACK,
        share=1.0,
        rule_version=0 if ticket is None else ticket.rule_version,
        answer=said,
        vector=reuse.vector,
    )
