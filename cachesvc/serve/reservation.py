"""A port that several processes of one server listen on, and nobody else."""

import errno
import socket
from typing import Any

from cachesvc.core.errors import CacheError, Kind

# What gRPC takes for an address of IPv4 and one of IPv6, and what getaddrinfo says those are.
_BOTH = {"localhost": 0, "0.0.0.0": socket.AI_PASSIVE, "[::]": socket.AI_PASSIVE}  # noqa: S104 - only named here


class Reservation:
    """Held from its making to ``release``. Nothing is accepted on it: who listens with SO_REUSEPORT does that.

    The kernel lets sockets share a port when all say so. This one says so only once it has the port, so that a
    second server, whose reservation does not say so yet, or that wants the port for itself, is refused.
    """

    def __init__(self, setting: str, listen: str) -> None:
        """``listen`` is host:port; a port 0 becomes one that is free. Raises LOCKED naming the setting."""
        host, _, port = listen.rpartition(":")
        self._sockets: list[socket.socket] = []
        number = int(port)
        refusal = "no such address"
        try:
            places = socket.getaddrinfo(
                None if host in _BOTH else host.strip("[]"),
                number,
                type=socket.SOCK_STREAM,
                flags=_BOTH.get(host, 0),
            )
            for family, _, _, _, place in places:
                held = socket.socket(family, socket.SOCK_STREAM)
                try:
                    _bind(held, (place[0], number, *place[2:]))
                except OSError as error:
                    held.close()
                    if error.errno != errno.EADDRNOTAVAIL:  # of localhost's two a machine may have one
                        raise
                    continue
                self._sockets.append(held)
                number = held.getsockname()[1]
        except OSError as error:
            refusal = error.strerror or refusal
            self.release()
        if not self._sockets:
            raise CacheError(Kind.LOCKED, f"{setting} {listen} cannot be bound: {refusal}")
        self.address = f"{host}:{number}"

    def release(self) -> None:
        """Let others have it."""
        for held in self._sockets:
            held.close()
        self._sockets.clear()


def _bind(held: socket.socket, place: tuple[Any, ...]) -> None:
    if held.family == socket.AF_INET6:
        held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may linger
    held.bind(place)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
