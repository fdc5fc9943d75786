"""Streams of requests to replay against simulated caches: made ones, and the prompts of ``../shared/data``.

A request is the number of an item; a hit on an item saves its worth. Worth and size are what the service itself
would reckon (``core/eviction.py``) for answers whose length is log-normal. Everything follows from the seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.prompts import rows_of
from cachesvc.core.eviction import size_bytes, worth_usd
from cachesvc.core.types import Payload

Items: TypeAlias = NDArray[np.int64]
Random: TypeAlias = np.random.Generator

ITEMS = 5_000
REQUESTS = 24_000
REAL = (
    "banking77", "clinc150", "qqp", "gsmplus", "t2s_advising", "t2s_atis", "t2s_scholar", "t2s_small", "mix", "chat",
)  # fmt: skip

_VECTOR = np.zeros(384, dtype=np.float32)
_PROMPT = "p" * 60
_BYTES_PER_TOKEN = 4
_MEDIAN_TOKENS, _SIGMA = 200, 1.0  # of an answer
_MAX_TOKENS = 8192
# What a token of output costs with a small, a middling and a large model, and how often each is asked.
_PRICES_USD, _SHARES = (0.6e-6, 4e-6, 15e-6), (0.6, 0.3, 0.1)


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests in order, each the number of an item; for each item what a hit saves and what it occupies."""

    name: str
    requests: Items
    worths_usd: NDArray[np.float64]
    sizes_bytes: Items

    @property
    def distinct(self) -> int:
        """Items that are asked for at all."""
        return len(np.unique(self.requests))

    @property
    def repeats(self) -> int:
        """Requests that an unbounded cache would answer."""
        return len(self.requests) - self.distinct

    @property
    def distinct_bytes(self) -> int:
        """What an unbounded cache would hold in the end."""
        return int(self.sizes_bytes[np.unique(self.requests)].sum())


def made(requests: int = REQUESTS, items: int = ITEMS) -> dict[str, Callable[[Random], Stream]]:
    """Makers of the synthetic streams by name."""

    def zipf(exponent: float) -> Callable[[Random], Items]:
        return lambda random: _zipf(random, exponent, items, requests)

    def drift(random: Random) -> Items:
        return _drifting(random, items, requests, steps=12)

    def scans(random: Random) -> Items:
        return _scanned(random, items, requests, sweeps=6)

    shapes: dict[str, tuple[Callable[[Random], Items], bool]] = {
        "zipf 0.7": (zipf(0.7), True),
        "zipf 0.9": (zipf(0.9), True),
        "zipf 1.1": (zipf(1.1), True),
        "zipf 0.9, one price": (zipf(0.9), False),
        "zipf 0.9, drift": (drift, True),
        "zipf 0.9, scans": (scans, True),
    }

    def maker(name: str) -> Callable[[Random], Stream]:
        shape, mixed = shapes[name]

        def make(random: Random) -> Stream:
            asked = shape(random)
            count = int(asked.max()) + 1
            return _priced(name, asked, [_PROMPT] * count, random, mixed=mixed)

        return make

    return {name: maker(name) for name in shapes}


def answer_lengths(stream: Stream) -> list[int]:
    """For each item of a made stream the bytes of its answer."""
    rest = size_bytes(_PROMPT, Payload(b""), _VECTOR)
    return [size - rest for size in stream.sizes_bytes.tolist()]


def real(data: Path, name: str) -> Callable[[Random], Stream] | None:
    """A maker of a stream of real prompts, an item being a group of equal labels; None where the data is not there."""
    file = data / f"stream_{name}.jsonl"
    if not file.is_file():
        return None
    rows = rows_of(file)

    def make(random: Random) -> Stream:
        asked = numbered([row["answer_id"] for row in rows])
        prompts = dict(zip(asked.tolist(), (row["prompt"] for row in rows), strict=True))
        return _priced(
            f"{name}, labels", asked, [prompts[n] for n in range(len(prompts))], random, mixed=True
        )

    return make


def exact_repeats(data: Path, name: str) -> int | None:
    """How many prompts of a real stream were asked before, to the letter; None where the data is not there."""
    file = data / f"stream_{name}.jsonl"
    if not file.is_file():
        return None
    prompts = [row["prompt"] for row in rows_of(file)]
    return len(prompts) - len(set(prompts))


def numbered(names: Sequence[str]) -> Items:
    """Each name as a number, in the order of first sight."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def _zipf(random: Random, exponent: float, items: int, requests: int) -> Items:
    weights = np.arange(1, items + 1) ** -exponent
    return random.choice(items, size=requests, p=weights / weights.sum())


def _drifting(random: Random, items: int, requests: int, steps: int) -> Items:
    """Zipf whose ranks change hands: at every step a fifth of the items get each other's."""
    ranks = np.arange(items)
    parts = []
    for _ in range(steps):
        parts.append(ranks[_zipf(random, 0.9, items, requests // steps)])
        moved = random.choice(items, size=items // 5, replace=False)
        ranks[moved] = ranks[random.permutation(moved)]
    return np.concatenate(parts)


def _scanned(random: Random, items: int, requests: int, sweeps: int) -> Items:
    """Zipf with sweeps of items that are asked for once and never again: a third of all requests."""
    sweep = requests // 3 // sweeps
    parts: list[Items] = []
    for n in range(sweeps):
        parts.append(_zipf(random, 0.9, items, requests // sweeps - sweep))
        parts.append(np.arange(items + n * sweep, items + (n + 1) * sweep))
    return np.concatenate(parts)


def _priced(name: str, asked: Items, prompts: Sequence[str], random: Random, *, mixed: bool) -> Stream:
    """Give the items their worth and size. ``mixed``: of several models, so that cost and size differ; else of one."""
    drawn = random.lognormal(np.log(_MEDIAN_TOKENS), _SIGMA, len(prompts))
    tokens = np.clip(drawn, 1, _MAX_TOKENS).astype(int).tolist()
    prices = random.choice(_PRICES_USD, size=len(prompts), p=_SHARES).tolist() if mixed else None
    worths, sizes = [], []
    for n, (prompt, count) in enumerate(zip(prompts, tokens, strict=True)):
        price_usd = _PRICES_USD[1] if prices is None else prices[n]
        payload = Payload(bytes(count * _BYTES_PER_TOKEN), output_tokens=count, cost_usd=count * price_usd)
        worths.append(worth_usd(payload))
        sizes.append(size_bytes(prompt, payload, _VECTOR))
    return Stream(name, asked, np.array(worths), np.array(sizes, dtype=np.int64))
