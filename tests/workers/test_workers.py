"""Two workers on one port and one store are one server to whoever calls it, whatever becomes of either."""

import json
import os
import random
import select
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest

from cachesvc.adapters.engine_cache import find_engine
from cachesvc.admin_client import AdminClient
from cachesvc.calls import CallError
from cachesvc.core.errors import CacheError, Kind
from cachesvc.serve.reservation import Reservation
from cachesvc.settings_sections import EmbedderSettings
from cachesvc.v1 import admin_pb2
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub
from tests.workers.test_reservation import listening

if TYPE_CHECKING:
    from tests.workers.conftest import Server

Launch: TypeAlias = "Callable[..., Server]"

CALL_S = 30.0
CLIENTS = 6
OPERATIONS = 40
KILLS_AT = (30, 110)  # operations


@pytest.fixture(scope="module")
def server(launch: Launch) -> "Iterator[Server]":
    """One that this module's tests share. In the end SIGTERM ends it in order, workers and all."""
    server = launch().serving()
    workers = server.pids()
    yield server
    workers += server.pids()
    server.process.send_signal(signal.SIGTERM)
    assert server.ended() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    store = server.open_store()
    try:
        assert store.check() == []
    finally:
        store.close()


def ask(namespace: str, prompt: str) -> pb.LookupRequest:
    return pb.LookupRequest(namespace=namespace, prompt=prompt)


class Client(threading.Thread):
    """Changes entries of its own by one connection and looks at once by another. An attempt that a dying worker cut
    off may have happened or not: that key is forgotten.
    """

    def __init__(self, server: "Server", number: int, did: threading.Semaphore) -> None:
        super().__init__()
        self.namespace = f"exact-{number}" if number % 3 else f"semantic-{number}"
        self.tag = f"tag-{number}"
        self.held: dict[str, tuple[bytes, str]] = {}
        self.faults: list[str] = []
        self.cut_off = 0
        self._server = server
        self._random = random.Random(number)
        self._did = did

    def run(self) -> None:
        for n in range(OPERATIONS):
            prompt = f"What is item {n} of {self.namespace}?"
            if self.held and self._random.random() < 0.4:
                prompt = self._random.choice(sorted(self.held))
            try:
                self._operate(n, prompt)
            except grpc.RpcError as error:
                if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.UNAVAILABLE:
                    self.faults.append(str(error))
                self.held.pop(prompt, None)
                self.cut_off += 1
            self._did.release()

    def _operate(self, n: int, prompt: str) -> None:
        stub = self._random.choice(self._server.stubs)
        chance = self._random.random()
        if chance < 0.1:
            self._invalidate(stub)
        elif chance < 0.3 and prompt in self.held:
            _, entry_id = self.held.pop(prompt)
            stub.Delete(pb.DeleteRequest(namespace=self.namespace, id=entry_id), timeout=CALL_S)
        else:
            response = f"{self.namespace} {prompt} {n}".encode()
            request = pb.StoreRequest(
                namespace=self.namespace, prompt=prompt, response=response, tags=[self.tag]
            )
            self.held.pop(prompt, None)
            self.held[prompt] = response, stub.Store(request, timeout=CALL_S).entry_id
        self.look(prompt)

    def _invalidate(self, stub: CacheServiceStub) -> None:
        gone = sorted(self.held)
        self.held.clear()
        stub.Invalidate(pb.InvalidateRequest(namespace=self.namespace, tags=[self.tag]), timeout=CALL_S)
        for prompt in gone[:3]:
            self.look(prompt)

    def look(self, prompt: str) -> None:
        """What was acknowledged is what any connection gives; a read that is cut off is made again."""
        for stub in self._random.sample(self._server.stubs, 4):
            with suppress(grpc.RpcError):
                reply = stub.Lookup(ask(self.namespace, prompt), timeout=CALL_S)
                break
        else:
            raise AssertionError("no worker answered")
        expected = self.held.get(prompt, (b"", ""))[0]
        found = reply.entry.response if reply.outcome == pb.OUTCOME_HIT_EXACT else b""
        if found != expected:
            self.faults.append(f"{prompt}: {found!r} instead of {expected!r}")


