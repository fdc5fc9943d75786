"""What is known of a namespace's trust: a fold over its labels, and which rule that puts in force."""

from dataclasses import dataclass
from enum import Enum, unique

from cachesvc.core.policy import Policy
from cachesvc.core.trust.labels import NOTHING, Tally
from cachesvc.core.trust.rules import Rule

MAX_HISTORY = 10
MAX_STEPS = 50


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the service, or an operator, changed: when, and what and why, for people."""

    at_ms: int
    what: str


@dataclass(frozen=True, slots=True)
class TrustState:
    """Of one namespace. ``applied`` is the sequence of the last label in it, ``generation`` grows with each state.

    ``rules`` are those that were in force, the newest last; ``active`` is the version of the one that is (0: the
    policy's threshold). ``pinned``: an operator put it there. ``challenger`` says why no other was adopted last.
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


@unique
class Brake(Enum):
    """How far a namespace's semantic tier is closed, for the wrong hits that audits found."""

    OPEN = "open"
    TIGHT = "tight"
    EXACT_ONLY = "exact_only"


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
