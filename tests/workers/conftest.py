"""Servers of several workers as real processes, and what is around them."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest

from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.core.ports import Embedder
from cachesvc.making import store_options
from cachesvc.settings import load
from cachesvc.v1 import admin_pb2
from cachesvc.v1.admin_pb2_grpc import AdminServiceStub
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

WAIT_S = 90.0  # for what takes a second or two on a machine that has nothing else to do
# A connection of its own for each channel, so that they spread over the workers; dialled again at once when
# its worker has died.
OWN_CONNECTION = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
)


class Server:
    """A server of two workers."""

    def __init__(self, directory: Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
        self.store = directory / "store"
        self.config = directory / "config.toml"
        self.left = self.store / "snapshots" / "0f.part"  # by a worker that was killed when it saved
        self.left.parent.mkdir(mode=0o700, parents=True)
        self.store.chmod(0o700)
        self.left.touch()
        self.write({**self._own(directory), **sections})
        self.lines: list[dict[str, Any]] = []
        self._killed = 0
        self._heard = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cachesvc.cli", "serve", "--config", str(self.config)],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.channels: list[grpc.Channel] = []

    def _own(self, directory: Path) -> dict[str, dict[str, Any]]:
        return {
            "server": {"listen": "127.0.0.1:0", "workers": 2},
            "admin": {
                "listen": "127.0.0.1:0",
                "rpc_listen": "127.0.0.1:0",
                "backup_dir": str(directory / "backups"),
            },
            "store": {"path": str(self.store)},
            "reload": {"watch_s": 0.0},
            'policy."exact-*"': {"semantic": False},
        }

    def write(self, sections: Mapping[str, Mapping[str, Any]]) -> None:
        """The configuration file; sections are kept that are not given."""
        self.sections = {**getattr(self, "sections", {}), **sections}
        lines = []
        for name, values in self.sections.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
        self.config.write_text("\n".join(lines) + "\n")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            said = json.loads(line) if line.startswith("{") else {"event": "", "text": line}
            with self._heard:
                self.lines.append(said)
                self._heard.notify_all()
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def said(self, event: str, count: int = 1) -> dict[str, Any]:
        """The ``count``-th line of the log about an event, once it is there."""
        with self._heard:

            def found() -> list[dict[str, Any]]:
                return [line for line in self.lines if line["event"] == event]

            assert self._heard.wait_for(lambda: len(found()) >= count or self._ended, WAIT_S), self.lines
            assert len(found()) >= count, self.lines
            return found()[count - 1]

    def serving(self) -> "Server":
        said = self.said("serving")
        self.address, self.admin, self.admin_rpc = said["address"], said["admin"], said["admin_rpc"]
        return self.dial()

    def dial(self) -> "Server":
        """Connect anew: connections that were there stay with a worker, and go to the other when it dies."""
        for channel in self.channels:
            channel.close()
        self.channels = [grpc.insecure_channel(self.address, options=OWN_CONNECTION) for _ in range(12)]
        self.stubs = [CacheServiceStub(channel) for channel in self.channels]
        return self

    def page(self, path: str) -> str:
        try:
            with urlopen(f"http://{self.admin}{path}", timeout=WAIT_S) as response:
                return str(response.read().decode())
        except HTTPError as error:
            return error.read().decode()

    def metric(self, name: str) -> float:
        for line in self.page("/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"no {name}")

    def pids(self) -> list[int]:
        """The workers' processes."""
        return children_of(self.process.pid)

    def scopes_of_each(self) -> list[int]:
        """How many scopes each worker has in memory: none has any that no lookup came to."""
        counts = []
        for number in range(2):
            with grpc.insecure_channel(f"unix:{self.store}/workers/{number}") as channel:
                stats = AdminServiceStub(channel).GetStats(admin_pb2.GetStatsRequest(), timeout=WAIT_S)
            counts.append(stats.index_scopes)
        return counts

    def kill_worker(self) -> None:
        """``kill -9`` one of the two, and know that it has ended."""
        self._killed += 1
        os.kill(self.whole().pids()[self._killed % 2], signal.SIGKILL)
        self.said("worker_ended", self._killed)

    def whole(self) -> "Server":
        """Wait until both workers serve, or others in their places."""
        self.said("worker_serving", 2 + len([line for line in self.lines if line["event"] == "worker_ended"]))
        return self

    def ended(self) -> int:
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.ended()

    def open_store(self) -> LmdbStore:
        """Directly. Raises LOCKED while any of its processes is there."""
        options = store_options(load(self.config))
        fingerprint = next(line["embedder"] for line in self.lines if line["event"] == "serving")
        return LmdbStore(options, str(fingerprint))


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


@pytest.fixture(scope="module")
def launch(embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers; those that are there at the end of the module are killed."""
    servers: list[Server] = []

    def launch_server(**sections: Mapping[str, Any]) -> Server:
        servers.append(Server(tmp_path_factory.mktemp("w"), sections))
        return servers[-1]

    yield launch_server
    for server in servers:
        server.close()
