"""Reads requests: bytes → checked core values, or INVALID naming every field that is wrong.

Requests are parsed here and not by gRPC, which answers UNKNOWN to bytes it cannot parse and names
no field. Nothing is truncated, stripped or corrected: what is not right is refused.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias, TypeVar

from google.protobuf.message import Message as ProtoMessage

from cachesvc.core.errors import CacheError
from cachesvc.core.identity import ROLES
from cachesvc.core.types import Ask, Keep, Message, Payload, Request, Source
from cachesvc.engine.feedback import Judgement
from cachesvc.serve.checks import NAME_BYTES, TAG_BYTES, Check, parse
from cachesvc.v1 import cache_pb2 as pb

_HEX = re.compile(r"[0-9a-f]{1,64}")
_CONTENT_TYPE = re.compile(r"[!-~][ -~]{0,255}")

_NO_CONTENT_TYPE = "must be a media type of at most 256 ASCII characters, as text/plain"
_SOURCE_BYTES = 64
_MAX_TOKENS = 1 << 53
_MAX_COST_USD = 1e6

_M = TypeVar("_M", bound=ProtoMessage)
_V = TypeVar("_V")
_Identified: TypeAlias = pb.LookupRequest | pb.StoreRequest | pb.SubmitFeedbackRequest


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on requests, from the settings section of the same name."""

    prompt_bytes: int
    messages: int
    response_bytes: int
    vary_entries: int
    value_bytes: int
    tags: int
    batch_items: int
    batch_reply_bytes: int


