"""The life of a namespace's trust: what its labels make of its state, and what lookups go by in that state. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cachesvc.core.policy import Policy
from cachesvc.core.trust import audit, brake, confidence
from cachesvc.core.trust.audit import audit_share, rate
from cachesvc.core.trust.control import (
    CHANCES,
    ControlTerms,
    Folded,
    Seen,
    anew,
    fold,
    hold_back_share,
    reckon,
    seen,
)
from cachesvc.core.trust.labels import Label, Tally
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import MAX_HISTORY, Stance, Step, TrustState, by_policy
from cachesvc.core.trust.votes import Voting

VOTING = 1
"""The version of the rule that a controlled namespace begins with; those that are learned have later ones."""

FIRST_CHALLENGE = 500
CHALLENGED_AGAIN = 1.5
"""Labels before a model is trained for the first time, and how many times more before each further one."""


@dataclass(frozen=True, slots=True)
class Advance:
    """A state after more became known, and the steps that were made."""

    state: TrustState
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Audited:
    """What audits say of a namespace's semantic hits: how many were asked anew, how many of them were wrong, and the
    share that is, with an interval that holds at all times at once.
    """

    hits: int
    wrong: int
    rate: float
    low: float
    high: float


def advance(
    state: TrustState, labels: Sequence[tuple[int, Label]], tally: Tally, policy: Policy, now_ms: int
) -> Advance:
    """The state after these labels, by sequence, which follow on those applied, and with this tally."""
    applied = labels[-1][0] if labels else state.applied
    told = [label for _, label in labels]
    samples = sum(label.origin.is_sampled for label in told)
    known = replace(state.confidence, told=state.confidence.told + samples)
    audited = _braked(replace(state, applied=applied, tally=tally, confidence=known), told, policy, now_ms)
    terms = control_terms(state, policy)
    if terms is None:
        return audited
    seen_now = _told(told, rule_of(state, policy), policy)
    after = _controlled(audited.state, fold(state.control, seen_now, terms), now_ms)
    return Advance(after.state, (*audited.steps, *after.steps))


def stance(state: TrustState, policy: Policy) -> Stance:
    """What lookups go by in this state, under this policy."""
    share = audit_share(state.audits, policy.trust, state.tally.served, worried=brake.worried(state.braking))
    unbraked = replace(_unbraked(state, policy), audit_share=share)
    known = replace(unbraked, rule=confidence.calibrated(unbraked.rule, state.confidence))
    return brake.braked(known, state.braking, policy.trust)


def audited(state: TrustState, policy: Policy) -> Audited | None:
    """What audits say; None before there was one."""
    known = rate(state.audits, state.tally)
    if known is None:
        return None
    return Audited(state.audits.answered, state.audits.wrong, known.rate, known.low, known.high)


def control_terms(state: TrustState, policy: Policy) -> ControlTerms | None:
    """Those that a namespace's threshold is controlled by; None when its policy states no rate."""
    trust = policy.trust
    if trust.max_error_rate is None:
        return None
    if _votes(state.active):
        return ControlTerms(trust.max_error_rate, policy.min_score, trust.hold_back_share)
    start = rule_of(state, policy).threshold
    return ControlTerms(trust.max_error_rate, start, trust.hold_back_share, CHANCES)


def rule_of(state: TrustState, policy: Policy) -> Rule:
    """The active rule, but for the threshold that control gives it: one that was learned, or else votes on scores."""
    for rule in state.rules:
        if rule.version == state.active:
            return rule
    return _voting(policy)


def kept_rules(state: TrustState, policy: Policy) -> tuple[Rule, ...]:
    """Those that can be gone back to, the newest last. Votes, which no state keeps, are one wherever a rate is stated."""
    return state.rules if policy.trust.max_error_rate is None else (_voting(policy), *state.rules)


