"""The real server of the demo, in a process of its own, on an empty store; it leaves nothing behind."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent

START_S = 300.0  # the first start may have to compile the model
STOP_S = 20.0
SHOWN_LOG_LINES = 15


class DemoError(Exception):
    """Why the demo cannot go on, for people."""


class Server:
    """The real server in a process of its own, stopped on leaving."""

    def __init__(self, directory: Path, min_score: float) -> None:
        config = directory / "cachesvc.toml"
        # Port 0 is any free port; the log says which it became.
        config.write_text(
            '[server]\nlisten = "127.0.0.1:0"\n'
            '[admin]\nlisten = "127.0.0.1:0"\nrpc_listen = "127.0.0.1:0"\n'
            f"[store]\npath = {json.dumps(str(directory / 'store'))}\n"
            f"[policy.default]\nmin_score = {min_score}\n",
            encoding="utf-8",
        )
        self.address = ""
        self._log = directory / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cachesvc.cli", "serve", "--config", str(config)],
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops the server
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._end()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def await_serving(self, console: Console) -> None:
        """Wait until the health service says SERVING. Raises DemoError when that takes too long."""
        until_s = time.perf_counter() + START_S
        said: set[str] = set()
        while not self.address:
            for event in self._events():
                if event.get("event") == "compiling" and event.get("step") not in said:
                    said.add(str(event.get("step")))
                    console.print(f"  compiling the embedding model, once: {event['step']}", markup=False)
                if event.get("event") == "serving":
                    self.address = str(event["address"])
            self._pause(until_s)
        with grpc.insecure_channel(self.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while not _is_serving(health):
                self._pause(until_s)

    def stop(self) -> None:
        """End it as an operator would. Raises DemoError when it does not end well."""
        code = self._end()
        if code != 0:
            raise DemoError(f"the server ended with exit code {code} when it was asked to stop")

    def log_tail(self) -> str:
        """The last lines it wrote."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-SHOWN_LOG_LINES:]) or "(nothing)"

    def _pause(self, until_s: float) -> None:
        """A short wait that ends at once when the process does."""
        if time.perf_counter() > until_s:
            raise DemoError(f"the server was not ready within {START_S:.0f} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=0.1)
            raise DemoError(f"the server ended with exit code {code} before it was ready")

    def _events(self) -> Iterator[dict[str, object]]:
        for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    def _end(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _environment() -> dict[str, str]:
    """Ours, without settings that would lead the demo to a real store; where engines are kept may stay."""
    everything = os.environ  # handed on to the server, not read
    return {
        name: value
        for name, value in everything.items()
        if not name.startswith("CACHESVC_") or name == "CACHESVC_EMBEDDER__CACHE_DIR"
    }


def _is_serving(health: health_pb2_grpc.HealthStub) -> bool:
    try:
        reply = health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
    except grpc.RpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)
