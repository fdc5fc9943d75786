"""The read path: one lookup, top to bottom."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import LookupDone
from cachesvc.core.identity import canonical_vary, identify
from cachesvc.core.policy import Policy, Terms, decide, eligible, refuse
from cachesvc.core.ports import Clock
from cachesvc.core.tickets import Ticket
from cachesvc.core.types import (
    Ask,
    Candidate,
    Decision,
    Entry,
    Identity,
    LookupResult,
    Lost,
    Outcome,
    Row,
    Timings,
    Unseen,
    Vector,
)
from cachesvc.engine.parts import EmbedBudget, Parts
from cachesvc.engine.views import ScopeLoadingError, ScopeTooLargeError

_UNSEEN_OUTCOMES: Mapping[Unseen, Outcome] = {reason: Outcome[f"MISS_{reason.name}"] for reason in Unseen}


@dataclass(frozen=True, slots=True)
class _Found:
    """What the search came to, and what a ticket should remember of it."""

    decision: Decision
    threshold: float | None = None
    embedded: Vector | Unseen | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A lookup that the exact tier did not answer. ``row`` is what it has, and ``refusal`` why it may not serve that."""

    ask: Ask
    identity: Identity
    policy: Policy
    terms: Terms
    budget: EmbedBudget
    watch: "_Watch"
    row: Row | None
    refusal: Outcome | None


