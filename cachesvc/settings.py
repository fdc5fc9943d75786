"""The only reader of files and environment: one TOML file, then ``CACHESVC_`` variables over it.

Everything is validated before anything starts, and frozen afterwards. A wrong value, and a key that
does not exist, is an error that names its path and what would be right. The descriptions here are
the manual: ``cachesvc init-config`` and the README's table are made from them.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from cachesvc.core.errors import CacheError, Kind, Violation
from cachesvc.core.policy import Policy, PolicyBook
from cachesvc.core.types import Quota

ENV_PREFIX = "CACHESVC_"
_NESTED = "__"
_PATTERN = re.compile(r"[a-z0-9*?][a-z0-9._*?-]{0,62}\Z")
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\]):\d{1,5}\Z")
_TCP = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})\Z")

# What Kubernetes sets in every container for every Service of the namespace: for one named cachesvc or
# cachesvc-eu these begin as our variables do. None of our names ends so.
_SERVICE_LINK = re.compile(
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)\Z"
)
_SERVICE_LINK_PORT = re.compile(r"(tcp|udp|sctp)://")

_ROOM_BYTES = 1 << 20

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
    reflection: bool = Field(False, description="Serve gRPC reflection, for grpcurl and the like")
    threads: int = Field(64, ge=1, le=1024, description="Calls handled at once; further ones wait")
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
    max_message_bytes: int = Field(
        8 * MIB, ge=64 << 10, le=256 * MIB, description="Largest request; larger ones get RESOURCE_EXHAUSTED"
    )
    drain_s: float = Field(
        10.0, ge=0, le=600, description="On SIGTERM, how long calls under way may take to finish"
    )


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
        0, ge=0, le=256, description="Inferences at once, one thread each; 0: as many as there are cores"
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
    snapshot_min_vectors: int = Field(
        20_000,
        ge=0,
        le=1 << 40,
        description="Indexes of scopes at least this large are kept on disk, so that a restart reads no "
        "vectors; 0: none",
    )


class TicketSettings(_Section):
    """The memory of misses, by lookup_id."""

    max_count: int = Field(8192, ge=1, le=10_000_000, description="Misses remembered; about 3 KB each")
    max_bytes: int = Field(
        64 * MIB, ge=MIB, le=1 << 40, description="Memory for them; long prompts push out more than one"
    )
    ttl_s: float = Field(600.0, gt=0, le=86_400, description="How long a lookup_id may be passed to Store")


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

    enabled: bool = Field(True, description="false: every lookup is a bypass, every store is refused")
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


class Settings(BaseSettings):
    """All settings. ``policy`` maps ``default`` and namespace patterns to overrides of the default."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter=_NESTED, extra="forbid", frozen=True, allow_inf_nan=False
    )

    server: ServerSettings = ServerSettings()
    admin: AdminSettings = AdminSettings()
    store: StoreSettings = StoreSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    index: IndexSettings = IndexSettings()
    tickets: TicketSettings = TicketSettings()
    limits: LimitSettings = LimitSettings()
    reload: ReloadSettings = ReloadSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    policy: dict[str, PolicySettings] = Field(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over the file, which comes as init arguments; nothing else is read."""
        return env_settings, init_settings

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, values: Any) -> Any:
        """Fill what each policy leaves out from ``default``."""
        policies = values.get("policy") if isinstance(values, dict) else None
        if not isinstance(policies, dict):
            return values
        default = policies.get("default", {})
        if not isinstance(default, dict):
            return values
        inherited = {
            name: {**default, **policy} if isinstance(policy, dict) else policy
            for name, policy in {"default": {}, **policies}.items()
        }
        return {**values, "policy": inherited}

    @model_validator(mode="after")
    def _is_consistent(self) -> "Settings":
        for section in (self.server, self.admin):
            address, name = section.listen, "server" if section is self.server else "admin"
            if not (section.insecure_bind or _is_local(address)):
                raise ValueError(
                    f"{name}.listen {address} can be reached from other machines and there is no "
                    f"authentication: use 127.0.0.1 or a unix socket, or set {name}.insecure_bind = true"
                )
        if not _is_local(self.admin.rpc_listen):
            raise ValueError(
                f"admin.rpc_listen {self.admin.rpc_listen} can be reached from other machines: whoever reaches "
                "it can read and write everything; use 127.0.0.1 or a unix socket"
            )
        if self.limits.response_bytes + _ROOM_BYTES > self.server.max_message_bytes:
            raise ValueError(
                f"limits.response_bytes {self.limits.response_bytes} does not fit server.max_message_bytes "
                f"{self.server.max_message_bytes}: leave {_ROOM_BYTES} bytes for what goes along"
            )
        for name, policy in self.policy.items():
            if policy.ttl_s > policy.max_ttl_s:
                raise ValueError(
                    f"policy.{name}.ttl_s {policy.ttl_s} is above its max_ttl_s {policy.max_ttl_s}"
                )
            if not _PATTERN.match(name):
                raise ValueError(
                    f"policy.{name!r} is not a namespace or pattern: lower-case letters, digits, . _ - * ?"
                )
        return self

    def policy_book(self) -> PolicyBook:
        """The policies as the engine takes them."""
        by_name = {name: _policy(policy) for name, policy in self.policy.items()}
        default = by_name.pop("default", _policy(PolicySettings()))
        return PolicyBook(default, by_name)

    def redacted(self) -> dict[str, Any]:
        """All values as JSON types, for /config; values of type SecretStr come as asterisks."""
        return self.model_dump(mode="json")


# What takes effect when the configuration is read again; everything else takes a restart.
_LIVE = (
    "embedder.max_wait_s",
    "embedder.min_left_s",
    "limits.",
    "log.level",
    "policy.",
    "store.high_watermark",
    "store.low_watermark",
    "store.max_entries",
    "store.max_use_notes",
    "store.tidy_interval_s",
)


def is_live(path: str) -> bool:
    """Whether a setting, by its dotted path, takes effect without a restart."""
    return path.startswith(_LIVE)


def changes(before: Settings, after: Settings) -> list[str]:
    """The dotted paths of the settings that differ."""
    old, new = dict(_flat("", before.redacted())), dict(_flat("", after.redacted()))
    return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def _is_local(address: str) -> bool:
    return address.startswith("unix:") or _LOOPBACK.match(address) is not None


def load(path: Path | None) -> Settings:
    """Read, merge and validate. Raises INVALID with a violation for every mistake."""
    _refuse_unknown_variables()
    values = _file(path)
    _refuse_options(values)
    try:
        return Settings(**values)
    except (SettingsError, RecursionError) as error:
        raise CacheError(Kind.INVALID, f"the environment is wrong: {error}") from None
    except ValidationError as error:
        violations = tuple(_violations(error))
        listed = "\n".join(f"  {violation.field}: {violation.description}" for violation in violations)
        raise CacheError(
            Kind.INVALID, f"the configuration{f' {path}' if path else ''} is wrong:\n{listed}", violations
        ) from None


def default_config_path() -> Path | None:
    """What CACHESVC_CONFIG names, if it is set."""
    named = os.environ.get(f"{ENV_PREFIX}CONFIG")  # noqa: TID251 - this module reads the environment
    return Path(named) if named else None


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Name and model of every section, the default policy as ``policy.default``."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation
    yield "policy.default", PolicySettings


def keys() -> Iterator[str]:
    """Every setting by its dotted path."""
    for section, model in sections():
        for name in model.model_fields:
            yield f"{section}.{name}"


def _policy(settings: PolicySettings) -> Policy:
    return Policy(
        enabled=settings.enabled,
        semantic=settings.semantic,
        store_prompts=settings.store_prompts,
        min_score=settings.min_score,
        candidate_count=settings.candidate_count,
        ttl_ms=int(settings.ttl_s * 1000),
        max_ttl_ms=int(settings.max_ttl_s * 1000),
        sliding_ttl=settings.sliding_ttl,
        quota=Quota(settings.max_entries or None, settings.max_bytes or None),
    )


def _file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise CacheError(Kind.INVALID, f"the configuration {path} cannot be read: {error.strerror}") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # text that is no TOML, bytes that are no text, endless brackets
        raise CacheError(Kind.INVALID, f"the configuration {path} is not TOML: {error}") from None


def _refuse_options(values: Mapping[str, Any]) -> None:
    """pydantic-settings takes names that begin so as options of its own (``_env_file`` reads another file)."""
    violations = tuple(Violation(name, "is not a setting") for name in values if name.startswith("_"))
    if violations:
        listed = ", ".join(violation.field for violation in violations)
        raise CacheError(Kind.INVALID, f"the configuration is wrong: {listed}: is not a setting", violations)


def _refuse_unknown_variables() -> None:
    """pydantic-settings ignores a misspelt variable; an operator should not have to find that out."""
    known = {_variable(key) for key in keys()} | {f"{ENV_PREFIX}CONFIG"}
    whole = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields}
    wrong = [
        name
        for name, value in os.environ.items()  # noqa: TID251 - this module reads the environment
        if name.startswith(ENV_PREFIX)
        and name not in known | whole
        and not name.startswith(f"{ENV_PREFIX}POLICY{_NESTED}")
        and not _is_service_link(name, value)
    ]
    if wrong:
        violations = tuple(
            Violation(name, f"is not a setting{_suggest(name, known)}") for name in sorted(wrong)
        )
        listed = "\n".join(f"  {violation.field}: {violation.description}" for violation in violations)
        raise CacheError(Kind.INVALID, f"the environment is wrong:\n{listed}", violations)


def _is_service_link(name: str, value: str) -> bool:
    if _NESTED in name:
        return False  # a setting that was meant
    return _SERVICE_LINK.search(name) is not None or (
        name.endswith("_PORT") and _SERVICE_LINK_PORT.match(value) is not None
    )


def _variable(key: str) -> str:
    return ENV_PREFIX + key.replace(".", _NESTED).upper()


def _violations(error: ValidationError) -> Iterator[Violation]:
    for mistake in error.errors(include_url=False, include_context=True):
        path = ".".join(str(part) for part in mistake["loc"])
        match mistake["type"]:
            case "extra_forbidden":
                yield Violation(path, f"is not a setting{_suggest(path, list(_siblings(path)))}")
            case "value_error":
                yield Violation(path or "settings", str(mistake["ctx"]["error"]))
            case _:
                said = mistake["msg"][0].lower() + mistake["msg"][1:]
                yield Violation(path, f"{said}, got {mistake['input']!r:.80}")


def _siblings(path: str) -> Iterator[str]:
    """Paths that could have been meant: every setting, seen from the policy that is named."""
    parts = path.split(".")
    for key in keys():
        yield key
        if parts[0] == "policy" and len(parts) > 2 and key.startswith("policy.default."):
            yield ".".join([*parts[:-1], key.rsplit(".", 1)[1]])
    yield from Settings.model_fields


def _suggest(name: str, known: Mapping[str, Any] | set[str] | list[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
