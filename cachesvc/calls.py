"""What both clients share: requests built, replies read, outcomes of failed calls. No I/O.

Prompts are a string, or a conversation as a list of ``{"role": …, "content": …}``. A turn that has more
(tool calls, a name, content in parts) is sent as canonical JSON, so that all of it must match exactly;
text parts of the last user turn are joined and matched by meaning, as text is. Values of ``vary`` that
are not strings are canonical JSON too, so that key order does not matter.
"""

import inspect
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any, TypeAlias, TypedDict

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from cachesvc.v1 import cache_pb2 as pb

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # a server that comes back is used again within a second
)

# What fails before anything is sent: values of a wrong type or shape, text that is not Unicode, numbers
# out of range, JSON that is too deep.
UNSENDABLE = (TypeError, ValueError, AttributeError, OverflowError, RecursionError)

_NAMESPACE_LENGTH = 63

# Outcomes of a lookup that the cache did not answer.
TIMED_OUT = "BYPASS_TIMEOUT"
OVERLOADED = "BYPASS_OVERLOADED"
UNANSWERED = ("BYPASS_UNREACHABLE", TIMED_OUT, OVERLOADED, "BYPASS_ERROR")

# Begins a turn that is JSON. Text that begins so itself is sent as JSON too, so no text can spell a
# turn; and it is a control character, which the server takes from the exact tier only.
_FOLDED = "\u0000"

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
BYTES = "application/octet-stream"


class IdentityOptions(TypedDict, total=False):
    """What every call may say of the request. Names and meanings as in ``LookupRequest``."""

    namespace: str
    model: str
    vary: Mapping[str, Any]
    journey: str
    request_id: str
    timeout_s: float


class LookupOptions(IdentityOptions, total=False):
    """Of a lookup. ``current_sources`` maps sources to the versions that the answer may have been built from."""

    min_score: float
    max_age_s: float
    exact_only: bool
    bypass: bool
    current_sources: Mapping[str, str]


class StoreOptions(IdentityOptions, total=False):
    """Of a store. ``sources`` are (id, version) pairs."""

    lookup_id: str
    content_type: str
    metadata: Mapping[str, str]
    tags: Sequence[str]
    sources: Sequence[tuple[str, str]]
    ttl_s: float
    input_tokens: int
    output_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What a model call took."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class CachedEntry:
    """A stored response; fields as in ``Entry`` of the API."""

    id: str
    response: bytes
    content_type: str
    metadata: Mapping[str, str]
    tags: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]
    created: datetime
    expires: datetime
    usage: Usage
    prompt: str
    model: str


@dataclass(frozen=True, slots=True)
class LookupReply:
    """The answer to a lookup. ``outcome`` is a name of the API's ``Outcome`` without its prefix.

    When the cache could not be asked the outcome is BYPASS_UNREACHABLE, BYPASS_TIMEOUT or
    BYPASS_ERROR and ``reason`` says why. ``audit``: the service asks for a fresh answer to the same request, behind
    the user's back: pass it to ``feedback(reply, fresh=…)``. What ``cached`` decorates does so by itself.
    """

    outcome: str
    reason: str
    lookup_id: str = ""
    entry: CachedEntry | None = None
    score: float | None = None
    best_score: float | None = None
    threshold: float | None = None
    age_s: float | None = None
    confidence: float | None = None
    gate: str = ""
    audit: bool = False
    rule_version: int = 0
    rule_score: float | None = None
    timings_us: Mapping[str, int] = field(default_factory=dict)

    @property
    def hit(self) -> bool:
        """Whether there is a stored response."""
        return self.entry is not None

    @property
    def response(self) -> bytes | None:
        """The stored bytes of a hit."""
        return None if self.entry is None else self.entry.response

    @property
    def text(self) -> str | None:
        """The stored bytes of a hit as UTF-8 text."""
        return None if self.entry is None else self.entry.response.decode()


@dataclass(frozen=True, slots=True)
class StoreReply:
    """The answer to a store. When it was not stored, ``reason`` says why."""

    stored: bool
    reason: str = ""
    entry_id: str = ""
    replaced_entry_id: str = ""
    expires: datetime | None = None
    semantic: bool = False


