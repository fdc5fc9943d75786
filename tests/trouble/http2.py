"""HTTP/2 (RFC 9113) by hand: a gRPC client cannot be told to stop reading, or to misbehave."""

import socket
import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE = 0, 1, 3, 4, 8
END_STREAM, END_HEADERS = 1, 4
WINDOW = 65_535  # what a peer may send unasked


def frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def frames(peer: socket.socket) -> Iterator[tuple[int, int, int]]:
    """Kind, flags and size of the payload of every frame that comes."""
    with peer.makefile("rb") as stream:
        while head := stream.read(9):
            size = int.from_bytes(head[:3], "big")
            assert len(stream.read(size)) == size, "the connection was cut"
            yield head[3], head[4], size


def call_headers(**more: str) -> bytes:
    """A lookup's header block, of literals without indexing (RFC 7541 §6.2.2)."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/cachesvc.v1.CacheService/Lookup",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        **more,
    }
    return b"".join(
        b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in headers.items()
    )
