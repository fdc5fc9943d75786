"""Stopping, and starting where another server is: nothing is lost, and the reason is said."""

import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub
from tests.trouble.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    call_headers,
    frame,
    frames,
)
from tests.waiting import until

if TYPE_CHECKING:
    from tests.trouble.conftest import Process

Launch: TypeAlias = "Callable[[Mapping[str, Mapping[str, Any]]], Process]"
Dial: TypeAlias = Callable[[str], grpc.Channel]
Page: TypeAlias = Callable[[str, str], str]

CALL_S = 30.0
IN_USE = 5  # the exit code that the command's help documents


@dataclass
class Done:
    """What one caller saw until it was refused."""

    entry_ids: list[str] = field(default_factory=list)
    refused: grpc.StatusCode | None = None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "sigint"])
def test_a_signal_under_load_ends_it_in_order(
    launch: Launch, dial: Dial, page: Page, open_store: Callable[[], LmdbStore], number: signal.Signals
) -> None:
    """Health says NOT_SERVING, calls under way finish, new ones are refused, nothing is lost, exit 0."""
    process = launch({"server": {"drain_s": 30.0}}).serving()
    watched = _watch_health(dial(process.address))
    with ThreadPoolExecutor(8) as pool, _killed_on_failure(process):
        callers = [pool.submit(_store_until_refused, dial(process.address), n) for n in range(4)]
        callers += [pool.submit(_look_up_until_refused, dial(process.address)) for _ in range(2)]
        long_call = _long_call(dial(process.address), items=128)
        _wait_until_under_way(process, page)
        process.signal(number)

        assert watched.result(CALL_S), "health did not say NOT_SERVING"
        _wait_until_new_calls_are_refused(dial, process.address)
        assert not long_call.done(), "new calls were refused only when the old ones had finished"
        process.signal(number)  # whoever is impatient cuts nothing off
        results = long_call.result().results
        assert [result.WhichOneof("result") for result in results] == ["response"] * len(results)
        seen = [caller.result(CALL_S) for caller in callers]
        assert process.ended() == 0, process.log

    for done in seen:
        assert done.refused is grpc.StatusCode.UNAVAILABLE
    acknowledged = [entry_id for done in seen for entry_id in done.entry_ids]
    assert acknowledged
    store = open_store()
    try:
        assert store.check() == []
        assert all(store.get(int(entry_id, 16)) is not None for entry_id in acknowledged)
    finally:
        store.close()


def test_calls_that_wait_for_a_thread_are_under_way(launch: Launch, dial: Dial) -> None:
    """Every call that was handed over before the signal is answered, though only four have a thread."""
    process = launch({"server": {"threads": 4, "drain_s": 30.0, "max_queue_s": 30.0}}).serving()
    channel = dial(process.address)
    _health(channel)
    stub, words = CacheServiceStub(channel), "the quick brown fox jumps over the lazy dog and " * 18
    requests = [pb.StoreRequest(prompt=f"{n} {words}", response=b"answer") for n in range(60)]
    calls = [stub.Store.future(request, timeout=CALL_S) for request in requests]
    _wait_until_handed_over(channel)
    assert not all(call.done() for call in calls), "nothing waits any more"
    process.signal(signal.SIGTERM)
    assert {call.code() for call in calls} == {grpc.StatusCode.OK}
    assert process.ended() == 0, process.log


