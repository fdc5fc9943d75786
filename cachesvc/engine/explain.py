"""How a lookup decides, shown step by step: by the very functions that Lookup decides by.

Nothing is counted, remembered or repaired, and no coin is drawn: what would be by chance is shown as if it fell for
serving. It may ask for a second opinion, as Lookup would.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cachesvc.core.deciding import Beside, Terms, Weighed, choose, closed, refuse, weigh, withheld
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.gates import Gate, Veto
from cachesvc.core.identity import identify
from cachesvc.core.policy import Mode
from cachesvc.core.trust.features import NAMES
from cachesvc.core.trust.state import Brake
from cachesvc.core.types import Ask, Candidate, Decision, Entry, Identity, Lost, Outcome, Row, Unseen, Vector
from cachesvc.engine.judge import Begun, Found, Judge, Looked, Watch
from cachesvc.engine.parts import Parts


@dataclass(frozen=True, slots=True)
class ExplainedCandidate:
    """An entry beside the request. ``score`` is None where one of them has no vector; ``vetoes`` are those of all gates,
    ``outcome`` what Lookup would come to were it the only one; ``differs_in``: parts of the identity, none in a scope.
    """

    entry_id: int
    prompt: str
    score: float | None
    outcome: Outcome
    value: float | None = None
    confidence: float | None = None
    vetoes: tuple[Veto, ...] = ()
    features: Mapping[str, float] = field(default_factory=dict)
    identical: bool = False
    differs_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """What Lookup would come to now, and why."""

    outcome: Outcome
    identity: Identity
    candidates: Sequence[ExplainedCandidate]
    gates: frozenset[Gate]
    threshold: float | None
    rule_version: int
    mode: Mode
    brake: Brake
    unseen: Unseen | None


@dataclass(frozen=True, slots=True)
class _Scene:
    """Everything that candidates are explained from."""

    begun: Begun
    found: Found
    vector: Vector | None
    looked: Looked | None
    beside: Beside
    brake: Brake


class Explain:
    """Explains Asks. Thread-safe. Raises INVALID, NOT_FOUND for an entry that is not of the namespace, or what the
    store raises.
    """

    def __init__(self, parts: Parts) -> None:
        self._judge = Judge(parts)
        self._reuse = parts.reuse
        self._store = parts.store
        self._embedder = parts.embedder
        self._tuning = parts.tuning
        self._clock = parts.clock

    def __call__(self, ask: Ask, entry_id: int | None = None) -> Explanation:
        """Explain a lookup, and how this entry stands to it. A bypass that the request asks for has no effect."""
        begun = self._begin(replace(ask, bypass=False))
        identity, policy = begun.identity, begun.policy
        asked = None if entry_id is None else self._entry(identity.namespace, entry_id)
        stance = self._reuse.stance(identity.namespace, policy)
        scene = self._scene(begun, stance.brake)
        threshold = None if scene.looked is None else scene.looked.bar.threshold
        return Explanation(
            outcome=_disposed(scene.found.decision, scene).outcome,
            identity=identity,
            candidates=self._candidates(scene, asked),
            gates=policy.gates,
            threshold=threshold,
            rule_version=stance.rule.version,
            mode=policy.mode,
            brake=stance.brake,
            unseen=scene.found.embedded if isinstance(scene.found.embedded, Unseen) else None,
        )

    def _begin(self, ask: Ask) -> Begun:
        tuning = self._tuning()
        identity = identify(ask.request, self._embedder.fingerprint)
        policy = tuning.policies.of(identity.namespace)
        terms = Terms.of(ask, self._clock.now_ms())
        row = self._store.find(identity.scope, identity.exact_key)
        return Begun(
            ask=ask,
            identity=identity,
            policy=policy,
            terms=terms,
            budget=tuning.budget,
            watch=Watch(self._clock),
            row=row,
            refusal=None if row is None else refuse(row, terms),
            serves=policy.mode is not Mode.SHADOW,
        )

    def _entry(self, namespace: str, entry_id: int) -> Entry:
        row: Row | None = None
        if self._store.namespace_of(entry_id) == namespace:
            row = self._store.get(entry_id)
        if row is None or isinstance(row, Lost):
            raise CacheError(Kind.NOT_FOUND, f"entry_id: no entry {entry_id:016x} in namespace {namespace}")
        return row

    def _scene(self, begun: Begun, brake: Brake) -> _Scene:
        """What Lookup finds; and where it would not search, what it would find if it did, unless prompts are not to be
        embedded at all.
        """
        found = self._judge.find(begun)
        looked: Looked | Outcome | None = found.looked
        if found.embedded is None and begun.policy.embeds:
            embedded = self._judge.embed(begun)
            found = replace(found, embedded=None if isinstance(embedded, Outcome) else embedded)
        vector = None if isinstance(found.embedded, Unseen) else found.embedded
        if looked is None and vector is not None:
            looked = self._judge.look(begun, vector)
        return _Scene(
            begun=begun,
            found=found,
            vector=vector,
            looked=None if isinstance(looked, Outcome) else looked,
            beside=self._judge.beside(begun, vector),
            brake=brake,
        )

    def _candidates(self, scene: _Scene, asked: Entry | None) -> list[ExplainedCandidate]:
        looked = scene.looked
        candidates = [] if looked is None else looked.candidates
        rows = self._rows(scene.begun.identity, candidates)
        explained = [] if looked is None else _explained(scene, looked, candidates, rows)
        if asked is None or asked.id in rows:
            return explained
        return [*explained, self._explain_asked(scene, asked, rows)]

    def _rows(self, identity: Identity, candidates: Sequence[Candidate]) -> dict[int, Row]:
        ids = [candidate.entry_id for candidate in candidates]
        return dict(zip(ids, self._store.fetch(identity.scope, ids), strict=True)) if ids else {}

    def _explain_asked(self, scene: _Scene, entry: Entry, rows: Mapping[int, Row]) -> ExplainedCandidate:
        """An entry that the search did not name: it is further away, has no vector, or is of another scope."""
        identity, looked = scene.begun.identity, scene.looked
        (theirs,) = self._store.vectors(entry.scope, [entry.id])
        score = None if scene.vector is None or theirs is None else float(scene.vector @ theirs)
        if entry.scope == identity.scope and looked is not None and score is not None:
            candidate = Candidate(entry.id, score)
            among = sorted([*looked.candidates, candidate], key=lambda one: -one.score)
            explained = _explained(scene, looked, among, {**rows, entry.id: entry})
            return next(one for one in explained if one.entry_id == entry.id)
        outcome = Outcome.MISS_EMPTY  # what is of another scope is not there
        if entry.scope == identity.scope:
            outcome = scene.found.decision.outcome if looked is None else Outcome.MISS_EXACT_ONLY
        return ExplainedCandidate(
            entry_id=entry.id,
            prompt=entry.prompt,
            score=score,
            outcome=_exact(scene, entry) or outcome,
            vetoes=scene.beside.verdicts(entry),
            identical=entry.exact_key == identity.exact_key,
            differs_in=_differences(identity, entry),
        )


def _explained(
    scene: _Scene, looked: Looked, candidates: Sequence[Candidate], rows: Mapping[int, Row]
) -> list[ExplainedCandidate]:
    def row_of(candidate: Candidate) -> Row:
        return rows[candidate.entry_id]

    weighed = {one.candidate.entry_id: one for one in weigh(candidates, looked.bar, scene.beside, row_of)}
    explained = [
        _explained_one(scene, looked, weighed.get(candidate.entry_id), candidate, rows[candidate.entry_id])
        for candidate in candidates
    ]
    features = _features(scene, looked, candidates, rows)
    return [replace(one, features=features.get(one.entry_id, {})) for one in explained]


def _explained_one(
    scene: _Scene, looked: Looked, one: Weighed | None, candidate: Candidate, row: Row
) -> ExplainedCandidate:
    outcome = _outcome(scene, looked, one, row)
    if isinstance(row, Lost):
        return ExplainedCandidate(candidate.entry_id, "", candidate.score, outcome)
    rule = looked.bar.rule
    value = candidate.score if rule.model is None else None if one is None else one.value
    calibration = None if value is None else rule.calibration
    return ExplainedCandidate(
        entry_id=candidate.entry_id,
        prompt=row.prompt,
        score=candidate.score,
        outcome=outcome,
        value=None if rule.model is None else value,
        confidence=None if calibration is None or value is None else calibration.confidence(value),
        vetoes=scene.beside.verdicts(row),
        identical=row.exact_key == scene.begun.identity.exact_key,
    )


def _features(
    scene: _Scene, looked: Looked, candidates: Sequence[Candidate], rows: Mapping[int, Row]
) -> dict[int, Mapping[str, float]]:
    """Of those that a model would be shown, by name."""
    near = [(candidate, rows[candidate.entry_id]) for candidate in looked.bar.near(candidates)]
    shown = [
        (candidate, row)
        for candidate, row in near
        if isinstance(row, Entry) and scene.beside.can_be_learned_from(row)
    ]
    if not shown:
        return {}
    values = scene.beside.features([row for _, row in shown], [candidate.score for candidate, _ in shown])
    return {
        candidate.entry_id: dict(zip(NAMES, map(float, row), strict=True))
        for (candidate, _), row in zip(shown, values, strict=True)
    }


def _outcome(scene: _Scene, looked: Looked, one: Weighed | None, row: Row) -> Outcome:
    """What Lookup would come to if there were this candidate alone."""
    exact = _exact(scene, row)
    if exact is not None:
        return exact
    if one is None:
        return (isinstance(row, Lost) and refuse(row, scene.begun.terms)) or Outcome.MISS_BELOW_THRESHOLD
    decision = choose([one], looked.bar, scene.beside, lambda candidate: row)
    if decision.doubtful is not None:
        chosen = scene.found.decision.entry
        is_verified = chosen is not None and isinstance(row, Entry) and chosen.id == row.id
        decision = decision.doubtful if is_verified else Decision(Outcome.MISS_NOT_VERIFIED)
    return _disposed(decision, scene).outcome


def _exact(scene: _Scene, row: Row) -> Outcome | None:
    """What the exact tier makes of the identical request's entry; None for all others."""
    begun = scene.begun
    if not isinstance(row, Entry) or row.exact_key != begun.identity.exact_key:
        return None
    return begun.refusal or (Outcome.HIT_EXACT if begun.serves else Outcome.MISS_SHADOW)


def _disposed(decision: Decision, scene: _Scene) -> Decision:
    """What becomes of a semantic hit for sure, whatever coins fall."""
    if decision.outcome is not Outcome.HIT_SEMANTIC:
        return decision
    outcome = closed(scene.brake, serves=scene.begun.serves)
    return decision if outcome is None else withheld(decision, outcome)


def _differences(identity: Identity, entry: Entry) -> tuple[str, ...]:
    """Parts of the identity. Of requests to different models it cannot be told whether they differ in more."""
    if entry.scope == identity.scope:
        return ()
    return ("model",) if entry.model != identity.model else ("context",)
