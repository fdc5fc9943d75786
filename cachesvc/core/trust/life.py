"""The life of a namespace's trust: what its labels make of its state, and what lookups go by in that state. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachesvc.core.policy import Policy
from cachesvc.core.trust.labels import Label, Tally
from cachesvc.core.trust.state import Stance, Step, TrustState, by_policy


@dataclass(frozen=True, slots=True)
class Advance:
    """A state after more became known, and the steps that were made."""

    state: TrustState
    steps: tuple[Step, ...] = ()


def advance(
    state: TrustState, labels: Sequence[tuple[int, Label]], tally: Tally, policy: Policy, now_ms: int
) -> Advance:
    """The state after these labels, by sequence, which follow on those applied, and with this tally."""
    applied = labels[-1][0] if labels else state.applied
    return Advance(replace(state, applied=applied, tally=tally))


def stance(state: TrustState, policy: Policy) -> Stance:
    """What lookups go by in this state, under this policy."""
    return by_policy(state.namespace, policy)


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


def audited(state: TrustState, policy: Policy) -> Audited | None:
    """None before there was an audit."""
    return None
