"""What Lookup and Explain share: the ladder after the exact tier, and the steps of the semantic one.

Nothing here draws coins or counts, and all that is remembered are analyses of entries; what becomes of a hit, and of a row
that is found damaged, is the caller's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cachesvc.core.deciding import Bar, Beside, Known, Terms, decide, withheld
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Opinion
from cachesvc.core.policy import Policy
from cachesvc.core.ports import Clock, ResponseStore
from cachesvc.core.trust.state import Brake, Stance
from cachesvc.core.types import (
    Ask,
    Candidate,
    Decision,
    Entry,
    Identity,
    Outcome,
    Row,
    Timings,
    Unseen,
    Vector,
)
from cachesvc.engine.parts import EmbedBudget, Parts
from cachesvc.engine.views import ScopeLoadingError, ScopeTooLargeError

_UNSEEN_OUTCOMES: Mapping[Unseen, Outcome] = {reason: Outcome[f"MISS_{reason.name}"] for reason in Unseen}

_FAILURES: Mapping[Kind, Opinion] = {Kind.DEADLINE: "late", Kind.OVERLOADED: "busy"}


class Watch:
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


@dataclass(frozen=True, slots=True)
class Begun:
    """A lookup whose exact tier was asked. ``row`` is what it has, and ``refusal`` why it may not serve that; ``serves``:
    the mode lets what hits be served.
    """

    ask: Ask
    identity: Identity
    policy: Policy
    terms: Terms
    budget: EmbedBudget
    watch: Watch
    row: Row | None
    refusal: Outcome | None
    serves: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """A search by meaning: what lookups go by now, what is near, and the request beside it."""

    stance: Stance
    bar: Bar
    candidates: list[Candidate]
    beside: Beside
    rows: "Rows"


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup came to, before anything becomes of a semantic hit. ``looked`` is None where nothing was searched."""

    decision: Decision
    embedded: Vector | Unseen | None = None
    looked: Looked | None = None
    opinion: Opinion = ""


class Rows:
    """The rows of one lookup's candidates, read when first asked for: the nearest alone, for mostly it will do, then
    all the others at once. Raises as ``ResponseStore.fetch``.
    """

    def __init__(
        self,
        store: ResponseStore,
        scope: bytes,
        candidates: list[Candidate],
        watch: Watch,
    ) -> None:
        self._store = store
        self._scope = scope
        self._ids = [candidate.entry_id for candidate in candidates]
        self._watch = watch
        self.read: dict[int, Row] = {}

    def __call__(self, candidate: Candidate) -> Row:
        """The row of one of them."""
        row = self.read.get(candidate.entry_id)
        if row is None:
            self._watch.lap("decide_us")
            ids = self._ids if self.read else [candidate.entry_id]
            ids = [entry_id for entry_id in ids if entry_id not in self.read]
            self.read.update(zip(ids, self._store.fetch(self._scope, ids), strict=True))
            self._watch.lap("fetch_us")
            row = self.read[candidate.entry_id]
        return row


