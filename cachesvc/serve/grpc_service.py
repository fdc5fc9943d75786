"""The gRPC server: CacheService, health and, if set, reflection, on grpcio's thread pool.

The thread pool and not asyncio: measured here it answers more than twice as many calls. Each method is
bytes in, message out; whatever goes wrong becomes one CacheError, one event and one status.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import CallFailed
from cachesvc.core.ports import Clock, Observer
from cachesvc.core.types import Ask
from cachesvc.engine.admit import Admit
from cachesvc.engine.curate import Curator, Walk
from cachesvc.engine.lookup import Lookup
from cachesvc.serve import curation, wire
from cachesvc.serve.checks import parse
from cachesvc.serve.errors import CODES, item_error, status
from cachesvc.serve.pool import CallPool
from cachesvc.serve.requests import RequestReader
from cachesvc.v1 import cache_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["CacheService"].full_name

_M = TypeVar("_M", bound=Message)

_REFUSE_S = 0.2  # for telling those who came too late, when the last call has ended
_END_S = 5.0  # for calls that were cut off to notice it
_NO_DEADLINE_S = 1e7  # what grpcio reports for a call without one is further away than this


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """How the server listens; see the ``server`` settings."""

    listen: str
    reflection: bool
    threads: int
    max_concurrent_calls: int
    max_message_bytes: int
    drain_s: float


@dataclass(frozen=True, slots=True)
class Call:
    """A call under way: its deadline, an instant of ``Clock.monotonic_s``, and whether somebody still waits."""

    deadline_s: float | None
    wanted: Callable[[], bool]


class CacheService:
    """The methods: bytes in, message out. Raise CacheError. An item of a batch that fails is an event."""

    def __init__(
        self, lookup: Lookup, admit: Admit, curator: Curator, reader: RequestReader, observer: Observer
    ) -> None:
        self._lookup = lookup
        self._admit = admit
        self._curator = curator
        self._reader = reader
        self._observer = observer

    def lookup(self, data: bytes, call: Call) -> pb.LookupResponse:
        """``Lookup``."""
        return wire.lookup_response(self._lookup(self._reader.lookup(data, call.deadline_s)))

    def store(self, data: bytes, call: Call) -> pb.StoreResponse:
        """``Store``."""
        return wire.store_response(self._admit.store(self._reader.store(data, call.deadline_s)))

    def get(self, data: bytes, call: Call) -> pb.GetResponse:
        """``Get``."""
        namespace, entry_id = self._reader.entry_name(parse(pb.GetRequest, data))
        entry = self._admit.get(namespace, entry_id)
        if entry is None:
            raise CacheError(
                Kind.NOT_FOUND, f"id: no entry {wire.entry_id_text(entry_id)} in namespace {namespace}"
            )
        return wire.get_response(entry)

    def delete(self, data: bytes, call: Call) -> pb.DeleteResponse:
        """``Delete``."""
        namespace, entry_id = self._reader.entry_name(parse(pb.DeleteRequest, data))
        return pb.DeleteResponse(deleted=self._admit.delete(namespace, entry_id))

    def batch_lookup(self, data: bytes, call: Call) -> pb.BatchLookupResponse:
        """``BatchLookup``."""
        response = pb.BatchLookupResponse()
        left_bytes = self._reader.limits.batch_reply_bytes
        for n, ask in enumerate(self._reader.batch_lookup(data, call.deadline_s)):
            if not call.wanted():
                raise CacheError(Kind.UNAVAILABLE, "the caller is gone, or the server is stopping")
            result = response.results.add()
            try:
                answer = self._answer(ask, left_bytes)
                left_bytes -= answer.ByteSize()
                result.response.CopyFrom(answer)
            except CacheError as error:
                result.error.CopyFrom(self._failed("BatchLookup", n, error))
        return response

    def batch_store(self, data: bytes, call: Call) -> pb.BatchStoreResponse:
        """``BatchStore``."""
        keeps = self._reader.batch_store(data, call.deadline_s)
        good = [keep for keep in keeps if not isinstance(keep, CacheError)]
        stored = iter(self._admit.store_many(good, call.wanted))
        response = pb.BatchStoreResponse()
        for n, keep in enumerate(keeps):
            outcome = keep if isinstance(keep, CacheError) else next(stored)
            if isinstance(outcome, CacheError):
                response.results.add(error=self._failed("BatchStore", n, outcome))
            else:
                response.results.add(response=wire.store_response(outcome))
        return response

    def invalidate(self, data: bytes, call: Call) -> pb.InvalidateResponse:
        """``Invalidate``."""
        request, wish = curation.invalidate_request(data, self._reader.limits)
        walk = Walk(call.deadline_s, call.wanted)
        return curation.invalidate_response(
            self._curator.invalidate(wish, walk, dry_run=request.dry_run, max_examples=request.max_examples)
        )

    def list_entries(self, data: bytes, call: Call) -> pb.ListEntriesResponse:
        """``ListEntries``."""
        request, wish, after = curation.list_request(data)
        page = self._curator.page(wish, after, request.page_size, Walk(call.deadline_s, call.wanted))
        return curation.list_response(request, page)

    def _answer(self, ask: Ask | CacheError, left_bytes: int) -> pb.LookupResponse:
        """One item's answer. A batch is a small request for a reply that may be very large: bounded here."""
        if isinstance(ask, CacheError):
            raise ask
        answer = wire.lookup_response(self._lookup(ask))
        if answer.ByteSize() > left_bytes:
            raise CacheError(
                Kind.OVERLOADED,
                f"the reply would have more than {self._reader.limits.batch_reply_bytes} bytes "
                "(limits.batch_reply_bytes): ask for fewer at once, or for this one with Lookup",
            )
        return answer

    def _failed(self, method: str, n: int, error: CacheError) -> pb.ItemError:
        self._observer.on(CallFailed(method, error.kind, CODES[error.kind].name, "", ""))
        return item_error(error.within(f"items[{n}]."))


