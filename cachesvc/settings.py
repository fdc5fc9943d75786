"""The only reader of files and environment: one TOML file, then ``CACHESVC_`` variables over it.

Everything is validated before anything starts, and frozen afterwards. A wrong value, and a key that
does not exist, is an error that names its path and what would be right.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from cachesvc.core.errors import CacheError, Kind, Violation
from cachesvc.core.policy import DEFAULT, PolicyBook
from cachesvc.settings_policy import PolicySettings, TrustSettings, VerifierSettings
from cachesvc.settings_sections import (
    AdminSettings,
    EmbedderSettings,
    IndexSettings,
    LimitSettings,
    LogSettings,
    MetricsSettings,
    ReloadSettings,
    ServerSettings,
    StoreSettings,
    TelemetrySettings,
    TicketSettings,
)

ENV_PREFIX = "CACHESVC_"
_NESTED = "__"
_PATTERN = re.compile(r"[a-z0-9*?][a-z0-9._*?-]{0,62}\Z")
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\]):\d{1,5}\Z")

# What Kubernetes sets in every container for every Service of the namespace: for one named cachesvc or
# cachesvc-eu these begin as our variables do. None of our names ends so.
_SERVICE_LINK = re.compile(
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)\Z"
)
_SERVICE_LINK_PORT = re.compile(r"(tcp|udp|sctp)://")

_ROOM_BYTES = 1 << 20


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
    verifier: VerifierSettings = VerifierSettings()
    tickets: TicketSettings = TicketSettings()
    trust: TrustSettings = TrustSettings()
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
        default = policies.get(DEFAULT, {})
        if not isinstance(default, dict):
            return values
        inherited = {
            name: {**default, **policy} if isinstance(policy, dict) else policy
            for name, policy in {DEFAULT: {}, **policies}.items()
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
        if self.server.workers > 1 and self.embedder.engine != "onnx":
            raise ValueError(
                f"server.workers {self.server.workers} takes embedder.engine = 'onnx': each worker would load "
                "torch and the model by itself"
            )
        if self.limits.response_bytes + _ROOM_BYTES > self.server.max_message_bytes:
            raise ValueError(
                f"limits.response_bytes {self.limits.response_bytes} does not fit server.max_message_bytes "
                f"{self.server.max_message_bytes}: leave {_ROOM_BYTES} bytes for what goes along"
            )
        for name, policy in self.policy.items():
            self._check_policy(name, policy)
        return self

    def _check_policy(self, name: str, policy: PolicySettings) -> None:
        key, grey = f"policy.{name}", policy.verify_min_score
        if not _PATTERN.match(name):
            raise ValueError(
                f"policy.{name!r} is not a namespace or pattern: lower-case letters, digits, . _ - * ?"
            )
        if policy.ttl_s > policy.max_ttl_s:
            raise ValueError(f"{key}.ttl_s {policy.ttl_s} is above its max_ttl_s {policy.max_ttl_s}")
        if policy.audit_share > policy.max_audit_share:
            raise ValueError(
                f"{key}.audit_share {policy.audit_share} is above its max_audit_share {policy.max_audit_share}: set both"
            )
        if grey is not None and not self.verifier.kind:
            raise ValueError(
                f"{key}.verify_min_score {grey} asks for a second opinion, and there is nobody to give it: set verifier.kind"
            )
        if grey is not None and policy.max_error_rate is None and grey >= policy.min_score:
            raise ValueError(
                f"{key}.verify_min_score {grey} leaves no score for a second opinion: it must be below its min_score "
                f"{policy.min_score}"
            )

    def policy_book(self) -> PolicyBook:
        """The policies as the engine takes them."""
        by_name = {name: policy.policy() for name, policy in self.policy.items()}
        default = by_name.pop(DEFAULT, PolicySettings().policy())
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


def child_environment() -> dict[str, str]:
    """The environment for a process that is told its settings: without those of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}  # noqa: TID251 - as above


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
                meant = _elsewhere(path) or _suggest(path, list(_siblings(path)))
                yield Violation(path, f"is not a setting{meant}")
            case "value_error":
                yield Violation(path or "settings", str(mistake["ctx"]["error"]))
            case _:
                said = mistake["msg"][0].lower() + mistake["msg"][1:]
                yield Violation(path, f"{said}, got {mistake['input']!r:.80}")


def _elsewhere(path: str) -> str:
    """Settings, or sections, of the very name that was put where it does not belong."""
    name = path.rpartition(".")[2]
    found = [
        key for key in (*keys(), *Settings.model_fields) if key.rpartition(".")[2] == name and key != path
    ]
    return f"; did you mean {' or '.join(found)}?" if found else ""


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
