"""What several sections of the bench share: a real server with its entries, the echo server, the peers. Made when
first asked for, kept until closed, so that a section that wants the machine for itself closes them.
"""

import contextlib
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from bench import peers, servers
from bench.calls import ask, lookup_us, say
from bench.prompts import MODEL, RESPONSE_BYTES, answer, variant
from bench.sizes import Size
from cachesvc.core.ports import Embedder
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

_BATCH = 256
_GROWTH = (200, 1000)  # entries at which the latency is looked at while the store is filled
_GROWTH_CALLS = 60


@dataclass(frozen=True, slots=True)
class Ground:
    """The server with every prompt stored; ``near`` are texts that it answers by meaning, each another one.
    ``encoder`` is the echo that embeds before it answers.
    """

    server: servers.Server
    echo: servers.Server
    encoder: servers.Server
    stored: Sequence[str]
    near: Sequence[str]


@dataclass(frozen=True, slots=True)
class Filling:
    """What filling the empty store showed. ``growth`` is the median of semantic hits at some counts, ms."""

    took_s: float
    growth: Sequence[tuple[int, float]]
    idle: servers.Memory
    full: servers.Memory


class Stage:
    """Not thread-safe. ``directory`` is on a disk and empty."""

    def __init__(
        self,
        directory: Path,
        size: Size,
        prompts: tuple[Sequence[str], str],
        embedder: Embedder,
        *,
        with_peers: bool,
    ) -> None:
        self.size = size
        self.prompts, source = prompts
        self.embedder = embedder
        self.directory = directory
        self.notes = [f"{len(self.prompts):,} entries of {RESPONSE_BYTES:,} bytes; prompts: {source}"]
        self.config = servers.write_config(directory)
        self._with_peers = with_peers
        self._running = contextlib.ExitStack()
        self._ground: Ground | None = None
        self._filling: Filling | None = None
        self._peers: Mapping[str, peers.Peer] | None = None

    def ground(self) -> Ground:
        """The filled server, running."""
        if self._ground is None:
            server = self._running.enter_context(servers.cachesvc(self.config, ask(self.prompts[0])))
            stub = CacheServiceStub(self._running.enter_context(grpc.insecure_channel(server.address)))
            if self._filling is None:
                self._filling = _fill(server, stub, self.prompts)
            near = _near(stub, self.prompts, (self.size.rounds + 1) * self.size.calls)
            reply = stub.Lookup(ask(self.prompts[0]))
            echo = self._running.enter_context(servers.echo(reply))
            encoder = self._running.enter_context(servers.echo(reply, "bench.encoder"))
            self._ground = Ground(server, echo, encoder, self.prompts, near)
        return self._ground

    def filling(self) -> Filling:
        """Of the store that ``ground`` is on."""
        self.ground()
        assert self._filling is not None
        return self._filling

    def peers(self) -> Mapping[str, peers.Peer]:
        """The other caches, loaded with the same entries. What cannot be had here is left out with a note."""
        if self._peers is None:
            started = peers.start(self._running, self.prompts) if self._with_peers else peers.Started({}, [])
            self._peers = started.peers
            self.notes += [note for note in started.notes if note not in self.notes]
        return self._peers

    def close(self) -> None:
        """End what runs. What is asked for afterwards is started again, on the same store."""
        self._running.close()
        self._running = contextlib.ExitStack()
        self._ground = self._peers = None


def _fill(server: servers.Server, stub: CacheServiceStub, prompts: Sequence[str]) -> Filling:
    say(f"storing {len(prompts):,} entries")
    idle = server.memory()
    took_s, growth, stored = 0.0, [], 0
    for count in (*(count for count in _GROWTH if count < len(prompts)), len(prompts)):
        began_s = time.perf_counter()
        _store(stub, prompts[stored:count], stored)
        took_s += time.perf_counter() - began_s
        stored = count
        near = _near(stub, prompts[:count], _GROWTH_CALLS)
        growth.append((count, statistics.median(lookup_us(stub, text) for text in near) / 1e3))
    return Filling(took_s, growth, idle, server.memory())


def _store(stub: CacheServiceStub, prompts: Sequence[str], before: int) -> None:
    for first in range(0, len(prompts), _BATCH):
        items = [
            pb.StoreRequest(
                prompt=prompt, model=MODEL, response=answer(before + first + n), content_type="text/plain"
            )
            for n, prompt in enumerate(prompts[first : first + _BATCH])
        ]
        for result in stub.BatchStore(pb.BatchStoreRequest(items=items)).results:
            if result.HasField("error"):
                raise SystemExit(f"a prompt was refused: {result.error.message}")


def _near(stub: CacheServiceStub, prompts: Sequence[str], count: int) -> list[str]:
    """Variants that hit by meaning, as many as are measured, so that none is measured twice."""
    found: list[str] = []
    for prompt in prompts:
        text = variant(prompt)
        if stub.Lookup(ask(text)).outcome == pb.OUTCOME_HIT_SEMANTIC:
            found.append(text)
        if len(found) == count:
            return found
    raise SystemExit(f"only {len(found)} of {count} variants hit by meaning")
