"""Housekeeping: in small rounds, in the order of use, and again when it failed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cachesvc.adapters.memory import ManualClock, MemoryStore
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EntriesRemoved, TaskFailed
from cachesvc.core.identity import identify
from cachesvc.core.policy import Policy, PolicyBook
from cachesvc.core.types import (
    Draft,
    Message,
    NamespaceUsage,
    Payload,
    Quota,
    Removal,
    Request,
    StoreStats,
    Use,
)
from cachesvc.engine.janitor import Janitor, JanitorOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cachesvc.core.events import Event

ROUND = 256
MAX_BYTES = 100_000
ENTRY_BYTES = 100


class RecordingStore(MemoryStore):
    """Records the size of every removal, and fails by name as often as told."""

    def __init__(self) -> None:
        super().__init__(MAX_BYTES)
        self.evict_limits: list[int] = []
        self.expire_limits: list[int] = []
        self.removed: list[list[int]] = []
        self.touched: list[dict[int, int]] = []
        self.failures: dict[str, int] = {}
        self.usages = 0

    def _fail(self, method: str) -> None:
        if self.failures.get(method, 0):
            self.failures[method] -= 1
            raise CacheError(Kind.OVERLOADED, f"{method} fails as told")

    def evict(self, limit: int, namespace: str | None = None) -> int:
        self._fail("evict")
        self.evict_limits.append(limit)
        return super().evict(limit, namespace)

    def expire(self, now_ms: int, limit: int) -> int:
        self._fail("expire")
        self.expire_limits.append(limit)
        return super().expire(now_ms, limit)

    def usage(self, limit: int) -> list[NamespaceUsage]:
        self._fail("usage")
        self.usages += 1
        return super().usage(limit)

    def remove(self, entry_ids: Sequence[int]) -> int:
        self._fail("remove")
        self.removed.append(list(entry_ids))
        return super().remove(entry_ids)

    def touch(self, uses: Mapping[int, Use]) -> None:
        self._fail("touch")
        self.touched.append({entry_id: use.last_ms for entry_id, use in uses.items()})
        super().touch(uses)


class SlowStore(RecordingStore):
    """Gives back half of what is removed, as pages do that still hold another record. ``grown`` is the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.grown = 0

    def evict(self, limit: int, namespace: str | None = None) -> int:
        count = super().evict(limit, namespace)
        self.grown += count * ENTRY_BYTES // 2
        return count

    def stats(self) -> StoreStats:
        stats = super().stats()
        return replace(stats, used_bytes=stats.used_bytes + self.grown)


class Events:
    """An Observer that remembers, and lets a test wait for the next event."""

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.arrived = threading.Semaphore(0)

    def on(self, event: Event) -> None:
        self.seen.append(event)
        self.arrived.release()

    def removed(self, why: Removal) -> list[int]:
        return [event.count for event in self.seen if isinstance(event, EntriesRemoved) and event.why is why]


