"""The read path: one lookup, top to bottom.

The exact tier answers in ``begin``, which waits for nothing but the store's pages and draws a coin only where the mode
says canary. What decides on reuse by meaning is ``core.deciding``; what becomes of a hit after that (the mode, the
brake, holding back, audits) is here, in ``_dispose``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cachesvc.core.deciding import Terms, closed, refuse, served_share, withheld
from cachesvc.core.errors import CacheError
from cachesvc.core.events import LookupDone, Opinion
from cachesvc.core.identity import canonical_vary, identify
from cachesvc.core.policy import Mode, Policy
from cachesvc.core.ports import Clock
from cachesvc.core.tickets import Ticket
from cachesvc.core.trust.labels import Origin, Tally
from cachesvc.core.trust.state import Brake, Stance
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
from cachesvc.engine.judge import Judge, Rows
from cachesvc.engine.parts import EmbedBudget, Parts

UNSEEN_OUTCOMES: Mapping[Unseen, Outcome] = {reason: Outcome[f"MISS_{reason.name}"] for reason in Unseen}

_ORIGINS = {
    Outcome.MISS_SHADOW: Origin.SHADOW,
    Outcome.MISS_BRAKED: Origin.SHADOW,
    Outcome.MISS_HELD_BACK: Origin.HELD_BACK,
}


@dataclass(frozen=True, slots=True)
class _Found:
    """What the search came to, and what a ticket should remember of it: see ``Ticket``."""

    decision: Decision
    threshold: float | None = None
    embedded: Vector | Unseen | None = None
    candidates: tuple[Candidate, ...] = ()
    rule_version: int = 0
    opinion: Opinion = ""
    share: float = 1.0
    audit: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """A lookup that the exact tier did not answer. ``row`` is what it has, and ``refusal`` why it may not serve that;
    ``serves``: the mode lets what hits be served.
    """

    ask: Ask
    identity: Identity
    policy: Policy
    terms: Terms
    budget: EmbedBudget
    watch: "_Watch"
    row: Row | None
    refusal: Outcome | None
    serves: bool


class Lookup:
    """Answers Asks. Thread-safe; raises CacheError INVALID only: whatever else fails is an outcome."""

    def __init__(self, parts: Parts) -> None:
        self._judge = Judge(parts)
        self._reuse = parts.reuse
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
        terms = Terms.of(ask, self._clock.now_ms())
        serves = policy.mode is Mode.ON or self._is_chosen(served_share(policy))
        row: Row | None = None
        refusal: Outcome | None = None
        if policy.enabled and not ask.bypass:
            try:
                row = self._store.find(identity.scope, identity.exact_key)
            except CacheError:
                return self._done(ask, identity, watch, _Found(Decision(Outcome.BYPASS_STORE_FAILED)))
            watch.lap("exact_us")
            refusal = None if row is None else refuse(row, terms)
            if isinstance(row, Entry) and refusal is None and serves:
                return self._done(ask, identity, watch, _Found(Decision(Outcome.HIT_EXACT, row, 1.0)))
        return Begun(ask, identity, policy, terms, tuning.budget, watch, row, refusal, serves)

    def finish(self, begun: "Begun") -> LookupResult:
        """The answer to a lookup that was begun."""
        return self._done(begun.ask, begun.identity, begun.watch, self._find(begun))

    def _done(self, ask: Ask, identity: Identity, watch: "_Watch", found: _Found) -> LookupResult:
        watch.stop()
        result = self._result(found, watch.timings)
        self._remember(ask, identity, found, result)
        self._observer.on(_event(ask, result, found.opinion))
        return result

    def _find(self, begun: "Begun") -> _Found:
        """The ladder after the exact tier: each step answers, or hands on to a dearer one."""
        ask, identity, refusal = begun.ask, begun.identity, begun.refusal
        unasked = self._unasked(begun)
        if unasked is not None:
            return _Found(unasked)
        if begun.row is not None:
            self._repair(identity, begun.row, refusal)
        if ask.exact_only or not begun.policy.embeds:
            return _Found(Decision(refusal or Outcome.MISS_EXACT_ONLY))
        embedded = self._judge.embed(ask, identity, begun.budget)
        begun.watch.lap("embed_us")
        if isinstance(embedded, Outcome):
            return _Found(Decision(refusal or embedded))
        if isinstance(embedded, Unseen):
            return _Found(Decision(refusal or UNSEEN_OUTCOMES[embedded]), embedded=embedded)
        return self._by_meaning(begun, embedded)

    def _unasked(self, begun: "Begun") -> Decision | None:
        """What needs no tier, or no other than the exact one."""
        if not begun.policy.enabled:
            return Decision(Outcome.BYPASS_DISABLED)
        if begun.ask.bypass:
            return Decision(Outcome.BYPASS_REQUESTED)
        if isinstance(begun.row, Entry) and begun.refusal is None:
            return withheld(Decision(Outcome.HIT_EXACT, begun.row), Outcome.MISS_SHADOW)
        return None

    def _by_meaning(self, begun: "Begun", vector: Vector) -> _Found:
        """The semantic tier: search, decide, and dispose of what would hit."""
        ask, identity, policy, watch = begun.ask, begun.identity, begun.policy, begun.watch
        stance = self._reuse.stance(identity.namespace, policy)
        bar = self._judge.bar(policy, ask, stance.rule)
        candidates = self._judge.search(ask, identity, vector, policy)
        watch.lap("search_us")
        if isinstance(candidates, Outcome):
            return _Found(Decision(begun.refusal or candidates), bar.threshold, vector)
        rows = Rows(self._store, identity.scope, bar.in_reach(candidates), watch.lap)
        beside = self._judge.beside(identity, vector, policy, begun.terms)
        decision = self._judge.decide(candidates, bar, beside, rows)
        decision, opinion = self._judge.verified(decision, identity.text, ask.deadline_s)
        watch.lap("decide_us")
        for row in rows.read.values():
            self._repair(identity, row, refuse(row, begun.terms))
        found = _Found(
            decision, bar.threshold, vector, bar.near(candidates), stance.rule.version, opinion=opinion
        )
        found = self._dispose(found, policy, stance, serves=begun.serves)
        if found.decision.outcome is not Outcome.BYPASS_STORE_FAILED:
            self._reuse.count(identity.namespace, _tally(found))
        if (
            begun.refusal is not None and found.decision.outcome in _NO_NEARER
        ):  # the identical one is the nearest
            found = replace(found, decision=replace(found.decision, outcome=begun.refusal, gate=None))
        return found

    def _dispose(self, found: _Found, policy: Policy, stance: Stance, *, serves: bool) -> _Found:
        """What becomes of a semantic hit: served or not, by the mode, the brake and by chance; and audited by chance.

        The share that is noted is the chance that a request like this is answered afresh, for whatever reason.
        """
        decision = found.decision
        if decision.outcome is not Outcome.HIT_SEMANTIC:
            return found
        holds_back = policy.trust.max_error_rate is not None or stance.brake is not Brake.OPEN
        hold_back_share = stance.hold_back_share if holds_back else 0.0
        outcome = closed(stance.brake, serves=serves)
        if outcome is None and self._is_chosen(hold_back_share):
            outcome = Outcome.MISS_HELD_BACK
        if outcome is not None:
            most = 0.0 if stance.brake is Brake.EXACT_ONLY else served_share(policy)
            afresh_share = 1.0 - most * (1.0 - hold_back_share)
            return replace(found, decision=withheld(decision, outcome), share=afresh_share)
        return replace(found, share=stance.audit_share, audit=self._is_chosen(stance.audit_share))

    def _is_chosen(self, share: float) -> bool:
        """By a coin, where it is open."""
        return share > 0.0 and (share >= 1.0 or self._reuse.coin() < share)

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
            value=decision.value,
            confidence=decision.confidence,
            gate=decision.gate,
            withheld=decision.withheld,
            rule_version=found.rule_version,
            audit=found.audit,
        )

    def _remember(self, ask: Ask, identity: Identity, found: _Found, result: LookupResult) -> None:
        if result.entry is not None:
            self._janitor.note_used(result.entry.id)
        if result.outcome is Outcome.HIT_EXACT:
            return
        try:
            epoch = self._store.epoch()
        except CacheError:
            return  # a store that cannot be read will take no answer either
        chosen = result.entry or result.withheld
        ticket = Ticket(
            identity=identity,
            vary=canonical_vary(ask.request),
            embedded=found.embedded,
            epoch=epoch,
            candidates=found.candidates,
            served=chosen.id if chosen is not None and found.candidates else None,
            origin=None if result.entry is not None else _ORIGINS.get(result.outcome, Origin.MISS),
            share=found.share,
            rule_version=found.rule_version,
            audit=found.audit,
        )
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


_NO_NEARER = frozenset(Outcome) - {Outcome.HIT_SEMANTIC, *_ORIGINS}
"""Outcomes that say less than why the identical request may not be served."""


def _tally(found: _Found) -> Tally:
    """What a lookup that searched by meaning came to."""
    outcome, would_hit = found.decision.outcome, found.decision.entry or found.decision.withheld
    return Tally(
        searched=1,
        near=int(bool(found.candidates)),
        would_hit=int(would_hit is not None),
        served=int(outcome is Outcome.HIT_SEMANTIC),
        held_back=int(outcome is Outcome.MISS_HELD_BACK),
        audits_asked=int(found.audit),
        vetoed=int(outcome in (Outcome.MISS_GATED, Outcome.MISS_VETOED)),
    )


def _event(ask: Ask, result: LookupResult, opinion: Opinion) -> LookupDone:
    chosen = result.entry or result.withheld
    saved = None if chosen is None else chosen.payload
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
        value=result.value,
        confidence=result.confidence,
        gate=result.gate,
        rule_version=result.rule_version,
        audit=result.audit,
        opinion=opinion,
        withheld_id=None if result.withheld is None else result.withheld.id,
    )
