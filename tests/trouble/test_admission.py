"""Many calls on one connection: what is too much for it waits in the client, and abuse costs little memory."""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import cachesvc
from cachesvc.app import App
from cachesvc.core.types import Unseen, Vector
from cachesvc.observe.log import Logger
from cachesvc.settings import Settings
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


class Slow:
    """An Embedder that takes a twentieth of a second for each text."""

    fingerprint = "slow:1"
    dimension = 4

    def embed(self, text: str, wait_s: float) -> Vector | Unseen:
        threading.Event().wait(0.05)
        return np.full(4, 0.5, np.float32)


@pytest.fixture
def slow_address(tmp_path: Path) -> Iterator[str]:
    """Where a server with a slow engine listens."""
    settings = Settings.model_validate(
        {
            "server": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0", "rpc_listen": "127.0.0.1:0"},
            "store": {"path": tmp_path / "store"},
            "embedder": {"concurrency": 1},
        }
    )
    app = App(settings, Slow, Logger("critical", "json"))
    yield app.address
    app.stop()


def test_a_flood_is_turned_away_and_others_are_not(slow_address: str, dial: Dial) -> None:
    """Sixteen callers of one namespace on an engine of twenty texts a second: most are refused; a namespace that
    says its name is answered, and so are exact lookups, stores, and health.
    """
    seen: Counter[str] = Counter()
    over = threading.Event()

    def flood(n: int) -> None:
        stub = CacheServiceStub(dial(slow_address))
        calls = 0
        while not over.is_set():
            calls += 1
            try:
                stub.Lookup(
                    pb.LookupRequest(namespace="flood", prompt=f"{n} {calls}"),
                    timeout=CALL_S,
                    metadata=(("cachesvc-namespace", "flood"),),
                )
                seen["OK"] += 1
            except grpc.RpcError as error:
                seen[error.code().name] += 1

    with ThreadPoolExecutor(16) as pool:
        callers = [pool.submit(flood, n) for n in range(16)]
        try:
            with cachesvc.Client(slow_address, namespace="modest", timeout_s=CALL_S) as client:
                outcomes = [client.lookup(f"question {n}").outcome for n in range(30)]
                exact = [client.lookup("question", exact_only=True).outcome for _ in range(30)]
                assert client.store("answer", "question").stored
            health_pb2_grpc.HealthStub(dial(slow_address)).Check(
                health_pb2.HealthCheckRequest(), timeout=CALL_S
            )
        finally:
            over.set()
        for caller in callers:
            caller.result(CALL_S)
    assert seen["RESOURCE_EXHAUSTED"] > seen["OK"] > 0
    assert set(seen) == {"OK", "RESOURCE_EXHAUSTED"}
    assert Counter(outcomes)["BYPASS_OVERLOADED"] == 0
    assert Counter(outcomes)["MISS_EMPTY"] >= 25, outcomes
    assert exact == ["MISS_EXACT_ONLY"] * 30


def _opened_and_reset(stream: int) -> bytes:
    cancel = struct.pack(">I", 8)
    return frame(HEADERS, END_HEADERS, call_headers(), stream) + frame(RST_STREAM, 0, cancel, stream)


def _anonymous_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))