def test_a_slow_reader_has_its_reply_in_full(launch: Launch, dial: Dial) -> None:
    """A reply on its way when the signal comes is sent to its end, and only then the server ends."""
    process = launch({"server": {"drain_s": 30.0}}).serving()
    request, response = pb.LookupRequest(prompt="large"), b"r" * (2 << 20)
    stub = CacheServiceStub(dial(process.address))
    stub.Store(pb.StoreRequest(prompt="large", response=response), timeout=CALL_S)
    host, _, port = process.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=CALL_S) as peer:
        message = request.SerializeToString()
        body = b"\0" + struct.pack(">I", len(message)) + message
        headers = frame(HEADERS, END_HEADERS, call_headers())
        peer.sendall(PREFACE + frame(SETTINGS, 0, b"", stream=0) + headers + frame(DATA, END_STREAM, body))
        received_frames = frames(peer)
        assert next(
            size for kind, _, size in received_frames if kind == DATA
        )  # the rest does not fit its window
        process.signal(signal.SIGTERM)
        _wait_until_new_calls_are_refused(dial, process.address)
        room = struct.pack(">I", 1 << 28)
        peer.sendall(frame(WINDOW_UPDATE, 0, room, stream=0) + frame(WINDOW_UPDATE, 0, room))
        received = 0
        for kind, flags, size in received_frames:
            received += size if kind == DATA else 0
            if flags & END_STREAM and kind == HEADERS:
                break
    assert received > len(response) - WINDOW
    assert process.ended() == 0, process.log


def test_somebody_who_watches_health_does_not_hold_up_the_end(launch: Launch, dial: Dial) -> None:
    """A health watch stays open for as long as its client lives; the server does not wait for it."""
    process = launch({"server": {"drain_s": 20.0}}).serving()
    request = health_pb2.HealthCheckRequest()
    watch = health_pb2_grpc.HealthStub(dial(process.address)).Watch(request)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    began_s = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.ended() == 0, process.log
    assert time.monotonic() - began_s < 5.0
    watch.cancel()


def test_a_call_that_is_too_long_is_cut_off(launch: Launch, dial: Dial, page: Page) -> None:
    """After server.drain_s what is still under way is ended, and the exit code is 0 all the same."""
    process = launch({"server": {"drain_s": 0.1}}).serving()
    long_call = _long_call(dial(process.address), items=256)
    _wait_until_under_way(process, page)
    began_s = time.monotonic()
    process.signal(signal.SIGTERM)
    assert long_call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert process.ended() == 0, process.log
    assert time.monotonic() - began_s < 3.0
    assert "Traceback" not in process.log


def test_an_idle_server_ends_at_once(launch: Launch, dial: Dial) -> None:
    """With nothing under way, SIGTERM takes well under the time that orchestrators allow."""
    process = launch({}).serving()
    assert _health(dial(process.address)) == health_pb2.HealthCheckResponse.SERVING
    began_s = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.ended() == 0, process.log
    assert time.monotonic() - began_s < 3.0


def test_a_signal_while_it_starts_ends_it_in_order(
    launch: Launch, open_store: Callable[[], LmdbStore]
) -> None:
    """From the moment that it handles signals, however little is open yet: exit 0 and a whole store."""
    process = launch({})
    until(lambda: process.handles(signal.SIGTERM), CALL_S, told=lambda: process.log)
    process.signal(signal.SIGTERM)
    assert process.ended() == 0, process.log
    assert "Traceback" not in process.log
    store = open_store()
    try:
        assert store.check() == []
    finally:
        store.close()


# ------------------------------------------------------------ a second server


def test_a_second_server_on_the_same_store_says_who_has_it(
    launch: Launch, dial: Dial, tmp_path: Path
) -> None:
    """It ends with the documented code, names the store and the process, and harms nothing."""
    first = launch({}).serving()
    stub = CacheServiceStub(dial(first.address))
    stub.Store(pb.StoreRequest(prompt="who has it?", response=b"the first"), timeout=CALL_S)

    second = launch({})
    assert second.ended() == IN_USE
    assert str(tmp_path / "store") in _unwrapped(second.log)
    assert f"process {first.pid}" in _unwrapped(second.log)
    assert "Traceback" not in second.log

    assert _who_has_it(stub) == b"the first"
    first.kill()
    third = launch({}).serving()
    assert _who_has_it(CacheServiceStub(dial(third.address))) == b"the first"