class Judge:
    """Thread-safe; raises nothing: what fails is an outcome."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._embedder = parts.embedder
        self._views = parts.views
        self._clock = parts.clock
        self._stance = parts.reuse.stance
        self._vetoes = parts.reuse.vetoes
        self._analyses = parts.reuse.analyses
        self._second_opinion = parts.reuse.second_opinion

    def find(self, begun: Begun) -> Found:
        """The ladder after the exact tier: each step answers, or hands on to a dearer one."""
        ask, policy, refusal = begun.ask, begun.policy, begun.refusal
        if not policy.enabled:
            return Found(Decision(Outcome.BYPASS_DISABLED))
        if ask.bypass:
            return Found(Decision(Outcome.BYPASS_REQUESTED))
        if isinstance(begun.row, Entry) and refusal is None:
            hit = Decision(Outcome.HIT_EXACT, begun.row, 1.0)
            return Found(hit if begun.serves else withheld(hit, Outcome.MISS_SHADOW))
        if ask.exact_only or not policy.embeds:
            return Found(Decision(refusal or Outcome.MISS_EXACT_ONLY))
        found = self._by_meaning(begun)
        if refusal is None or found.decision.outcome.is_hit:
            return found
        # The identical request is the nearest.
        return replace(found, decision=replace(found.decision, outcome=refusal, gate=None))

    def _by_meaning(self, begun: Begun) -> Found:
        embedded = self.embed(begun)
        begun.watch.lap("embed_us")
        if isinstance(embedded, Outcome):
            return Found(Decision(embedded))
        if isinstance(embedded, Unseen):
            return Found(Decision(_UNSEEN_OUTCOMES[embedded]), embedded)
        looked = self.look(begun, embedded)
        begun.watch.lap("search_us")
        if isinstance(looked, Outcome):
            return Found(Decision(looked), embedded)
        try:
            decision = decide(looked.candidates, looked.bar, looked.beside, looked.rows)
        except CacheError:
            decision = Decision(Outcome.BYPASS_STORE_FAILED)
        decision, opinion = self._verified(decision, begun)
        begun.watch.lap("decide_us")
        return Found(decision, embedded, looked, opinion)

    def embed(self, begun: Begun) -> Vector | Unseen | Outcome:
        """The vector of a request, or why it has none: it cannot be seen, or time or engine failed."""
        identity, deadline_s, wait_s = begun.identity, begun.ask.deadline_s, begun.budget.max_wait_s
        if deadline_s is not None:
            wait_s = min(wait_s, deadline_s - self._clock.monotonic_s() - begun.budget.min_left_s)
            if wait_s <= 0:
                return Outcome.BYPASS_DEADLINE
        try:
            return self._embedder.embed(identity.text, wait_s, identity.namespace)
        except CacheError as error:
            busy = error.kind is Kind.OVERLOADED
            return Outcome.BYPASS_EMBEDDER_BUSY if busy else Outcome.BYPASS_EMBEDDER_FAILED

    def look(self, begun: Begun, vector: Vector) -> Looked | Outcome:
        """What is near, best score first, or why that cannot be had."""
        identity, policy, deadline_s = begun.identity, begun.policy, begun.ask.deadline_s
        wait_s = None if deadline_s is None else deadline_s - self._clock.monotonic_s()
        try:
            candidates = self._views.search(identity.scope, vector, policy.candidate_count, wait_s)
        except ScopeLoadingError:
            return Outcome.BYPASS_DEADLINE
        except ScopeTooLargeError:
            return Outcome.BYPASS_SCOPE_TOO_LARGE
        except CacheError:
            return Outcome.BYPASS_STORE_FAILED
        stance = self._stance(identity.namespace, policy)
        verifies = self._second_opinion is not None and stance.brake is Brake.OPEN
        bar = Bar.of(policy, begun.ask, stance.rule, verifies=verifies)
        rows = Rows(self._store, identity.scope, bar.in_reach(candidates), begun.watch)
        return Looked(stance, bar, candidates, self.beside(begun, vector), rows)

    def beside(self, begun: Begun, vector: Vector | None) -> Beside:
        """The request as entries are held against it; without a vector feedback says nothing of it."""
        identity = begun.identity
        known = Known(
            self._analyses.of,
            self._analyses.answer_of,
            lambda entry: (
                vector is not None and self._vetoes.refuses(identity.scope, identity.exact_key, vector, entry)
            ),
        )
        return Beside(identity, begun.terms, begun.policy.gates, known)

    def _verified(self, decision: Decision, begun: Begun) -> tuple[Decision, Opinion]:
        """The decision once the second opinion was heard on what is doubtful, if anything is. Blocks for that."""
        doubtful, asked = decision.doubtful, self._second_opinion
        if doubtful is None or doubtful.entry is None or asked is None:
            return decision, ""
        wait_s, deadline_s = asked.max_wait_s, begun.ask.deadline_s
        if deadline_s is not None:
            wait_s = min(wait_s, deadline_s - self._clock.monotonic_s())
        opinion: Opinion = "late"
        if wait_s > 0:
            try:
                opinion = (
                    "yes"
                    if asked.verifier.verify(begun.identity.text, doubtful.entry.prompt, wait_s)
                    else "no"
                )
            except CacheError as error:
                opinion = _FAILURES.get(error.kind, "failed")
        return (doubtful if opinion == "yes" else _not_verified(decision)), opinion


def _not_verified(decision: Decision) -> Decision:
    """What already failed has its reason."""
    if decision.outcome is not Outcome.MISS_BELOW_THRESHOLD:
        return decision
    return Decision(Outcome.MISS_NOT_VERIFIED, best_score=decision.best_score)
