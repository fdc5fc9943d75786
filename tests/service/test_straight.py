"""Calls are taken in with their message: what needs a moment is answered at once, the rest goes to the pool."""

import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest
from google.protobuf.descriptor_pb2 import UninterpretedOption
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import CallFailed, TaskFailed
from cachesvc.serve.edge import Call, Edge
from cachesvc.serve.grpc_server import GrpcOptions, GrpcServer
from cachesvc.serve.straight import USABLE, Pollers
from cachesvc.v1 import cache_pb2 as pb
from tests.doubles import Events
from tests.service.ports import OPTIONS, server_of

NAME = "test.Service"
PATIENCE_S = 10.0
POOL = "cachesvc-call"

UNSENDABLE = UninterpretedOption.NamePart()  # lacks what it requires

Make: TypeAlias = Callable[[GrpcOptions], GrpcServer]


def _where() -> pb.GetRequest:
    """A reply that names the thread that made it."""
    return pb.GetRequest(id=threading.current_thread().name)


class Rest:
    """A call that was begun."""

    def __init__(self, service: "Quick", data: bytes) -> None:
        self.service = service
        self.data = data

    def finish(self) -> pb.GetRequest:
        self.service.asked.append(self.data)
        return pb.GetRequest(namespace=self.data.decode(), id=_where().id)


class Quick:
    """A service whose method answers ``quick`` when it begins. ``hold`` holds the thread that begins it, and ``slow``
    one of the pool, until the gate is open.
    """

    name = NAME

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.held = threading.Semaphore(0)
        self.asked: list[bytes] = []
        self.calls: list[Call] = []  # that were begun

    def handlers(self, edge: Edge) -> grpc.GenericRpcHandler:
        return edge.service(NAME, {"Ask": edge.unary("Ask", self.ask, self.begin)})

    def begin(self, data: bytes, call: Call) -> "Message | Rest":
        self.calls.append(call)
        if data == b"wrong":
            raise CacheError.invalid("field", "is wrong")
        if data == b"hold":
            self.held.release()
            assert self.gate.wait(PATIENCE_S)
        if data == b"slow":
            raise CacheError.invalid("field", "is for the pool")
        if data == b"unsendable":
            return UNSENDABLE
        return _where() if data in (b"quick", b"hold") else Rest(self, data)

    def ask(self, data: bytes, call: Call) -> Message:
        self.asked.append(data)
        if data == b"unsendable":
            return UNSENDABLE
        if data == b"slow":
            self.held.release()
            assert self.gate.wait(PATIENCE_S)
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
def make(service: Quick, events: Events) -> Make:
    return lambda options: server_of(service, events, options)


@pytest.fixture
def server(make: Make) -> GrpcServer:
    return make(replace(OPTIONS, threads=1, pollers=3))


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


@pytest.mark.parametrize("kind", [b"long", b"wrong"], ids=["begun", "not begun"])
def test_nothing_is_done_for_who_left_while_waiting(
    service: Quick, channel: grpc.Channel, kind: bytes
) -> None:
    """A call whose caller is gone before a thread of the pool takes it up costs nothing more."""
    method = channel.unary_unary(f"/{NAME}/Ask", bytes, pb.GetRequest.FromString)
    first = method.future(b"slow", timeout=PATIENCE_S)
    assert service.held.acquire(timeout=PATIENCE_S)
    service.calls.clear()
    waiting = [method.future(kind, timeout=PATIENCE_S) for _ in range(4)]
    while len(service.calls) < len(waiting):
        _ask(channel, b"quick")
    left = [call for call in service.calls if call.wanted()]
    for each in waiting:
        each.cancel()
    while any(call.wanted() for call in left):
        _ask(channel, b"quick")
    service.gate.set()
    first.result()
    assert _ask(channel, b"last").namespace == "last"
    assert service.asked == [b"slow", b"last"]


