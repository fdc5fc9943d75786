"""What happened, for observers: one event per operation. No event holds a prompt or a response."""

from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.gates import Gate
from cachesvc.core.trust.labels import Comparator, Origin
from cachesvc.core.trust.state import Brake
from cachesvc.core.types import Outcome, Removal, Timings, Unseen

Opinion: TypeAlias = Literal["", "yes", "no", "late", "busy", "failed"]
"""What a second opinion on a candidate came to; empty when none was asked."""


@dataclass(frozen=True, slots=True)
class LookupDone:
    """A lookup came to its outcome. ``trace`` is the caller's.

    ``entry_id`` was served; ``withheld_id`` would have been, but for the outcome. The saved figures are those of
    either, so that on a miss they say what would have been saved.
    """

    outcome: Outcome
    namespace: str
    model: str
    trace: str
    journey: str
    request_id: str
    lookup_id: str
    timings: Timings
    score: float | None
    threshold: float | None
    entry_id: int | None
    saved_input_tokens: int
    saved_output_tokens: int
    saved_cost_usd: float
    withheld_id: int | None
    value: float | None
    confidence: float | None
    gate: Gate | None
    rule_version: int
    audit: bool
    opinion: Opinion


@dataclass(frozen=True, slots=True)
class StoreDone:
    """A response was stored. ``unseen`` says why it is exact-only, if the text is the cause."""

    namespace: str
    trace: str
    journey: str
    request_id: str
    entry_id: int
    replaced: bool
    semantic: bool
    unseen: Unseen | None
    response_bytes: int
    total_us: int


@dataclass(frozen=True, slots=True)
class EntriesRemoved:
    """Entries left the store."""

    why: Removal
    count: int


@dataclass(frozen=True, slots=True)
class ScopesChanged:
    """The set of loaded scopes changed."""

    loaded: int
    unloaded: int
    load_us: int


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A call ended in an error. ``error_id`` is what the caller was told; ``cause`` a type's name."""

    method: str
    kind: Kind
    code: str
    error_id: str
    cause: str


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """Work behind the requests failed and will be tried again."""

    task: str
    kind: Kind
    message: str

    @classmethod
    def of(cls, task: str, error: Exception) -> Self:
        """By what was raised. What other libraries say may hold a prompt: of theirs the type alone is told."""
        if isinstance(error, CacheError):
            return cls(task, error.kind, error.message)
        return cls(task, Kind.INTERNAL, type(error).__name__)


@dataclass(frozen=True, slots=True)
class ConfigRead:
    """The configuration was read again. ``result`` is applied, unchanged or refused; ``message`` says why."""

    result: Literal["applied", "unchanged", "refused"]
    generation: int
    changed: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True)
class EmbedderChanged:
    """Embedding began to fail or to work again, or a thread got stuck in it or came back."""

    healthy: bool
    stuck: int


@dataclass(frozen=True, slots=True)
class SnapshotDone:
    """An index was saved, or one was loaded, or could not be used: stale, or rejected for what it is."""

    result: Literal["saved", "loaded", "stale", "rejected"]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class IndexSettled:
    """An index began to move to another layout, or has moved, or was let go of before, or failed. ``took_s`` so far."""

    result: Literal["started", "finished", "abandoned", "failed"]
    rows: int
    took_s: float


@dataclass(frozen=True, slots=True)
class IndexWarmed:
    """The start is over: so many of the scopes that were in memory before are again; for the others there was no
    room, or they could not be read.
    """

    scopes: int
    scopes_total: int
    rows: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class StoreMovedAside:
    """At the start the store, or that of trust, was too damaged to open; it went to ``path`` and an empty one took its
    place.
    """

    path: str


@dataclass(frozen=True, slots=True)
class TrustMovedAside:
    """At the start the store of trust was damaged; it went to ``path``, and everything is learned anew: vetoes are gone."""

    path: str


@dataclass(frozen=True, slots=True)
class TrustChanged:
    """A namespace goes by another rule, or its brake by another stance: what and why, for people."""

    namespace: str
    what: str


@dataclass(frozen=True, slots=True)
class TrustStands:
    """How a namespace stands, when that is first known and whenever it is another: ``threshold`` and ``rule_version`` by
    which it serves, its brake, and what audits say; ``false_hit_rate`` and its interval are None before there was one;
    ``calibration_error`` is None where there is no confidence.
    """

    namespace: str
    threshold: float
    rule_version: int
    brake: Brake
    audited: int
    audited_wrong: int
    false_hit_rate: float | None
    false_hit_rate_low: float | None
    false_hit_rate_high: float | None
    max_false_hit_rate: float
    calibration_error: float | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A fresh answer was compared with a stored one, or judged. ``same`` None: that could not be told."""

    origin: Origin
    comparator: Comparator
    same: bool | None


DropReason: TypeAlias = Literal["queue_full", "entries_gone", "failed", "store_failed", "stopped"]


@dataclass(frozen=True, slots=True)
class LabelsDropped:
    """Answers from which nothing was learned, and why."""

    why: DropReason
    count: int


@dataclass(frozen=True, slots=True)
class FeedbackDone:
    """A reuse was judged. ``same``: taken for right or wrong; None where a fresh answer could not be told from it."""

    namespace: str
    source: str
    entry_id: int
    same: bool | None
    fresh: bool
    known: bool
    vetoed: bool
    quarantined: bool


Event: TypeAlias = (
    LookupDone
    | StoreDone
    | EntriesRemoved
    | ScopesChanged
    | CallFailed
    | TaskFailed
    | ConfigRead
    | EmbedderChanged
    | SnapshotDone
    | IndexSettled
    | IndexWarmed
    | StoreMovedAside
    | TrustMovedAside
    | TrustChanged
    | TrustStands
    | Labelled
    | LabelsDropped
    | FeedbackDone
)
