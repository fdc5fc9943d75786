"""The values that travel between the rooms, all frozen.

Nothing here does anything: a value is complete when constructed and is never
changed. Scores are cosine similarities, higher is closer. Times are milliseconds
of the service's steady clock (``core.ports.Clock``), durations carry their unit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.gates.gate import Gate

Vector: TypeAlias = NDArray[np.float32]
"""One embedding: shape (dimension,), float32, unit norm."""

Durability: TypeAlias = Literal["sync", "async"]
"""``sync``: acknowledged means on disk. ``async``: a power cut may take the last commits, never corrupts."""


@unique
class Outcome(Enum):
    """What a lookup came to. One enum feeds the proto, the metric label and the log.

    The names are those of ``cachesvc.v1.Outcome`` without its prefix; the value is the
    sentence a person reads in ``LookupResponse.reason``.
    """

    HIT_EXACT = "the identical request was answered before"
    HIT_SEMANTIC = "a request that means the same was answered before"

    MISS_EMPTY = "nothing is stored in this scope"
    MISS_BELOW_THRESHOLD = "the nearest entry scores below the threshold"
    MISS_EXPIRED = "what would have matched has expired"
    MISS_TOO_OLD = "what would have matched is older than max_age"
    MISS_EXACT_ONLY = "the exact tier alone was asked, and the identical request is not stored"
    MISS_PAST_WINDOW = "the text is longer than the model can see, and the identical request is not stored"
    MISS_UNKNOWN_TOKENS = (
        "the text has tokens the model does not know, and the identical request is not stored"
    )
    MISS_INVISIBLE_CHARACTERS = (
        "the text has characters the model cannot see, and the identical request is not stored"
    )
    MISS_MIXED_SCRIPTS = "a word mixes look-alike scripts, and the identical request is not stored"
    MISS_SPECIAL_TOKENS = (
        "the text spells a special token of the model, and the identical request is not stored"
    )
    MISS_ENTRY_GONE = "the matching entry was removed a moment ago"
    MISS_UNSEEN_DIFFERENCE = (
        "the nearest prompt differs in what the model cannot see: accents, case in code, or indentation"
    )
    MISS_SOURCE_CHANGED = "what would have matched was built from another version of a source"
    MISS_GATED = "the nearest prompt differs in something that turns the answer"
    MISS_VETOED = "feedback said that this reuse, or one much like it, was wrong"
    MISS_NOT_VERIFIED = "the second opinion was against the nearest entry, or there was none in time"
    MISS_HELD_BACK = "it would have hit; by chance it is a miss, so that the fresh answer can be compared"
    MISS_SHADOW = "it would have hit; the mode of this namespace only records that"
    MISS_BRAKED = "too many wrong hits were found in this namespace: the exact tier alone is served"
    MISS_CORRUPT = "the matching record failed its integrity check and was dropped"

    BYPASS_REQUESTED = "the request asked not to be answered from the cache"
    BYPASS_DISABLED = "the policy of this namespace turns the cache off"
    BYPASS_DEADLINE = "too little time was left for the semantic tier"
    BYPASS_EMBEDDER_BUSY = "the embedding engine had no answer in time"
    BYPASS_EMBEDDER_FAILED = "the embedding engine failed"
    BYPASS_SCOPE_TOO_LARGE = "the scope is larger than the index memory bound"
    BYPASS_STORE_FAILED = "the store could not be read"

    @property
    def is_hit(self) -> bool:
        """Whether an entry was served."""
        return self in (Outcome.HIT_EXACT, Outcome.HIT_SEMANTIC)

    @property
    def label(self) -> str:
        """The name in metrics and logs: ``hit_exact``, ``miss_empty`` …"""
        return self.name.lower()


@unique
class Unseen(Enum):
    """Why a text may be matched exactly only: the embedder cannot fully see it."""

    PAST_WINDOW = "the text is longer than the model can see"
    UNKNOWN_TOKENS = "the text has tokens the model does not know"
    INVISIBLE_CHARACTERS = "the text has characters the model cannot see"
    MIXED_SCRIPTS = "a word of the text mixes look-alike scripts"
    SPECIAL_TOKENS = "the text spells a special token of the model"


@unique
class Removal(Enum):
    """Why an entry left the store; each is counted apart."""

    DELETED = "deleted"
    REPLACED = "replaced"
    EXPIRED = "expired"
    EVICTED = "evicted"
    QUARANTINED = "quarantined"
    INVALIDATED = "invalidated"
    JUDGED_WRONG = "judged_wrong"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, as the caller put it: everything that makes up the identity.

    ``query_field`` is what the caller calls the query text, for error messages; it is no part
    of the identity.
    """

    namespace: str
    messages: tuple[Message, ...]
    model: str
    vary: Mapping[str, str]
    query_field: str = "prompt"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a request *is*, canonicalised.

    ``context`` digests everything that must match exactly, the namespace included, and
    outlives a change of embedder; ``scope`` adds the embedder's fingerprint to it and is the
    wall that no search crosses; ``exact_key`` adds the query text. All are 32 bytes.
    """

    namespace: str
    model: str
    context: bytes
    scope: bytes
    exact_key: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """A document that a response was built from."""

    id: str
    version: str


@dataclass(frozen=True, slots=True)
class Payload:
    """What the caller stores: the response and what belongs to it."""

    response: bytes
    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Quota:
    """What a namespace may hold at most; None for no bound."""

    max_entries: int | None = None
    max_bytes: int | None = None


UNBOUNDED = Quota()


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry on its way into the store: everything but the id that the store gives it.

    ``vector`` is None for an entry that only the exact tier may serve; ``unembedded`` says that it is for
    want of an embedder's answer, so that nobody knows what it is near to. ``sliding_ms`` above 0: each use
    lets it live that much longer, never past ``latest_ms``. ``epoch`` is the store's when the response
    began to be made (None: it is made now): what an invalidation since then covers is not stored.
    """

    identity: Identity
    payload: Payload
    prompt: str
    vector: Vector | None
    created_ms: int
    expires_ms: int
    sliding_ms: int = 0
    latest_ms: int = 0
    epoch: int | None = None
    quota: Quota = UNBOUNDED
    unembedded: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored response. ``sliding_ms`` and ``latest_ms`` as in ``Draft``."""

    id: int
    namespace: str
    model: str
    context: bytes
    scope: bytes
    exact_key: bytes
    prompt: str
    payload: Payload
    created_ms: int
    expires_ms: int
    sliding_ms: int = 0
    latest_ms: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neighbour that the index named."""

    entry_id: int
    score: float