class CallError(Exception):
    """A call that does not fail open (get, delete) failed. ``code`` is the gRPC status code's name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Counts:
    """How often what happened, by outcome; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Once more."""
        with self._lock:
            self._counts[name] += 1

    def snapshot(self) -> dict[str, int]:
        """All counts so far."""
        with self._lock:
            return dict(self._counts)


# ------------------------------------------------------------------ requests


def told(*requests: pb.LookupRequest) -> tuple[tuple[str, str], ...]:
    """Metadata that tells what matters to too busy a server before it has read the request: it lets in the
    namespaces that ask little, and what needs no inference.
    """
    names = {request.namespace or "default" for request in requests}
    metadata = [
        ("cachesvc-namespace", name)
        for name in names
        if len(name) <= _NAMESPACE_LENGTH and name.isascii() and name.isprintable()  # else refused by name
    ]
    if requests and all(request.exact_only for request in requests):
        metadata.append(("cachesvc-exact-only", "true"))
    return tuple(metadata)


def lookup_request(prompt: Prompt, options: LookupOptions, defaults: IdentityOptions) -> pb.LookupRequest:
    """Build one. ``defaults`` are the client's. Raises one of UNSENDABLE for what is wrong."""
    request = pb.LookupRequest(
        exact_only=options.get("exact_only", False), bypass=options.get("bypass", False)
    )
    set_input(request, prompt)
    set_identity(request, options, defaults)
    if "min_score" in options:
        request.min_score = options["min_score"]
    for source_id, version in options.get("current_sources", {}).items():
        request.sources.add(id=source_id, version=version)
    if "max_age_s" in options:
        request.max_age.CopyFrom(duration(options["max_age_s"]))
    return request


def store_request(
    response: bytes | str, prompt: Prompt | None, options: StoreOptions, defaults: IdentityOptions
) -> pb.StoreRequest:
    """Build one. ``defaults`` are the client's. Raises one of UNSENDABLE for what is wrong."""
    request = pb.StoreRequest(
        lookup_id=options.get("lookup_id", ""),
        response=response.encode() if isinstance(response, str) else response,
        content_type=options.get("content_type", TEXT if isinstance(response, str) else BYTES),
        metadata=options.get("metadata", {}),
        tags=options.get("tags", ()),
        sources=[pb.Source(id=name, version=version) for name, version in options.get("sources", ())],
        usage=pb.Usage(
            input_tokens=options.get("input_tokens", 0), output_tokens=options.get("output_tokens", 0)
        ),
        cost_usd=options.get("cost_usd", 0.0),
    )
    if prompt is not None:
        set_input(request, prompt)
    else:
        # The identity is the lookup's, and what the caller says must agree; the defaults need not.
        defaults = {"journey": defaults.get("journey", "")}
    set_identity(request, options, defaults)
    if "ttl_s" in options:
        request.ttl.CopyFrom(duration(options["ttl_s"]))
    return request


def set_input(request: pb.LookupRequest | pb.StoreRequest | pb.SubmitFeedbackRequest, prompt: Any) -> None:
    """Fill in what is asked. Raises TypeError or ValueError."""
    if isinstance(prompt, str):
        request.prompt = _turn_text({"content": prompt})
        return
    if not isinstance(prompt, Sequence):
        raise TypeError(f"prompt is {type(prompt).__name__}; must be text or a sequence of messages")
    for n, turn in enumerate(prompt):
        if not isinstance(turn, Mapping):
            raise TypeError(f"prompt[{n}] is not a mapping")
        if not isinstance(turn.get("role"), str):
            raise TypeError(f"prompt[{n}] has no role")
    asked = max((n for n, turn in enumerate(prompt) if turn["role"] == "user"), default=-1)
    request.chat.SetInParent()  # a conversation without turns is one too, for the server to refuse
    for n, turn in enumerate(prompt):
        said = {key: value for key, value in turn.items() if key != "role"}
        if n == asked:
            said["content"] = _joined(said.get("content"))
        try:
            text = _turn_text(said)
        except (TypeError, ValueError) as error:
            raise ValueError(f"prompt[{n}] is not JSON: {error}") from None
        request.chat.messages.add(role=turn["role"], content=text)


def _joined(content: Any) -> Any:
    """The text of content that is nothing but text parts; other content as it is."""
    if not isinstance(content, list | tuple):
        return content
    for part in content:
        plain = isinstance(part, Mapping) and part.keys() == {"type", "text"} and part["type"] == "text"
        if not plain or not isinstance(part["text"], str):
            return content
    return "\n".join(part["text"] for part in content)


def _turn_text(said: Mapping[str, Any]) -> str:
    """A turn without its role as one text, another for every other turn."""
    content = said.get("content")
    if content is None:
        content = ""
    if isinstance(content, str) and not content.startswith(_FOLDED) and not said.keys() - {"content"}:
        return content
    return _FOLDED + canonical_json({**said, "content": content})


def set_identity(
    request: pb.LookupRequest | pb.StoreRequest | pb.SubmitFeedbackRequest,
    options: IdentityOptions,
    defaults: IdentityOptions,
) -> None:
    """Fill in what else must match. Raises TypeError for a value that is not JSON."""
    request.namespace = options.get("namespace", defaults.get("namespace", ""))
    request.model = options.get("model", defaults.get("model", ""))
    if not isinstance(request, pb.SubmitFeedbackRequest):
        request.journey = options.get("journey", defaults.get("journey", ""))
        request.request_id = options.get("request_id", "")
    for key, value in options.get("vary", {}).items():
        request.vary[key] = value if isinstance(value, str) else canonical_json(value)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space. Raises TypeError for what is not JSON."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def duration(seconds: float) -> Duration:
    """Seconds as a Duration. Raises ValueError."""
    if not math.isfinite(seconds):
        raise ValueError(f"{seconds} is no number of seconds")
    message = Duration()
    message.FromMilliseconds(round(seconds * 1000))
    return message


