"""How steady the machine was while it was measured: two floors taken again and again, and what others used.

A bare gRPC call and a bare inference cost what they cost; where they differ over a run, the machine did.
"""

import contextlib
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import grpc

from bench import servers
from bench.calls import ask, say, timed_us
from cachesvc.core.ports import Embedder
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

_ECHOES = 200
_TEXTS = 40
_WARM_UP = 20
_STILL_S = 1.0
# Beyond these, a warning: a floor's greatest value by its least, and shares of the cores' time.
_STEADY = 1.2
_OTHERS = 0.1
_STOLEN = 0.02


@dataclass(frozen=True, slots=True)
class Ticks:
    """Time of all cores since boot, by what it went to, in ticks."""

    idle: int
    stolen: int
    whole: int

    @classmethod
    def now(cls) -> Self:
        """As the kernel counts it."""
        first_line = Path("/proc/stat").read_text().partition("\n")[0]
        user, nice, system, idle, iowait, irq, softirq, stolen = (int(n) for n in first_line.split()[1:9])
        return cls(idle + iowait, stolen, user + nice + system + idle + iowait + irq + softirq + stolen)


class Watch:
    """Looks at the machine when told, in an otherwise still moment. Not thread-safe."""

    def __init__(self, stub: CacheServiceStub, embedder: Embedder, texts: Sequence[str]) -> None:
        self._stub, self._embedder, self._texts = stub, embedder, texts[:_TEXTS]
        self._echo_us: list[float] = []
        self._encode_us: list[float] = []
        self._began = Ticks.now()
        self._others_before = _busy_share()
        if self._others_before > _OTHERS:
            say(f"others keep {self._others_before:.0%} of the cores busy: wait, or expect a wide spread")
        self._load_before = os.getloadavg()[0]

    def look(self) -> None:
        """Take both floors."""
        request = ask(self._texts[0])
        echoes = [timed_us(lambda: self._stub.Lookup(request)) for _ in range(_ECHOES + _WARM_UP)]
        encodes = [timed_us(partial(self._embedder.embed, text, 1.0)) for text in self._texts]
        self._echo_us.append(statistics.median(echoes[_WARM_UP:]))
        self._encode_us.append(statistics.median(encodes))

    def noise(self) -> dict[str, float]:
        """What was seen, as numbers for the record; the end is now."""
        now = Ticks.now()
        return {
            "echo_us_least": min(self._echo_us),
            "echo_us_most": max(self._echo_us),
            "encode_us_least": min(self._encode_us),
            "encode_us_most": max(self._encode_us),
            "others_before": self._others_before,
            "others_after": _busy_share(),
            "stolen": (now.stolen - self._began.stolen) / max(now.whole - self._began.whole, 1),
            "load_before": self._load_before,
            "load_after": os.getloadavg()[0],
        }


@contextlib.contextmanager
def watch(embedder: Embedder, texts: Sequence[str]) -> Iterator[Watch]:
    """With an echo server of its own."""
    with (
        servers.echo(pb.LookupResponse()) as echo,
        grpc.insecure_channel(echo.address) as channel,
    ):
        yield Watch(CacheServiceStub(channel), embedder, texts)


def spreads(noise: Mapping[str, float]) -> tuple[float, float]:
    """Of the echo and of the encode floor: the greatest value by the least."""
    return (
        noise["echo_us_most"] / noise["echo_us_least"],
        noise["encode_us_most"] / noise["encode_us_least"],
    )


def told(noise: Mapping[str, float]) -> list[str]:
    """The same for people, with a warning first when the machine was busy."""
    echo, encode = spreads(noise)
    seen = (
        f"noise: over the run the echo floor went from {noise['echo_us_least']:,.0f} to {noise['echo_us_most']:,.0f} µs "
        f"(×{echo:.2f}), the encode floor from {noise['encode_us_least']:,.0f} to {noise['encode_us_most']:,.0f} µs "
        f"(×{encode:.2f}); others kept {noise['others_before']:.0%} of the cores busy before it and "
        f"{noise['others_after']:.0%} after it, the host took {noise['stolen']:.1%}; load average "
        f"{noise['load_before']:.1f} at the begin, {noise['load_after']:.1f} at the end"
    )
    others = max(noise["others_before"], noise["others_after"])
    if max(echo, encode) > _STEADY or others > _OTHERS or noise["stolen"] > _STOLEN:
        return ["**the machine was busy: absolute figures mean little, ratios less than usual**", seen]
    return [seen]


def _busy_share() -> float:
    """What others do with the cores while this process does nothing."""
    before = Ticks.now()
    time.sleep(_STILL_S)
    now = Ticks.now()
    return 1 - (now.idle - before.idle) / max(now.whole - before.whole, 1)
