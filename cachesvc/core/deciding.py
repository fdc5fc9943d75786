"""Candidates + their rows + the rule in force → a Decision.

Lookup and Explain decide by what is here, the evaluation may, and nobody else. Pure: what is known of entries, and what
feedback said of them, is asked through the callables of ``Known``.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.gates import Analysis, Gate, Veto, analyse, first_veto, verdicts
from cachesvc.core.policy import Mode, Policy
from cachesvc.core.trust.features import features
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import Brake
from cachesvc.core.types import Ask, Candidate, Decision, Entry, Identity, Lost, Outcome, Row
from cachesvc.core.visibility import unseen_difference


@dataclass(frozen=True, slots=True)
class Terms:
    """What an entry must meet to be served at all, whichever tier found it."""

    now_ms: int
    max_age_ms: int | None
    sources: Mapping[str, str]

    @classmethod
    def of(cls, ask: Ask, now_ms: int) -> "Terms":
        """Those of a request, now."""
        return cls(now_ms, ask.max_age_ms, ask.sources)


@dataclass(frozen=True, slots=True)
class Bar:
    """What a candidate must reach to be served by meaning: the rule in force, tightened by the request.

    Served is whose value is ``threshold`` or more and whose score is ``least_score`` or more. From ``grey_score`` on a
    candidate that does not reach that may have a second opinion; None: none has. Candidates from ``near_score`` on are
    near enough to be learned from.
    """

    rule: Rule
    threshold: float
    least_score: float
    grey_score: float | None
    near_score: float

    @classmethod
    def of(cls, policy: Policy, ask: Ask, rule: Rule, *, verifies: bool) -> "Bar":
        """The policy's threshold is the least for rule 0, its floor for all others. A caller tightens, never loosens."""
        trust = policy.trust
        asked = -1.0 if ask.min_score is None else ask.min_score
        least = max(trust.floor_score if rule.version else policy.min_score, asked)
        grey = None if trust.verify_min_score is None or not verifies else max(trust.verify_min_score, asked)
        return cls(
            rule=rule,
            threshold=rule.threshold if rule.model is not None else max(rule.threshold, least),
            least_score=least,
            grey_score=grey,
            near_score=min(trust.floor_score, least, *(() if grey is None else (grey,))),
        )

    def near(self, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Those that are near enough to be learned from."""
        return tuple(candidate for candidate in candidates if candidate.score >= self.near_score)

    def in_reach(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those whose rows are worth reading. A model is shown all that it learns from."""
        if self.rule.model is not None:
            return list(self.near(candidates))
        lowest = self.threshold if self.grey_score is None else min(self.threshold, self.grey_score)
        return [candidate for candidate in candidates if candidate.score >= lowest]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside the texts: the analysis of an entry, what its answer says (equal for those that say the
    same), and whether feedback vetoes it for this request.
    """

    analysis: Callable[[Entry], Analysis]
    answer: Callable[[Entry], bytes]
    vetoed: Callable[[Entry], bool]


@dataclass(frozen=True, slots=True)
class Against:
    """Why an entry may not be served."""

    outcome: Outcome
    gate: Gate | None = None


class Weighed(NamedTuple):  # several a lookup: made in a third of the time that a frozen dataclass takes
    """A candidate and its value by the rule in force: its score, or what the rule's model makes of it."""

    candidate: Candidate
    value: float


class Beside:
    """One request beside entries: what speaks against serving them for it. For one thread; the request is analysed
    when that is first needed.
    """

    def __init__(
        self,
        identity: Identity,
        terms: Terms,
        gates: AbstractSet[Gate],
        known: Known,
        analysis: Analysis | None = None,
    ) -> None:
        """``analysis`` is that of the request, where it was made before."""
        self._identity = identity
        self._terms = terms
        self._gates = gates
        self._known = known
        self._analysis = analysis

    def against(self, row: Row) -> Against | None:
        """What speaks against a row: what says most, first; None when nothing does."""
        refusal = refuse(row, self._terms)
        if refusal is not None or isinstance(row, Lost):
            return None if refusal is None else Against(refusal)
        if self._known.vetoed(row):
            return Against(Outcome.MISS_VETOED)
        if self._gates:
            veto = first_veto(self.analysis, self._known.analysis(row), self._gates)
            if veto is not None:
                return Against(Outcome.MISS_GATED, veto.gate)
        if unseen_difference(self._identity.text, row.prompt):
            return Against(Outcome.MISS_UNSEEN_DIFFERENCE)
        return None

    def can_be_learned_from(self, row: Row) -> bool:
        """Whether a row counts among those that a model looks at: it is there, and not the identical request's."""
        return (
            isinstance(row, Entry)
            and row.expires_ms > self._terms.now_ms
            and row.exact_key != self._identity.exact_key
        )

    def features(self, entries: Sequence[Entry], scores: Sequence[float]) -> NDArray[np.float32]:
        """Those of entries, best score first."""
        analyses = [self._known.analysis(entry) for entry in entries]
        answers = [self._known.answer(entry) for entry in entries]
        return features(self.analysis, analyses, scores, answers=answers)

    def verdicts(self, entry: Entry) -> tuple[Veto, ...]:
        """Of every gate that refuses an entry, whether it is on or not."""
        return verdicts(self.analysis, self._known.analysis(entry))

    @property
    def analysis(self) -> Analysis:
        """That of the request."""
        if self._analysis is None:
            self._analysis = analyse(self._identity.text)
        return self._analysis


RowOf = Callable[[Candidate], Row]
"""The row of a candidate that is in reach. Reading may wait until it is asked for."""


def decide(candidates: Sequence[Candidate], bar: Bar, beside: Beside, row_of: RowOf) -> Decision:
    """Choose the candidate of the best value that may be served; else say why none may.

    ``candidates`` are in order of score, the best first. When several reach the bar and fail, the reason of the best
    of them is given.
    """
    if not candidates:
        return Decision(Outcome.MISS_EMPTY)
    weighed = weigh(candidates, bar, beside, row_of)
    return choose(weighed, bar, beside, row_of, best_score=candidates[0].score)


def weigh(candidates: Sequence[Candidate], bar: Bar, beside: Beside, row_of: RowOf) -> list[Weighed]:
    """The candidates in reach with their values, best first."""
    reach, model = bar.in_reach(candidates), bar.rule.model
    if model is None:
        return [Weighed(candidate, candidate.score) for candidate in reach]
    there = [(candidate, row_of(candidate)) for candidate in reach]
    there = [(candidate, row) for candidate, row in there if beside.can_be_learned_from(row)]
    if not there:
        return []
    entries = [row for _, row in there if isinstance(row, Entry)]
    values = model.values(beside.features(entries, [candidate.score for candidate, _ in there]))
    weighed = [Weighed(candidate, float(value)) for (candidate, _), value in zip(there, values, strict=True)]
    return sorted(weighed, key=lambda one: -one.value)


def choose(
    weighed: Sequence[Weighed], bar: Bar, beside: Beside, row_of: RowOf, *, best_score: float | None = None
) -> Decision:
    """As ``decide``, of candidates that were weighed. ``best_score`` is only noted."""
    first: Against | None = None
    for one in weighed:
        if one.value >= bar.threshold and one.candidate.score >= bar.least_score:
            row = row_of(one.candidate)
            against = beside.against(row)
            if against is None and isinstance(row, Entry):
                return _hit(one, row, bar.rule, best_score)
            first = first or against
    doubtful = _doubtful(weighed, bar, beside, row_of)
    if first is None:
        return Decision(Outcome.MISS_BELOW_THRESHOLD, best_score=best_score, doubtful=doubtful)
    return Decision(first.outcome, best_score=best_score, gate=first.gate, doubtful=doubtful)


def _hit(one: Weighed, entry: Entry, rule: Rule, best_score: float | None = None) -> Decision:
    calibration = rule.calibration
    return Decision(
        Outcome.HIT_SEMANTIC,
        entry,
        one.candidate.score,
        best_score,
        value=None if rule.model is None else one.value,
        confidence=None if calibration is None else calibration.confidence(one.value),
    )


def _doubtful(weighed: Sequence[Weighed], bar: Bar, beside: Beside, row_of: RowOf) -> Decision | None:
    """The hit that a second opinion may still make of the best candidate in the grey band. Of such a hit nobody knows
    how likely it is to be right: confidence is calibrated on what the rule serves.
    """
    if bar.grey_score is None:
        return None
    for one in weighed:
        is_below = one.value < bar.threshold or one.candidate.score < bar.least_score
        if is_below and one.candidate.score >= bar.grey_score:
            row = row_of(one.candidate)
            if isinstance(row, Entry) and beside.against(row) is None:
                return replace(_hit(one, row, bar.rule), confidence=None)
    return None


def withheld(decision: Decision, outcome: Outcome) -> Decision:
    """What would have hit comes to a miss."""
    return replace(
        decision, outcome=outcome, entry=None, score=None, confidence=None, withheld=decision.entry
    )


def closed(brake: Brake, *, serves: bool) -> Outcome | None:
    """What becomes of every semantic hit of a lookup, where it is not served: for the mode, or for the brake."""
    if not serves:
        return Outcome.MISS_SHADOW
    return Outcome.MISS_BRAKED if brake is Brake.EXACT_ONLY else None


def served_share(policy: Policy) -> float:
    """The chance that the mode serves a lookup that hits."""
    shares = {Mode.OFF: 0.0, Mode.SHADOW: 0.0, Mode.CANARY: policy.canary_share, Mode.ON: 1.0}
    return shares[policy.mode]


def refuse(row: Row, terms: Terms) -> Outcome | None:
    """Why a row may not be served although it matches, or None when it may."""
    if isinstance(row, Lost):
        return Outcome.MISS_CORRUPT if row.corrupt else Outcome.MISS_ENTRY_GONE
    if row.expires_ms <= terms.now_ms:
        return Outcome.MISS_EXPIRED
    if terms.max_age_ms is not None and terms.now_ms - row.created_ms > terms.max_age_ms:
        return Outcome.MISS_TOO_OLD
    if terms.sources and not _is_current(row, terms.sources):
        return Outcome.MISS_SOURCE_CHANGED
    return None


def _is_current(entry: Entry, sources: Mapping[str, str]) -> bool:
    return all(sources.get(source.id, source.version) == source.version for source in entry.payload.sources)
