"""The brake: open → tight → exact_only when hits are credibly too often wrong, and back when they credibly are not.

Levels change one at a time. It closes on an e-process against the policy's ``max_false_hit_rate`` and opens on one for
it, over what the level before would serve: misses label themselves, so that what is not served is judged, too. Where
there is too little to judge it opens after a while by itself, which doubles each time that this was wrong. Pure.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from cachesvc.core.policy import TrustTerms
from cachesvc.core.trust.audit import interval_of
from cachesvc.core.trust.detector import UNSEEN, Detector, above, below, detector_of, observe
from cachesvc.core.trust.features import VERSION
from cachesvc.core.trust.labels import Label, LabelledCandidate
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import Brake, Braking, Stance, Step

CLOSING_BAR = 100.0
"""A level whose hits keep to the target closes within n labels with a chance of (1 + n ÷ 5,000) ÷ this at most."""

WORRYING = 0.05
"""Evidence that is none yet, but is worth a closer look: more audits while it lasts cost little."""

OPENING_BAR = 20.0
"""The same for opening one whose hits do not keep to it."""

WAIT_MS = 3_600_000
MAX_WAIT_MS = 86_400_000
"""How long without evidence a level lasts: the first, doubled by each trip, up to the second."""

CALM_MS = 86_400_000
"""After so long open, trips are forgotten."""

_TIGHTER = {Brake.OPEN: Brake.TIGHT, Brake.TIGHT: Brake.EXACT_ONLY}
_LOOSER = {Brake.TIGHT: Brake.OPEN, Brake.EXACT_ONLY: Brake.TIGHT}
_EFFECTS = {
    Brake.OPEN: "semantic hits are served by the rule again",
    Brake.TIGHT: "only semantic hits half as far from certain as the rule asks are served",
    Brake.EXACT_ONLY: "no semantic hit is served, until what would be is seen to be right",
}


@dataclass(frozen=True, slots=True)
class Turn:
    """The brake after something happened, and the step it made, if it made one."""

    braking: Braking
    step: Step | None = None


def tightened(rule: Rule) -> Rule:
    """What the rule serves while the brake is not open: a candidate half as far from certain as before."""
    return replace(rule, threshold=max(rule.threshold, (1.0 + rule.threshold) / 2))


def braked(stance: Stance, braking: Braking, terms: TrustTerms) -> Stance:
    """What lookups go by under the brake. While it is tight as many hits are audited as the policy allows."""
    if braking.level is Brake.OPEN:
        return stance
    share = 0.0 if braking.level is Brake.EXACT_ONLY else max(terms.max_audit_share, stance.audit_share)
    return replace(stance, rule=tightened(stance.rule), brake=braking.level, audit_share=share)


def worried(braking: Braking) -> bool:
    """Whether more audits should tell: the brake is not open, or a few wrong hits came in short succession."""
    return braking.level is not Brake.OPEN or braking.worse.evidence > WORRYING


def fold(braking: Braking, label: Label, rule: Rule, terms: TrustTerms) -> Turn:
    """With one more label; ``rule`` is the one in force without the brake. Labels that are no sample say nothing."""
    braking = _for_target(braking, terms.max_false_hit_rate)
    if not label.origin.is_sampled:
        return Turn(braking)
    if braking.level is not Brake.EXACT_ONLY and label.served is not None:
        # While it is open whatever was served counts, be it that a second opinion let it pass below the threshold.
        is_open = braking.level is Brake.OPEN
        same = label.candidates[label.served].same if is_open else _served(label, tightened(rule))
        if same is not None:
            braking = replace(braking, worse=_above(braking.worse, braking.target, same=same))
    if braking.level is not Brake.OPEN:
        same = _served(label, rule if braking.level is Brake.TIGHT else tightened(rule))
        if same is not None:
            braking = replace(
                braking,
                needed=_above(braking.needed, braking.target, same=same),
                better=_below(braking.better, braking.target, same=same),
            )
    return _turned(braking, label.at_ms)


def tick(braking: Braking, terms: TrustTerms, now_ms: int) -> Turn:
    """As time passes: a level that nothing bears out any more is opened, and trips are forgotten."""
    braking = _for_target(braking, terms.max_false_hit_rate)
    waited_ms = now_ms - braking.since_ms
    if braking.level is Brake.OPEN:
        return Turn(replace(braking, trips=0) if braking.trips and waited_ms >= CALM_MS else braking)
    if waited_ms < 0:
        why = "the clock was set back; how long it waits is counted from now on"
        return Turn(replace(braking, since_ms=now_ms), Step(now_ms, f"brake {braking.level.value}: {why}"))
    if waited_ms < wait_ms(braking):
        return Turn(braking)
    why = f"nothing bore it out for {waited_ms / 3_600_000:.1f} h; {_counted(braking.better)} would-be hits were wrong"
    return _moved(braking, _LOOSER[braking.level], now_ms, why)


def wait_ms(braking: Braking) -> int:
    """How long the level lasts if nothing bears it out."""
    return min(WAIT_MS << min(max(braking.trips - 1, 0), 16), MAX_WAIT_MS)


def to_record(braking: Braking) -> dict[str, Any]:
    """As plain values."""
    return {**asdict(braking), "level": braking.level.value}


def from_record(record: Mapping[str, Any]) -> Braking:
    """What ``to_record`` made plain. Raises ValueError for anything else."""
    try:
        gathered = {name: detector_of(record[name]) for name in ("worse", "needed", "better")}
        return Braking(**{**record, "level": Brake(record["level"]), **gathered})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a record of a brake: {error!r}") from None


def _turned(braking: Braking, at_ms: int) -> Turn:
    target = f"{braking.target:.2%}"
    if braking.worse.evidence >= CLOSING_BAR:
        why = f"{_counted(braking.worse)} semantic hits were wrong, of late credibly above the target of {target}"
        return _moved(replace(braking, trips=braking.trips + 1), _TIGHTER[braking.level], at_ms, why)
    if braking.better.evidence >= OPENING_BAR:
        why = f"{_counted(braking.better)} would-be hits were wrong, of late credibly below the target of {target}"
        return _moved(braking, _LOOSER[braking.level], at_ms, why)
    if braking.needed.evidence >= CLOSING_BAR:  # borne out: the time until it opens by itself begins anew
        return Turn(replace(braking, since_ms=at_ms, needed=UNSEEN))
    return Turn(braking)


def _moved(braking: Braking, level: Brake, at_ms: int, why: str) -> Turn:
    """At another level, where evidence is gathered from nothing."""
    moved = Braking(level=level, since_ms=at_ms, trips=braking.trips, target=braking.target)
    what = f"brake {braking.level.value} → {level.value}: {why}; {_EFFECTS[level]}"
    return Turn(moved, Step(at_ms, what))


def _counted(detector: Detector) -> str:
    """What was observed of late, and since the level began with its confidence sequence."""
    low, high = interval_of(detector.wrong, detector.seen)
    return (
        f"{detector.recent_wrong} of the last {detector.recent_seen} ({detector.wrong} of {detector.seen} at this level, "
        f"{low:.2%} to {high:.2%} with 95 % confidence)"
    )


def _for_target(braking: Braking, target: float) -> Braking:
    """What was gathered against another target says nothing against this one."""
    if braking.target == target:
        return braking
    return replace(braking, target=target, worse=UNSEEN, needed=UNSEEN, better=UNSEEN)


def _served(label: Label, rule: Rule) -> bool | None:
    """Whether what the rule would serve for the labelled request is right; None where it serves nothing, or none can tell."""
    if label.served is not None and _reaches(label.candidates[label.served], label, rule):
        return label.candidates[label.served].same
    for candidate in label.candidates:
        if candidate.gate is None and _reaches(candidate, label, rule):
            return candidate.same
    return None


def _reaches(candidate: LabelledCandidate, label: Label, rule: Rule) -> bool:
    if rule.model is None:
        return candidate.score >= rule.threshold
    if label.features_version != VERSION:
        return False
    return float(rule.model.values(candidate.features[None])[0]) >= rule.threshold


def _above(detector: Detector, target: float, *, same: bool) -> Detector:
    return observe(detector, target, above(target), wrong=not same)


def _below(detector: Detector, target: float, *, same: bool) -> Detector:
    return observe(detector, target, below(target), wrong=not same)
