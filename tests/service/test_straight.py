"""Calls are taken in with their message: what needs a moment is answered at once, the rest goes to the pool."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cachesvc.adapters.clock import SystemClock
from cachesvc.core.errors import CacheError
from cachesvc.core.events import CallFailed
from cachesvc.serve.door import Admission
from cachesvc.serve.edge import Call, Edge
from cachesvc.serve.grpc_server import GrpcServer
from cachesvc.serve.straight import USABLE
from cachesvc.v1 import cache_pb2 as pb
from tests.service.ports import OPTIONS, Events

NAME = "test.Service"
PATIENCE_S = 10.0
POOL = "cachesvc-call"


def _where() -> pb.GetRequest:
    """A reply that names the thread that made it."""
    return pb.GetRequest(id=threading.current_thread().name)


class Rest:
    """A call that was begun."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def finish(self) -> pb.GetRequest:
        return pb.GetRequest(namespace=self.data.decode(), id=_where().id)


class Quick:
    """A service whose method answers ``quick`` when it begins; ``hold`` does so until the gate is open."""

    name = NAME

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.held = threading.Semaphore(0)

    def handlers(self, edge: Edge) -> grpc.GenericRpcHandler:
        return edge.service(NAME, {"Ask": edge.unary("Ask", self.ask, self.begin)})

    def begin(self, data: bytes, call: Call) -> "pb.GetRequest | Rest":
        if data == b"wrong":
            raise CacheError.invalid("field", "is wrong")
        if data == b"hold":
            self.held.release()
            assert self.gate.wait(PATIENCE_S)
        return _where() if data in (b"quick", b"hold") else Rest(data)

    def ask(self, data: bytes, call: Call) -> pb.GetRequest:
        if data == b"wrong":
            raise CacheError.invalid("field", "is wrong, as the method found")
        return _where()


@pytest.fixture
def service() -> Iterator[Quick]:
    service = Quick()
    yield service
    service.gate.set()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def server(service: Quick, events: Events) -> GrpcServer:
    return GrpcServer(
        service,
        replace(OPTIONS, threads=1, pollers=3),
        clock=SystemClock(0),
        observer=events,
        new_id=lambda: "id-1",
        works=lambda: True,
        admission=Admission(lambda metadata: False, events),
    )


@pytest.fixture
def channel(server: GrpcServer, service: Quick) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.start()) as channel:
        yield channel
    service.gate.set()
    server.stop()


def _ask(channel: grpc.Channel, data: bytes) -> pb.GetRequest:
    method = channel.unary_unary(f"/{NAME}/Ask", bytes, pb.GetRequest.FromString)
    reply: pb.GetRequest = method(data, timeout=PATIENCE_S)
    return reply


def test_the_library_is_the_one_this_was_written_for() -> None:
    """The names of grpcio that are used are there, so that calls do not go the longer way unnoticed."""
    assert USABLE


def test_what_is_quick_is_answered_where_it_arrived(channel: grpc.Channel) -> None:
    """No thread of the pool has part in a call whose beginning is its answer."""
    assert POOL not in _ask(channel, b"quick").id


def test_what_was_begun_is_finished_in_the_pool(channel: grpc.Channel) -> None:
    """What a beginning leaves is not begun again, and its end may take its time on a thread of the pool."""
    reply = _ask(channel, b"long")
    assert reply.namespace == "long"
    assert POOL in reply.id


def test_a_beginning_that_fails_is_the_methods_business(channel: grpc.Channel, events: Events) -> None:
    """What a beginning raises is not told; what the method raises of the same request is, once."""
    with pytest.raises(grpc.RpcError) as caught:
        _ask(channel, b"wrong")
    assert caught.value.details() == "field: is wrong, as the method found"
    assert len([event for event in events.seen if isinstance(event, CallFailed)]) == 1


def test_beginnings_never_take_all_threads_that_take_calls_in(
    service: Quick, server: GrpcServer, channel: grpc.Channel
) -> None:
    """While as many as may are held, what comes is taken in and answered, by the pool, and health too."""
    server.begin_serving()
    with ThreadPoolExecutor(2) as callers:
        held = [callers.submit(_ask, channel, b"hold") for _ in range(2)]
        for _ in held:
            assert service.held.acquire(timeout=PATIENCE_S)
        assert POOL in _ask(channel, b"quick").id
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert check.status == health_pb2.HealthCheckResponse.SERVING
        service.gate.set()
        assert all(POOL not in call.result().id for call in held)
    assert POOL not in _ask(channel, b"quick").id, "a turn was not given back"


def test_a_call_without_a_message_is_told_so(channel: grpc.Channel) -> None:
    """A client that ends its side without the one request of a method gets an error, and soon."""
    method = channel.stream_unary(f"/{NAME}/Ask", bytes, bytes)
    with pytest.raises(grpc.RpcError) as caught:
        method(iter(()), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_callers_who_say_nothing_hold_no_thread(channel: grpc.Channel) -> None:
    """Calls whose message does not come keep the one thread of the pool from nobody, and end when their callers go."""
    gate = threading.Event()

    def nothing_yet() -> Iterator[bytes]:
        gate.wait(PATIENCE_S)
        yield from ()

    method = channel.stream_unary(f"/{NAME}/Ask", bytes, bytes)
    silent = [method.future(nothing_yet(), timeout=PATIENCE_S) for _ in range(8)]
    assert POOL in _ask(channel, b"long").id
    for call in silent:
        call.cancel()
    gate.set()


OTHER_LIBRARY = """
import grpc._server as library
status = library._status
library._status = lambda rpc_event, state, serialized_response, more=None: status(
    rpc_event, state, serialized_response)
import pytest
from cachesvc.serve.straight import USABLE
assert not USABLE
raise SystemExit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/service/test_edge.py", "-k", "Unary"]))
"""


def test_with_another_library_calls_go_its_own_way() -> None:
    """Where grpcio is not what it was, everything is answered and refused as before."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", OTHER_LIBRARY], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