class House:
    """A janitor, what it keeps, and its time."""

    def __init__(
        self,
        max_notes: int = 10_000,
        max_entries: int | None = None,
        store: RecordingStore | None = None,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self.clock = ManualClock()
        self.store = store or RecordingStore()
        self.events = Events()
        options = JanitorOptions(
            interval_s=3600.0,
            high_watermark=0.9,
            low_watermark=0.5,
            max_notes=max_notes,
            max_entries=max_entries,
        )
        self.book = PolicyBook(Policy(), {})
        self.janitor = Janitor(
            self.store,
            lambda: options,
            policies=lambda: self.book,
            clock=self.clock,
            observer=self.events,
            leads=leads,
        )

    def fill(self, count: int, ttl_ms: int = 1 << 40) -> list[int]:
        """Store entries of 100 bytes, each a millisecond younger than the one before."""
        ids = []
        for _ in range(count):
            identity = identify(
                Request("default", (Message("user", f"q{self.store.sequence()}"),), "m", {}), "engine:test"
            )
            now_ms = self.clock.now_ms()
            draft = Draft(identity, Payload(b"x" * ENTRY_BYTES), "", None, now_ms, now_ms + ttl_ms)
            receipt = self.store.put([draft], None)[0]
            assert receipt is not None
            ids.append(receipt.entry_id)
            self.clock.advance(1)
        return ids

    def kept(self, ids: list[int]) -> list[int]:
        return [entry_id for entry_id in ids if self.store.get(entry_id) is not None]


@pytest.fixture
def house() -> House:
    """An empty store of 1,000 entries' room, watermarks at 900 and 500."""
    return House()


@pytest.mark.parametrize(
    ("count", "evicted"),
    [
        pytest.param(0, 0, id="empty"),
        pytest.param(899, 0, id="below the high watermark"),
        pytest.param(900, 400, id="at the high watermark"),
        pytest.param(1200, 700, id="over the bound"),
    ],
)
def test_eviction_runs_from_the_high_to_the_low_watermark(house: House, count: int, evicted: int) -> None:
    """Nothing is evicted below the high watermark; from there on as much as is above the low one and no more,
    in rounds of at most 256.
    """
    house.fill(count)
    house.janitor.tidy()
    assert house.store.stats().entries == count - evicted
    assert all(limit <= ROUND for limit in house.store.evict_limits)
    assert sum(house.events.removed(Removal.EVICTED)) == evicted


def test_eviction_does_not_end_in_ever_smaller_rounds() -> None:
    """Where removals free less than they seem to, eviction goes on, and ends when too little is left for a commit."""
    house = House(store=SlowStore())
    house.fill(900)
    house.janitor.tidy()
    assert min(house.store.evict_limits) >= 32
    assert len(house.store.evict_limits) > 2
    assert house.store.stats().used_bytes < 0.7 * MAX_BYTES


def test_eviction_takes_what_was_not_used_longest(house: House) -> None:
    """Entries that were served since stay, older ones that were not go, oldest first."""
    ids = house.fill(900)
    used = ids[:100]
    for entry_id in used:
        house.janitor.note_used(entry_id)
    house.janitor.tidy()
    assert house.kept(ids) == used + ids[100 + 400 :]


def test_use_is_noted_in_small_rounds(house: House) -> None:
    """Notes reach the store in transactions of at most 256, each once, with the latest time."""
    ids = house.fill(600)
    for entry_id in (*ids, *ids[:10]):
        house.janitor.note_used(entry_id)
        house.clock.advance(1)
    house.janitor.tidy()
    assert [len(notes) for notes in house.store.touched] == [256, 256, 88]
    assert house.store.touched[0][ids[0]] == house.clock.now_ms() - 10
    house.janitor.tidy()
    assert len(house.store.touched) == 3


def test_notes_are_bounded() -> None:
    """Past the bound new entries are not noted; those that are noted already still are."""
    house = House(max_notes=3)
    ids = house.fill(5)
    for entry_id in (*ids, ids[0]):
        house.janitor.note_used(entry_id)
        house.clock.advance(1)
    house.janitor.tidy()
    (notes,) = house.store.touched
    assert sorted(notes) == ids[:3]
    assert notes[ids[0]] > notes[ids[2]]


def test_expired_entries_go_in_small_rounds(house: House) -> None:
    """All that expired goes in one tidy, at most 256 at a time, and is counted."""
    short, lasting = house.fill(600, ttl_ms=10), house.fill(5)
    house.clock.advance(1000)
    house.janitor.tidy()
    assert house.kept(short + lasting) == lasting
    assert all(limit <= ROUND for limit in house.store.expire_limits)
    assert house.events.removed(Removal.EXPIRED) == [256, 256, 88]


def test_what_has_not_expired_stays(house: House) -> None:
    """An entry goes at its time and not before."""
    (entry_id,) = house.fill(1, ttl_ms=100)
    house.clock.advance(98)
    house.janitor.tidy()
    assert house.kept([entry_id]) == [entry_id]
    house.clock.advance(1)
    house.janitor.tidy()
    assert house.kept([entry_id]) == []


def test_damaged_entries_are_dropped_once(house: House) -> None:
    """A quarantined entry is removed in the next round and counted; quarantining twice is once."""
    ids = house.fill(3)
    house.janitor.quarantine(ids[1])
    house.janitor.quarantine(ids[1])
    house.janitor.tidy()
    house.janitor.tidy()
    assert house.kept(ids) == [ids[0], ids[2]]
    assert house.store.removed == [[ids[1]]]
    assert house.events.removed(Removal.QUARANTINED) == [1]


def test_damaged_entries_go_in_small_rounds(house: House) -> None:
    """However many are damaged, one transaction removes at most 256."""
    ids = house.fill(600)
    for entry_id in ids:
        house.janitor.quarantine(entry_id)
    house.janitor.tidy()
    house.janitor.tidy()
    house.janitor.tidy()
    assert max(map(len, house.store.removed)) <= ROUND
    assert house.kept(ids) == []


@pytest.mark.parametrize(
    ("method", "task"),
    [("remove", "drop_damaged"), ("touch", "flush_notes"), ("expire", "expire"), ("evict", "evict")],
)
def test_a_failing_task_is_reported_and_tried_again(house: House, method: str, task: str) -> None:
    """One task that fails stops no other, and the next round does what it had to do."""
    expired = house.fill(1, ttl_ms=0)
    ids = house.fill(1000)
    house.janitor.quarantine(ids[0])
    house.janitor.note_used(ids[1])
    house.store.failures = {method: 1}
    house.janitor.tidy()
    failed = [event for event in house.events.seen if isinstance(event, TaskFailed)]
    assert [(event.task, event.kind) for event in failed] == [(task, Kind.OVERLOADED)]
    house.janitor.tidy()
    assert house.kept([*expired, ids[0]]) == []
    assert house.store.removed == [[ids[0]]]
    assert [list(notes) for notes in house.store.touched] == [[ids[1]]]
    assert house.store.stats().used_bytes <= MAX_BYTES // 2


@pytest.mark.parametrize(
    ("count", "evicted"),
    [pytest.param(999, 0, id="room left"), pytest.param(1000, 256, id="full")],
)
def test_stores_make_room_when_there_is_none(house: House, count: int, evicted: int) -> None:
    """A store past its bound evicts one round on the caller's thread before it adds."""
    house.fill(count)
    house.janitor.make_room()
    assert sum(house.events.removed(Removal.EVICTED)) == evicted


@pytest.mark.parametrize(
    ("max_entries", "count", "left"),
    [
        pytest.param(10, 8, 8, id="room left"),
        pytest.param(10, 9, 5, id="at the high watermark"),
        pytest.param(1, 1, 0, id="one entry"),
        pytest.param(100, 120, 50, id="over the bound"),
    ],
)
def test_a_small_bound_of_entries_is_no_reason_to_empty_the_store(
    max_entries: int, count: int, left: int
) -> None:
    """Eviction ends at the low watermark, however few entries there may be."""
    house = House(max_entries=max_entries)
    house.fill(count)
    house.janitor.tidy()
    assert house.store.stats().entries == left


def test_stores_that_find_the_store_full_at_once_make_room_once(house: House) -> None:
    """Each looks again once it is its turn: one round goes and not one for each of them."""
    house.fill(1000)
    waiting = threading.Barrier(8)

    def make_room(_: int) -> None:
        waiting.wait()
        house.janitor.make_room()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make_room, range(8)))
    assert house.events.removed(Removal.EVICTED) == [256]


