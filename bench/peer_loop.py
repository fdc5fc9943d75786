"""What every peer's worker does: answer JSON lines. Run by the peer's own interpreter, so it imports nothing of
cachesvc and nothing beyond the standard library.

``{"do": "load", "prompts": […], "answers": […], "vectors": FILE}`` fills the cache; ``{"do": "ask", "texts": […]}`` gives
``{"us": […], "hits": n}``; ``{"do": "rate", "texts": […], "callers": n, "seconds": s}`` gives calls a second of so many
threads, ``{"per_s": x, "failed": n}``, where failed calls do not count.
"""

import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

MIN_SCORE = 0.95  # where a peer wants to be told


class Cache(Protocol):
    """A peer, ready to be filled."""

    def load(self, prompts: list[str], answers: list[str], vectors: Path) -> None:
        """Fill it, in the peer's own way, with the same model's vectors where it takes them. Not measured."""

    def get(self, text: str) -> object | None:
        """What it has for this text, or None."""


def serve(make: Callable[[Path], Cache]) -> None:
    """Answer until there are no more lines. The peer has a directory of its own."""
    answers = os.fdopen(os.dup(1), "w")  # some peers print on standard output
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="bench-peer-") as directory:
        os.chdir(directory)
        cache = make(Path(directory))
        for line in sys.stdin:
            answers.write(json.dumps(_answer(cache, json.loads(line))) + "\n")
            answers.flush()


def _answer(cache: Cache, command: dict[str, Any]) -> dict[str, Any]:
    match command["do"]:
        case "load":
            cache.load(command["prompts"], command["answers"], Path(command["vectors"]))
            return {}
        case "ask":
            return _ask(cache, command["texts"])
        case "rate":
            return _rate(cache, command["texts"], command["callers"], command["seconds"])
        case other:
            raise SystemExit(f"unknown command {other}")


def _ask(cache: Cache, texts: list[str]) -> dict[str, Any]:
    took_us: list[float] = []
    hits = 0
    for text in texts:
        began_s = time.perf_counter()
        found = cache.get(text)
        took_us.append((time.perf_counter() - began_s) * 1e6)
        hits += found is not None
    return {"us": took_us, "hits": hits}


def _rate(cache: Cache, texts: list[str], callers: int, seconds: float) -> dict[str, Any]:
    lock, endless = threading.Lock(), itertools.cycle(texts)
    began_s = time.perf_counter()
    until_s = began_s + seconds

    def call() -> tuple[int, int]:
        done = failed = 0
        while time.perf_counter() < until_s:
            with lock:
                text = next(endless)
            try:
                cache.get(text)
                done += 1
            except Exception as error:  # noqa: BLE001 - whatever a peer raises among threads is its failure
                if not failed:
                    print(f"{type(error).__name__}: {error}"[:300], file=sys.stderr)
                failed += 1
        return done, failed

    with ThreadPoolExecutor(callers) as pool:
        counts = [one.result() for one in [pool.submit(call) for _ in range(callers)]]
    done, failed = (sum(column) for column in zip(*counts, strict=True))
    return {"per_s": done / (time.perf_counter() - began_s), "failed": failed}
