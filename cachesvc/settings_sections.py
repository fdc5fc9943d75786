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
    ValidationInfo,
    field_validator,
    model_validator,
)

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


class Section(BaseModel):
    """A section of the configuration: frozen, and without settings that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would take true for 1."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError(f"must not be true or false, got {value}")
        return value


class ServerSettings(Section):
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


class AdminSettings(Section):
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


class StoreSettings(Section):
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


class EmbedderSettings(Section):
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


class IndexSettings(Section):
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


class TicketSettings(Section):
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


class LimitSettings(Section):
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


class ReloadSettings(Section):
    """How changes of the configuration file are noticed."""

    watch_s: float = Field(
        2.0,
        ge=0,
        le=3600,
        description="How often the file is looked at for changes; 0: on SIGHUP and ReloadConfig only",
    )


class LogSettings(Section):
    """The structured log, on standard error. It never holds a prompt or a response."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug logs every call; info what an operator needs"
    )
    format: Literal["json", "console"] = Field(
        "json", description="json: a line per event. console: for people"
    )


class MetricsSettings(Section):
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


class TelemetrySettings(Section):
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
