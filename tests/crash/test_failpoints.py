"""Killed at every named failpoint: what was acknowledged answers after a restart, nothing is mixed or half there."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import grpc
import pytest

from cachesvc.admin_client import AdminClient
from cachesvc.calls import CallError
from cachesvc.core.ports import Embedder
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub
from tests.waiting import until

pytestmark = pytest.mark.slow

SERVER = Path(__file__).with_name("server.py")
CALL_S = 20.0
STORES = 60

# Every name in the code, and which time it is reached the process dies.
FAILPOINTS = [
    (name, nth)
    for name in ("store.before_commit", "store.after_commit", "store.after_acknowledging")
    for nth in (1, 2, 7, 30)
] + [
    (name, nth)
    for name in ("snapshot.half_written", "snapshot.before_rename", "snapshot.after_rename")
    for nth in (1, 2)
]  # fmt: skip
BACKUP_FAILPOINTS = ("backup.before_copy", "backup.before_rename")


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    address: str
    admin: str

    def stub(self) -> CacheServiceStub:
        channel = grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])
        return CacheServiceStub(channel)


@dataclass
class Field:
    """A store directory and the servers that live and die on it."""

    directory: Path
    processes: list[subprocess.Popen[bytes]]

    def start(self, name: str = "none", nth: int = 0) -> Running:
        number = len(self.processes)
        config, log = self.directory / f"{number}.toml", self.directory / f"{number}.log"
        config.write_text(
            "[server]\nlisten = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\nrpc_listen = '127.0.0.1:0'\n"
            f"backup_dir = '{self.directory}/backups'\n"
            f"[store]\npath = '{self.directory}/store'\ntidy_interval_s = 0.05\n"
            "[index]\nsnapshot_min_vectors = 5\n[policy.exact]\nsemantic = false\n"
        )
        with log.open("w") as stream:
            command = [sys.executable, str(SERVER), str(config), name, str(nth)]
            self.processes.append(subprocess.Popen(command, stderr=stream))

        def serving() -> str | None:
            assert self.processes[-1].poll() is None, log.read_text()
            return next((line for line in log.read_text().splitlines() if '"serving"' in line), None)

        said = json.loads(until(serving, 30, told=log.read_text))
        return Running(self.processes[-1], said["address"], said["admin_rpc"])


@pytest.fixture
def field(embedder: Embedder, tmp_path: Path) -> Iterator[Field]:
    """An empty one. The embedder is asked for so that the model is compiled."""
    made = Field(tmp_path, [])
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


def answer(prompt: str, turn: int) -> bytes:
    """Says what it answers, so that any mixture shows."""
    return f"{prompt}|{turn}|".encode() + blake2b(f"{prompt}|{turn}".encode()).hexdigest().encode() * 20


@dataclass
class Written:
    """By namespace and prompt what was acknowledged last, and the one store that was under way at the end."""

    acknowledged: dict[tuple[str, str], bytes]
    under_way: tuple[tuple[str, str], bytes] | None = None


def store_until_dead(running: Running) -> Written:
    """Store and replace, until the server dies or all is stored."""
    stub, written = running.stub(), Written({})
    for n in range(STORES):
        semantic = n % 3 == 0
        prompt = f"what is the answer to question number {n % 40}?"
        key = ("default" if semantic else "exact", prompt)
        response = answer(prompt, n)
        written.under_way = (key, response)
        try:
            request = pb.StoreRequest(namespace=key[0], prompt=prompt, response=response, tags=["t"])
            stub.Store(request, timeout=CALL_S)
            written.acknowledged[key], written.under_way = response, None
            if semantic:
                stub.Lookup(pb.LookupRequest(prompt=prompt + " "), timeout=CALL_S)  # the index is loaded
        except grpc.RpcError:
            return written
    return written


def assert_all_there(running: Running, written: Written) -> None:
    """Acknowledged entries answer with their bytes; the one under way with the old, the new, or not at all."""
    stub = running.stub()
    keys = {*written.acknowledged, *([written.under_way[0]] if written.under_way else [])}
    for key in keys:
        request = pb.LookupRequest(namespace=key[0], prompt=key[1], exact_only=True)
        reply = stub.Lookup(request, timeout=CALL_S)
        served = reply.entry.response if reply.outcome == pb.OUTCOME_HIT_EXACT else None
        allowed = {written.acknowledged.get(key)}
        if written.under_way is not None and written.under_way[0] == key:
            allowed.add(written.under_way[1])
        assert served in allowed, f"{key}: {reply.reason}"
    with AdminClient(running.admin) as admin:
        problems = [problem for step in admin.check() for problem in step.problems]
    assert problems == []


@pytest.mark.parametrize(("name", "nth"), FAILPOINTS)
def test_nothing_acknowledged_is_lost(field: Field, name: str, nth: int) -> None:
    """Killed there, the server starts again without help, whole, and goes on storing."""
    running = field.start(name, nth)
    written = store_until_dead(running)
    if running.process.poll() is None and name.startswith("snapshot"):
        running.process.wait(10)  # the last chores come after the last store
    assert running.process.wait(10) == -signal.SIGKILL, f"{name} was not reached {nth} times"
    again = field.start()
    assert_all_there(again, written)
    assert not list((field.directory / "store").rglob("*.part")), "something half written was left"
    again.stub().Store(pb.StoreRequest(prompt="after", response=b"x"), timeout=CALL_S)


@pytest.mark.parametrize("name", BACKUP_FAILPOINTS)
def test_a_backup_that_was_cut_off_is_no_backup(field: Field, name: str) -> None:
    """Killed while copying, the store is whole, and what was copied does not have the name of a backup."""
    running = field.start(name, 1)
    written = store_until_dead(running)
    with AdminClient(running.admin) as admin, pytest.raises(CallError):
        list(admin.backup("monday"))
    assert running.process.wait(10) == -signal.SIGKILL
    assert not (field.directory / "backups" / "monday").exists()
    again = field.start()
    assert_all_there(again, written)
    with AdminClient(again.admin) as admin:
        assert [response.path for response in admin.backup("tuesday")][-1].endswith("tuesday")


def test_every_failpoint_is_tried() -> None:
    """A failpoint that is added to the code is added here."""
    code = Path(__file__).parents[2] / "cachesvc"
    named = {
        line.split('failpoint("')[1].split('"')[0]
        for path in code.rglob("*.py")
        for line in path.read_text().splitlines()
        if 'failpoint("' in line
    }
    assert named == {name for name, _ in FAILPOINTS} | set(BACKUP_FAILPOINTS)
