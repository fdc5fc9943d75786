"""Stores of many entries, made once through the real store and kept under ``build/``.

One scope has nine tenths of the entries, some hundreds of small ones share the rest. Vectors are those of real
prompts, moved a little, so that they lie in clusters as real traffic does; among them are the prompts themselves
with their own vectors, which is what lookups ask for.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.embedded import Prompts
from bench.prompts import MODEL, ROOT, answer
from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.lmdb_begin import StoreOptions
from cachesvc.adapters.lmdb_schema import SCHEMA_VERSION
from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Message, Payload, Request, Vector

PROMPTS = 5_000
SMALL_SCOPES = 300
MAX_BYTES = 32 << 30
MAP_BYTES = 2 * MAX_BYTES
_SMALL_EVERY = 10  # one entry in so many is of a small scope
_BATCH = 512
_LIFE_MS = 300 * 86_400_000
_NEAR, _FAR = 0.96, 0.80  # scores of moved vectors with their prompts


def small_model(scope: int) -> str:
    """The model by which the requests of a small scope differ from all others."""
    return f"{MODEL}-{scope}"


def made(count: int, prompts: Prompts, fingerprint: str) -> Path:
    """The directory of a store of ``count`` entries; made now when it is not there."""
    directory = ROOT / "build" / f"scale-{SCHEMA_VERSION}-{count}"
    if not directory.exists():
        fresh = directory.with_suffix(".part")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        _fill(fresh / "store", count, prompts, fingerprint)
        fresh.rename(directory)
    return directory


def _fill(path: Path, count: int, prompts: Prompts, fingerprint: str) -> None:
    options = StoreOptions(path, MAP_BYTES, MAX_BYTES, "async", 1024, 2048, 100_000)
    store = LmdbStore(options, fingerprint)
    drafts: list[Draft] = []
    for n, draft in enumerate(_drafts(count, prompts, fingerprint), 1):
        drafts.append(draft)
        if len(drafts) == _BATCH or n == count:
            store.put(drafts, None)
            drafts = []
        if n % 50_000 == 0:
            print(f"  {n:,} of {count:,} stored", file=sys.stderr, flush=True)
    store.close()


def _drafts(count: int, prompts: Prompts, fingerprint: str) -> Iterator[Draft]:
    random = np.random.default_rng(7)
    now_ms, real_every = SystemClock(0).now_ms(), max(count // len(prompts.texts), 2)
    responses = [answer(n) for n in range(256)]
    for n in range(count):
        scope, place = n // _SMALL_EVERY % SMALL_SCOPES, n // _SMALL_EVERY // SMALL_SCOPES
        model, chosen = MODEL, n // real_every % len(prompts.texts)
        text, vector = prompts.texts[chosen], prompts.vectors[chosen]
        if n % _SMALL_EVERY == 0:
            model, chosen = small_model(scope), (scope * 37 + place) % len(prompts.texts)
            text, vector = prompts.texts[chosen], prompts.vectors[chosen]
        elif n % real_every != 1:
            chosen = int(random.integers(len(prompts.texts)))
            text, vector = f"{prompts.texts[chosen]} (variant {n})", _moved(prompts.vectors[chosen], random)
        identity = identify(Request("default", (Message("user", text),), model, {}), fingerprint)
        yield Draft(identity, Payload(responses[n % 256]), text, vector, now_ms, now_ms + _LIFE_MS)


def _moved(vector: Vector, random: np.random.Generator) -> Vector:
    """A vector of unit norm with a score from ``_FAR`` to ``_NEAR`` to another."""
    score = random.uniform(_FAR, _NEAR)
    aside = random.standard_normal(vector.shape, dtype=np.float32)
    aside -= vector * np.float32(aside @ vector)
    moved = np.float32(score) * vector + np.float32(np.sqrt(1 - score * score)) * aside / np.linalg.norm(
        aside
    )
    return (moved / np.linalg.norm(moved)).astype(np.float32)
