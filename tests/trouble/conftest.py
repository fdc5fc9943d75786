"""What the trouble tests share: servers as real processes, one server in this process, stores opened directly.

Nothing is imported from here at run time; tests take everything as fixtures and the types for checking only.
"""

import http.client
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest

from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.app import App
from cachesvc.core.ports import Embedder
from cachesvc.observe.log import Logger
from cachesvc.settings import Settings
from cachesvc.settings_sections import StoreSettings
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

Sections: TypeAlias = Mapping[str, Mapping[str, Any]]

_SERVE = (sys.executable, "-m", "cachesvc.cli", "serve", "--config")
_START_S = 30.0
_STOP_S = 30.0
# Threads of one process share connections by address, and a server that was killed is dialled again only
# after a pause; a pool of its own lets each channel dial at once.
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))


class Process:
    """A server as its operator runs it. Addresses come from its own log, which is kept."""

    def __init__(self, config: Path) -> None:
        self._child = subprocess.Popen(
            [*_SERVE, str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self.address = ""
        self.admin = ""
        self._told = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def log(self) -> str:
        """Everything it has written to standard error so far."""
        return "\n".join(self.lines)

    def serving(self) -> "Process":
        """Wait until it says that it serves."""
        assert self._told.wait(_START_S), f"not serving after {_START_S} s:\n{self.log}"
        assert self.address, f"ended instead of serving:\n{self.log}"
        return self

    def ended(self) -> int:
        """Wait until it has ended, and all of its log is here. Its exit code."""
        code = self._child.wait(_STOP_S)
        self._reader.join(_STOP_S)
        if self._child.stderr is not None:
            self._child.stderr.close()
        return code

    def handles(self, number: signal.Signals) -> bool:
        """Whether it would not just die of it."""
        status = Path(f"/proc/{self._child.pid}/status").read_text(encoding="utf-8")
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) & (1 << (number - 1)))

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def kill(self) -> int:
        """``kill -9``, and wait until it is gone."""
        self._child.kill()
        return self.ended()

    def _read(self) -> None:
        assert self._child.stderr is not None
        for line in self._child.stderr:
            self.lines.append(line.rstrip("\n"))
            if '"serving"' in line:
                said = json.loads(line)
                self.address, self.admin = said["address"], said["admin"]
                self._told.set()
        self._told.set()


@dataclass(frozen=True)
class Service:
    """A server in this process that many cases share: what one breaks, the next one sees."""

    app: App
    stub: CacheServiceStub
    channel: grpc.Channel

    def call(self, method: str, data: bytes, timeout_s: float = 20.0, **options: Any) -> bytes:
        """Send bytes as they are."""
        path = method if method.startswith("/") else f"/cachesvc.v1.CacheService/{method}"
        send = self.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        reply: bytes = send(data, timeout=timeout_s, **options)
        return reply

    def page(self, path: str) -> str:
        """A page of the admin port."""
        return read_page(self.app.admin_address, path)

    def entries(self) -> int:
        """How many entries are stored, as an operator sees it."""
        for line in self.page("/metrics").splitlines():
            if line.startswith("cachesvc_entries "):
                return int(float(line.split()[1]))
        raise AssertionError("no cachesvc_entries in /metrics")


def read_page(address: str, path: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _write_config(path: Path, sections: Sections) -> Path:
    lines = []
    for name, values in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def launch(embedder: Embedder, tmp_path: Path) -> Iterator[Callable[[Sections], Process]]:
    """Starts server processes, without waiting for them; those still alive at the end are killed.

    The embedder is asked for so that the model is compiled before a process needs it.
    """
    processes: list[Process] = []

    def launch_process(sections: Sections) -> Process:
        filled: dict[str, Mapping[str, Any]] = {
            **sections,
            "server": {"listen": "127.0.0.1:0", **sections.get("server", {})},
            "admin": {
                "listen": "127.0.0.1:0",
                "rpc_listen": "127.0.0.1:0",
                "backup_dir": str(tmp_path / "backups"),
                **sections.get("admin", {}),
            },
            "store": {"path": str(tmp_path / "store"), **sections.get("store", {})},
        }
        processes.append(Process(_write_config(tmp_path / f"config-{len(processes)}.toml", filled)))
        return processes[-1]

    yield launch_process
    for process in processes:
        process.kill()


@pytest.fixture
def dial() -> Iterator[Callable[[str], grpc.Channel]]:
    """Opens channels, each with a connection of its own; all are closed at the end."""
    channels: list[grpc.Channel] = []

    def open_channel(address: str) -> grpc.Channel:
        channels.append(grpc.insecure_channel(address, options=_OWN_CONNECTION))
        return channels[-1]

    yield open_channel
    for channel in channels:
        channel.close()


@pytest.fixture
def open_store(embedder: Embedder, tmp_path: Path) -> Callable[[], LmdbStore]:
    """Opens the store of ``launch`` directly; its server must have ended."""

    def open_it() -> LmdbStore:
        defaults = StoreSettings()
        return LmdbStore(
            StoreOptions(
                path=tmp_path / "store",
                map_size_bytes=defaults.map_size_bytes,
                max_bytes=defaults.max_bytes,
                durability=defaults.durability,
                write_queue_length=defaults.write_queue_length,
                compress_min_bytes=defaults.compress_min_bytes,
                log_max_records=defaults.log_max_records,
            ),
            embedder.fingerprint,
        )

    return open_it


@pytest.fixture(scope="module")
def host(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Service]]:
    """Starts servers in this process that live as long as the module's tests."""
    services: list[Service] = []

    def start(embedder: Embedder, logger: Logger | None = None, **sections: dict[str, Any]) -> Service:
        settings = Settings.model_validate(
            {
                **sections,
                "server": {"listen": "127.0.0.1:0", **sections.get("server", {})},
                "admin": {
                    "listen": "127.0.0.1:0",
                    "rpc_listen": "127.0.0.1:0",
                    **sections.get("admin", {}),
                },
                "store": {"path": tmp_path_factory.mktemp("service") / "store", **sections.get("store", {})},
            }
        )
        app = App(settings, lambda: embedder, logger or Logger("error", "json"))
        options = (
            *_OWN_CONNECTION,
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 4 << 20),
        )
        channel = grpc.insecure_channel(app.address, options=options)
        services.append(Service(app, CacheServiceStub(channel), channel))
        return services[-1]

    yield start
    for service in services:
        service.channel.close()
        service.app.stop()


@pytest.fixture(scope="session")
def seeded() -> Callable[[int], random.Random]:
    """Random sources that say the same every time."""
    return random.Random


@pytest.fixture(scope="session")
def page() -> Callable[[str, str], str]:
    """Reads a page of an admin port, given its address."""
    return read_page
