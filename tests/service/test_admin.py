"""The admin port on real sockets: slow clients hold up nobody, and too many are turned away."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry

from cachesvc.core.warming import Warming
from cachesvc.serve.admin import AdminPages, AdminServer

Connect = Callable[[], socket.socket]

WAIT_S = 20.0
CONNECTIONS = 64  # what it takes at once


@pytest.fixture
def admin() -> Iterator[AdminServer]:
    """An admin port with nothing behind it."""
    pages = AdminPages(
        registry=CollectorRegistry(),
        flush=lambda: None,
        ready=lambda: True,
        components=lambda: {"part": True},
        warming=lambda: Warming(True, 0, 0, 0, 0, 0.0),
        alive=lambda: True,
        config=dict,
    )
    server = AdminServer("127.0.0.1:0", pages)
    yield server
    server.stop()


@pytest.fixture
def connect(admin: AdminServer) -> Iterator[Connect]:
    """Opens connections; all are closed at the end."""
    host, _, port = admin.address.rpartition(":")
    with ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection((host, int(port)), timeout=WAIT_S))


@pytest.fixture
def trickle() -> Iterator[Callable[[list[socket.socket]], None]]:
    """Sends a request of which a byte comes ten times a second and which never ends."""
    end = threading.Event()
    threads: list[threading.Thread] = []

    def send(peers: list[socket.socket]) -> None:
        while not end.wait(0.1):
            for peer in peers:
                with suppress(OSError):
                    peer.send(b"G")

    def begin(peers: list[socket.socket]) -> None:
        threads.append(threading.Thread(target=send, args=(peers,)))
        threads[-1].start()

    yield begin
    end.set()
    for thread in threads:
        thread.join()


def test_slow_clients_do_not_hold_up_others(
    admin: AdminServer, connect: Connect, trickle: Callable[[list[socket.socket]], None]
) -> None:
    """While eight clients send a byte now and then, others are answered."""
    trickle([connect() for _ in range(8)])
    began_s = time.monotonic()
    assert _status(admin, "/healthz") == 200
    assert time.monotonic() - began_s < 8.0


def test_a_slow_client_is_cut_off(connect: Connect, trickle: Callable[[list[socket.socket]], None]) -> None:
    """However often a byte of the request comes, after five seconds the connection ends."""
    slow = connect()
    began_s = time.monotonic()
    trickle([slow])
    assert _ends(slow)
    assert time.monotonic() - began_s < 8.0


def test_too_many_connections_are_turned_away(admin: AdminServer, connect: Connect) -> None:
    """With all places taken the newest is closed at once; when they are free again it is answered."""
    silent = [connect() for _ in range(CONNECTIONS)]
    began_s = time.monotonic()
    assert _ends(connect())
    assert time.monotonic() - began_s < 3.0
    assert all(_ends(peer) for peer in silent)
    assert _status(admin, "/healthz") == 200


def test_stopping_does_not_wait_for_slow_clients(admin: AdminServer, connect: Connect) -> None:
    """The port is closed, and connections end, without regard to who is still sending."""
    silent = connect()
    assert _status(admin, "/readyz") == 200  # by now the silent one has its thread
    began_s = time.monotonic()
    admin.stop()
    assert _ends(silent)
    assert time.monotonic() - began_s < 3.0


def _status(admin: AdminServer, path: str) -> int:
    connection = HTTPConnection(admin.address, timeout=WAIT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _ends(peer: socket.socket) -> bool:
    """Read until the server closes, which it must within the socket's timeout."""
    with suppress(ConnectionError):
        while peer.recv(4096):
            pass
    return True
