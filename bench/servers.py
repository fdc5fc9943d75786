"""Starts what is measured, each in a process of its own, and stops it again."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench.prompts import ROOT
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

THREADS = 64  # the default of server.threads; the echo server has as many
_PATIENCE_S = 60.0
_STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of a process. ``anonymous`` leaves out mapped files (the store, libraries)."""

    resident_bytes: int
    anonymous_bytes: int


@dataclass(frozen=True, slots=True)
class Server:
    """A running process that answers ``Lookup``. ``start_s`` is from spawn to the first answer."""

    process: "subprocess.Popen[bytes]"
    address: str
    start_s: float

    def workers(self) -> list[int]:
        """The processes of its workers, if it has any."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]

    def processes(self) -> list[int]:
        """All that it consists of."""
        return [self.process.pid, *self.workers()]

    def cpu_s(self) -> float:
        """CPU time it has taken so far."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> Memory:
        """What it holds now."""
        resident_bytes = anonymous_bytes = 0
        for pid in self.processes():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            fields = dict(line.split(":", 1) for line in lines)
            resident_bytes += _kib(fields["VmRSS"])
            anonymous_bytes += _kib(fields["RssAnon"])
        return Memory(resident_bytes, anonymous_bytes)


def write_config(directory: Path) -> Path:
    """A configuration with default settings, on free ports, its store beside it."""
    file = directory / "cachesvc.toml"
    file.write_text(
        f'[server]\nlisten = "127.0.0.1:{free_port()}"\n'
        f'[admin]\nlisten = "127.0.0.1:{free_port()}"\nrpc_listen = "127.0.0.1:0"\n'
        f'[store]\npath = "{directory / "store"}"\n'
        '[log]\nlevel = "warning"\n'
        '[policy."exact-*"]\nsemantic = false\n'
    )
    return file


@contextlib.contextmanager
def cachesvc(config: Path, first: pb.LookupRequest) -> Iterator[Server]:
    """The real server. Counts as started when it has answered ``first``."""
    address = config.read_text().split('"')[1]
    command = [sys.executable, "-m", "cachesvc.cli", "serve", "--config", str(config)]
    began_s = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            _await_answer(process, address, first)
            yield Server(process, address, time.perf_counter() - began_s)
        finally:
            _end(process)


@contextlib.contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Processes started within run on these cores alone."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


@contextlib.contextmanager
def echo(reply: pb.LookupResponse | pb.StoreResponse, module: str = "bench.echo") -> Iterator[Server]:
    """The bare server; it answers everything with ``reply``. ``module`` may be ``bench.encoder``, which embeds before."""
    command = [sys.executable, "-m", module, str(THREADS)]
    began_s = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(reply.SerializeToString())
            process.stdin.close()
            address = process.stdout.readline().decode().strip()
            yield Server(process, address, time.perf_counter() - began_s)
        finally:
            _end(process)


@contextlib.contextmanager
def refuser() -> Iterator[Server]:
    """The bare server that refuses everything."""
    command = [sys.executable, "-m", "bench.refuser"]
    began_s = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            yield Server(process, address, time.perf_counter() - began_s)
        finally:
            _end(process)


def _await_answer(process: "subprocess.Popen[bytes]", address: str, first: pb.LookupRequest) -> None:
    """Knock until the port is open, then ask; a channel made earlier would wait out its own backoff."""
    host, _, port = address.rpartition(":")
    until_s = time.perf_counter() + _PATIENCE_S
    while True:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with exit code {process.returncode} before it answered")
        if time.perf_counter() > until_s:
            raise SystemExit(f"the server did not answer within {_PATIENCE_S:.0f} s")
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
            break
        except OSError:
            time.sleep(0.005)
    with grpc.insecure_channel(address) as channel:
        CacheServiceStub(channel).Lookup(first, timeout=_PATIENCE_S)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _kib(value: str) -> int:
    return int(value.split(maxsplit=1)[0]) * 1024