class RequestReader:
    """Reads each kind of request. Every method raises INVALID."""

    def __init__(self, limits: Callable[[], Limits]) -> None:
        """``limits`` gives the bounds in force."""
        self._limits_now = limits

    @property
    def limits(self) -> Limits:
        """The bounds in force."""
        return self._limits_now()

    def lookup(self, data: bytes, deadline_s: float | None, trace: str = "") -> Ask:
        """A LookupRequest."""
        return self._ask(parse(pb.LookupRequest, data), deadline_s, trace)

    def store(self, data: bytes, deadline_s: float | None, trace: str = "") -> Keep:
        """A StoreRequest."""
        return self._keep(parse(pb.StoreRequest, data), deadline_s, trace)

    def entry_name(self, message: pb.GetRequest | pb.DeleteRequest) -> tuple[str, int]:
        """The namespace and id of a GetRequest or DeleteRequest."""
        check = Check()
        namespace = check.namespace(message.namespace)
        entry_id = check.entry_id("id", message.id)
        check.done()
        return namespace, entry_id

    def batch_lookup(self, data: bytes, deadline_s: float | None, trace: str = "") -> list[Ask | CacheError]:
        """A BatchLookupRequest; an item that is wrong is an error in its place."""
        items = self._batch(parse(pb.BatchLookupRequest, data).items)
        return [_attempt(partial(self._ask, item, deadline_s, trace)) for item in items]

    def batch_store(self, data: bytes, deadline_s: float | None, trace: str = "") -> list[Keep | CacheError]:
        """A BatchStoreRequest; an item that is wrong is an error in its place."""
        items = self._batch(parse(pb.BatchStoreRequest, data).items)
        return [_attempt(partial(self._keep, item, deadline_s, trace)) for item in items]

    def feedback(self, data: bytes, deadline_s: float | None) -> Judgement:
        """A SubmitFeedbackRequest."""
        message = parse(pb.SubmitFeedbackRequest, data)
        check = Check()
        _check_lookup_id(message.lookup_id, check)
        entry_id = check.entry_id("entry_id", message.entry_id) if message.entry_id else None
        request = self._request_beside(message, check)
        if not message.lookup_id and entry_id is None:
            check.wrong("lookup_id", "is missing: give it, or entry_id and the request")
        elif not message.lookup_id and not request.messages:
            check.wrong(
                "prompt",
                "is missing: entry_id goes with prompt or chat, and model and vary if there were any",
            )
        said = self._said(message, check)
        if len(message.source.encode()) > _SOURCE_BYTES or not message.source.isprintable():
            check.wrong("source", f"must have at most {_SOURCE_BYTES} bytes of printable text")
        check.done()
        return Judgement(request, message.lookup_id, entry_id, said, message.source, deadline_s)

    def _said(self, message: pb.SubmitFeedbackRequest, check: Check) -> bool | bytes:
        if message.WhichOneof("judgement") != "fresh":
            if message.verdict not in (pb.VERDICT_RIGHT, pb.VERDICT_WRONG):
                check.wrong("verdict", "must be VERDICT_RIGHT or VERDICT_WRONG; or give a fresh answer")
            return message.verdict == pb.VERDICT_RIGHT
        fresh, most_bytes = message.fresh, self.limits.response_bytes
        if not 1 <= len(fresh.response) <= most_bytes:
            check.wrong(
                "fresh.response",
                f"has {len(fresh.response)} bytes; must have 1 to {most_bytes} (limits.response_bytes)",
            )
        if fresh.content_type and not _CONTENT_TYPE.fullmatch(fresh.content_type):
            check.wrong("fresh.content_type", _NO_CONTENT_TYPE)
        return fresh.response

    def explain(self, data: bytes, deadline_s: float | None) -> tuple[Ask, int | None]:
        """An ExplainRequest: the lookup, and the id of the entry if one was given."""
        message = parse(pb.ExplainRequest, data)
        check = Check()
        entry_id = check.entry_id("entry_id", message.entry_id) if message.entry_id else None
        ask = _attempt(partial(self._ask, message.lookup, deadline_s, ""))
        if isinstance(ask, CacheError):
            for violation in ask.within("lookup.").violations:
                check.wrong(violation.field, violation.description)
            check.done()
            raise ask
        check.done()
        request = replace(ask.request, query_field=f"lookup.{ask.request.query_field}")
        return replace(ask, request=request), entry_id

    def _batch(self, items: Sequence[_M]) -> Sequence[_M]:
        if not 1 <= len(items) <= self.limits.batch_items:
            raise CacheError.invalid(
                "items", f"holds {len(items)}; must hold 1 to {self.limits.batch_items} (limits.batch_items)"
            )
        return items

    def _ask(self, message: pb.LookupRequest, deadline_s: float | None, trace: str) -> Ask:
        check = Check()
        request = self._request(message, check)
        check.name("journey", message.journey)
        check.name("request_id", message.request_id)
        min_score = message.min_score if message.HasField("min_score") else None
        if min_score is not None and not -1 <= min_score <= 1:  # false for NaN too
            check.wrong("min_score", "must be a cosine similarity from -1 to 1")
        max_age_ms = (
            check.duration_ms("max_age", message.max_age, least_ms=0) if message.HasField("max_age") else None
        )
        sources: dict[str, str] = {}
        if message.sources:
            self._check_sources(message.sources, check)
            sources = _current(message.sources, check)
        check.done()
        return Ask(
            request=request,
            journey=message.journey,
            request_id=message.request_id,
            min_score=min_score,
            max_age_ms=max_age_ms,
            exact_only=message.exact_only,
            bypass=message.bypass,
            deadline_s=deadline_s,
            trace=trace,
            sources=sources,
        )

    def _keep(self, message: pb.StoreRequest, deadline_s: float | None, trace: str) -> Keep:
        check = Check()
        _check_lookup_id(message.lookup_id, check)
        request = self._request_beside(message, check) if message.lookup_id else self._request(message, check)
        check.name("journey", message.journey)
        check.name("request_id", message.request_id)
        payload = self.payload(message, check)
        ttl_ms = check.duration_ms("ttl", message.ttl, least_ms=1) if message.HasField("ttl") else None
        check.done()
        return Keep(
            payload=payload,
            request=request,
            lookup_id=message.lookup_id,
            ttl_ms=ttl_ms,
            journey=message.journey,
            request_id=message.request_id,
            deadline_s=deadline_s,
            trace=trace,
        )

    def _request(self, message: _Identified, check: Check) -> Request:
        namespace = check.namespace(message.namespace)
        messages: tuple[Message, ...] = ()
        query_field = "prompt"
        match message.WhichOneof("input"):
            case "prompt":
                messages = (Message("user", message.prompt),)
            case "chat":
                # One more than is allowed, so that the number is found wrong and not all are copied.
                turns = message.chat.messages[: self.limits.messages + 1]
                messages = tuple(Message(turn.role, turn.content) for turn in turns)
                query_field = self._check_chat(messages, check)
            case _:
                check.wrong("prompt", "is missing: give prompt or chat")
        if sum(len(turn.content.encode()) for turn in messages) > self.limits.prompt_bytes:
            check.wrong(
                query_field,
                f"all text must have at most {self.limits.prompt_bytes} bytes (limits.prompt_bytes)",
            )
        check.name("model", message.model)
        vary = self._map("vary", message.vary, check)
        return Request(namespace, messages, message.model, vary, query_field)

    def _request_beside(self, message: pb.StoreRequest | pb.SubmitFeedbackRequest, check: Check) -> Request:
        """What is said of the identity where it need not be said: all of it, or what there is beside prompt and chat."""
        if message.WhichOneof("input") is not None:
            return self._request(message, check)
        check.namespace(message.namespace)
        check.name("model", message.model)
        vary = self._map("vary", message.vary, check)
        return Request(message.namespace, (), message.model, vary)

    def _check_chat(self, messages: tuple[Message, ...], check: Check) -> str:
        query_field = "chat.messages"
        if not 1 <= len(messages) <= self.limits.messages:
            check.wrong(
                "chat.messages",
                f"must hold 1 to {self.limits.messages} (limits.messages)",
            )
            return query_field
        for n, turn in enumerate(messages):
            if turn.role not in ROLES:
                check.wrong(f"chat.messages[{n}].role", f"must be one of {', '.join(ROLES)}")
            if turn.role == "user":
                query_field = f"chat.messages[{n}].content"
        return query_field

    def payload(self, message: pb.StoreRequest, check: Check) -> Payload:
        """What a StoreRequest says of the response."""
        limits = self.limits
        if not 1 <= len(message.response) <= limits.response_bytes:
            check.wrong(
                "response",
                f"has {len(message.response)} bytes; must have 1 to {limits.response_bytes} (limits.response_bytes)",
            )
        if message.content_type and not _CONTENT_TYPE.fullmatch(message.content_type):
            check.wrong("content_type", _NO_CONTENT_TYPE)
        metadata = self._map("metadata", message.metadata, check)
        self._check_labels(message, check)
        for name in ("input_tokens", "output_tokens"):
            if not 0 <= getattr(message.usage, name) <= _MAX_TOKENS:
                check.wrong(f"usage.{name}", "must not be negative nor above 2^53")
        if not 0 <= message.cost_usd <= _MAX_COST_USD:  # false for NaN too
            check.wrong("cost_usd", f"must be US dollars from 0 to {_MAX_COST_USD:.0f}")
        return Payload(
            response=message.response,
            content_type=message.content_type or "application/octet-stream",
            metadata=metadata,
            tags=tuple(dict.fromkeys(message.tags[: limits.tags])),
            sources=tuple(Source(source.id, source.version) for source in message.sources[: limits.tags]),
            input_tokens=message.usage.input_tokens,
            output_tokens=message.usage.output_tokens,
            cost_usd=message.cost_usd,
        )

    def _check_labels(self, message: pb.StoreRequest, check: Check) -> None:
        limits = self.limits
        if len(message.tags) > limits.tags:
            check.wrong("tags", f"holds {len(message.tags)}; must hold at most {limits.tags} (limits.tags)")
        for n, tag in enumerate(message.tags[: limits.tags]):
            check.tag(f"tags[{n}]", tag)
        self._check_sources(message.sources, check)

    def _check_sources(self, sources: Sequence[pb.Source], check: Check) -> None:
        limits = self.limits
        if len(sources) > limits.tags:
            check.wrong("sources", f"holds {len(sources)}; must hold at most {limits.tags} (limits.tags)")
        for n, source in enumerate(sources[: limits.tags]):
            check.source_id(f"sources[{n}].id", source.id, limits.value_bytes)
            check.name(f"sources[{n}].version", source.version)

    def _map(self, field: str, values: Mapping[str, str], check: Check) -> dict[str, str]:
        if not values:
            return {}
        limits = self.limits
        if len(values) > limits.vary_entries:
            check.wrong(
                field, f"holds {len(values)}; must hold at most {limits.vary_entries} (limits.vary_entries)"
            )
            return {}
        for key, value in values.items():
            shown = key if key.isprintable() and len(key) <= TAG_BYTES else "…"
            if not 1 <= len(key.encode()) <= NAME_BYTES or not key.isprintable():
                check.wrong(
                    f"{field}[{shown}]", f"the key must have 1 to {NAME_BYTES} bytes of printable text"
                )
            if len(value.encode()) > limits.value_bytes:
                check.wrong(
                    f"{field}[{shown}]",
                    f"must have at most {limits.value_bytes} bytes (limits.value_bytes); send a digest instead",
                )
        return dict(values)


def _check_lookup_id(value: str, check: Check) -> None:
    if value and not _HEX.fullmatch(value):
        check.wrong("lookup_id", "must be the lookup_id of a LookupResponse")


def _current(sources: Sequence[pb.Source], check: Check) -> dict[str, str]:
    """Versions by source."""
    current: dict[str, str] = {}
    for n, source in enumerate(sources):
        if current.setdefault(source.id, source.version) != source.version:
            check.wrong(f"sources[{n}].version", "is another one than was given for this source before")
    return current


def _attempt(read: Callable[[], _V]) -> _V | CacheError:
    try:
        return read()
    except CacheError as error:
        return error
