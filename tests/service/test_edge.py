"""The edge of gRPC methods: whatever a method raises reaches the caller as one status that tells nothing."""

from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import CallFailed
from cachesvc.serve.edge import Call, Edge
from cachesvc.v1 import cache_pb2 as pb
from tests.doubles import Events
from tests.service.ports import server_of

SECRET = "a prompt that nobody else may hear"
NAME = "test.Service"


class Failing:
    """A service whose methods answer once, where they can, and then raise what they are told to."""

    name = NAME

    def __init__(self) -> None:
        self.error: BaseException = RuntimeError(SECRET)

    def handlers(self, edge: Edge) -> grpc.GenericRpcHandler:
        return edge.service(
            NAME,
            {
                "Unary": edge.unary("Unary", self.unary),
                "Stream": edge.stream("Stream", self.stream),
                "Both": edge.bidirectional("Both", self.both),
            },
        )

    def unary(self, data: bytes, call: Call) -> Message:
        raise self.error

    def stream(self, data: bytes, call: Call) -> Iterator[Message]:
        yield pb.DeleteResponse()
        raise self.error

    def both(self, data: Iterator[bytes], call: Call) -> Iterator[Message]:
        for _ in data:
            yield pb.DeleteResponse()
        raise self.error


@pytest.fixture
def failing() -> Failing:
    return Failing()


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def call(failing: Failing, events: Events) -> Iterator[Callable[[str], grpc.RpcError]]:
    """Calls a method and gives the error it ends in."""
    server = server_of(failing, events)
    channel = grpc.insecure_channel(server.start())

    calls: dict[str, Callable[[], object]] = {
        "Unary": lambda: channel.unary_unary(f"/{NAME}/Unary", bytes, bytes)(b"", timeout=10),
        "Stream": lambda: list(channel.unary_stream(f"/{NAME}/Stream", bytes, bytes)(b"", timeout=10)),
        "Both": lambda: list(channel.stream_stream(f"/{NAME}/Both", bytes, bytes)(iter([b""]), timeout=10)),
    }

    def invoke(method: str) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as caught:
            calls[method]()
        return caught.value

    yield invoke
    channel.close()
    server.stop()


METHODS = ["Unary", "Stream", "Both"]
FAULTS = [RuntimeError, KeyError, ValueError, AssertionError, lambda text: OSError(5, text, text)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_ours_tells_its_id_only(
    failing: Failing,
    events: Events,
    call: Callable[[str], grpc.RpcError],
    method: str,
    fault: Callable[[str], Exception],
) -> None:
    """Any other exception is INTERNAL with an id; its type is in the event, its text nowhere."""
    failing.error = fault(SECRET)
    error = call(method)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "internal error id-1; the server's log has more"
    assert SECRET not in repr(error)
    (event,) = events.seen
    assert event == CallFailed(method, Kind.INTERNAL, "INTERNAL", "id-1", type(failing.error).__name__)


@pytest.mark.parametrize("method", METHODS)
def test_an_error_of_the_caller_is_told_whole(
    failing: Failing, events: Events, call: Callable[[str], grpc.RpcError], method: str
) -> None:
    """A CacheError keeps its message and its fields, also when replies went before it."""
    failing.error = CacheError.invalid("field", "is wrong")
    error = call(method)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "field: is wrong"
    status = rpc_status.from_call(error)
    assert status is not None
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert bad.field_violations[0].field == "field"
    assert [event.error_id for event in events.seen if isinstance(event, CallFailed)] == [""]
