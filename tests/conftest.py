"""Real parts for the tests: the compiled default model, and servers on real sockets and real stores."""

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from cachesvc.app import App
from cachesvc.core.ports import Embedder
from cachesvc.making import make_embedder
from cachesvc.observe.log import Logger
from cachesvc.settings import Settings
from cachesvc.settings_sections import EmbedderSettings
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

# Hypothesis keeps its caches here, so that no run leaves one in the checkout. At import and not in a
# fixture: the first of them are written while tests are collected.
_HOME = tempfile.mkdtemp(prefix="hypothesis-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
set_hypothesis_home_dir(_HOME)


@dataclass(frozen=True)
class Running:
    """A server under test, in this process, and a stub that calls it."""

    app: App
    stub: CacheServiceStub
    channel: grpc.Channel


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The default model, compiled by the set-up or, the first time, here."""
    return make_embedder(EmbedderSettings(), lambda _: None)


@pytest.fixture
def start(embedder: Embedder, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts servers; sections of settings are given as dicts. All are stopped at the end."""
    running: list[Running] = []

    def start_server(**sections: dict[str, Any]) -> Running:
        settings = Settings.model_validate(
            {
                **sections,
                "server": {"listen": "127.0.0.1:0", **sections.get("server", {})},
                "admin": {
                    "listen": "127.0.0.1:0",
                    "rpc_listen": "127.0.0.1:0",
                    "backup_dir": tmp_path / "backups",
                    **sections.get("admin", {}),
                },
                "store": {"path": tmp_path / "store", **sections.get("store", {})},
                # A coin would decide what an audit adds: those that are meant say so.
                "policy": {
                    **sections.get("policy", {}),
                    "default": {
                        "audit_share": 0.0,
                        "max_audit_share": 0.0,
                        **sections.get("policy", {}).get("default", {}),
                    },
                },
            }
        )
        app = App(settings, lambda: embedder, Logger("error", "json"))
        channel = grpc.insecure_channel(app.address)
        running.append(Running(app, CacheServiceStub(channel), channel))
        return running[-1]

    yield start_server
    for server in running:
        server.channel.close()
        server.app.stop()


@pytest.fixture
def server(start: Callable[..., Running]) -> Running:
    """A server with default settings."""
    return start()


@pytest.fixture
def refusing() -> Iterator[str]:
    """The address of a server that refuses every call as too many."""
    server = grpc.server(ThreadPoolExecutor(1), maximum_concurrent_rpcs=0)
    name = "cachesvc.v1.CacheService"
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        lambda data, context: data
    )
    handlers = dict.fromkeys(("Lookup", "BatchLookup", "Store", "Get"), handler)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)
