"""A judge behind HTTP: any service that is asked ``{"query", "candidate"}`` and says ``{"probability"}`` or ``{"same"}``.

    POST <verifier.url>
    {"query": "the prompt that is asked", "candidate": "the prompt that was answered"}
    → 200 {"probability": 0.97}   or   {"same": true}

Prompts leave the service this way, and only this way: nothing is sent unless verifier.url names where to.
"""

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

_MAX_REPLY_BYTES = 65_536


class _Until(io.RawIOBase):
    """What a socket receives until a moment: a judge that drips bytes would make a bound on each wait begin again and
    again, and keep its thread.
    """

    def __init__(self, sock: socket.socket, raw: io.RawIOBase, until_s: float) -> None:
        self._sock = sock
        self._raw = raw
        self._until_s = until_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _bounded(until_s: float) -> Callable[..., http.client.HTTPResponse]:
    """A reply all of which, its head too, is there by then."""

    def respond(sock: socket.socket, *args: Any, **options: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, *args, **options)
        response.fp = io.BufferedReader(_Until(sock, response.fp.detach(), until_s))
        return response

    return respond


class HttpJudge:
    """Asks over connections that are kept, one a thread. ``token`` goes along as a bearer token where there is one."""

    def __init__(self, url: str, token: str) -> None:
        self._url = urlsplit(url)
        self._path = self._url._replace(scheme="", netloc="", fragment="").geturl() or "/"
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._kept = threading.local()
        self._lock = threading.Lock()
        self._connections: list[http.client.HTTPConnection] = []

    def __call__(self, query: str, candidate: str, wait_s: float) -> float:
        """The probability. Raises OSError or ValueError."""
        body = json.dumps({"query": query, "candidate": candidate}).encode()
        until_s = time.monotonic() + wait_s
        reply = self._exchange(body, until_s, self._connection())
        try:
            return _probability(json.loads(reply))
        except RecursionError:
            raise ValueError("the judge's reply is nested too deeply") from None

    def close(self) -> None:
        """Close what connections there are; one in use is closed by its call, which fails."""
        with self._lock:
            for connection in self._connections:
                connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if connection is None:
            secure = self._url.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            connection = self._kept.connection = kind(self._url.hostname or "", self._url.port)
            with self._lock:
                self._connections.append(connection)  # as many as there are threads
        return connection

    def _exchange(self, body: bytes, until_s: float, connection: http.client.HTTPConnection) -> bytes:
        """A connection that the other side has closed since is opened anew, once."""
        was_kept = connection.sock is not None
        try:
            return self._ask(body, until_s, connection)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if not was_kept or time.monotonic() >= until_s:
                raise ConnectionError(f"the judge did not answer: {type(error).__name__}") from error
        try:
            return self._ask(body, until_s, connection)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ConnectionError(f"the judge did not answer: {type(error).__name__}") from error

    def _ask(self, body: bytes, until_s: float, connection: http.client.HTTPConnection) -> bytes:
        connection.timeout = max(until_s - time.monotonic(), 0.001)
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
        connection.response_class = _bounded(until_s)  # type: ignore[assignment]  # all that is done with it is to call it
        connection.request("POST", self._path, body, self._headers)
        response = connection.getresponse()
        reply = response.read(_MAX_REPLY_BYTES + 1)
        if response.status != http.client.OK or len(reply) > _MAX_REPLY_BYTES:
            connection.close()  # what else it has to say is not read
            raise ValueError(f"the judge said {response.status}, with {len(reply)} bytes or more")
        return reply


def _probability(said: Any) -> float:
    match said:
        case {"same": bool(same)}:
            return float(same)
        case {"probability": int() | float() as probability} if 0 <= probability <= 1:
            return float(probability)
    raise ValueError("the judge's reply has neither same, true or false, nor a probability from 0 to 1")