@dataclass(frozen=True, slots=True)
class Lost:
    """A row that was asked for and cannot be had: it is gone, or it failed its digest."""

    entry_id: int
    corrupt: bool


Row: TypeAlias = Entry | Lost
"""What the store has under an id."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen. ``entry`` is served; ``withheld`` would have been, but for the outcome.

    ``value`` is what a learned rule gave the one that was chosen; ``gate`` what refused it, with MISS_GATED.
    ``doubtful`` is the hit that it may be once a second opinion agrees.
    """

    outcome: Outcome
    entry: Entry | None = None
    score: float | None = None
    best_score: float | None = None
    value: float | None = None
    confidence: float | None = None
    gate: Gate | None = None
    withheld: Entry | None = None
    doubtful: "Decision | None" = None


@dataclass(slots=True)
class Timings:
    """Where a lookup spent its time, microseconds. The one value that is filled in as it travels."""

    identity_us: int = 0
    exact_us: int = 0
    embed_us: int = 0
    search_us: int = 0
    fetch_us: int = 0
    decide_us: int = 0
    total_us: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """A lookup: the request and how it wants to be answered.

    ``deadline_s`` is an instant of ``Clock.monotonic_s``, or None for no deadline. ``sources`` maps
    sources to the versions that an answer may have been built from. ``trace`` is the caller's W3C traceparent.
    """

    request: Request
    journey: str = ""
    request_id: str = ""
    min_score: float | None = None
    max_age_ms: int | None = None
    exact_only: bool = False
    bypass: bool = False
    deadline_s: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    trace: str = ""


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The answer to an Ask. The rest as in ``Decision``; ``audit``: a fresh answer is asked for behind this hit."""

    outcome: Outcome
    lookup_id: str
    timings: Timings
    entry: Entry | None = None
    score: float | None = None
    best_score: float | None = None
    threshold: float | None = None
    age_ms: int | None = None
    value: float | None = None
    confidence: float | None = None
    gate: Gate | None = None
    withheld: Entry | None = None
    rule_version: int = 0
    audit: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """A store: what to keep under which identity.

    Either ``request`` or a ``lookup_id`` that is still known gives the identity; with both, they
    must agree. A request without messages gives none, but what it has must agree too. ``ttl_ms``
    None means the policy's.
    """

    payload: Payload
    request: Request | None = None
    lookup_id: str = ""
    ttl_ms: int | None = None
    journey: str = ""
    request_id: str = ""
    deadline_s: float | None = None
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the store did with a Draft, durable once returned. ``evicted_count`` made room in its namespace."""

    entry_id: int
    replaced_id: int | None
    sequence: int
    evicted_count: int = 0


@dataclass(frozen=True, slots=True)
class Use:
    """Hits of one entry since they were last noted: how many, and when the last was."""

    last_ms: int
    count: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a walk through entries stands: after this entry of this namespace."""

    namespace: str
    entry_id: int


@dataclass(frozen=True, slots=True)
class Match:
    """An entry that a selector means. ``score`` is its nearness, where that was asked."""

    entry_id: int
    namespace: str
    hits: int
    semantic: bool
    score: float | None


@dataclass(frozen=True, slots=True)
class Selection:
    """A part of what a selector means, and where to go on; None when that was all. ``damaged`` are ids of
    entries of which nobody can tell.
    """

    matches: tuple[Match, ...]
    after: Place | None
    damaged: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceUsage:
    """What a namespace holds. ``size_bytes`` are those of its records and vectors."""

    namespace: str
    entries: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoreResult:
    """The answer to a Keep. ``unseen`` says why only the exact tier can serve the entry."""

    entry_id: int
    replaced_id: int | None
    expires_ms: int
    semantic: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """One record of the store's log: an entry came into a scope, or left it."""

    sequence: int
    scope: bytes
    entry_id: int
    added: bool


@dataclass(frozen=True, slots=True)
class ScopeVectors:
    """All vectors of a scope as of a log sequence: ids (n,) int64, vectors (n, dimension) float32."""

    sequence: int
    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The pieces of an index, with the log sequence up to which it has everything, and perhaps a little more.

    One that is ageing cannot be used for ever, changed or not: it is to be saved anew.
    """

    sequence: int
    pieces: Iterator[bytes]
    is_ageing: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """A time for which a store was open: a random name, and the log sequence at its beginning."""

    name: bytes
    began: int


@dataclass(frozen=True, slots=True)
class CheckStep:
    """A part of a check: entries read so far of those there are, and what was found since the step before."""

    checked: int
    total: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How full the store is. ``used_bytes`` are whole pages in use, ``max_bytes`` the bound."""

    entries: int
    used_bytes: int
    max_bytes: int
    sequence: int
