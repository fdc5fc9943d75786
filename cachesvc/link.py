"""What a supervisor and its workers say to each other, over a socket pair that each worker is started with.

Frames of msgpack. The end of the stream is a message, too: to a worker, that it is to stop (so that workers end with their
supervisor, however that ends); to the supervisor, that the worker has ended.
"""

import socket
import struct
import threading
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec

from cachesvc.core.warming import Warming

_LENGTH_BYTES = 4
_MOST_BYTES = 64 << 20
_TIMEVAL = struct.Struct("@ll")


class Seat(msgspec.Struct, frozen=True):
    """What makes a process one of several: its number from 0, the store's lock (an inherited descriptor), the clock that
    all go by, and the key of what they remember together.
    """

    number: int
    lock_descriptor: int
    clock_start_ms: int
    clock_boot_ns: int
    tickets_key: bytes


class Begin(msgspec.Struct, frozen=True, tag=True):
    """To a worker, once and first: open the store and serve by these settings."""

    settings: dict[str, Any]
    seat: Seat


class Publish(msgspec.Struct, frozen=True, tag=True):
    """To a worker: go by these settings from now on."""

    settings: dict[str, Any]


class Ask(msgspec.Struct, frozen=True, tag=True):
    """To a worker: report. Numbered from 1."""

    number: int


class Serving(msgspec.Struct, frozen=True, tag=True):
    """From a worker, once: it answers calls."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """From a worker, instead: why it cannot, a ``Kind`` by its value."""

    kind: str
    message: str


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """A value of a metric."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    """A metric: its name, what kind it is (counter, gauge …) and its values."""

    name: str
    help: str
    kind: str
    samples: list[Sample]


class Report(msgspec.Struct, frozen=True, tag=True):
    """From a worker: how it is, and what it has counted. ``number`` is that of the question; 0 before it ends."""

    number: int
    alive: bool
    ready: bool
    components: dict[str, bool]
    warming: Warming
    families: list[Family]


Message: TypeAlias = Begin | Publish | Ask | Serving | Failed | Report


class Link:
    """One end. ``send`` from any thread, ``receive`` from one."""

    def __init__(self, end: socket.socket, send_s: float = 0.0) -> None:
        """``send_s`` is how long the other side may not listen while it is told something; 0: for ever."""
        end.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(send_s), int(send_s % 1 * 1e6))
        )
        self._end = end
        self._sending = threading.Lock()

    def send(self, message: Message) -> bool:
        """Say something. False when nobody listens any more, and no more is said then."""
        packed = msgspec.msgpack.encode(message)
        with self._sending:
            try:
                self._end.sendall(len(packed).to_bytes(_LENGTH_BYTES, "big") + packed)
            except OSError:  # a part of it may have been said: nothing makes sense after that
                self.end()  # the other side may have last words all the same
                return False
        return True

    def receive(self) -> Message | None:
        """What is said next; None at the end."""
        try:
            length = int.from_bytes(self._read(_LENGTH_BYTES), "big")
            return None if not 0 < length <= _MOST_BYTES else _DECODER.decode(self._read(length))
        except (OSError, msgspec.MsgspecError):
            return None

    def end(self) -> None:
        """Say no more; the other side hears the end."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)

    def stop_listening(self) -> None:
        """Make ``receive`` come to the end. May be called by a signal handler."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Let go of it."""
        with self._sending:  # else its descriptor may be another's in the midst of a word
            self._end.close()

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._end.recv(count - len(parts))
            if not part:
                raise ConnectionResetError
            parts += part
        return bytes(parts)


_DECODER: "msgspec.msgpack.Decoder[Message]" = msgspec.msgpack.Decoder(Message)
