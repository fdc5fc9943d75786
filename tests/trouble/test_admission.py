"""Many calls on one connection: what is too much for it waits in the client, and abuse costs little memory."""

import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub
from tests.trouble.http2 import END_HEADERS, HEADERS, PREFACE, RST_STREAM, SETTINGS, call_headers, frame

if TYPE_CHECKING:
    from tests.trouble.conftest import Process

Launch: TypeAlias = "Callable[[Mapping[str, Mapping[str, Any]]], Process]"
Dial: TypeAlias = Callable[[str], grpc.Channel]

CALL_S = 30.0


def test_more_calls_than_streams_are_all_answered(launch: Launch, dial: Dial) -> None:
    """A client with ten times the calls of ``server.max_streams`` at once has all of them answered."""
    process = launch({"server": {"max_streams": 16, "max_queue_s": CALL_S}}).serving()
    stub = CacheServiceStub(dial(process.address))
    codes: Counter[grpc.StatusCode] = Counter()
    for _ in range(10):
        calls = [
            stub.Lookup.future(pb.LookupRequest(prompt=f"exact {n % 7}", exact_only=True), timeout=CALL_S)
            for n in range(160)
        ]
        codes.update(call.code() for call in calls)
    assert codes == {grpc.StatusCode.OK: 1600}


def test_calls_reset_as_soon_as_they_are_sent_cost_little(launch: Launch, dial: Dial) -> None:
    """Rapid reset (CVE-2023-44487): 100,000 reset calls leave others served and the memory bounded."""
    process = launch({}).serving()
    stub = CacheServiceStub(dial(process.address))
    request = pb.LookupRequest(prompt="exact", exact_only=True)
    stub.Lookup(request, timeout=CALL_S)
    before_bytes = _anonymous_bytes(process.pid)
    host, _, port = process.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=CALL_S) as peer:
        peer.sendall(PREFACE + frame(SETTINGS, 0, b"", stream=0))
        try:
            for first in range(1, 200_000, 2000):
                peer.sendall(b"".join(_opened_and_reset(stream) for stream in range(first, first + 2000, 2)))
                assert stub.Lookup(request, timeout=CALL_S).outcome == pb.OUTCOME_MISS_EXACT_ONLY
        except OSError:
            pass  # the server may hang up on such a peer
    assert stub.Lookup(request, timeout=CALL_S).outcome == pb.OUTCOME_MISS_EXACT_ONLY
    assert _anonymous_bytes(process.pid) - before_bytes < 32 << 20


def _opened_and_reset(stream: int) -> bytes:
    cancel = struct.pack(">I", 8)
    return frame(HEADERS, END_HEADERS, call_headers(), stream) + frame(RST_STREAM, 0, cancel, stream)


def _anonymous_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))
