"""The door: what is turned away before it is read, and how that is told."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cachesvc.calls import told
from cachesvc.core.errors import Kind
from cachesvc.core.events import CallFailed, Event
from cachesvc.core.policy import Mode, Policy, PolicyBook
from cachesvc.engine.parts import EmbedBudget, Tuning
from cachesvc.serve.door import Admission, Doorkeeper, Metadata
from cachesvc.serve.edge import Call, Edge
from cachesvc.v1 import cache_pb2 as pb
from tests.doubles import Events
from tests.service.ports import OPTIONS, server_of

NAME = "test.Service"


class Working:
    """A service of two methods that answer."""

    name = NAME

    def handlers(self, edge: Edge) -> grpc.GenericRpcHandler:
        return edge.service(
            NAME, {"Lookup": edge.unary("Lookup", self.answer), "Store": edge.unary("Store", self.answer)}
        )

    def answer(self, data: bytes, call: Call) -> Message:
        return pb.DeleteResponse()


class Turns:
    """Turns away as told, and notes what it was told of the calls."""

    def __init__(self) -> None:
        self.away = False
        self.seen: list[dict[str, str | bytes]] = []

    def __call__(self, metadata: Metadata) -> bool:
        self.seen.append(dict(metadata))
        return self.away


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def channel(turns: Turns, events: Events) -> Iterator[grpc.Channel]:
    server = server_of(Working(), events, admission=Admission(turns, events))
    with grpc.insecure_channel(server.start()) as channel:
        yield channel
    server.stop()


def _call(channel: grpc.Channel, method: str, *metadata: tuple[str, str]) -> grpc.RpcError | None:
    try:
        channel.unary_unary(f"/{NAME}/{method}", bytes, bytes)(b"x" * 100_000, timeout=10, metadata=metadata)
    except grpc.RpcError as error:
        return error
    return None


def test_a_lookup_that_is_turned_away_is_told_when_to_come_back(
    channel: grpc.Channel, turns: Turns, events: Events
) -> None:
    """RESOURCE_EXHAUSTED with RetryInfo, one event, again and again; afterwards it is answered."""
    turns.away = True
    for _ in range(20):
        error = _call(channel, "Lookup")
        assert error is not None
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(error)
        assert status is not None
        assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
    assert events.seen == [CallFailed("Lookup", Kind.OVERLOADED, "RESOURCE_EXHAUSTED", "", "")] * 20
    turns.away = False
    assert _call(channel, "Lookup") is None


def test_a_store_is_never_turned_away_for_want_of_inferences(channel: grpc.Channel, turns: Turns) -> None:
    """Its answer was paid for."""
    turns.away = True
    assert _call(channel, "Store") is None
    assert not turns.seen


def test_what_a_client_tells_is_heard(channel: grpc.Channel, turns: Turns) -> None:
    """Metadata reaches the door as it was sent."""
    assert _call(channel, "Lookup", ("cachesvc-namespace", "support")) is None
    assert turns.seen[0]["cachesvc-namespace"] == "support"


class Blocking:
    """An observer that waits, as one that writes to a full pipe does."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def on(self, event: Event) -> None:
        self.gate.wait(60.0)


def test_a_refusal_waits_for_no_log(turns: Turns, events: Events) -> None:
    """Though nothing can be logged, calls are turned away at once, and the server stops."""
    turns.away, log = True, Blocking()
    server = server_of(Working(), log, replace(OPTIONS, drain_s=0.1), admission=Admission(turns, events))
    with grpc.insecure_channel(server.start()) as channel:
        for _ in range(3):
            error = _call(channel, "Lookup")
            assert error is not None
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        stopping.join(30.0)
        assert not stopping.is_alive()
    log.gate.set()


class Crowd:
    """A guard that is crowded, and lets in one namespace."""

    def __init__(self) -> None:
        self.crowded = True

    def is_crowded(self, wait_s: float) -> bool:
        return self.crowded

    def lets_in(self, wait_s: float, share: str | None) -> bool:
        return share == "modest"


@pytest.mark.parametrize(
    ("metadata", "away"),
    [
        ((), True),
        ((("cachesvc-namespace", "flood"),), True),
        ((("cachesvc-namespace", "modest"),), False),
        ((("cachesvc-namespace", "exact-1"),), False),
        ((("cachesvc-namespace", "private"),), False),
        ((("cachesvc-namespace", "off"),), False),
        ((("cachesvc-namespace", "flood"), ("cachesvc-exact-only", "true")), False),
        ((("cachesvc-namespace", "flood"), ("cachesvc-exact-only", "false")), True),
        ((("user-agent", "x"), ("trace-bin", b"x")), True),
    ],
    ids=[
        "untold",
        "flood",
        "modest",
        "no semantic tier",
        "no prompts",
        "off",
        "exact tier only",
        "not exact tier only",
        "other metadata",
    ],
)
def test_who_is_turned_away_in_a_crowd(metadata: Metadata, *, away: bool) -> None:
    """Only what wants an inference, of a namespace that the guard does not let in; else nobody."""
    crowd = Crowd()
    book = PolicyBook(
        Policy(),
        {
            "exact-*": Policy(semantic=False),
            "private": Policy(store_prompts=False),
            "off": Policy(mode=Mode.OFF),
        },
    )
    keeper = Doorkeeper(crowd, lambda: Tuning(book, EmbedBudget(0.25, 0.01)))
    assert keeper.turns_away(metadata) is away
    crowd.crowded = False
    assert not keeper.turns_away(metadata)


def test_the_clients_tell() -> None:
    """The namespace, if it can be sent, and that no inference is wanted."""
    assert told(pb.LookupRequest()) == (("cachesvc-namespace", "default"),)
    assert told(pb.LookupRequest(namespace="a", exact_only=True)) == (
        ("cachesvc-namespace", "a"),
        ("cachesvc-exact-only", "true"),
    )
    assert told(pb.LookupRequest(namespace="ä")) == ()


def test_connections_are_renewed(turns: Turns, events: Events) -> None:
    """A client is told now and then to make another connection, and none of its calls fails of it."""
    server = server_of(
        Working(), events, replace(OPTIONS, max_connection_age_s=0.2), admission=Admission(turns, events)
    )
    connected = threading.Semaphore(0)

    def on_state(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.READY:
            connected.release()

    with grpc.insecure_channel(server.start()) as channel:
        channel.subscribe(on_state, try_to_connect=True)
        made, until_s = 0, time.monotonic() + 60.0
        while made < 3:
            assert _call(channel, "Lookup") is None
            made += connected.acquire(blocking=False)
            assert time.monotonic() < until_s
    server.stop()