class GrpcServer:
    """Listens from ``start`` to ``stop``. Health says SERVING only after ``set_serving(True)``."""

    def __init__(
        self,
        service: CacheService,
        options: GrpcOptions,
        *,
        clock: Clock,
        observer: Observer,
        new_id: Callable[[], str],
    ) -> None:
        self._options = options
        self._clock = clock
        self._observer = observer
        self._new_id = new_id
        self._pool = CallPool(options.threads)
        self._health = health.HealthServicer()
        self._server = grpc.server(
            self._pool,
            maximum_concurrent_rpcs=options.max_concurrent_calls,
            options=[
                ("grpc.so_reuseport", 0),  # else a second server shares the port silently
                ("grpc.max_receive_message_length", options.max_message_bytes),
                ("grpc.max_send_message_length", -1),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((self._handlers(service),))
        if options.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        self.set_serving(serving=False)

    def start(self) -> str:
        """Bind and answer. Returns the address, with the port that was chosen for port 0. Raises LOCKED."""
        listen = self._options.listen
        if listen.startswith("unix:"):
            _refuse_live_socket(listen.removeprefix("unix:"))
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError:
            port = 0
        if not port:
            raise CacheError(
                Kind.LOCKED,
                f"server.listen {listen} cannot be bound: in use, or not an address of this machine",
            )
        self._server.start()
        return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"

    def set_serving(self, *, serving: bool) -> None:
        """What the health service says of the whole server and of CacheService."""
        state = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", SERVICE):
            self._health.set(name, state)

    def stop(self) -> None:
        """Say NOT_SERVING, refuse new calls, give those handed over ``drain_s`` to be answered, then end.

        gRPC's own grace would also wait for whoever watches health, and cancels calls that it has
        accepted and not yet handed over; hence calls are counted by the pool.
        """
        self._health.enter_graceful_shutdown()
        self._pool.drain(self._options.drain_s)
        self._server.stop(_REFUSE_S).wait(_REFUSE_S + _END_S)
        self._pool.drain(_END_S)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _handlers(self, service: CacheService) -> grpc.GenericRpcHandler:
        methods: dict[str, Callable[[bytes, Call], Message]] = {
            "Lookup": service.lookup,
            "Store": service.store,
            "Get": service.get,
            "Delete": service.delete,
            "BatchLookup": service.batch_lookup,
            "BatchStore": service.batch_store,
            "Invalidate": service.invalidate,
            "ListEntries": service.list_entries,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self._guarded(name, method), response_serializer=_serialize
                )
                for name, method in methods.items()
            },
        )

    def _guarded(
        self, name: str, method: Callable[[bytes, Call], _M]
    ) -> Callable[[bytes, grpc.ServicerContext], _M]:
        """The edge: every exception of a call ends here."""

        def handle(data: bytes, context: grpc.ServicerContext) -> _M:  # noqa: RET503 - abort raises
            error_id, cause = "", ""
            try:
                if self._pool.is_late:
                    raise CacheError(Kind.UNAVAILABLE, "the server is stopping")  # noqa: TRY301 - the edge
                self._count_until_answered(context)
                return method(data, Call(self._deadline_s(context), context.is_active))
            except CacheError as error:
                failure = error
            except Exception as error:  # noqa: BLE001 - the edge: counted, logged by type, told by id only
                error_id, cause = self._new_id(), type(error).__name__
                failure = CacheError(Kind.INTERNAL, f"internal error {error_id}; the server's log has more")
            code = CODES[failure.kind].name
            self._observer.on(CallFailed(name, failure.kind, code, error_id, cause))
            context.abort_with_status(rpc_status.to_status(status(failure)))

        return handle

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


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _refuse_live_socket(path: str) -> None:
    """GRPC unlinks the socket it finds, even when somebody serves on it."""
    if not os.path.exists(path):  # noqa: PTH110 - also false for what cannot be looked at
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return
    raise CacheError(Kind.LOCKED, f"server.listen unix:{path} is in use by another server")
