"""Errors on the wire: one total table from our kinds to gRPC codes, and the details that go along.

Nothing but a CacheError's own message, and an id for what is not one, ever reaches a caller.
"""

from collections.abc import Mapping

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from cachesvc.core.errors import CacheError, Kind
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


def status(error: CacheError) -> status_pb2.Status:
    """AIP-193: the code, the message, ErrorInfo, and BadRequest or RetryInfo where they apply."""
    details: list[
        error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo
    ] = [error_details_pb2.ErrorInfo(reason=error.kind.name, domain="cachesvc")]
    if error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in error.violations
                ]
            )
        )
    if error.kind in (Kind.OVERLOADED, Kind.FULL):
        details.append(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=_RETRY_AFTER_S)))
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=CODES[error.kind].value[0], message=error.message, details=packed)


def item_error(error: CacheError) -> pb.ItemError:
    """An error as the result of one item of a batch."""
    return pb.ItemError(
        code=CODES[error.kind].value[0],
        message=error.message,
        field_violations=[
            pb.FieldViolation(field=v.field, description=v.description) for v in error.violations
        ],
    )
