"""The sections of the configuration: every setting with its bounds, its default and what it means.

Values only; who reads them from where is ``settings``. The descriptions here are the manual: ``cachesvc
init-config``, the README's table and the chart's schema are made from them.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cachesvc.core.gates import DEFAULT_GATES, Gate
from cachesvc.core.policy import Mode, Policy, TrustTerms
from cachesvc.core.types import Quota

_TCP = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})\Z")

MIB = 1 << 20
GIB = 1 << 30


def _tcp_address(value: str) -> str:
    match = _TCP.match(value)
    if match is None or int(match[2]) > 65_535:
        raise ValueError("must be host:port, for example 127.0.0.1:50051")
    return value


def _address(value: str) -> str:
    if value.startswith("unix:"):
        if len(value) == len("unix:"):
            raise ValueError("must name a socket, for example unix:/run/cachesvc/cachesvc.sock")
        return value
    return _tcp_address(value)


def _path(value: Any) -> Any:
    if isinstance(value, str) and (not value or "\0" in value):
        raise ValueError("must name a directory")  # an empty path would be the working directory
    return value


Address = Annotated[str, AfterValidator(_address)]
Directory = Annotated[Path, BeforeValidator(_path)]
TcpAddress = Annotated[str, AfterValidator(_tcp_address)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would take true for 1."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError(f"must not be true or false, got {value}")
        return value


class ServerSettings(_Section):
    """The gRPC server."""

    listen: Address = Field(
        "127.0.0.1:50051", description="Where it listens: host:port, or unix:/path of a socket"
    )
    insecure_bind: bool = Field(
        False,
        description="Allow addresses that are not loopback or a unix socket; there is no authentication, "
        "so whoever reaches the port reads and writes every namespace",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that share listen and the store; more than one take a TCP address and "
        "embedder.engine onnx. What is bounded by server, embedder and index is so in each of them",
    )
    reflection: bool = Field(False, description="Serve gRPC reflection, for grpcurl and the like")
    threads: int = Field(64, ge=1, le=1024, description="Calls handled at once; further ones wait")
    pollers: int = Field(
        4,
        ge=1,
        le=64,
        description="Threads that take calls in; all of them but one answer exact hits on the spot",
    )
    max_streams: int = Field(
        128,
        ge=1,
        le=65_536,
        description="Calls under way on one connection; its further ones wait in the client",
    )
    max_queued_calls: int = Field(
        64,
        ge=1,
        le=65_536,
        description="Calls waiting for a thread; further ones get RESOURCE_EXHAUSTED at once, with RetryInfo",
    )
    max_queue_s: float = Field(
        1.0, gt=0, le=600, description="A call that waited longer for a thread gets RESOURCE_EXHAUSTED"
    )
    max_concurrent_calls: int = Field(
        256,
        ge=1,
        le=65_536,
        description="The last resort: calls that gRPC itself accepts at once; refused without RetryInfo",
    )
    max_connection_age_s: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="With more than one worker, how long a connection lasts until its client is told to make another, "
        "so that they spread over the workers again when one was replaced; calls go on. 0: for ever",
    )
    max_message_bytes: int = Field(
        8 * MIB, ge=64 << 10, le=256 * MIB, description="Largest request; larger ones get RESOURCE_EXHAUSTED"
    )
    drain_s: float = Field(
        10.0, ge=0, le=600, description="On SIGTERM, how long calls under way may take to finish"
    )

    @model_validator(mode="after")
    def _workers_share_a_port(self) -> "ServerSettings":
        if self.workers > 1 and self.listen.startswith("unix:"):
            raise ValueError(
                f"workers {self.workers} cannot share the socket {self.listen}: set listen to host:port, or workers to 1"
            )
        return self


class AdminSettings(_Section):
    """The ports for operators: HTTP with /metrics /healthz /readyz /config, and the AdminService over gRPC."""

    listen: TcpAddress = Field("127.0.0.1:50052", description="Where it listens: host:port")
    rpc_listen: Address = Field(
        "127.0.0.1:50053",
        description="Where AdminService listens (stats, reload, check, export, import, backup): host:port, "
        "or unix:/path of a socket; loopback or a socket only",
    )
    insecure_bind: bool = Field(
        False, description="Allow listen to be an address that is not loopback, for example for Prometheus"
    )
    backup_dir: Directory = Field(
        Path("cachesvc-backups"), description="Directory below which Backup writes its copies"
    )


class StoreSettings(_Section):
    """The store on disk."""

    path: Directory = Field(
        Path("cachesvc-data"),
        description="Directory of the store, made private (0700); on a local disk, one server each",
    )
    max_bytes: int = Field(
        4 * GIB,
        ge=MIB,
        le=1 << 44,
        description="Bound on what is stored; what store.eviction ranks least goes first",
    )
    max_entries: int = Field(
        0, ge=0, le=1 << 40, description="Bound on the number of entries, kept as max_bytes is; 0: none"
    )
    eviction: Literal["gdsf", "lru", "lfu"] = Field(
        "gdsf",
        description="Which entries go first. gdsf: those that save least money for their size and use. "
        "lru: least recently used. lfu: least often used",
    )
    map_size_bytes: int = Field(
        16 * GIB,
        ge=2 * MIB,
        le=1 << 45,
        description="Address space reserved for the store, not disk; at least twice max_bytes",
    )
    durability: Literal["sync", "async"] = Field(
        "sync",
        description="sync: acknowledged means on disk. async: a power cut may take the last commits; never corrupts",
    )
    on_corruption: Literal["refuse", "quarantine"] = Field(
        "refuse",
        description="A store too damaged to open. refuse: do not start (exit 6). quarantine: move data.mdb to "
        "data.mdb.corrupt and start empty",
    )
    write_queue_length: int = Field(
        1024, ge=1, le=65_536, description="Writes waiting for a commit; further ones get RESOURCE_EXHAUSTED"
    )
    compress_min_bytes: int = Field(
        2048,
        ge=0,
        le=GIB,
        description="Records at least this large are compressed (zstandard); smaller ones share a page anyway",
    )
    log_max_records: int = Field(
        100_000, ge=1024, le=100_000_000, description="Changes kept for indexes to follow"
    )
    high_watermark: float = Field(0.95, gt=0, le=1, description="Share of max_bytes at which eviction begins")
    low_watermark: float = Field(0.90, gt=0, le=1, description="Share of max_bytes at which eviction ends")
    tidy_interval_s: float = Field(
        1.0, gt=0, le=3600, description="How often expired entries are removed and use is noted"
    )
    max_mapped_bytes: int = Field(
        256 * MIB,
        ge=0,
        le=1 << 44,
        description="Pages of the store that may count as the process's memory (RSS); more are given back to the page "
        "cache, where they stay; 0: never",
    )
    max_use_notes: int = Field(
        65_536, ge=1, le=10_000_000, description="Hits remembered until use is noted, for eviction"
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> "StoreSettings":
        if self.map_size_bytes < 2 * self.max_bytes:
            raise ValueError(
                f"map_size_bytes must be at least twice max_bytes ({2 * self.max_bytes}): "
                "pages in use by readers are not free yet"
            )
        if self.low_watermark > self.high_watermark:
            raise ValueError(f"low_watermark must not be above high_watermark ({self.high_watermark})")
        return self


class EmbedderSettings(_Section):
    """The model that turns text into vectors."""

    model: str = Field(
        "all-MiniLM-L6-v2",
        min_length=1,
        description="A SentenceTransformer's name or directory, or the directory of a compiled engine",
    )
    engine: Literal["onnx", "sentence-transformers"] = Field(
        "onnx", description="onnx: the compiled engine. sentence-transformers: torch, for GPUs"
    )
    precision: Literal["int8", "fp32"] = Field("int8", description="Of the compiled engine")
    cache_dir: Directory = Field(
        Path("~/.cache/cachesvc/engines"), description="Where compiled engines are kept"
    )
    compile_on_start: bool = Field(
        True, description="Compile a model that is not compiled yet; otherwise refuse to start"
    )
    concurrency: int = Field(
        0,
        ge=0,
        le=256,
        description="Inferences at once, one thread each; 0: as many as there are cores, shared by server.workers",
    )
    max_text_length: int = Field(
        8192, ge=1, le=1_000_000, description="Longer texts (characters) are not tokenised: exact tier only"
    )
    max_wait_s: float = Field(
        0.25, ge=0, le=60, description="How long a lookup waits for its embedding, the inference included"
    )
    max_waiting: int = Field(
        56,
        ge=0,
        le=4096,
        description="Calls that wait for an inference; namespaces share these places, and the call that has "
        "none gets the exact tier only. Fewer than server.threads, so that others are answered meanwhile",
    )
    long_length: int = Field(
        400,
        ge=1,
        le=1_000_000,
        description="Texts of so many characters are long: the last free inference is not for one while a shorter "
        "one waits",
    )
    hang_s: float = Field(
        5.0, gt=0, le=600, description="An inference that takes longer is given up and its thread replaced"
    )
    min_left_s: float = Field(
        0.01, ge=0, le=60, description="With less time left than this to its deadline a lookup embeds nothing"
    )


class IndexSettings(_Section):
    """The vector indexes in memory."""

    max_bytes: int = Field(
        GIB, ge=MIB, le=1 << 44, description="Memory for all scopes; least recently used scopes are unloaded"
    )
    lists_min_vectors: int = Field(
        4096,
        ge=256,
        le=1 << 40,
        description="Indexes of scopes at least this large are kept in lists of one byte a value, of which a "
        "search reads the nearest; smaller ones are compared whole",
    )
    snapshot_min_vectors: int = Field(
        20_000,
        ge=0,
        le=1 << 40,
        description="Indexes of scopes at least this large are kept on disk, so that a restart reads no "
        "vectors; 0: none",
    )
    max_analyses: int = Field(
        2048,
        ge=1,
        le=10_000_000,
        description="Entries of which is kept what the gates need to know of their prompts, about 5 KB each; of others it "
        "is found out anew, which takes a fraction of a millisecond",
    )
    warm_max_scopes: int = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="Scopes in memory that a restart loads again by itself, the most recently used first; "
        "others when they are asked for; 0: none",
    )
    warm_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of a core that this loading takes; the rest it leaves to requests",
    )


class VerifierSettings(_Section):
    """The second opinion on candidates between policy.*.verify_min_score and the threshold."""

    kind: Literal["", "cross-encoder", "http"] = Field(
        "", description="cross-encoder: a model of verifier.model. http: a judge at verifier.url. Empty: none"
    )
    model: str = Field(
        "",
        description="A cross-encoder's name or directory, compiled at the first start, or the directory of a compiled one; "
        "with one label, or two of which the second is yes",
    )
    url: str = Field(
        "",
        description='Where prompts are sent, for {"query", "candidate"}; the answer is {"probability"} or {"same"}',
    )
    token: SecretStr = Field(SecretStr(""), description="Bearer token for verifier.url")
    timeout_s: float = Field(
        0.25, gt=0, le=60, description="How long a second opinion may take; later, or failed, it is a miss"
    )
    min_probability: float = Field(0.9, ge=0, le=1, description="Probability from which it is a yes")
    concurrency: int = Field(
        2, ge=1, le=256, description="Second opinions at once; further candidates get none"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> "VerifierSettings":
        if self.kind == "cross-encoder" and not self.model:
            raise ValueError("model must name a cross-encoder where kind is 'cross-encoder'")
        if self.kind == "http" and not re.match(r"https?://[^/\s]+", self.url):
            raise ValueError("url must be an http:// or https:// address where kind is 'http'")
        return self


class TicketSettings(_Section):
    """The memory of misses and semantic hits, by lookup_id."""

    max_count: int = Field(
        8192, ge=1, le=10_000_000, description="Misses and semantic hits remembered; about 3 KB each"
    )
    max_bytes: int = Field(
        64 * MIB, ge=MIB, le=1 << 40, description="Memory for them; long prompts push out more than one"
    )
    ttl_s: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="How long a lookup_id may be passed to Store, or to SubmitFeedback",
    )


class TrustSettings(_Section):
    """What is learned of the reuse, in a store of its own beside the entries."""

    round_interval_s: float = Field(
        5.0, gt=0, le=3600, description="How often new labels are made into what lookups go by"
    )
    max_labels: int = Field(
        20_000,
        ge=100,
        le=10_000_000,
        description="Labels kept of each namespace, the newest; about 1 KB each",
    )
    max_vetoes: int = Field(
        1000, ge=1, le=100_000, description="Vetoed reuses kept of each scope, the newest; about 2 KB each"
    )
    max_held_vetoes: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Of these in memory, of the scopes asked last; about 3 KB each",
    )
    max_bytes: int = Field(
        256 * MIB,
        ge=8 * MIB,
        le=1 << 40,
        description="Bound on the store of trust; the oldest labels go first, and the oldest vetoes where they take half of it",
    )
    max_namespaces: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Namespaces whose rules, counts and labels are kept; where there are more, those go of which least is known",
    )
    max_queue: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Fresh answers that wait to be compared; further ones are dropped",
    )
    max_queue_bytes: int = Field(
        32 * MIB, ge=64 << 10, le=1 << 40, description="Memory for them; further ones are dropped"
    )
    compare_wait_s: float = Field(
        2.0,
        ge=0,
        le=60,
        description="How long a comparison of answers may wait for inferences that no request wants; what could not be "
        "embedded by then counts as not told",
    )
    max_waiting_feedback: int = Field(
        4,
        ge=0,
        le=10_000,
        description="Calls of SubmitFeedback that wait so at once, each of which keeps one of server.threads; further ones get "
        "RESOURCE_EXHAUSTED at once, with RetryInfo",
    )


class LimitSettings(_Section):
    """Bounds on requests; what is over gets INVALID_ARGUMENT naming the field."""

    prompt_bytes: int = Field(256 << 10, ge=1, le=64 * MIB, description="All text of one request, UTF-8")
    messages: int = Field(1024, ge=1, le=100_000, description="Turns of a chat")
    response_bytes: int = Field(
        3 * MIB,
        ge=1,
        le=64 * MIB,
        description="A response; gRPC clients by default read replies of at most 4 MiB, "
        "and the prompt and metadata come along",
    )
    vary_entries: int = Field(64, ge=0, le=4096, description="Entries of vary, and of metadata")
    value_bytes: int = Field(
        16 << 10, ge=1, le=MIB, description="A value of vary or metadata, and every other short string"
    )
    tags: int = Field(
        32, ge=0, le=1024, description="Tags, and sources, of an entry; a tag has at most 128 bytes"
    )
    batch_items: int = Field(256, ge=1, le=4096, description="Items of a batch")
    batch_reply_bytes: int = Field(
        32 * MIB,
        ge=MIB,
        le=GIB,
        description="Answers of one BatchLookup; items beyond get RESOURCE_EXHAUSTED in their place",
    )


class ReloadSettings(_Section):
    """How changes of the configuration file are noticed."""

    watch_s: float = Field(
        2.0,
        ge=0,
        le=3600,
        description="How often the file is looked at for changes; 0: on SIGHUP and ReloadConfig only",
    )


class LogSettings(_Section):
    """The structured log, on standard error. It never holds a prompt or a response."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug logs every call; info what an operator needs"
    )
    format: Literal["json", "console"] = Field(
        "json", description="json: a line per event. console: for people"
    )


