"""The read path: one lookup, top to bottom.

The exact tier answers in ``begin``, which waits for nothing but the store's pages and draws a coin only where the mode
says canary. What decides on reuse by meaning is ``core.deciding``; what becomes of a hit after that (the mode, the
brake, holding back, audits) is here, in ``_dispose``; the ladder in between is ``Judge``'s.
"""

from dataclasses import dataclass

from cachesvc.core.deciding import Terms, closed, refuse, served_share, withheld
from cachesvc.core.errors import CacheError
from cachesvc.core.events import LookupDone, Opinion
from cachesvc.core.identity import canonical_vary, identify
from cachesvc.core.policy import Mode
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
)
from cachesvc.engine.judge import Begun, Found, Judge, Looked, Watch
from cachesvc.engine.parts import Parts

_ORIGINS = {
    Outcome.MISS_SHADOW: Origin.SHADOW,
    Outcome.MISS_BRAKED: Origin.SHADOW,
    Outcome.MISS_HELD_BACK: Origin.HELD_BACK,
}


@dataclass(frozen=True, slots=True)
class _Disposed:
    """What became of what was found: see ``Ticket`` for ``share``."""

    decision: Decision
    share: float = 1.0
    audit: bool = False


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

    def begin(self, ask: Ask) -> LookupResult | Begun:
        """The answer when the exact tier has it, else what there is to ``finish``. Waits for nothing but the store's
        pages.
        """
        watch = Watch(self._clock)
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
                return self._done(ask, identity, watch, _FAILED)
            watch.lap("exact_us")
            refusal = None if row is None else refuse(row, terms)
            if isinstance(row, Entry) and refusal is None and serves:
                return self._serve_exact(ask, watch, row)
        return Begun(ask, identity, policy, terms, tuning.budget, watch, row, refusal, serves)

    def _serve_exact(self, ask: Ask, watch: Watch, entry: Entry) -> LookupResult:
        """Shorter than ``_done``: most hits come this way, on the threads that take calls in."""
        watch.stop()
        age_ms = max(self._clock.now_ms() - entry.created_ms, 0)
        result = LookupResult(Outcome.HIT_EXACT, self._new_id(), watch.timings, entry, 1.0, age_ms=age_ms)
        self._janitor.note_used(entry.id)
        self._observer.on(_event(ask, result))
        return result

    def finish(self, begun: Begun) -> LookupResult:
        """The answer to a lookup that was begun."""
        found = self._judge.find(begun)
        self._repair(begun, found)
        return self._done(begun.ask, begun.identity, begun.watch, found, self._dispose(begun, found))

    def _done(
        self, ask: Ask, identity: Identity, watch: Watch, found: Found, disposed: "_Disposed | None" = None
    ) -> LookupResult:
        watch.stop()
        disposed = disposed or _Disposed(found.decision)
        result = self._result(found, disposed, watch.timings)
        self._remember(ask, identity, found, disposed, result)
        self._observer.on(_event(ask, result, found.opinion))
        return result

    def _dispose(self, begun: Begun, found: Found) -> _Disposed:
        """What becomes of a semantic hit: served or not, by the mode, the brake and by chance; and audited by chance.

        The share that is noted is the chance that a request like this is answered afresh, for whatever reason.
        """
        looked, decision = found.looked, found.decision
        if looked is None or decision.outcome is Outcome.BYPASS_STORE_FAILED:
            return _Disposed(decision)
        disposed = _Disposed(decision)
        if decision.outcome is Outcome.HIT_SEMANTIC:
            disposed = self._dispose_hit(begun, decision, looked.stance)
        tally = _tally(disposed, is_near=bool(_near(looked, begun.terms)))
        self._reuse.count(begun.identity.namespace, tally)
        return disposed

    def _dispose_hit(self, begun: Begun, decision: Decision, stance: Stance) -> _Disposed:
        policy = begun.policy
        holds_back = policy.trust.max_error_rate is not None or stance.brake is not Brake.OPEN
        hold_back_share = stance.hold_back_share if holds_back else 0.0
        outcome = closed(stance.brake, serves=begun.serves)
        if outcome is None and self._is_chosen(hold_back_share):
            outcome = Outcome.MISS_HELD_BACK
        if outcome is not None:
            most = 0.0 if stance.brake is Brake.EXACT_ONLY else served_share(policy)
            return _Disposed(withheld(decision, outcome), 1.0 - most * (1.0 - hold_back_share))
        return _Disposed(decision, stance.audit_share, audit=self._is_chosen(stance.audit_share))

    def _is_chosen(self, share: float) -> bool:
        """By a coin, where it is open."""
        return share > 0.0 and (share >= 1.0 or self._reuse.coin() < share)

    def _repair(self, begun: Begun, found: Found) -> None:
        """What was found and may not be served is put right behind the request."""
        if begun.row is not None and begun.refusal is not None:
            self._repair_row(begun.identity, begun.row, begun.refusal)
        for row in () if found.looked is None else found.looked.rows.read.values():
            self._repair_row(begun.identity, row, refuse(row, begun.terms))

    def _repair_row(self, identity: Identity, row: Row, refusal: Outcome | None) -> None:
        if isinstance(row, Lost) and row.corrupt:
            self._janitor.quarantine(row.entry_id)
        elif isinstance(row, Lost):
            self._views.forget(identity.scope, row.entry_id)
        elif refusal is Outcome.MISS_EXPIRED:
            self._janitor.wake()

    def _result(self, found: Found, disposed: _Disposed, timings: Timings) -> LookupResult:
        decision, looked = disposed.decision, found.looked
        entry = decision.entry
        return LookupResult(
            outcome=decision.outcome,
            lookup_id=self._new_id(),
            timings=timings,
            entry=entry,
            score=decision.score,
            best_score=None if decision.outcome.is_hit else decision.best_score,
            threshold=None if looked is None else looked.bar.threshold,
            age_ms=None if entry is None else max(self._clock.now_ms() - entry.created_ms, 0),
            value=decision.value,
            confidence=decision.confidence,
            gate=decision.gate,
            withheld=decision.withheld,
            rule_version=0 if looked is None else looked.stance.rule.version,
            audit=disposed.audit,
        )

    def _remember(
        self, ask: Ask, identity: Identity, found: Found, disposed: _Disposed, result: LookupResult
    ) -> None:
        if result.entry is not None:
            self._janitor.note_used(result.entry.id)
        try:
            epoch = self._store.epoch()
        except CacheError:
            return  # a store that cannot be read will take no answer either
        looked, chosen = found.looked, result.entry or result.withheld
        ticket = Ticket(
            identity=identity,
            vary=canonical_vary(ask.request),
            embedded=found.embedded,
            epoch=epoch,
            candidates=() if looked is None else _near(looked, Terms.of(ask, self._clock.now_ms())),
            served=None if looked is None or chosen is None else chosen.id,
            origin=None if result.entry is not None else _ORIGINS.get(result.outcome, Origin.MISS),
            share=disposed.share,
            rule_version=result.rule_version,
            audit=disposed.audit,
        )
        self._tickets.keep(result.lookup_id, ticket)


_FAILED = Found(Decision(Outcome.BYPASS_STORE_FAILED))


def _near(looked: Looked, terms: Terms) -> tuple[Candidate, ...]:
    """The candidates to learn from: not those of which it is known that the request rules them out, for no rule serves
    these, and that the answer is another by now says nothing of reuse.
    """
    refused = {entry_id for entry_id, row in looked.rows.read.items() if refuse(row, terms) is not None}
    return tuple(one for one in looked.bar.near(looked.candidates) if one.entry_id not in refused)


def _tally(disposed: _Disposed, *, is_near: bool) -> Tally:
    """What a lookup that searched by meaning came to."""
    outcome, would_hit = disposed.decision.outcome, disposed.decision.entry or disposed.decision.withheld
    return Tally(
        searched=1,
        near=int(is_near),
        would_hit=int(would_hit is not None),
        served=int(outcome is Outcome.HIT_SEMANTIC),
        held_back=int(outcome is Outcome.MISS_HELD_BACK),
        audits_asked=int(disposed.audit),
        vetoed=int(outcome in (Outcome.MISS_GATED, Outcome.MISS_VETOED)),
    )


def _event(ask: Ask, result: LookupResult, opinion: Opinion = "") -> LookupDone:
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
