"""The HTTP port for operators: /metrics /healthz /readyz /config, nothing else and nothing to change.

``/healthz`` says whether the process should live (restart it when not), ``/readyz`` whether it
answers, component by component.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import AF_INET6, SHUT_RDWR, socket
from threading import BoundedSemaphore, Thread
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.warming import Warming

_MAX_CONNECTIONS = 64  # each has a thread: a slow client holds up nobody else
_CONNECTION_S = 5.0  # from accepted to answered; a socket's own timeout would begin anew with every byte
_LOOK_S = 0.25  # how often connections are looked at


@dataclass(frozen=True, slots=True)
class AdminPages:
    """What the pages show. ``components`` maps each part of the service to whether it works, ``warming`` is how far
    the index is with its start; ``flush`` brings the registry up to date.
    """

    registry: CollectorRegistry
    flush: Callable[[], None]
    ready: Callable[[], bool]
    components: Callable[[], Mapping[str, bool]]
    warming: Callable[[], Warming]
    alive: Callable[[], bool]
    config: Callable[[], Mapping[str, Any]]


class AdminServer:
    """Listens from construction to ``stop``, on threads of its own. Raises LOCKED."""

    def __init__(self, listen: str, pages: AdminPages) -> None:
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        try:
            self._server = _PooledServer((host, int(port)), _handler(pages), ipv6=":" in host)
        except OSError as error:
            raise CacheError(
                Kind.LOCKED, f"admin.listen {listen} cannot be bound: {error.strerror}"
            ) from None
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = Thread(
            target=self._server.serve_forever, args=(_LOOK_S,), name="cachesvc-admin", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


_Connection: TypeAlias = socket | tuple[bytes, socket]  # always a socket here: the tuple is for UDP


class _PooledServer(HTTPServer):
    """A bounded number of connections, each with a thread and a time after which it is cut off."""

    request_queue_size = _MAX_CONNECTIONS

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], *, ipv6: bool
    ) -> None:
        self.address_family = AF_INET6 if ipv6 else type(self).address_family
        self._pool = ThreadPoolExecutor(_MAX_CONNECTIONS, thread_name_prefix="cachesvc-admin")
        self._room = BoundedSemaphore(_MAX_CONNECTIONS)
        self._until_s: dict[_Connection, float] = {}  # a dict's single operations need no lock
        super().__init__(address, handler)

    def process_request(self, request: _Connection, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._until_s[request] = time.monotonic() + _CONNECTION_S
        self._pool.submit(self._serve, request, client_address)

    def _serve(self, request: _Connection, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            pass  # the client went away or was too slow
        finally:
            del self._until_s[request]
            self.shutdown_request(request)
            self._room.release()

    def service_actions(self) -> None:
        """Called by ``serve_forever`` after every connection, and every ``_LOOK_S`` without one."""
        self._cut_off(time.monotonic())

    def server_close(self) -> None:
        super().server_close()
        self._cut_off(math.inf)
        self._pool.shutdown(wait=False)

    def _cut_off(self, now_s: float) -> None:
        """End what should have ended by now: its thread then reads no more, and cannot write."""
        for request, until_s in self._until_s.copy().items():
            if until_s <= now_s and isinstance(request, socket):
                with suppress(OSError):  # it has ended meanwhile
                    request.shutdown(SHUT_RDWR)


def _handler(pages: AdminPages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/metrics":
                    pages.flush()
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._reply(200, content_type, encode(pages.registry))
                case "/healthz":
                    alive = pages.alive()
                    self._json(200 if alive else 503, {"alive": alive})
                case "/readyz":
                    components = dict(pages.components())
                    ready = pages.ready()
                    warming = asdict(pages.warming())
                    self._json(
                        200 if ready else 503,
                        {"ready": ready, "components": components, "warming": warming},
                    )
                case "/config":
                    self._json(200, pages.config())
                case _:
                    self._json(
                        404, {"error": "not found", "pages": ["/metrics", "/healthz", "/readyz", "/config"]}
                    )

        def _json(self, code: int, value: Mapping[str, Any]) -> None:
            self._reply(code, "application/json", json.dumps(value, indent=2).encode() + b"\n")

        def _reply(self, code: int, content_type: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name http.server uses
            """Scrapes are not worth a line."""

    return Handler