class MetricsSettings(_Section):
    """The Prometheus metrics."""

    max_journeys: int = Field(
        100, ge=0, le=10_000, description="Journeys counted by name; further ones are counted as other"
    )
    max_namespaces: int = Field(
        100,
        ge=0,
        le=10_000,
        description="Namespaces whose trust is shown by name; further ones are not shown",
    )


class TelemetrySettings(_Section):
    """Traces and metrics to an OpenTelemetry collector. Needs the extra: pip install 'cachesvc[otel]'."""

    otlp_endpoint: str = Field(
        "",
        description="The collector's OTLP/gRPC address, for example http://127.0.0.1:4317; empty: none",
    )
    service_name: str = Field("cachesvc", min_length=1, description="service.name of what is sent")
    sample_ratio: float = Field(
        0.1, ge=0, le=1, description="Share of calls traced; a caller's traceparent decides for its own calls"
    )
    metrics_interval_s: float = Field(15.0, ge=0.1, le=3600, description="How often metrics are sent")
    timeout_s: float = Field(5.0, gt=0, le=60, description="How long one sending may take")


class PolicySettings(_Section):
    """How a namespace is served. In [policy.default]; other policies inherit what they leave out."""

    mode: Literal["off", "shadow", "canary", "on"] = Field(
        "on",
        description="off: every lookup is a bypass, every store is refused. shadow: nothing is served, what would be is "
        "recorded and learned from. canary: canary_share of the lookups are served as with on, the others as with shadow",
    )
    canary_share: float = Field(0.1, ge=0, le=1, description="With mode canary: the share that is served")
    semantic: bool = Field(True, description="false: the exact tier only")
    store_prompts: bool = Field(
        True,
        description="false: prompts are not kept; matching by meaning needs them, so the exact tier only",
    )
    min_score: float = Field(
        0.95,
        ge=-1,
        le=1,
        description="Lowest cosine similarity of a semantic hit; requests may only tighten it",
    )
    candidate_count: int = Field(5, ge=1, le=100, description="Nearest entries considered")
    ttl_s: float = Field(86_400.0, gt=0, le=315_360_000, description="Lifetime of entries that state none")
    max_ttl_s: float = Field(2_592_000.0, gt=0, le=315_360_000, description="Longest lifetime of any entry")
    sliding_ttl: bool = Field(
        False, description="true: each use lets an entry live for its ttl again, never past max_ttl_s"
    )
    max_entries: int = Field(
        0, ge=0, le=1 << 40, description="Bound on the entries of each namespace by itself; 0: none"
    )
    max_bytes: int = Field(
        0,
        ge=0,
        le=1 << 44,
        description="Bound on prompts, responses and vectors of each namespace by itself; 0: none",
    )
    gates: list[str] = Field(
        [gate.label for gate in Gate if gate in DEFAULT_GATES],
        description="Checks that refuse a semantic hit whose prompt differs in what turns the answer",
    )
    max_error_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Wrong hits per request that are allowed: the threshold, and a learned rule, are then chosen by the "
        "namespace's own labels; until there are enough, min_score decides. Unset: min_score decides for ever",
    )
    floor_score: float = Field(
        0.6,
        ge=-1,
        le=1,
        description="With max_error_rate: lowest cosine similarity that is ever served, or learned from",
    )
    hold_back_share: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="With max_error_rate: share of the semantic hits that are answered as misses instead, so that the "
        "fresh answers tell how often hits are wrong",
    )
    audit_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Least share of the semantic hits for which clients are asked for a fresh answer",
    )
    max_audit_share: float = Field(
        0.2, ge=0, le=1, description="Largest such share, while little is known of the namespace"
    )
    max_false_hit_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="When the share of wrong hits among the semantic hits is credibly above, the brake tightens. Unset: 0.05, "
        "or ten times max_error_rate where that is more, which counts wrong hits among all requests",
    )
    quarantine_after: int = Field(
        3,
        ge=1,
        le=1000,
        description="Wrong verdicts, each of another request, after which an entry is served no more",
    )
    compare: Literal["auto", "text", "json", "embedding", "off"] = Field(
        "auto",
        description="How fresh answers are compared with stored ones. auto: JSON as JSON, equal texts are the same, "
        "others by their embeddings. off: nothing is learned from misses",
    )
    compare_min_score: float = Field(
        0.85,
        ge=0,
        le=1,
        description="Cosine similarity of two answers' embeddings from which they count as the same",
    )
    verify_min_score: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Candidates from this score up to the threshold get a second opinion (section verifier)",
    )

    @field_validator("gates")
    @classmethod
    def _gates_exist(cls, names: list[str]) -> list[str]:
        known = {gate.label for gate in Gate}
        for name in names:
            if name not in known:
                raise ValueError(f"has no gate {name!r}; there are {', '.join(sorted(known))}")
        return names

    def _usual_false_hit_rate(self) -> float:
        return max(TrustTerms().max_false_hit_rate, min(10 * (self.max_error_rate or 0.0), 0.5))

    def policy(self) -> Policy:
        """As the engine takes it."""
        return Policy(
            mode=Mode(self.mode),
            canary_share=self.canary_share,
            semantic=self.semantic,
            store_prompts=self.store_prompts,
            min_score=self.min_score,
            candidate_count=self.candidate_count,
            ttl_ms=int(self.ttl_s * 1000),
            max_ttl_ms=int(self.max_ttl_s * 1000),
            sliding_ttl=self.sliding_ttl,
            quota=Quota(self.max_entries or None, self.max_bytes or None),
            gates=frozenset(Gate[name.upper()] for name in self.gates),
            trust=TrustTerms(
                max_error_rate=self.max_error_rate,
                floor_score=self.floor_score,
                hold_back_share=self.hold_back_share,
                audit_share=self.audit_share,
                max_audit_share=self.max_audit_share,
                max_false_hit_rate=self.max_false_hit_rate or self._usual_false_hit_rate(),
                quarantine_after=self.quarantine_after,
                compare=self.compare,
                compare_min_score=self.compare_min_score,
                verify_min_score=self.verify_min_score,
            ),
        )
