"""What both clients share for listing and invalidation: requests built, replies read. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from cachesvc.calls import duration, instant
from cachesvc.v1 import cache_pb2 as pb


class InvalidateOptions(TypedDict, total=False):
    """What must go: all that meets every criterion. Names and meanings as in ``InvalidateRequest``.

    ``namespace`` None means every namespace; left out, the client's. ``near`` is a text and the lowest
    cosine similarity to it. A criterion that is given must not be empty: leaving it out removes more.
    """

    namespace: str | None
    tags: Sequence[str]
    source_id: str
    except_version: str
    model: str
    older_than_s: float
    near: tuple[str, float]
    dry_run: bool
    max_examples: int
    timeout_s: float


class ListOptions(TypedDict, total=False):
    """Which entries to list. Names and meanings as in ``ListEntriesRequest``."""

    namespace: str
    tag: str
    older_than_s: float
    newer_than_s: float
    page_size: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """An entry without its response."""

    id: str
    namespace: str
    prompt: str
    model: str
    tags: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]
    created: datetime
    expires: datetime
    response_bytes: int
    hits: int
    semantic: bool
    score: float | None


@dataclass(frozen=True, slots=True)
class Invalidation:
    """How many entries went, or with ``dry_run`` would, and some of them."""

    count: int
    examples: tuple[EntrySummary, ...]


def invalidate_request(options: InvalidateOptions, namespace: str) -> pb.InvalidateRequest:
    """Build one. ``namespace`` is the client's. Raises ValueError for a criterion that is empty."""
    for name in ("tags", "source_id"):
        if name in options and not options[name]:
            raise ValueError(f"{name} is empty: leave it out to invalidate whatever it is")
    meant = options.get("namespace", namespace)
    request = pb.InvalidateRequest(
        namespace="" if meant is None else meant or "default",
        tags=options.get("tags", ()),
        source_id=options.get("source_id", ""),
        dry_run=options.get("dry_run", False),
        max_examples=options.get("max_examples", 0),
    )
    if "except_version" in options:
        request.except_version = options["except_version"]
    if "model" in options:
        request.model = options["model"]
    if "older_than_s" in options:
        request.older_than.CopyFrom(duration(options["older_than_s"]))
    if "near" in options:
        request.near.text, request.near.min_score = options["near"]
    return request


def invalidation(response: pb.InvalidateResponse) -> Invalidation:
    """Read one."""
    return Invalidation(response.count, tuple(entry_summary(example) for example in response.examples))


def list_request(options: ListOptions, namespace: str, page_token: str) -> pb.ListEntriesRequest:
    """Build one. ``namespace`` is the client's."""
    request = pb.ListEntriesRequest(
        namespace=options.get("namespace", namespace),
        tag=options.get("tag", ""),
        page_size=options.get("page_size", 0),
        page_token=page_token,
    )
    if "older_than_s" in options:
        request.older_than.CopyFrom(duration(options["older_than_s"]))
    if "newer_than_s" in options:
        request.newer_than.CopyFrom(duration(options["newer_than_s"]))
    return request


def entry_summary(message: pb.EntrySummary) -> EntrySummary:
    """Read one."""
    return EntrySummary(
        id=message.id,
        namespace=message.namespace,
        prompt=message.prompt,
        model=message.model,
        tags=tuple(message.tags),
        sources=tuple((source.id, source.version) for source in message.sources),
        created=instant(message.create_time),
        expires=instant(message.expire_time),
        response_bytes=message.response_bytes,
        hits=message.hits,
        semantic=message.semantic,
        score=message.score if message.HasField("score") else None,
    )
