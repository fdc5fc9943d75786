"""What the tests of a bare gRPC server share: how it is made and listens, and who sees its events."""

from cachesvc.adapters.clock import SystemClock
from cachesvc.core.ports import Observer
from cachesvc.serve.door import Admission
from cachesvc.serve.grpc_server import GrpcOptions, GrpcServer, Service

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


def server_of(
    service: Service,
    observer: Observer,
    options: GrpcOptions = OPTIONS,
    *,
    admission: Admission | None = None,
) -> GrpcServer:
    """Not started. Without an ``admission`` of its own everything is let in."""
    return GrpcServer(
        service,
        options,
        clock=SystemClock(0),
        observer=observer,
        new_id=lambda: "id-1",
        works=lambda: True,
        admission=admission or Admission(lambda metadata: False, observer),
    )
