"""How a namespace is served, and which policy it has."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from cachesvc.core.gates import DEFAULT_GATES, Gate
from cachesvc.core.types import UNBOUNDED, Quota

DEFAULT = "default"
"""The name of the default policy, and the namespace of whoever names none."""

_WILDCARDS = frozenset("*?")


@unique
class Mode(Enum):
    """Whether what matches is served."""

    OFF = "off"
    SHADOW = "shadow"
    CANARY = "canary"
    ON = "on"


Compare: TypeAlias = Literal["auto", "text", "json", "embedding", "off"]
"""How a fresh answer is compared with a stored one, to learn whether reuse would have been right."""


@dataclass(frozen=True, slots=True)
class TrustTerms:
    """How a namespace learns how right its hits are, and what it does when they are not.

    ``max_error_rate`` None: ``Policy.min_score`` is the threshold, come what may. ``floor_score``: candidates below
    are never served by a learned or controlled rule, and not learned from. Shares are chances, 0 to 1.
    """

    max_error_rate: float | None = None
    floor_score: float = 0.6
    hold_back_share: float = 0.05
    audit_share: float = 0.01
    max_audit_share: float = 0.2
    max_false_hit_rate: float = 0.05
    quarantine_after: int = 3
    compare: Compare = "auto"
    compare_min_score: float = 0.85
    verify_min_score: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """How one namespace is served. Complete: inheritance was resolved by whoever made it."""

    mode: Mode = Mode.ON
    canary_share: float = 0.1
    semantic: bool = True
    store_prompts: bool = True
    min_score: float = 0.95
    candidate_count: int = 5
    ttl_ms: int = 86_400_000
    max_ttl_ms: int = 2_592_000_000
    sliding_ttl: bool = False
    quota: Quota = UNBOUNDED
    gates: frozenset[Gate] = DEFAULT_GATES
    trust: TrustTerms = TrustTerms()

    @property
    def enabled(self) -> bool:
        """Whether anything is looked up or stored at all."""
        return self.mode is not Mode.OFF

    @property
    def embeds(self) -> bool:
        """Whether a request may want an inference: matching by meaning, for which prompts must be kept."""
        return self.enabled and self.semantic and self.store_prompts


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """The policies of a configuration: one default, and those for namespaces that match a pattern."""

    default: Policy
    by_pattern: Mapping[str, Policy]

    @property
    def named(self) -> frozenset[str]:
        """Namespaces that have a policy of their own name, and the one that has the default's."""
        return frozenset(name for name in (DEFAULT, *self.by_pattern) if not _WILDCARDS.intersection(name))

    def of(self, namespace: str) -> Policy:
        """The most specific policy: an exact name first, then the pattern with most literal characters.

        Of patterns as specific as each other the one configured first wins.
        """
        if not self.by_pattern:
            return self.default
        exact = self.by_pattern.get(namespace)
        if exact is not None:
            return exact
        matching = [pattern for pattern in self.by_pattern if fnmatchcase(namespace, pattern)]
        if not matching:
            return self.default
        return self.by_pattern[max(matching, key=_literal_count)]


def _literal_count(pattern: str) -> int:
    return sum(1 for character in pattern if character not in _WILDCARDS)


def lifetime_ms(policy: Policy, asked_ms: int | None) -> int:
    """How long an entry lives: what was asked, else the policy's ttl; never past the policy's maximum."""
    return min(policy.ttl_ms if asked_ms is None else asked_ms, policy.max_ttl_ms)
