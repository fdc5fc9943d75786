"""Simulated caches: what of a stream they answer, and what that saves.

The policies of the service are its own: ranks come from ``core/eviction.py``, ties and inflation follow the store.
Beside them stand a random one, one that admits only what beats its victim, and two that know the future.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.eviction_streams import Random, Stream
from cachesvc.core.eviction import EvictionPolicy, rank

NEVER = np.iinfo(np.int64).max
_AGED_AFTER = 10  # an admitting cache halves its counts after so many requests for each entry it can hold


@dataclass(frozen=True, slots=True)
class Score:
    """What a cache answered of a stream."""

    hits: int
    saved_usd: float


@dataclass(frozen=True, slots=True)
class Room:
    """What a cache may hold: so many entries, or so many bytes."""

    capacity: int
    in_bytes: bool

    @classmethod
    def of(cls, stream: Stream, share: float, *, in_bytes: bool) -> "Room":
        """A share of all that a stream asks for; at least one entry."""
        most = stream.distinct_bytes if in_bytes else stream.distinct
        least = int(stream.sizes_bytes.max()) if in_bytes else 1
        return cls(max(round(most * share), least), in_bytes)

    def taken(self, stream: Stream) -> list[int]:
        """What each item takes of it."""
        return stream.sizes_bytes.tolist() if self.in_bytes else [1] * len(stream.sizes_bytes)


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """How often a cache does what: use is noted after so many requests, and eviction frees a share of the room.

    The service notes use once a second and evicts from its high watermark down to the low one.
    """

    noted_after: int = 1
    freed_share: float = 0.0


AT_ONCE = Housekeeping()
Ranker: TypeAlias = Callable[[int, int, float], float]
"""The rank of an item that was used so often, above an inflation."""
Admission: TypeAlias = Callable[[int, int], bool]
"""Whether an item may take the place of another."""


def by_policy(policy: EvictionPolicy, stream: Stream) -> Ranker:
    """The service's own rank."""
    worths, sizes = stream.worths_usd.tolist(), stream.sizes_bytes.tolist()
    return lambda item, hits, inflation: rank(policy, worths[item], sizes[item], hits, inflation)


def by_textbook(stream: Stream) -> Ranker:
    """Greedy-Dual-Size-Frequency as published: storing counts as much as a use."""
    densities = density(stream)
    return lambda item, hits, inflation: inflation + (hits + 1) * densities[item]


def density(stream: Stream) -> list[float]:
    """Of each item the money that a hit saves for a KiB."""
    densities: list[float] = (stream.worths_usd / np.maximum(stream.sizes_bytes / 1024, 1.0)).tolist()
    return densities


def at_random(random: Random) -> Ranker:
    """Any entry may be the next to go, all as likely: waiting times without memory, above an inflation that rises."""
    return lambda item, hits, inflation: inflation + float(random.exponential())


class Cache:
    """A cache that evicts by rank; of equal rank what was used longest ago, then what was stored first."""

    def __init__(
        self,
        stream: Stream,
        room: Room,
        ranker: Ranker,
        *,
        inflates: bool = False,
        house: Housekeeping = AT_ONCE,
    ) -> None:
        self._room = room
        self._taken = room.taken(stream)
        self._ranker = ranker
        self._inflates = inflates
        self._house = house
        self._inflation = 0.0
        self._filled = 0
        self._stored = 0
        self._places: dict[int, tuple[float, int, int]] = {}  # rank, last use, order of storing
        self._hits: dict[int, int] = {}
        self._heap: list[tuple[float, int, int, int]] = []
        self._notes: dict[int, tuple[int, int]] = {}  # uses, the last one

    @property
    def held(self) -> set[int]:
        """The items that are in it."""
        return set(self._places)

    def ask(self, item: int, at: int) -> bool:
        """One request; what misses is stored. Whether it was a hit."""
        found = item in self._places
        if found:
            self._notes[item] = self._notes.get(item, (0, 0))[0] + 1, at
        if at % self._house.noted_after == 0:
            self._note_uses()
        if not found:
            self._store(item, at)
        return found

    def _note_uses(self) -> None:
        for item, (uses, last) in self._notes.items():
            if item in self._places:
                self._hits[item] += uses
                self._put(item, last, self._places[item][2])
        self._notes.clear()

    def _put(self, item: int, at: int, number: int) -> None:
        place = (self._ranker(item, self._hits[item], self._inflation), at, number)
        self._places[item] = place
        heapq.heappush(self._heap, (*place, item))

    def _store(self, item: int, at: int) -> None:
        capacity = self._room.capacity
        if self._filled + self._taken[item] > capacity:
            self._note_uses()
            self._evict_to(min(capacity - self._taken[item], capacity * (1 - self._house.freed_share)), item)
        if self._filled + self._taken[item] <= capacity:
            self._filled += self._taken[item]
            self._stored += 1
            self._hits[item] = 0
            self._put(item, at, self._stored)

    def _evict_to(self, least: float, item: int) -> None:
        while self._filled > least:
            self._evict(self._victim())

    def _victim(self) -> int:
        while True:
            *place, item = self._heap[0]
            if self._places.get(item) == tuple(place):
                return item
            heapq.heappop(self._heap)

    def _evict(self, item: int) -> None:
        if self._inflates:
            self._inflation = max(self._inflation, self._places[item][0])
        del self._places[item], self._hits[item]
        self._filled -= self._taken[item]