class Lookup:
    """Answers Asks. Thread-safe; raises CacheError INVALID only: whatever else fails is an outcome."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._embedder = parts.embedder
        self._views = parts.views
        self._tickets = parts.tickets
        self._janitor = parts.janitor
        self._tuning = parts.tuning
        self._clock = parts.clock
        self._observer = parts.observer
        self._new_id = parts.new_id

    def __call__(self, ask: Ask) -> LookupResult:
        """Look up one request."""
        begun = self.begin(ask)
        return begun if isinstance(begun, LookupResult) else self.finish(begun)

    def begin(self, ask: Ask) -> "LookupResult | Begun":
        """The answer when the exact tier has it, else what there is to ``finish``. Waits for nothing but the store's
        pages.
        """
        watch = _Watch(self._clock)
        tuning = self._tuning()
        identity = identify(ask.request, self._embedder.fingerprint)
        watch.lap("identity_us")
        policy = tuning.policies.of(identity.namespace)
        terms = Terms.of(policy, ask, self._clock.now_ms())
        row: Row | None = None
        refusal: Outcome | None = None
        if policy.enabled and not ask.bypass:
            try:
                row = self._store.find(identity.scope, identity.exact_key)
            except CacheError:
                return self._done(ask, identity, watch, _Found(Decision(Outcome.BYPASS_STORE_FAILED)))
            watch.lap("exact_us")
            refusal = None if row is None else refuse(row, terms)
            if isinstance(row, Entry) and refusal is None:
                return self._done(ask, identity, watch, _Found(Decision(Outcome.HIT_EXACT, row, 1.0)))
        return Begun(ask, identity, policy, terms, tuning.budget, watch, row, refusal)

    def finish(self, begun: "Begun") -> LookupResult:
        """The answer to a lookup that was begun."""
        return self._done(begun.ask, begun.identity, begun.watch, self._find(begun))

    def _done(self, ask: Ask, identity: Identity, watch: "_Watch", found: _Found) -> LookupResult:
        watch.stop()
        result = self._result(found, watch.timings)
        self._remember(ask, identity, found, result)
        self._observer.on(_event(ask, result))
        return result

    def _find(self, begun: "Begun") -> _Found:
        """The ladder after the exact tier: each step answers, or hands on to a dearer one."""
        ask, identity, policy = begun.ask, begun.identity, begun.policy
        terms, watch, refusal = begun.terms, begun.watch, begun.refusal
        if not policy.enabled:
            return _Found(Decision(Outcome.BYPASS_DISABLED))
        if ask.bypass:
            return _Found(Decision(Outcome.BYPASS_REQUESTED))
        if begun.row is not None:
            self._repair(identity, begun.row, refusal)
        if ask.exact_only or not policy.embeds:
            return _Found(Decision(refusal or Outcome.MISS_EXACT_ONLY))
        embedded = self._embed(ask, identity, begun.budget)
        watch.lap("embed_us")
        if isinstance(embedded, Outcome):
            return _Found(Decision(refusal or embedded))
        if isinstance(embedded, Unseen):
            return _Found(Decision(refusal or _UNSEEN_OUTCOMES[embedded]), embedded=embedded)

        decision = self._search(ask, identity, embedded, policy, terms, watch)
        if refusal is not None and not decision.outcome.is_hit:  # the identical request is the nearest
            decision = replace(decision, outcome=refusal)
        return _Found(decision, terms.threshold, embedded)

    def _embed(self, ask: Ask, identity: Identity, budget: EmbedBudget) -> Vector | Unseen | Outcome:
        wait_s = budget.max_wait_s
        if ask.deadline_s is not None:
            wait_s = min(wait_s, ask.deadline_s - self._clock.monotonic_s() - budget.min_left_s)
            if wait_s <= 0:
                return Outcome.BYPASS_DEADLINE
        try:
            return self._embedder.embed(identity.text, wait_s, identity.namespace)
        except CacheError as error:
            busy = error.kind is Kind.OVERLOADED
            return Outcome.BYPASS_EMBEDDER_BUSY if busy else Outcome.BYPASS_EMBEDDER_FAILED

    def _search(
        self, ask: Ask, identity: Identity, vector: Vector, policy: Policy, terms: Terms, watch: "_Watch"
    ) -> Decision:
        wait_s = None if ask.deadline_s is None else ask.deadline_s - self._clock.monotonic_s()
        try:
            candidates = self._views.search(identity.scope, vector, policy.candidate_count, wait_s)
            watch.lap("search_us")
            decision = self._decide(identity, candidates[:1], terms, watch)  # mostly the nearest will do
            if not decision.outcome.is_hit and len(eligible(candidates, terms)) > 1:
                decision = self._decide(identity, candidates, terms, watch)
        except ScopeLoadingError:
            return Decision(Outcome.BYPASS_DEADLINE)
        except ScopeTooLargeError:
            return Decision(Outcome.BYPASS_SCOPE_TOO_LARGE)
        except CacheError:
            return Decision(Outcome.BYPASS_STORE_FAILED)
        return decision

    def _decide(
        self, identity: Identity, candidates: list[Candidate], terms: Terms, watch: "_Watch"
    ) -> Decision:
        ids = [candidate.entry_id for candidate in eligible(candidates, terms)]
        rows = dict(zip(ids, self._store.fetch(identity.scope, ids), strict=True)) if ids else {}
        watch.lap("fetch_us")
        decision = decide(identity.text, candidates, rows, terms)
        watch.lap("decide_us")
        for row in rows.values():
            refusal = refuse(row, terms)
            if refusal is not None:
                self._repair(identity, row, refusal)
        return decision

    def _repair(self, identity: Identity, row: Row, refusal: Outcome | None) -> None:
        """What was found and may not be served is put right behind the request."""
        if isinstance(row, Lost) and row.corrupt:
            self._janitor.quarantine(row.entry_id)
        elif isinstance(row, Lost):
            self._views.forget(identity.scope, row.entry_id)
        elif refusal is Outcome.MISS_EXPIRED:
            self._janitor.wake()

    def _result(self, found: _Found, timings: Timings) -> LookupResult:
        decision = found.decision
        entry = decision.entry
        return LookupResult(
            outcome=decision.outcome,
            lookup_id=self._new_id(),
            timings=timings,
            entry=entry,
            score=decision.score,
            best_score=None if decision.outcome.is_hit else decision.best_score,
            threshold=found.threshold,
            age_ms=None if entry is None else max(self._clock.now_ms() - entry.created_ms, 0),
        )

    def _remember(self, ask: Ask, identity: Identity, found: _Found, result: LookupResult) -> None:
        if result.entry is not None:
            self._janitor.note_used(result.entry.id)
            return
        try:
            epoch = self._store.epoch()
        except CacheError:
            return  # a store that cannot be read will take no answer either
        ticket = Ticket(identity, canonical_vary(ask.request), found.embedded, epoch)
        self._tickets.keep(result.lookup_id, ticket)


class _Watch:
    """Times the stages of one lookup."""

    def __init__(self, clock: Clock) -> None:
        self.timings = Timings()
        self._read_s = clock.monotonic_s
        self._started_s = self._lap_s = clock.monotonic_s()

    def lap(self, stage: str) -> None:
        """The time since the last lap was this stage's."""
        now_s = self._read_s()
        setattr(self.timings, stage, getattr(self.timings, stage) + int((now_s - self._lap_s) * 1e6))
        self._lap_s = now_s

    def stop(self) -> None:
        """The lookup is over."""
        self.timings.total_us = int((self._read_s() - self._started_s) * 1e6)


def _event(ask: Ask, result: LookupResult) -> LookupDone:
    saved = None if result.entry is None else result.entry.payload
    return LookupDone(
        outcome=result.outcome,
        namespace=ask.request.namespace,
        model=ask.request.model,
        trace=ask.trace,
        journey=ask.journey,
        request_id=ask.request_id,
        lookup_id=result.lookup_id,
        timings=result.timings,
        score=result.score if result.score is not None else result.best_score,
        threshold=result.threshold,
        entry_id=None if result.entry is None else result.entry.id,
        saved_input_tokens=0 if saved is None else saved.input_tokens,
        saved_output_tokens=0 if saved is None else saved.output_tokens,
        saved_cost_usd=0.0 if saved is None else saved.cost_usd,
    )