@pytest.mark.parametrize(
    ("quota", "left"),
    [
        pytest.param(Quota(max_entries=300), 300, id="entries"),
        pytest.param(Quota(max_bytes=300 * 636), 300, id="bytes"),
        pytest.param(Quota(max_entries=600), 600, id="enough"),
    ],
)
def test_a_quota_made_smaller_is_reached(house: House, quota: Quota, left: int) -> None:
    """At the next round, in small transactions, to the entry."""
    ids = house.fill(600)
    house.janitor.tidy()
    assert house.kept(ids) == ids
    house.book = PolicyBook(Policy(quota=quota), {})
    house.janitor.tidy()
    assert len(house.kept(ids)) == left
    assert all(limit <= ROUND for limit in house.store.evict_limits)


def test_quotas_are_looked_at_when_they_change(house: House) -> None:
    """Not in every round, for that reads what each namespace holds; again when it failed."""
    house.fill(1)
    house.store.usages, house.store.failures = 0, {"usage": 1}
    for _ in range(4):
        house.janitor.tidy()
    assert house.store.usages == 1
    house.book = PolicyBook(Policy(), {})
    house.janitor.tidy()
    assert house.store.usages == 2


def test_a_disk_without_room_takes_a_share_of_the_entries(house: House) -> None:
    """A refused write has a twentieth evicted, not a whole round of what may be large entries."""
    house.fill(100)
    house.janitor.relieve()
    house.janitor.tidy()
    assert house.events.removed(Removal.EVICTED) == [6]


def test_the_thread_tidies_when_woken_and_once_more_at_the_end(house: House) -> None:
    """A quarantine wakes the thread; what comes after it is done by stop."""
    ids = house.fill(2)
    house.janitor.start()
    house.janitor.quarantine(ids[0])
    assert house.events.arrived.acquire(timeout=10)
    assert house.kept(ids) == [ids[1]]
    house.janitor.note_used(ids[1])
    house.janitor.stop()
    assert ids[1] in house.store.touched[-1]
    house.janitor.stop()


def test_stop_without_start_does_a_last_round(house: House) -> None:
    """A janitor that never began still puts down what it noted."""
    (entry_id,) = house.fill(1)
    house.janitor.note_used(entry_id)
    house.janitor.stop()
    assert [list(notes) for notes in house.store.touched] == [[entry_id]]


def test_one_of_several_does_what_concerns_all() -> None:
    """A janitor that does not lead notes use, drops what is damaged and relieves its own writers; it neither expires nor
    keeps the bound until it leads.
    """
    leading: list[bool] = []
    house = House(leads=lambda: bool(leading))
    short, *ids = house.fill(950, ttl_ms=2_000)
    house.clock.advance(5_000)
    house.janitor.note_used(ids[0])
    house.janitor.quarantine(ids[1])
    house.janitor.tidy()
    assert house.store.get(short) is not None
    assert house.kept(ids[:2]) == [ids[0]]
    house.janitor.relieve()
    house.janitor.tidy()
    assert house.store.stats().entries < 949
    leading.append(True)
    house.janitor.tidy()
    assert house.store.stats().entries == 0


@pytest.mark.parametrize("asked", [True, False], ids=["led-by-another", "never-asked"])
def test_who_ends_takes_nothing_over(*, asked: bool) -> None:
    """Of several that end one after the other, none that was led by another does what that one has just done; one that
    never had a round may be the only one.
    """
    leading: list[bool] = []
    house = House(leads=lambda: bool(leading))
    house.fill(1, ttl_ms=2_000)
    house.clock.advance(5_000)
    if asked:
        house.janitor.tidy()
    leading.append(True)
    house.janitor.stop()
    assert house.store.stats().entries == int(asked)