def refuse_unknown(options: Mapping[str, Any], allowed: type) -> None:
    """Raise TypeError for options that the TypedDict ``allowed`` does not have."""
    unknown = options.keys() - inspect.get_annotations(allowed).keys()
    if unknown:
        raise TypeError(f"no such option: {', '.join(sorted(unknown))}")


# ------------------------------------------------------------------- replies


def lookup_reply(response: pb.LookupResponse) -> LookupReply:
    """Read one."""
    return LookupReply(
        outcome=pb.Outcome.Name(response.outcome).removeprefix("OUTCOME_"),
        reason=response.reason,
        lookup_id=response.lookup_id,
        entry=cached_entry(response.entry) if response.HasField("entry") else None,
        score=response.score if response.HasField("score") else None,
        best_score=response.best_score if response.HasField("best_score") else None,
        threshold=response.threshold if response.HasField("threshold") else None,
        age_s=response.age_s if response.HasField("age_s") else None,
        confidence=response.confidence if response.HasField("confidence") else None,
        gate=pb.Gate.Name(response.gate).removeprefix("GATE_").lower() if response.gate else "",
        audit=response.audit,
        rule_version=response.rule_version,
        rule_score=response.rule_score if response.HasField("rule_score") else None,
        timings_us={name.name.removesuffix("_us"): value for name, value in response.timings.ListFields()},
    )


def batch_lookup_replies(response: pb.BatchLookupResponse) -> list[LookupReply]:
    """Read a batch; an item that was wrong is a bypass with its reason."""
    return [
        lookup_reply(result.response)
        if result.HasField("response")
        else LookupReply("BYPASS_ERROR", result.error.message)
        for result in response.results
    ]


def batch_store_replies(response: pb.BatchStoreResponse) -> list[StoreReply]:
    """Read a batch; an item that was wrong was not stored, for a reason."""
    return [
        store_reply(result.response)
        if result.HasField("response")
        else StoreReply(stored=False, reason=result.error.message)
        for result in response.results
    ]


def store_reply(response: pb.StoreResponse) -> StoreReply:
    """Read one."""
    return StoreReply(
        stored=True,
        reason=response.reason,
        entry_id=response.entry_id,
        replaced_entry_id=response.replaced_entry_id,
        expires=instant(response.expire_time),
        semantic=response.semantic,
    )


def cached_entry(entry: pb.Entry) -> CachedEntry:
    """Read one."""
    return CachedEntry(
        id=entry.id,
        response=entry.response,
        content_type=entry.content_type,
        metadata=dict(entry.metadata),
        tags=tuple(entry.tags),
        sources=tuple((source.id, source.version) for source in entry.sources),
        created=instant(entry.create_time),
        expires=instant(entry.expire_time),
        usage=Usage(entry.usage.input_tokens, entry.usage.output_tokens, entry.cost_usd),
        prompt=entry.prompt,
        model=entry.model,
    )


def failed_lookup(error: Exception) -> LookupReply:
    """A lookup that the cache did not answer, as the miss it is to the application."""
    code, reason = _describe(error)
    outcomes = {
        "UNAVAILABLE": "BYPASS_UNREACHABLE",
        "DEADLINE_EXCEEDED": TIMED_OUT,
        "RESOURCE_EXHAUSTED": "BYPASS_ERROR" if "larger than max" in reason else OVERLOADED,
    }
    return LookupReply(outcomes.get(code, "BYPASS_ERROR"), f"the cache did not answer: {reason}")


_PAUSED = "the cache was not asked: it did not answer in time again and again, and is asked once a second"
PAUSED_LOOKUP = LookupReply(TIMED_OUT, _PAUSED)
THROTTLED_LOOKUP = LookupReply(OVERLOADED, "the cache was not asked: it refuses most calls, being too busy")
PAUSED_STORE = StoreReply(stored=False, reason=_PAUSED)


def failed_store(error: Exception) -> StoreReply:
    """A store that did not happen, or may not have."""
    return StoreReply(stored=False, reason=": ".join(filter(None, _describe(error))))


def call_error(error: grpc.RpcError) -> CallError:
    """The exception of a call that does not fail open."""
    return CallError(*_describe(error))


def _describe(error: Exception) -> tuple[str, str]:
    if isinstance(error, grpc.RpcError) and hasattr(error, "code"):
        return error.code().name, error.details() or error.code().name
    return "", f"the request cannot be sent: {error}"


def instant(stamp: Timestamp) -> datetime:
    """A Timestamp as an aware datetime."""
    return stamp.ToDatetime(tzinfo=UTC)
