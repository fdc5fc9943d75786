"""The steps of the semantic tier that Lookup and Explain share: embed, search, decide, ask for a second opinion.

They draw no coins, and remember nothing but analyses of entries.
"""

from collections.abc import Callable

from cachesvc.core.deciding import Bar, Beside, Known, Terms, decide
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Opinion
from cachesvc.core.policy import Policy
from cachesvc.core.ports import ResponseStore
from cachesvc.core.trust.rules import Rule
from cachesvc.core.types import Ask, Candidate, Decision, Identity, Outcome, Row, Unseen, Vector
from cachesvc.engine.parts import EmbedBudget, Parts
from cachesvc.engine.views import ScopeLoadingError, ScopeTooLargeError

_FAILURES: dict[Kind, Opinion] = {Kind.DEADLINE: "late", Kind.OVERLOADED: "busy"}


class Rows:
    """The rows of one lookup's candidates, read when first asked for: the nearest alone, for mostly it will do, then
    all the others at once. Raises as ``ResponseStore.fetch``.
    """

    def __init__(
        self,
        store: ResponseStore,
        scope: bytes,
        candidates: list[Candidate],
        lap: Callable[[str], None] = lambda stage: None,
    ) -> None:
        """``lap`` is told which stage the time until now was of."""
        self._store = store
        self._scope = scope
        self._ids = [candidate.entry_id for candidate in candidates]
        self._lap = lap
        self.read: dict[int, Row] = {}

    def __call__(self, candidate: Candidate) -> Row:
        """The row of one of them."""
        row = self.read.get(candidate.entry_id)
        if row is None:
            self._lap("decide_us")
            ids = self._ids if self.read else [candidate.entry_id]
            ids = [entry_id for entry_id in ids if entry_id not in self.read]
            self.read.update(zip(ids, self._store.fetch(self._scope, ids), strict=True))
            self._lap("fetch_us")
            row = self.read[candidate.entry_id]
        return row


class Judge:
    """Those steps. Thread-safe; raises nothing but what is said."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._embedder = parts.embedder
        self._views = parts.views
        self._clock = parts.clock
        self._vetoes = parts.reuse.vetoes
        self._analyses = parts.reuse.analyses
        self._second_opinion = parts.reuse.second_opinion

    def embed(self, ask: Ask, identity: Identity, budget: EmbedBudget) -> Vector | Unseen | Outcome:
        """The vector of a request, or why it has none: it cannot be seen, or time or engine failed."""
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

    def search(
        self, ask: Ask, identity: Identity, vector: Vector, policy: Policy
    ) -> list[Candidate] | Outcome:
        """The nearest entries of the scope, best score first, or why they cannot be had."""
        wait_s = None if ask.deadline_s is None else ask.deadline_s - self._clock.monotonic_s()
        try:
            return self._views.search(identity.scope, vector, policy.candidate_count, wait_s)
        except ScopeLoadingError:
            return Outcome.BYPASS_DEADLINE
        except ScopeTooLargeError:
            return Outcome.BYPASS_SCOPE_TOO_LARGE
        except CacheError:
            return Outcome.BYPASS_STORE_FAILED

    def bar(self, policy: Policy, ask: Ask, rule: Rule) -> Bar:
        """What candidates must reach."""
        return Bar.of(policy, ask, rule, verifies=self._second_opinion is not None)

    def beside(self, identity: Identity, vector: Vector, policy: Policy, terms: Terms) -> Beside:
        """The request as entries are held against it."""
        known = Known(
            self._analyses.of,
            self._analyses.answer_of,
            lambda entry: self._vetoes.refuses(identity.scope, identity.exact_key, vector, entry),
        )
        return Beside(identity, terms, policy.gates, known)

    def decide(self, candidates: list[Candidate], bar: Bar, beside: Beside, rows: Rows) -> Decision:
        """Choose among candidates; where rows cannot be read that is the outcome."""
        try:
            return decide(candidates, bar, beside, rows)
        except CacheError:
            return Decision(Outcome.BYPASS_STORE_FAILED)

    def verified(self, decision: Decision, text: str, deadline_s: float | None) -> tuple[Decision, Opinion]:
        """The decision once the second opinion was heard on what is doubtful, if anything is. Blocks for that."""
        doubtful, asked = decision.doubtful, self._second_opinion
        if doubtful is None or doubtful.entry is None or asked is None:
            return decision, ""
        wait_s = asked.max_wait_s
        if deadline_s is not None:
            wait_s = min(wait_s, deadline_s - self._clock.monotonic_s())
        opinion: Opinion = "late"
        if wait_s > 0:
            try:
                opinion = "yes" if asked.verifier.verify(text, doubtful.entry.prompt, wait_s) else "no"
            except CacheError as error:
                opinion = _FAILURES.get(error.kind, "failed")
        return (doubtful if opinion == "yes" else _not_verified(decision)), opinion


def _not_verified(decision: Decision) -> Decision:
    """What already failed has its reason."""
    if decision.outcome is not Outcome.MISS_BELOW_THRESHOLD:
        return decision
    return Decision(Outcome.MISS_NOT_VERIFIED, best_score=decision.best_score)
