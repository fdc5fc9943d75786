"""Messages ↔ core values. Replies only; requests, which must be checked, are read in ``requests``."""

from google.protobuf.timestamp_pb2 import Timestamp

import cachesvc.v1.cache_pb2 as pb
from cachesvc.core.gates import Gate
from cachesvc.core.types import Entry, LookupResult, Outcome, StoreResult
from cachesvc.engine.feedback import Heard

OUTCOMES = {outcome: pb.Outcome.Value(f"OUTCOME_{outcome.name}") for outcome in Outcome}
GATES = {gate: pb.Gate.Value(f"GATE_{gate.name}") for gate in Gate}
_MS = 1000

VERDICTS = {None: pb.VERDICT_UNSPECIFIED, True: pb.VERDICT_RIGHT, False: pb.VERDICT_WRONG}
"""Whether an answer is right; None where that could not be told."""


def lookup_response(result: LookupResult) -> pb.LookupResponse:
    """A lookup's answer. Filled in place: building messages from parts costs four times as much."""
    response = pb.LookupResponse()
    response.outcome = OUTCOMES[result.outcome]
    response.reason = result.outcome.value
    response.lookup_id = result.lookup_id
    if result.entry is not None:
        fill_entry(response.entry, result.entry)
    if result.score is not None:
        response.score = result.score
    if result.best_score is not None:
        response.best_score = result.best_score
    if result.age_ms is not None:
        response.age_s = result.age_ms / _MS
    if result.threshold is not None:
        _fill_rule(response, result)
    timings, taken = response.timings, result.timings
    timings.identity_us = taken.identity_us
    timings.exact_us = taken.exact_us
    timings.embed_us = taken.embed_us
    timings.search_us = taken.search_us
    timings.fetch_us = taken.fetch_us
    timings.decide_us = taken.decide_us
    timings.total_us = taken.total_us
    return response


def _fill_rule(response: pb.LookupResponse, result: LookupResult) -> None:
    """What only the semantic tier has."""
    assert result.threshold is not None
    response.threshold = result.threshold
    if result.value is not None:
        response.rule_score = result.value
    if result.confidence is not None:
        response.confidence = result.confidence
    if result.gate is not None:
        response.gate = GATES[result.gate]
    response.rule_version = result.rule_version
    response.audit = result.audit


def store_response(result: StoreResult) -> pb.StoreResponse:
    """A store's answer."""
    response = pb.StoreResponse(
        entry_id=entry_id_text(result.entry_id),
        replaced_entry_id="" if result.replaced_id is None else entry_id_text(result.replaced_id),
        semantic=result.semantic,
        reason=result.reason,
    )
    fill_time(response.expire_time, result.expires_ms)
    return response


def feedback_response(heard: Heard) -> pb.SubmitFeedbackResponse:
    """What came of a judgement."""
    return pb.SubmitFeedbackResponse(
        verdict=VERDICTS[heard.same],
        known=heard.known,
        vetoed=heard.vetoed,
        quarantined=heard.quarantined,
    )


def get_response(entry: Entry) -> pb.GetResponse:
    """An entry as the answer to Get."""
    response = pb.GetResponse()
    fill_entry(response.entry, entry)
    return response


def fill_entry(message: pb.Entry, entry: Entry) -> None:
    """An entry as its message."""
    payload = entry.payload
    message.id = entry_id_text(entry.id)
    message.response = payload.response
    message.content_type = payload.content_type
    message.prompt = entry.prompt
    message.model = entry.model
    message.cost_usd = payload.cost_usd
    message.usage.input_tokens = payload.input_tokens
    message.usage.output_tokens = payload.output_tokens
    fill_time(message.create_time, entry.created_ms)
    fill_time(message.expire_time, entry.expires_ms)
    if payload.metadata:
        message.metadata.update(payload.metadata)
    if payload.tags:
        message.tags.extend(payload.tags)
    for source in payload.sources:
        message.sources.add(id=source.id, version=source.version)


def fill_time(message: Timestamp, milliseconds: int) -> None:
    """Milliseconds since the epoch as a Timestamp."""
    message.seconds = milliseconds // _MS
    message.nanos = milliseconds % _MS * 1_000_000


def entry_id_text(entry_id: int) -> str:
    """Ids are opaque to callers: 16 hexadecimal digits."""
    return f"{entry_id:016x}"
