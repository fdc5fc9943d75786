"""The port that workers share is theirs, by whatever address it is named."""

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from cachesvc.core.errors import CacheError, Kind
from cachesvc.serve.reservation import Reservation


def listening(address: str, *, shares: bool) -> grpc.Server | None:
    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", int(shares))])
    try:
        return server if server.add_insecure_port(address) else None
    except RuntimeError:
        return None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::]"])
def test_a_reserved_port_is_shared_by_those_alone_who_say_so(host: str) -> None:
    """Two workers listen on it; who wants it alone, or wants to reserve it too, is refused, workers or not."""
    reservation = Reservation("server.listen", f"{host}:0")
    for _ in range(2):
        assert listening(reservation.address, shares=False) is None
        with pytest.raises(CacheError, match="cannot be bound: Address already in use") as refused:
            Reservation("server.listen", reservation.address)
        assert refused.value.kind is Kind.LOCKED
        workers = [listening(reservation.address, shares=True) for _ in range(2)]
        assert None not in workers
    reservation.release()
    for worker in workers:
        assert worker is not None
        worker.stop(None)


def test_a_port_that_somebody_has_is_refused() -> None:
    """A port on which another program listens, sharing or not, cannot be reserved."""
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, option, 1)
            other.bind(("127.0.0.1", 0))
            other.listen()
            with pytest.raises(CacheError, match="cannot be bound"):
                Reservation("server.listen", f"127.0.0.1:{other.getsockname()[1]}")
    with pytest.raises(CacheError, match="cannot be bound"):
        Reservation("server.listen", "no-such-host.invalid:0")
