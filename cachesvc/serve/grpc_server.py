"""A gRPC server: one service, health and, if set, reflection, on grpcio's thread pool.

The thread pool and not asyncio: measured here it answers more than twice as many calls.
"""

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import Clock, Observer
from cachesvc.serve.door import Admission
from cachesvc.serve.edge import Edge
from cachesvc.serve.pool import CallPool
from cachesvc.serve.straight import Pollers

_REFUSE_S = 0.2  # for telling those who came too late, when the last call has ended
_END_S = 5.0  # for calls that were cut off to notice it


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """How a server listens; see the ``server`` settings. ``setting`` names that of the address."""

    setting: str
    listen: str
    reflection: bool
    threads: int
    pollers: int
    max_streams: int
    max_concurrent_calls: int
    max_queued_calls: int
    max_queue_s: float
    max_message_bytes: int
    drain_s: float
    traced: bool = False
    shares_port: bool = False  # with other processes of this server, which their supervisor sees to
    max_connection_age_s: float = 0.0  # 0: none


class Service(Protocol):
    """What a server serves."""

    @property
    def name(self) -> str:
        """Its full name, as in the proto."""

    def handlers(self, edge: Edge) -> grpc.GenericRpcHandler:
        """Its methods behind the edge."""


class GrpcServer:
    """Listens from ``start`` to ``stop``. Health says SERVING from ``begin_serving`` on, while ``works`` does."""

    def __init__(
        self,
        service: Service,
        options: GrpcOptions,
        *,
        clock: Clock,
        observer: Observer,
        new_id: Callable[[], str],
        works: Callable[[], bool],
        admission: Admission,
    ) -> None:
        self._options = options
        self._pool = CallPool(
            options.threads, options.max_queued_calls, options.max_queue_s, at_once=options.pollers - 1
        )
        edge = Edge(
            self._pool,
            clock=clock,
            observer=observer,
            new_id=new_id,
            admission=admission,
            traced=options.traced,
        )
        self._health = _Health(("", service.name), works)
        self._server = grpc.server(
            self._pool,
            maximum_concurrent_rpcs=options.max_concurrent_calls,
            options=[
                # else a second server shares the port silently
                ("grpc.so_reuseport", int(options.shares_port)),
                ("grpc.max_concurrent_streams", options.max_streams),
                # else gRPC counts streams that have ended and are not yet freed, and refuses (UNAVAILABLE)
                # what a client that keeps to its streams may send
                ("grpc.http.overload_protection", 0),
                ("grpc.max_receive_message_length", options.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                *_connection_age(options.max_connection_age_s),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_generic_rpc_handlers((service.handlers(edge),))
        self._pollers = Pollers(self._server, options.pollers - 1, observer)
        if options.reflection:
            names = (service.name, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    def start(self) -> str:
        """Bind and answer. Returns the address, with the port that was chosen for port 0. Raises LOCKED."""
        listen = self._options.listen
        if listen.startswith("unix:"):
            _refuse_live_socket(self._options.setting, listen.removeprefix("unix:"))
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError:
            port = 0
        if not port:
            raise CacheError(
                Kind.LOCKED,
                f"{self._options.setting} {listen} cannot be bound: in use, or not an address of this machine",
            )
        self._server.start()
        self._pollers.start()
        return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"

    def begin_serving(self) -> None:
        """From now on health says SERVING, of the whole server and of its service."""
        self._health.begin()

    def stop(self) -> None:
        """Say NOT_SERVING, refuse new calls, give those handed over ``drain_s`` to be answered, then end.

        gRPC's own grace would also wait for whoever watches health, and cancels calls that it has
        accepted and not yet handed over; hence calls are counted by the pool.
        """
        self._health.enter_graceful_shutdown()
        self._pool.drain(self._options.drain_s)
        self._pollers.stop()
        self._server.stop(_REFUSE_S).wait(_REFUSE_S + _END_S)
        self._pool.drain(_END_S)
        self._pool.shutdown(wait=False, cancel_futures=True)


def _connection_age(age_s: float) -> list[tuple[str, int]]:
    """GRPC adds up to a tenth, so that not all come again at once. Calls under way are not cut off."""
    return [("grpc.max_connection_age_ms", int(age_s * 1000))] if age_s else []


class _Health(health.HealthServicer):  # type: ignore[misc]  # the library ships no types
    """The health service. It looks at what it speaks of with every Check; watchers are told of a change then, so
    that who only watches hears of one when somebody else checks, as probes do.
    """

    def __init__(self, names: tuple[str, ...], works: Callable[[], bool]) -> None:
        super().__init__()
        self._names = names
        self._works = works
        self._begun = False
        self._said: bool | None = None
        self._looking = threading.Lock()  # so that what was seen last is what is said
        self._look()

    def begin(self) -> None:
        """Until now it was NOT_SERVING."""
        self._begun = True
        self._look()

    def Check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the name gRPC uses
        """See grpc.health.v1."""
        self._look()
        return super().Check(request, context)

    def _look(self) -> None:
        with self._looking:
            serving = self._begun and self._works()
            if serving == self._said:
                return
            self._said = serving
            status = health_pb2.HealthCheckResponse
            for name in self._names:
                self.set(name, status.SERVING if serving else status.NOT_SERVING)


def _refuse_live_socket(setting: str, path: str) -> None:
    """GRPC unlinks the socket it finds, even when somebody serves on it."""
    if not os.path.exists(path):  # noqa: PTH110 - also false for what cannot be looked at
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return
    raise CacheError(Kind.LOCKED, f"{setting} unix:{path} is in use by another server")
