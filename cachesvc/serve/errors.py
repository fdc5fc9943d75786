"""Errors on the wire: one total table from our kinds to gRPC codes, and the details that go along.

Nothing but a CacheError's own message, and an id for what is not one, ever reaches a caller.
"""

from collections.abc import Mapping, Sequence

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from cachesvc.core.errors import CacheError, Kind, Violation
from cachesvc.v1 import cache_pb2 as pb

CODES: Mapping[Kind, grpc.StatusCode] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.REFUSED: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.CORRUPT: grpc.StatusCode.DATA_LOSS,
    Kind.INCOMPATIBLE: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.LOCKED: grpc.StatusCode.UNAVAILABLE,
    Kind.INTERNAL: grpc.StatusCode.INTERNAL,
}

_RETRY_AFTER_S = 1

# Both go out as metadata, of which gRPC takes 8 KiB by default and refuses the rest: the message twice, once
# with up to three characters for a byte, and the packed status in base64.
_MESSAGE_BYTES = 1 << 10
_STATUS_BYTES = 3 << 10
_ITEM_VIOLATIONS = 64


def status(error: CacheError) -> status_pb2.Status:
    """AIP-193: the code, the message, ErrorInfo, and BadRequest or RetryInfo where they apply.

    At most 3 KiB packed: the last violation says how many more there are, if there are.
    """
    whole = _status(error, error.violations)
    if whole.ByteSize() <= _STATUS_BYTES:
        return whole
    kept: list[Violation] = []
    for violation in error.violations:
        if _status(error, _closed([*kept, violation], len(error.violations))).ByteSize() > _STATUS_BYTES:
            break
        kept.append(violation)
    return _status(error, _closed(kept, len(error.violations)))


def _closed(kept: Sequence[Violation], count: int) -> list[Violation]:
    return [*kept, Violation("", f"and {count - len(kept)} more")]


def _status(error: CacheError, violations: Sequence[Violation]) -> status_pb2.Status:
    details: list[
        error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo
    ] = [error_details_pb2.ErrorInfo(reason=error.kind.name, domain="cachesvc")]
    if violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in violations
                ]
            )
        )
    if error.kind in (Kind.OVERLOADED, Kind.FULL):
        details.append(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=_RETRY_AFTER_S)))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(
        code=CODES[error.kind].value[0], message=_cut(error.message, _MESSAGE_BYTES), details=packed
    )


def _cut(text: str, most_bytes: int) -> str:
    """The beginning of a text that is too long, in whole characters."""
    encoded = text.encode()
    if len(encoded) <= most_bytes:
        return text
    return encoded[: most_bytes - len("…".encode())].decode(errors="ignore") + "…"


def item_error(error: CacheError) -> pb.ItemError:
    """An error as the result of one item of a batch."""
    return pb.ItemError(
        code=CODES[error.kind].value[0],
        message=error.message,
        field_violations=[
            pb.FieldViolation(field=v.field, description=v.description)
            for v in error.violations[:_ITEM_VIOLATIONS]
        ],
    )