def is_challenge_due(state: TrustState, policy: Policy) -> bool:
    """Whether enough became known since the last time to train a model anew, which is slow and done elsewhere."""
    if policy.trust.max_error_rate is None or state.pinned:
        return False
    return state.control.labels >= max(FIRST_CHALLENGE, state.challenged_at * CHALLENGED_AGAIN)


def challenged(state: TrustState, winner: Rule | None, why: str, policy: Policy, now_ms: int) -> Advance:
    """The state once a model that was due was trained and compared (``core.trust.adoption``): a ``winner`` takes the
    place of the active rule, None leaves that, and ``why``. The labels that a winner was trained from say nothing of how it
    does, so that control begins anew at its threshold.
    """
    state = replace(state, challenger=why, challenged_at=state.control.labels)
    if winner is None or state.pinned or policy.trust.max_error_rate is None:
        return Advance(state)
    step = Step(now_ms, f"rule {winner.version} is in force in place of {state.active}: {why}")
    state = replace(
        state,
        rules=(*state.rules, winner)[-MAX_HISTORY:],
        active=winner.version,
        control=anew(state.control),
    )
    return Advance(state.stepped(step), (step,))


def pinned(state: TrustState, version: int, step: Step) -> Advance:
    """The state once an operator put an earlier rule in force, or 0, and pinned it. What was counted by the values of
    another rule says nothing of it.
    """
    stays = state.active == version or (_votes(state.active) and _votes(version))
    control = state.control if stays else anew(state.control)
    return Advance(replace(state, active=version, pinned=True, control=control).stepped(step), (step,))


def deciding(state: TrustState, policy: Policy) -> Rule:
    """The rule that decides, whatever the brake makes of it."""
    return _unbraked(state, policy).rule


def is_calibration_due(state: TrustState, policy: Policy) -> bool:
    """Whether the values of the rule that decides should be calibrated anew, which reads many labels."""
    return confidence.is_due(state.confidence, deciding(state, policy))


def calibrated(state: TrustState, rule: Rule, given: confidence.Picked) -> TrustState:
    """The state once what this rule picks of the labels was read. Should another decide by now, it will be due anew."""
    return replace(state, confidence=confidence.made(state.confidence, rule, given))


def _voting(policy: Policy) -> Rule:
    return Rule(VOTING, policy.min_score, model=Voting(), note="score and votes")


def _votes(version: int) -> bool:
    """Whether control is in terms of votes while this one is active: also under 0, unless that is pinned."""
    return version in (0, VOTING)


def _unbraked(state: TrustState, policy: Policy) -> Stance:
    terms = control_terms(state, policy)
    if terms is None or (state.pinned and state.active == 0):
        return by_policy(state.namespace, policy)
    rule = rule_of(state, policy)
    if not state.pinned:
        rule = replace(rule, threshold=state.control.in_force(terms))
    return Stance(rule, hold_back_share=hold_back_share(state.control, terms))


def _braked(state: TrustState, labels: Sequence[Label], policy: Policy, now_ms: int) -> Advance:
    """What labels, and the time that passed, say of the rate of wrong hits, and so of the brake."""
    rule, audits, braking = _unbraked(state, policy).rule, state.audits, state.braking
    steps: list[Step] = []
    for label in labels:
        audits = audit.fold(audits, label)
        turn = brake.fold(braking, label, rule, policy.trust)
        braking = turn.braking
        steps += [] if turn.step is None else [turn.step]
    turn = brake.tick(braking, policy.trust, now_ms)
    steps += [] if turn.step is None else [turn.step]
    return Advance(replace(state, audits=audits, braking=turn.braking).stepped(*steps), tuple(steps))


def _told(labels: Iterable[Label], rule: Rule, policy: Policy) -> list[Seen]:
    told = (seen(label, rule, policy.trust.floor_score) for label in labels)
    return [item for item in told if item is not None]


def _controlled(state: TrustState, folded: Folded, now_ms: int) -> Advance:
    steps = tuple(Step(now_ms, what) for what in folded.steps)
    control = reckon(folded.state, state.tally)
    return Advance(replace(state, control=control).stepped(*steps), steps)
