"""The edge of every gRPC method: bytes in, messages out, and whatever goes wrong becomes one CacheError,
one event and one status. Calls are counted from the moment gRPC hands them over until their reply is out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import CallFailed
from cachesvc.core.ports import Clock, Observer
from cachesvc.serve.door import Admission, Door, Handler
from cachesvc.serve.errors import CODES, status
from cachesvc.serve.pool import CallPool

_M = TypeVar("_M", bound=Message)

_NO_DEADLINE_S = 1e7  # what grpcio reports for a call without one is further away than this


@dataclass(frozen=True, slots=True)
class Call:
    """A call under way: its deadline, an instant of ``Clock.monotonic_s``, whether somebody still waits, and
    the caller's W3C traceparent, where calls are traced.
    """

    deadline_s: float | None
    wanted: Callable[[], bool]
    trace: str = ""


class Edge:
    """Wraps methods into gRPC handlers of one server."""

    def __init__(
        self,
        pool: CallPool,
        *,
        clock: Clock,
        observer: Observer,
        new_id: Callable[[], str],
        admission: Admission,
        traced: bool = False,
    ) -> None:
        self._pool = pool
        self._observer = observer
        self._admission = admission
        self._traced = traced
        self._clock = clock
        self._new_id = new_id

    def service(self, name: str, handlers: Mapping[str, Handler]) -> grpc.GenericRpcHandler:
        """The methods of a service, as made by the methods below, behind the door."""
        return Door(name, handlers, self._pool, self._admission)

    def unary(self, name: str, method: Callable[[bytes, Call], _M]) -> Handler:
        """One request, one reply."""

        def handle(data: bytes, context: grpc.ServicerContext) -> _M:
            try:
                return method(data, self._begin(context))
            except Exception as error:  # noqa: BLE001 - the edge: counted, logged by type, told by id only
                self._refuse(name, error, context)

        return grpc.unary_unary_rpc_method_handler(handle, response_serializer=_serialize)

    def stream(self, name: str, method: Callable[[bytes, Call], Iterator[_M]]) -> Handler:
        """One request, many replies."""

        def handle(data: bytes, context: grpc.ServicerContext) -> Iterator[_M]:
            try:
                yield from method(data, self._begin(context))
            except Exception as error:  # noqa: BLE001 - the edge, as above
                self._refuse(name, error, context)

        return grpc.unary_stream_rpc_method_handler(handle, response_serializer=_serialize)

    def bidirectional(self, name: str, method: Callable[[Iterator[bytes], Call], Iterator[_M]]) -> Handler:
        """Many requests, many replies."""

        def handle(data: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[_M]:
            try:
                yield from method(data, self._begin(context))
            except Exception as error:  # noqa: BLE001 - the edge, as above
                self._refuse(name, error, context)

        return grpc.stream_stream_rpc_method_handler(handle, response_serializer=_serialize)

    def _begin(self, context: grpc.ServicerContext) -> Call:
        self._pool.admit()
        self._count_until_answered(context)
        trace = _traceparent(context) if self._traced else ""
        return Call(self._deadline_s(context), context.is_active, trace)

    def _refuse(self, name: str, error: Exception, context: grpc.ServicerContext) -> NoReturn:
        error_id, cause = "", ""
        if not isinstance(error, CacheError):
            error_id, cause = self._new_id(), type(error).__name__
            error = CacheError(Kind.INTERNAL, f"internal error {error_id}; the server's log has more")
        self._observer.on(CallFailed(name, error.kind, CODES[error.kind].name, error_id, cause))
        context.abort_with_status(rpc_status.to_status(status(error)))
        raise AssertionError("abort raises")

    def _count_until_answered(self, context: grpc.ServicerContext) -> None:
        """The handler ends before its reply is out, and a slow reader takes a while to have it."""
        self._pool.enter()
        if not context.add_callback(self._pool.leave):  # the call has ended already
            self._pool.leave()

    def _deadline_s(self, context: grpc.ServicerContext) -> float | None:
        left_s = context.time_remaining()
        if left_s > _NO_DEADLINE_S:
            return None
        if left_s <= 0:
            raise CacheError(Kind.DEADLINE, "the deadline passed before the call began")
        return self._clock.monotonic_s() + left_s


def _traceparent(context: grpc.ServicerContext) -> str:
    for key, value in context.invocation_metadata():
        if key == "traceparent" and isinstance(value, str):
            return value
    return ""


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