def test_what_one_acknowledges_all_see_while_workers_die(server: "Server") -> None:
    """Stores, replacements, deletions and invalidations are seen by the next lookup on any connection, though
    workers are killed meanwhile; none that was acknowledged is lost.
    """
    did = threading.Semaphore(0)
    clients = [Client(server, number, did) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for done in range(CLIENTS * OPERATIONS):
        did.acquire()
        if done in KILLS_AT:
            server.kill_worker()
    for client in clients:
        client.join()
        for prompt in client.held:
            client.look(prompt)
    assert [fault for client in clients for fault in client.faults] == []
    assert sum(len(client.held) for client in clients) > CLIENTS, "too little was stored to prove anything"
    assert sum(client.cut_off for client in clients) < CLIENTS * OPERATIONS / 4
    with AdminClient(server.admin_rpc) as admin:
        assert [problem for step in admin.check() for problem in step.problems] == []


def hit_both(server: "Server", namespace: str) -> list[pb.LookupResponse]:
    """Miss by every connection, and know that both workers were asked."""
    before = server.whole().dial().scopes_of_each()
    replies = [
        stub.Lookup(ask(namespace, f"Which river is number {n}?"), timeout=CALL_S)
        for n, stub in enumerate(server.stubs)
    ]
    assert all(after > count for after, count in zip(server.scopes_of_each(), before, strict=True))
    return replies


@dataclass(frozen=True)
class Loss:
    """What was seen around the death of a worker: misses before it, and metrics before, after, and in between."""

    replies: list[pb.LookupResponse]
    counted: list[float]  # lookups: before the misses, after them, after the death
    died: list[float]  # workers: before, after
    ready: bool
    parts_missing: int
    serving: float


@pytest.fixture(scope="module")
def loss(server: "Server") -> Loss:
    """Both workers are asked, are told a new configuration, which is then broken on disk; one is killed."""
    lookups, deaths = 'cachesvc_lookups_total{outcome="miss_empty"}', "cachesvc_worker_restarts_total"
    server.whole().dial()
    server.write({"policy.told": {"mode": "off"}})
    with AdminClient(server.admin_rpc, timeout_s=CALL_S) as admin:
        assert "policy.told.mode" in admin.reload().changed
    with threads_changed(server):
        counted, died = [server.metric(lookups)], [server.metric(deaths)]
        replies = hit_both(server, "tickets")
        counted.append(server.metric(lookups))
        server.kill_worker()
        counted.append(server.metric(lookups))
        died.append(server.metric(deaths))
        ready = json.loads(server.page("/readyz"))["ready"]
        missing = list(stats(server).components.values()).count(False)
        serving = server.metric("cachesvc_workers_serving")
        server.whole()  # the successor begins while the file is broken
    return Loss(replies, counted, died, ready, missing, serving)


@contextmanager
def threads_changed(server: "Server") -> Iterator[None]:
    """Meanwhile the file has a change that takes a restart."""
    fixed = dict(server.sections["server"])
    server.write({"server": {**fixed, "threads": 7}})
    yield
    server.write({"server": fixed})


def test_a_store_may_come_to_another_worker_than_its_lookup(server: "Server", loss: Loss) -> None:
    """A lookup_id is known to all workers, and also when the one that gave it has been killed. The prompt is in no
    file in the clear.
    """
    for n, reply in enumerate(loss.replies):
        stub = server.stubs[(n + 1) % len(server.stubs)]
        request = pb.StoreRequest(lookup_id=reply.lookup_id, response=b"%d" % n)
        assert stub.Store(request, timeout=CALL_S, wait_for_ready=True).semantic
    reply = server.stubs[0].Lookup(ask("tickets", "Which river is number 3?"), timeout=CALL_S)
    assert reply.entry.response == b"3"
    assert b"Which river" not in (server.store / "tickets" / "data.mdb").read_bytes()


def test_metrics_are_of_all_workers_and_never_go_back(server: "Server", loss: Loss) -> None:
    """One scrape counts the calls of both workers, and still does when one was killed; it says that one was."""
    before, asked, after = loss.counted
    assert (asked, after) == (before + len(loss.replies), asked)
    assert loss.died[1] == loss.died[0] + 1
    assert (loss.ready, loss.parts_missing, loss.serving) == (True, 1, 1)
    entries = server.metric("cachesvc_entries")
    assert entries == sum(one.entries for one in stats(server).namespaces)


def test_who_is_started_later_goes_by_the_configuration_in_force(server: "Server", loss: Loss) -> None:
    """A worker that takes a dead one's place is told what the others were, whatever the file says by then."""
    server.dial()
    assert outcomes(server, "told") == {int(pb.OUTCOME_BYPASS_DISABLED)}


def stats(server: "Server") -> admin_pb2.GetStatsResponse:
    with AdminClient(server.admin_rpc, timeout_s=CALL_S) as admin:
        return admin.stats()


def test_the_whole_tells_how_its_parts_are(server: "Server") -> None:
    """/readyz, /healthz and GetStats speak of each worker and of each part."""
    server.whole()
    expected = {
        "worker_0",
        "worker_1",
        "grpc",
        "store",
        "housekeeping",
        "embedder",
        "config",
        "index",
        "trust",
    }
    assert json.loads(server.page("/readyz"))["components"] == dict.fromkeys(expected, True)
    assert json.loads(server.page("/healthz")) == {"alive": True}
    assert dict(stats(server).components) == dict.fromkeys(expected, True)


def test_half_a_snapshot_does_not_stay(server: "Server") -> None:
    """What an earlier server's worker was saving when it was killed is removed at the start."""
    assert not server.left.exists()


@pytest.mark.parametrize("by", ["rpc", "signal"])
def test_a_new_configuration_reaches_all_workers(server: "Server", by: str) -> None:
    """After a reload both workers go by it; a wrong one changes none."""
    namespace = f"reload-{by}"
    server.write({f"policy.{namespace}": {"mode": "off"}})
    server.whole().dial()
    if by == "rpc":
        with AdminClient(server.admin_rpc, timeout_s=CALL_S) as admin:
            assert f"policy.{namespace}.mode" in admin.reload().changed
    else:
        applied = sum(line["event"] == "config_read" for line in server.lines)
        server.process.send_signal(signal.SIGHUP)
        server.said("config_read", applied + 1)
    server.metric(
        "cachesvc_config_generation"
    )  # a question that workers answer after what they were told before
    assert outcomes(server, namespace) == {int(pb.OUTCOME_BYPASS_DISABLED)}

    with (
        threads_changed(server),
        AdminClient(server.admin_rpc, timeout_s=CALL_S) as admin,
        pytest.raises(CallError, match="restart"),
    ):
        admin.reload()
    assert outcomes(server, namespace) == {int(pb.OUTCOME_BYPASS_DISABLED)}


def outcomes(server: "Server", namespace: str) -> set[int]:
    return {
        stub.Lookup(ask(namespace, "hello"), timeout=CALL_S, wait_for_ready=True).outcome
        for stub in server.stubs
    }


def test_longer_methods_are_done_by_a_worker(server: "Server") -> None:
    """Export, import and backup go through; what is refused is refused with its reason."""
    server.stubs[0].Store(pb.StoreRequest(namespace="moved", prompt="a", response=b"b"), timeout=CALL_S)
    with AdminClient(server.admin_rpc, timeout_s=CALL_S) as admin:
        records = list(admin.export(namespace="moved"))
        assert [record.WhichOneof("kind") for record in records] == ["header", "entry", "trailer"]
        tally = list(admin.import_(iter(records)))[-1]
        assert (tally.read, tally.unchanged) == (1, 1)
        assert [step.path for step in admin.backup("copy")][-1].endswith("/copy")
        with pytest.raises(CallError, match="copy exists already"):
            list(admin.backup("copy"))


def test_nobody_else_gets_the_port(server: "Server") -> None:
    """Who takes the port as a second server does is refused, of several workers or of one."""
    with pytest.raises(CacheError, match="cannot be bound: Address already in use") as refused:
        Reservation("server.listen", server.address)
    assert refused.value.kind is Kind.LOCKED
    assert listening(server.address, shares=False) is None


def test_the_supervisor_loads_no_engine_and_no_index(server: "Server") -> None:
    """What its workers need it does without: it stays small, and nothing of theirs can kill it."""
    libraries = ("faiss", "onnxruntime", "tokenizers", "torch")
    (of_workers, own) = (
        Path(f"/proc/{pid}/maps").read_text() for pid in (server.whole().pids()[0], server.process.pid)
    )
    assert [name for name in libraries if name in of_workers] == ["faiss", "onnxruntime", "tokenizers"]
    assert [name for name in libraries if name in own] == []


def test_workers_end_with_their_supervisor(launch: Launch) -> None:
    """When the supervisor is killed its workers end, and only then does anybody get the store, which is whole."""
    server = launch().serving()
    server.stubs[0].Store(pb.StoreRequest(namespace="exact-1", prompt="a", response=b"b"), timeout=CALL_S)
    workers = [os.pidfd_open(pid) for pid in server.pids()]
    server.process.kill()
    for worker in workers:
        assert select.select([worker], [], [], CALL_S)[0], "a worker lives on"
        os.close(worker)
    server.ended()
    store = server.open_store()
    try:
        assert (store.check(), store.stats().entries) == ([], 1)
    finally:
        store.close()


def test_a_server_whose_workers_cannot_start_says_why(launch: Launch, tmp_path: Path) -> None:
    """It ends with the exit code and the message that a single process would have."""
    settings = EmbedderSettings()
    engine = find_engine(settings.model, settings.precision, settings.cache_dir.expanduser())
    assert engine is not None
    broken = tmp_path / "engine"
    shutil.copytree(engine.path, broken)
    (broken / "model.onnx").write_bytes(b"no model")
    server = launch(embedder={"model": str(broken)})
    assert server.ended() == 6
    assert any(str(broken) in line.get("text", "") for line in server.lines)
