"""Listing and invalidation on the wire: requests → wishes, what was found → messages."""

import base64
import binascii
from hashlib import blake2b

from google.protobuf.message import Message

from cachesvc.core.errors import CacheError
from cachesvc.core.identity import canonical_text
from cachesvc.core.selection import Selector
from cachesvc.core.types import Place
from cachesvc.engine.curate import Invalidated, Listed, Page, Wish
from cachesvc.serve.checks import Check, parse
from cachesvc.serve.requests import Limits
from cachesvc.serve.wire import entry_id_text, fill_time
from cachesvc.v1 import cache_pb2 as pb

_MAX_EXAMPLES = 100
_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 1000
_DIGEST_BYTES = 8
_ID_BYTES = 8


def invalidate_request(data: bytes, limits: Limits) -> tuple[pb.InvalidateRequest, Wish]:
    """An InvalidateRequest and what it means. Raises INVALID."""
    message = parse(pb.InvalidateRequest, data)
    check = Check()
    if message.namespace:
        check.namespace(message.namespace)
    for n, tag in enumerate(message.tags[: limits.tags + 1]):
        check.tag(f"tags[{n}]", tag)
    if len(message.tags) > limits.tags:
        check.wrong("tags", f"holds {len(message.tags)}; must hold at most {limits.tags} (limits.tags)")
    if message.source_id:
        check.source_id("source_id", message.source_id, limits.value_bytes)
    elif message.HasField("except_version"):
        check.wrong("except_version", "goes with source_id, which is missing")
    check.name("except_version", message.except_version)
    check.name("model", message.model)
    _check_near(message, limits, check)
    if not 0 <= message.max_examples <= _MAX_EXAMPLES:
        check.wrong("max_examples", f"must be 0 to {_MAX_EXAMPLES}")
    if not _has_criterion(message):
        check.wrong("namespace", "or another criterion must be given: this would remove everything")
    older_than_ms = _age_ms("older_than", message, check)
    check.done()
    selector = Selector(
        namespace=message.namespace or None,
        tags=tuple(message.tags),
        source_id=message.source_id or None,
        except_version=message.except_version if message.HasField("except_version") else None,
        model=canonical_text(message.model) if message.HasField("model") else None,
    )
    return message, Wish(selector, message.near.text, message.near.min_score, older_than_ms)


def _has_criterion(message: pb.InvalidateRequest) -> bool:
    given = (message.namespace, message.tags, message.source_id)
    return any(given) or any(message.HasField(name) for name in ("model", "older_than", "near"))


def _check_near(message: pb.InvalidateRequest, limits: Limits, check: Check) -> None:
    if not message.HasField("near"):
        return
    if not message.near.text.strip() or len(message.near.text.encode()) > limits.prompt_bytes:
        check.wrong("near.text", f"must have 1 to {limits.prompt_bytes} bytes and not be blank")
    if not 0 < message.near.min_score <= 1:  # false for NaN too
        check.wrong("near.min_score", "must be a cosine similarity above 0, at most 1")


def _age_ms(field: str, message: pb.InvalidateRequest | pb.ListEntriesRequest, check: Check) -> int | None:
    if not message.HasField(field):  # type: ignore[arg-type]  # the stub lists each message's own names
        return None
    return check.duration_ms(field, getattr(message, field), least_ms=0)


def invalidate_response(answer: Invalidated) -> pb.InvalidateResponse:
    """What went, or would."""
    response = pb.InvalidateResponse(count=answer.count)
    for listed in answer.examples:
        _fill_summary(response.examples.add(), listed)
    return response


def list_request(data: bytes) -> tuple[pb.ListEntriesRequest, Wish, Place | None]:
    """A ListEntriesRequest, what it means, and where the page begins. Raises INVALID."""
    message = parse(pb.ListEntriesRequest, data)
    check = Check()
    namespace = check.namespace(message.namespace)
    if message.tag:
        check.tag("tag", message.tag)
    if not message.page_size >= 0:
        check.wrong("page_size", "must not be negative")
    older_than_ms = _age_ms("older_than", message, check)
    newer_than_ms = _age_ms("newer_than", message, check)
    check.done()
    message.page_size = min(message.page_size or _PAGE_SIZE, _MAX_PAGE_SIZE)
    selector = Selector(namespace=namespace, tags=(message.tag,) if message.tag else ())
    wish = Wish(selector, older_than_ms=older_than_ms, newer_than_ms=newer_than_ms)
    return message, wish, _place(message, namespace) if message.page_token else None


def list_response(request: pb.ListEntriesRequest, page: Page) -> pb.ListEntriesResponse:
    """A page and the token of the next."""
    response = pb.ListEntriesResponse()
    for listed in page.entries:
        _fill_summary(response.entries.add(), listed)
    if page.after is not None:
        token = _digest(request) + page.after.entry_id.to_bytes(_ID_BYTES, "big")
        response.next_page_token = base64.urlsafe_b64encode(token).decode()
    return response


def _place(message: pb.ListEntriesRequest, namespace: str) -> Place:
    try:
        token = base64.urlsafe_b64decode(message.page_token)
    except (binascii.Error, ValueError):
        token = b""
    if len(token) != _DIGEST_BYTES + _ID_BYTES or token[:_DIGEST_BYTES] != _digest(message):
        raise CacheError.invalid(
            "page_token", "must be the next_page_token of a call whose other fields were the same"
        )
    return Place(namespace, int.from_bytes(token[_DIGEST_BYTES:], "big"))


def _digest(message: pb.ListEntriesRequest) -> bytes:
    """Of what must be the same from page to page."""
    asked = pb.ListEntriesRequest()
    asked.CopyFrom(message)
    asked.ClearField("page_token")
    asked.ClearField("page_size")
    return blake2b(_deterministic(asked), digest_size=_DIGEST_BYTES).digest()


def _deterministic(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _fill_summary(message: pb.EntrySummary, listed: Listed) -> None:
    entry, match = listed.entry, listed.match
    message.id = entry_id_text(entry.id)
    message.namespace = entry.namespace
    message.prompt = entry.prompt
    message.model = entry.model
    message.tags.extend(entry.payload.tags)
    for source in entry.payload.sources:
        message.sources.add(id=source.id, version=source.version)
    fill_time(message.create_time, entry.created_ms)
    fill_time(message.expire_time, entry.expires_ms)
    message.response_bytes = listed.response_bytes
    message.hits = match.hits
    message.semantic = match.semantic
    if match.score is not None:
        message.score = match.score
