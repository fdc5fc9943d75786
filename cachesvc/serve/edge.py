"""The edge of every gRPC method: bytes in, messages out, and whatever goes wrong becomes one CacheError,
one event and one status. Calls are counted from the moment gRPC hands them over until their reply is out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, NoReturn, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import CallFailed
from cachesvc.core.ports import Clock, Observer
from cachesvc.serve.door import Admission, Door, Handler
from cachesvc.serve.errors import CODES, status
from cachesvc.serve.pool import CallPool
from cachesvc.serve.straight import USABLE, Arrival

_M = TypeVar("_M", bound=Message)
_M_co = TypeVar("_M_co", bound=Message, covariant=True)

_NO_DEADLINE_S = 1e7  # what grpcio reports for a call without one is further away than this


@dataclass(frozen=True, slots=True)
class Call:
    """A call under way: its deadline, an instant of ``Clock.monotonic_s``, whether somebody still waits, and
    the caller's W3C traceparent, where calls are traced.
    """

    deadline_s: float | None
    wanted: Callable[[], bool]
    trace: str = ""


class Begun(Protocol[_M_co]):
    """What became of a call that was begun and needs more than a moment."""

    def finish(self) -> _M_co:
        """The answer. As a method: raises CacheError."""


Begin: TypeAlias = "Callable[[bytes, Call], _M | Begun[_M]]"
"""A method's beginning, done on a thread that polls gRPC: it must wait for nothing but the store. It gives the answer
where that is quickly had. What it raises counts for nothing: the method is then called as if it had not begun.
"""


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

    def unary(
        self, name: str, method: Callable[[bytes, Call], _M], begin: "Begin[_M] | None" = None
    ) -> Handler:
        """One request, one reply."""
        return grpc.unary_unary_rpc_method_handler(
            _Unary(self, name, method, begin), response_serializer=_serialize
        )

    def stream(self, name: str, method: Callable[[bytes, Call], Iterator[_M]]) -> Handler:
        """One request, many replies."""

        def handle(data: bytes, context: grpc.ServicerContext) -> Iterator[_M]:
            try:
                yield from method(data, self.begin(context))
            except Exception as error:  # noqa: BLE001 - the edge, as above
                self.refuse(name, error, context)

        return grpc.unary_stream_rpc_method_handler(handle, response_serializer=_serialize)

    def bidirectional(self, name: str, method: Callable[[Iterator[bytes], Call], Iterator[_M]]) -> Handler:
        """Many requests, many replies."""

        def handle(data: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[_M]:
            try:
                yield from method(data, self.begin(context))
            except Exception as error:  # noqa: BLE001 - the edge, as above
                self.refuse(name, error, context)

        return grpc.stream_stream_rpc_method_handler(handle, response_serializer=_serialize)

    def admit(self) -> None:
        """Raises what the call of this thread is refused for, if it is."""
        self._pool.admit()

    def begin(self, context: grpc.ServicerContext, *, counted: bool = False) -> Call:
        """What a method needs to know of a call. Raises what it is refused for. ``counted``: it is, until it ends."""
        self.admit()
        if not counted:
            self._count_until_answered(context)
        trace = _traceparent(context) if self._traced else ""
        return Call(self._deadline_s(context), context.is_active, trace)

    def refuse(self, name: str, error: Exception, context: grpc.ServicerContext) -> NoReturn:
        """Tell caller and observer what a method raised."""
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


class _Unary(Generic[_M]):
    """A method of one request and one reply, as the pool knows it (``CallPool``, ``Arrival.method``)."""

    def __init__(
        self, edge: Edge, name: str, method: Callable[[bytes, Call], _M], begin: "Begin[_M] | None"
    ) -> None:
        self._edge = edge
        self._name = name
        self._method = method
        self._begin = begin
        self.begins = begin is not None

    def __call__(self, argument: "bytes | Begun[_M]", context: grpc.ServicerContext) -> _M:
        try:
            if isinstance(argument, bytes):
                return self._method(argument, self._edge.begin(context, counted=USABLE))
            self._edge.admit()
            return argument.finish()
        except Exception as error:  # noqa: BLE001 - the edge: counted, logged by type, told by id only
            self._edge.refuse(self._name, error, context)

    def begin(self, data: bytes, arrival: Arrival) -> "bytes | Begun[_M] | None":
        """Answer a call, or give what ``__call__`` is to go on with. None when it is answered."""
        assert self._begin is not None
        try:
            begun = self._begin(data, self._edge.begin(arrival.context(), counted=True))
            if not isinstance(begun, Message):
                return begun
            reply = begun.SerializeToString()
        except Exception:  # noqa: BLE001 - it is said where it is met again
            return data
        arrival.reply(reply)
        return None


def _traceparent(context: grpc.ServicerContext) -> str:
    for key, value in context.invocation_metadata():
        if key == "traceparent" and isinstance(value, str):
            return value
    return ""


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
