"""Messages ↔ core values. Replies only; requests, which must be checked, are read in ``requests``."""

from google.protobuf.timestamp_pb2 import Timestamp

import cachesvc.v1.cache_pb2 as pb
from cachesvc.core.types import Entry, LookupResult, Outcome, StoreResult

_OUTCOMES = {outcome: pb.Outcome.Value(f"OUTCOME_{outcome.name}") for outcome in Outcome}
_MS = 1000


def lookup_response(result: LookupResult) -> pb.LookupResponse:
    """A lookup's answer."""
    timings = result.timings
    response = pb.LookupResponse(
        outcome=_OUTCOMES[result.outcome],
        entry=None if result.entry is None else entry_message(result.entry),
        lookup_id=result.lookup_id,
        timings=pb.Timings(
            identity_us=timings.identity_us,
            exact_us=timings.exact_us,
            embed_us=timings.embed_us,
            search_us=timings.search_us,
            fetch_us=timings.fetch_us,
            decide_us=timings.decide_us,
            total_us=timings.total_us,
        ),
        reason=result.outcome.value,
    )
    if result.score is not None:
        response.score = result.score
    if result.best_score is not None:
        response.best_score = result.best_score
    if result.threshold is not None:
        response.threshold = result.threshold
    if result.age_ms is not None:
        response.age_s = result.age_ms / _MS
    return response


def store_response(result: StoreResult) -> pb.StoreResponse:
    """A store's answer."""
    return pb.StoreResponse(
        entry_id=entry_id_text(result.entry_id),
        replaced_entry_id="" if result.replaced_id is None else entry_id_text(result.replaced_id),
        semantic=result.semantic,
        expire_time=_timestamp(result.expires_ms),
        reason=result.reason,
    )


def entry_message(entry: Entry) -> pb.Entry:
    """An entry as callers see it."""
    payload = entry.payload
    return pb.Entry(
        id=entry_id_text(entry.id),
        response=payload.response,
        content_type=payload.content_type,
        metadata=payload.metadata,
        tags=payload.tags,
        sources=[pb.Source(id=source.id, version=source.version) for source in payload.sources],
        create_time=_timestamp(entry.created_ms),
        expire_time=_timestamp(entry.expires_ms),
        usage=pb.Usage(input_tokens=payload.input_tokens, output_tokens=payload.output_tokens),
        cost_usd=payload.cost_usd,
        prompt=entry.prompt,
        model=entry.model,
    )


def _timestamp(milliseconds: int) -> Timestamp:
    return Timestamp(seconds=milliseconds // _MS, nanos=milliseconds % _MS * 1_000_000)


def entry_id_text(entry_id: int) -> str:
    """Ids are opaque to callers: 16 hexadecimal digits."""
    return f"{entry_id:016x}"