class Admitting(Cache):
    """Stores an item only if it was asked for more than its victim was, by worth for the room (after TinyLFU: Einziger,
    Friedman, Manes, ACM ToS 2017, here with exact counts, which a sketch would estimate).
    """

    def __init__(
        self, stream: Stream, room: Room, ranker: Ranker, density: list[float], *, inflates: bool
    ) -> None:
        super().__init__(stream, room, ranker, inflates=inflates)
        self._density = density
        self._counts: dict[int, int] = {}
        self._asked = 0

    def ask(self, item: int, at: int) -> bool:
        """See ``Cache.ask``."""
        self._counts[item] = self._counts.get(item, 0) + 1
        self._asked += 1
        if self._asked > _AGED_AFTER * max(len(self._places), 100):
            self._asked = 0
            self._counts = {item: count // 2 for item, count in self._counts.items() if count > 1}
        return super().ask(item, at)

    def _evict_to(self, least: float, item: int) -> None:
        while self._filled > least:
            victim = self._victim()
            if self._wanted(item) <= self._wanted(victim):
                return
            self._evict(victim)

    def _wanted(self, item: int) -> float:
        return self._counts.get(item, 0) * self._density[item]


def replay(stream: Stream, cache: Cache) -> Score:
    """Put every request of a stream to a cache."""
    hits, saved_usd, worths = 0, 0.0, stream.worths_usd.tolist()
    for at, item in enumerate(stream.requests.tolist()):
        if cache.ask(item, at):
            hits += 1
            saved_usd += worths[item]
    return Score(hits, saved_usd)


# ------------------------------------------------------------------------------------- knowing the future


def next_uses(stream: Stream) -> NDArray[np.int64]:
    """For each request when the same item is asked for next, or NEVER."""
    following = np.full(len(stream.requests), NEVER)
    seen: dict[int, int] = {}
    for at in range(len(stream.requests) - 1, -1, -1):
        item = int(stream.requests[at])
        following[at] = seen.get(item, NEVER)
        seen[item] = at
    return following


def belady(stream: Stream, capacity: int) -> int:
    """The most hits that any cache of so many entries can have (Belady's MIN, 1966), which need not store what it misses:
    of those held and the one just asked for, the one goes that is asked for last.
    """
    hits = 0
    due: dict[int, int] = {}
    heap: list[tuple[int, int]] = []
    for item, following in zip(stream.requests.tolist(), next_uses(stream).tolist(), strict=True):
        hits += due.pop(item, None) is not None
        if following == NEVER:
            continue
        due[item] = following
        heapq.heappush(heap, (-following, item))
        while len(due) > capacity:
            latest, victim = heapq.heappop(heap)
            if due.get(victim) == -latest:
                del due[victim]
    return hits


@dataclass(frozen=True, slots=True)
class Spans:
    """From each request to the next for the same item: held through it, the item takes room and saves its worth."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    taken: NDArray[np.float64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, stream: Stream, room: Room) -> "Spans":
        """All spans of a stream, worth money."""
        following = next_uses(stream)
        starts = np.nonzero(following != NEVER)[0]
        items = stream.requests[starts]
        taken = np.array(room.taken(stream), dtype=np.float64)
        return cls(starts, following[starts], taken[items], stream.worths_usd[items])


def most_saved_usd(stream: Stream, room: Room, rounds: int = 60) -> float:
    """No cache can save more. An upper bound, not a cache: room is put up for rent.

    By duality of the linear relaxation (after Berger, Beckmann, Harchol-Balter, "Practical Bounds on Optimal Caching with
    Variable Object Sizes", POMACS 2018): whatever a moment's rent, all the rent there is and the gain of those spans that
    are worth theirs is more than can be saved. Rents are bettered step by step; every step's bound holds.
    """
    spans = Spans.of(stream, room)
    if not len(spans.starts):
        return 0.0
    count = len(stream.requests)
    durations = spans.ends - spans.starts
    rents = np.full(count, _uniform_rent(spans, durations, room.capacity * count))
    step, best = float(rents.max()) or 1e-12, np.inf
    for n in range(rounds):
        paid = np.concatenate(([0.0], np.cumsum(rents)))
        gains = spans.values - spans.taken * (paid[spans.ends] - paid[spans.starts])
        best = min(best, room.capacity * paid[-1] + float(gains[gains > 0].sum()))
        held = _occupied(spans, gains > 0, count)
        rents = np.maximum(rents + step / (n + 1) * (held / room.capacity - 1), 0.0)
    return min(best, float(spans.values.sum()))


def _uniform_rent(spans: Spans, durations: NDArray[np.int64], budget: float) -> float:
    """The rent at which those who pay it take all the room there is, summed over time."""
    order = np.argsort(-spans.values / (spans.taken * durations))
    used = np.cumsum((spans.taken * durations)[order])
    last = int(np.searchsorted(used, budget))
    if last == len(order):
        return 0.0
    return float(spans.values[order[last]] / (spans.taken * durations)[order[last]])


def _occupied(spans: Spans, chosen: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    changes = np.zeros(count + 1)
    np.add.at(changes, spans.starts[chosen], spans.taken[chosen])
    np.add.at(changes, spans.ends[chosen], -spans.taken[chosen])
    return np.cumsum(changes)[:count]


def clairvoyant_greedy_usd(stream: Stream, room: Room) -> float:
    """What a cache that knows the future can surely save: spans are kept, most worth for room and time first, where they fit.

    Not the optimum for unequal sizes (that is NP-hard), but it can be had, and so bounds it from below.
    """
    spans = Spans.of(stream, room)
    held = np.zeros(len(stream.requests))
    order = np.argsort(-spans.values / (spans.taken * (spans.ends - spans.starts)), kind="stable")
    saved_usd = 0.0
    for n in order.tolist():
        during = held[spans.starts[n] : spans.ends[n]]
        if during.max() + spans.taken[n] <= room.capacity:
            during += spans.taken[n]
            saved_usd += float(spans.values[n])
    return saved_usd