def test_those_who_speak_at_once_do_not_all_wait(service: Quick, channel: grpc.Channel) -> None:
    """However many silent callers there are, no more than may wait for a thread do; the others are told so."""
    speak, many = threading.Event(), OPTIONS.max_queued_calls + 6
    ended: queue.SimpleQueue[grpc.StatusCode] = queue.SimpleQueue()

    def late() -> Iterator[bytes]:
        assert speak.wait(PATIENCE_S)
        yield b"long"

    method = channel.stream_unary(f"/{NAME}/Ask", bytes, pb.GetRequest.FromString)
    calls = [method.future(late(), timeout=PATIENCE_S) for _ in range(many)]
    first = method.future(iter([b"slow"]), timeout=PATIENCE_S)
    for call in calls:
        call.add_done_callback(lambda done: ended.put(done.code()))  # type: ignore[attr-defined]  # it is a grpc.Call
    assert service.held.acquire(timeout=PATIENCE_S)
    speak.set()
    assert [ended.get(timeout=PATIENCE_S) for _ in range(6)] == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 6
    service.gate.set()
    first.result()
    waited = [ended.get(timeout=PATIENCE_S) for _ in range(OPTIONS.max_queued_calls)]
    assert set(waited) == {grpc.StatusCode.OK}


def test_no_end_of_a_call_leaves_it_counted(make: Make) -> None:
    """However calls end, more often than may be under way at once, others are answered, and stopping waits for none."""
    server = make(replace(OPTIONS, threads=1, pollers=3, max_concurrent_calls=4, drain_s=6 * PATIENCE_S))
    with grpc.insecure_channel(server.start()) as channel:
        unary = channel.unary_unary(f"/{NAME}/Ask", bytes, bytes)
        stream = channel.stream_unary(f"/{NAME}/Ask", bytes, bytes)
        gone = threading.Event()

        def nothing_yet() -> Iterator[bytes]:
            gone.wait(PATIENCE_S)
            yield from ()

        def left(call: "grpc.Future[bytes]") -> None:
            call.cancel()

        ends: list[Callable[[], object]] = [
            lambda: unary(b"wrong", timeout=PATIENCE_S),
            lambda: unary(b"unsendable", timeout=PATIENCE_S),
            lambda: unary(bytes(OPTIONS.max_message_bytes + 1), timeout=PATIENCE_S),
            lambda: stream(iter(()), timeout=PATIENCE_S),
            lambda: stream(nothing_yet(), timeout=0.01),
            lambda: left(unary.future(b"long", timeout=PATIENCE_S)),
            lambda: left(stream.future(nothing_yet(), timeout=PATIENCE_S)),
        ]
        for end in ends:
            for _ in range(5):
                with suppress(grpc.RpcError):
                    end()
            while True:  # those who left may not have done so yet
                with suppress(grpc.RpcError):
                    _ask(channel, b"quick")
                    break
        gone.set()
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        stopping.join(PATIENCE_S)
        assert not stopping.is_alive()


class Broken:
    """A gRPC server with a queue whose first event cannot be acted upon, and whose second does not come."""

    def __init__(self) -> None:
        self._state = self
        self.completion_queue = self
        self.registered_method_handlers: dict[str, object] = {}
        self.completion_type = None
        self.polled = threading.Semaphore(0)
        self.gate = threading.Semaphore(1)

    def poll(self, until_s: float) -> "Broken":
        self.polled.release()
        assert self.gate.acquire(timeout=PATIENCE_S)
        return self

    def tag(self, event: object) -> None:
        raise RuntimeError("no")


def test_a_polling_thread_outlives_what_it_fails_at(events: Events) -> None:
    """The failure is an event, the thread goes on, and stopping does not wait for it when it hangs, as a log may."""
    server = Broken()
    pollers = Pollers(server, 1, events)  # type: ignore[arg-type]  # all that is used of one
    pollers.start()
    for _ in range(2):
        assert server.polled.acquire(timeout=PATIENCE_S)
    assert events.seen == [TaskFailed("poll", Kind.INTERNAL, "RuntimeError")]
    stopping = threading.Thread(target=pollers.stop)
    stopping.start()
    stopping.join(PATIENCE_S / 2)
    assert not stopping.is_alive()
    server.gate.release()


OTHER_LIBRARY = """
import importlib, inspect
import grpc._server as library
from cachesvc.serve import straight
assert straight.USABLE
source, status = inspect.getsource(library), library._status
library._status = lambda rpc_event, state, serialized_response, more=None: None
assert not importlib.reload(straight).USABLE
library._status = status
for name in ("_CLOSED", "_process_event_and_continue"):  # the last one is left as it is
    exec(source.replace(name, "_other"), vars(library))
    delattr(library, name)
    assert not importlib.reload(straight).USABLE
import pytest
raise SystemExit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/service/test_edge.py", "-k", "Unary"]))
"""


def test_with_another_library_calls_go_its_own_way() -> None:
    """Where grpcio is not what it was, everything is answered and refused as before."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", OTHER_LIBRARY], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