@pytest.mark.parametrize("kind", ["tcp", "unix", "admin"])
def test_a_second_server_on_the_same_address_says_so(
    launch: Launch, dial: Dial, tmp_path: Path, kind: str
) -> None:
    """It ends with the documented code, names the setting and the address, and the first goes on."""
    first = launch({"server": {"listen": f"unix:{tmp_path}/s"}} if kind == "unix" else {}).serving()
    section, address = ("admin", first.admin) if kind == "admin" else ("server", first.address)

    second = launch({section: {"listen": address}, "store": {"path": str(tmp_path / "another")}})
    assert second.ended() == IN_USE
    assert f"{section}.listen {address}" in _unwrapped(second.log)
    assert "Traceback" not in second.log

    assert _health(dial(first.address)) == health_pb2.HealthCheckResponse.SERVING


# ------------------------------------------------------------------- helpers


def _store_until_refused(channel: grpc.Channel, caller: int) -> Done:
    stub, done = CacheServiceStub(channel), Done()
    for n in count():
        request = pb.StoreRequest(prompt=f"question {n} of caller {caller}", response=b"answer" * 100)
        try:
            done.entry_ids.append(stub.Store(request, timeout=CALL_S).entry_id)
        except grpc.RpcError as error:
            return _refused(done, error)
    return done


def _look_up_until_refused(channel: grpc.Channel) -> Done:
    stub, done = CacheServiceStub(channel), Done()
    while True:
        try:
            stub.Lookup(pb.LookupRequest(prompt="question 0 of caller 0"), timeout=CALL_S)
        except grpc.RpcError as error:
            return _refused(done, error)


@contextmanager
def _killed_on_failure(process: "Process") -> Iterator[None]:
    """Callers that go on until they are refused would otherwise outlast a test that failed."""
    try:
        yield
    except BaseException:
        process.signal(signal.SIGKILL)
        raise


def _refused(done: Done, error: grpc.RpcError) -> Done:
    assert isinstance(error, grpc.Call)
    done.refused = error.code()
    return done


def _long_call(channel: grpc.Channel, items: int) -> Any:
    """A call that takes seconds: many long texts to embed, tens of milliseconds each."""
    words = "the quick brown fox jumps over the lazy dog and " * 18
    batch = pb.BatchLookupRequest(
        items=[pb.LookupRequest(prompt=f"{n} {words}", model="long") for n in range(items)]
    )
    return CacheServiceStub(channel).BatchLookup.future(batch, timeout=CALL_S)


def _wait_until_under_way(process: "Process", page: Page) -> None:
    """Until the metrics tell that items of the long call were answered: only they miss as empty."""

    def answered() -> float:
        lines = page(process.admin, "/metrics").splitlines()
        (line,) = (line for line in lines if line.startswith('cachesvc_lookups_total{outcome="miss_empty"}'))
        return float(line.split()[1])

    until(lambda: answered() > 4, CALL_S, told=answered)


def _watch_health(channel: grpc.Channel) -> "Future[bool]":
    """True once health has said SERVING and then NOT_SERVING. The watch is given up then."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    result: Future[bool] = Future()

    def read() -> None:
        result.set_result(next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING)
        watch.cancel()

    threading.Thread(target=read, daemon=True).start()
    return result


def _health(channel: grpc.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    status: int = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S).status
    return status


def _wait_until_new_calls_are_refused(dial: Dial, address: str) -> None:
    """Until a newcomer is told UNAVAILABLE. NOT_SERVING comes first, so a few may still be answered."""
    until_s = time.monotonic() + CALL_S
    while time.monotonic() < until_s:
        call = CacheServiceStub(dial(address)).Lookup.future(pb.LookupRequest(prompt="new"), timeout=CALL_S)
        if call.code() is grpc.StatusCode.UNAVAILABLE:
            return
        assert call.code() is grpc.StatusCode.OK
    raise AssertionError("new calls are still answered")


def _wait_until_handed_over(channel: grpc.Channel) -> None:
    """Until the server has taken what was sent before: an unknown method needs no thread to be refused."""
    unknown = channel.unary_unary("/no/Such", request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as caught:
        unknown(b"", timeout=CALL_S)
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def _who_has_it(stub: CacheServiceStub) -> bytes:
    return stub.Lookup(pb.LookupRequest(prompt="who has it?"), timeout=CALL_S).entry.response


def _unwrapped(text: str) -> str:
    return " ".join(text.split())
