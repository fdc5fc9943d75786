"""The floor of semantic hits: the configured engine alone, in a process of its own, as many threads as it is told.

Run as ``python -m bench.engine_alone``: a JSON line ``{"texts": […], "threads": n, "seconds": s}`` is answered with
the texts embedded a second.
"""

import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from bench.prompts import ROOT
from cachesvc.core.ports import Embedder
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

_WAIT_S = 10.0


class EngineAlone:
    """The process. Not thread-safe."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def rate(self, texts: Sequence[str], threads: int, seconds: float) -> float:
        """Texts embedded a second by all threads together."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(
            json.dumps({"texts": list(texts), "threads": threads, "seconds": seconds}) + "\n"
        )
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the process of the bare engine ended without an answer")
        return float(line)


@contextlib.contextmanager
def engine_alone() -> Iterator[EngineAlone]:
    """Starts it, and ends it."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.engine_alone"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield EngineAlone(process)
        finally:
            process.terminate()


def main() -> None:
    embedder = make_embedder(EmbedderSettings(), lambda _: None)
    for line in sys.stdin:
        job = json.loads(line)
        print(_rate(embedder, job["texts"], job["threads"], job["seconds"]), flush=True)


def _rate(embedder: Embedder, texts: Sequence[str], threads: int, seconds: float) -> float:
    lock, endless = threading.Lock(), itertools.cycle(texts)
    began_s = time.perf_counter()
    until_s = began_s + seconds

    def work() -> int:
        done = 0
        while time.perf_counter() < until_s:
            with lock:
                text = next(endless)
            embedder.embed(text, _WAIT_S)
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(one.result() for one in [pool.submit(work) for _ in range(threads)])
    return done / (time.perf_counter() - began_s)


if __name__ == "__main__":
    main()
