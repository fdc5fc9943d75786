"""What is known of a namespace's trust: a fold over its labels, and which rule that puts in force."""

from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import Self

from cachesvc.core.policy import Policy
from cachesvc.core.trust.audit import NO_AUDITS, Audits
from cachesvc.core.trust.confidence import UNKNOWN, Confidence
from cachesvc.core.trust.control import UNTOLD, ControlState
from cachesvc.core.trust.detector import UNSEEN, Detector
from cachesvc.core.trust.labels import NOTHING, Tally
from cachesvc.core.trust.rules import Rule

MAX_HISTORY = 10
_MAX_STEPS = 50


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the service, or an operator, changed: when, and what and why, for people."""

    at_ms: int
    what: str


@unique
class Brake(Enum):
    """How far a namespace's semantic tier is closed, for the wrong hits that audits found."""

    OPEN = "open"
    TIGHT = "tight"
    EXACT_ONLY = "exact_only"


@dataclass(frozen=True, slots=True)
class Braking:
    """What the brake goes by. ``since_ms``: when it came to this level, or last found it borne out that it is needed.

    ``worse`` gathers evidence that the hits of this level are too often wrong; ``needed`` that those of the looser level
    before it would be, and ``better`` that they would not be. ``trips`` counts how often it closed since it was open
    for long; ``target`` is the rate that it holds.
    """

    level: Brake = Brake.OPEN
    since_ms: int = 0
    trips: int = 0
    target: float = 0.0
    worse: Detector = UNSEEN
    needed: Detector = UNSEEN
    better: Detector = UNSEEN


@dataclass(frozen=True, slots=True)
class TrustState:
    """Of one namespace. ``applied`` is the sequence of the last label in it, ``generation`` grows with each state.

    ``rules`` are those that were in force, the newest last; ``active`` is the version of the one that is (0: the
    policy's threshold). ``pinned``: an operator put it there. ``challenger`` says why no other was adopted last, and
    ``challenged_at`` how many labels there were then. ``control`` is of the active rule; ``audits`` are those of all
    time; ``braking`` is the brake; ``confidence`` is what is known of values.
    """

    namespace: str
    generation: int = 0
    applied: int = 0
    rules: tuple[Rule, ...] = ()
    active: int = 0
    pinned: bool = False
    challenger: str = ""
    steps: tuple[Step, ...] = ()
    tally: Tally = NOTHING
    audits: Audits = NO_AUDITS
    braking: Braking = Braking()
    control: ControlState = UNTOLD
    challenged_at: int = 0
    confidence: Confidence = UNKNOWN

    def stepped(self, *steps: Step) -> Self:
        """After these steps; it has the last ones."""
        return replace(self, steps=(*self.steps, *steps)[-_MAX_STEPS:])


@dataclass(frozen=True, slots=True)
class Stance:
    """What the lookups of a namespace go by now. One for each lookup, so that nothing changes in the midst of it."""

    rule: Rule
    brake: Brake = Brake.OPEN
    hold_back_share: float = 0.0
    audit_share: float = 0.0


def by_policy(namespace: str, policy: Policy) -> Stance:
    """That of a namespace of which nothing is known: the policy decides."""
    return Stance(Rule(0, policy.min_score), hold_back_share=policy.trust.hold_back_share)
