"""What the tests of a bare gRPC server share: how it listens, and who sees its events."""

from cachesvc.core.events import Event
from cachesvc.serve.grpc_server import GrpcOptions

OPTIONS = GrpcOptions(
    setting="test.listen",
    listen="127.0.0.1:0",
    reflection=False,
    threads=4,
    pollers=2,
    max_streams=100,
    max_concurrent_calls=64,
    max_queued_calls=8,
    max_queue_s=5.0,
    max_message_bytes=1 << 20,
    drain_s=1.0,
)


class Events:
    """An Observer that keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def on(self, event: Event) -> None:
        self.seen.append(event)
