"""Housekeeping behind the requests: one thread that expires, evicts, drops damaged entries and notes use.

Everything is done in small transactions (at most 256 removals each), so that stores are never kept
waiting and lookups, which read from a snapshot, notice nothing. ``tidy`` is one round of it.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from cachesvc.core.events import EntriesRemoved, TaskFailed
from cachesvc.core.policy import PolicyBook
from cachesvc.core.ports import Clock, Observer, ResponseStore
from cachesvc.core.types import NamespaceUsage, Quota, Removal, StoreStats, Use

# A transaction that deletes much more needs more free pages than a full store has (measured).
_ROUND_COUNT = 256
# A page is free when its last record is gone, and stores go on meanwhile: the low watermark is approached in ever
# smaller rounds, each a commit. With fewer than this to go, eviction ends.
_FEW_COUNT = 32
_RELIEF_SHARE = (
    20  # of a store that finds no room although its bound is not reached, one entry in so many goes
)
_NAMESPACE_COUNT = 100_000  # namespaces whose quotas are looked at, the largest first


@dataclass(frozen=True, slots=True)
class JanitorOptions:
    """When to do what. Watermarks are shares of the store's ``max_bytes`` and of ``max_entries``."""

    interval_s: float
    high_watermark: float
    low_watermark: float
    max_notes: int
    max_entries: int | None = None


class Janitor:
    """Owns the housekeeping thread. ``note_used``, ``quarantine`` and ``wake`` never block.

    ``options`` and ``policies`` give what is in force, a new book after every change; ``chores`` are
    done in every round, too. Where several processes share the store, what concerns all of it is done by the
    one that ``leads``; what this one has noted, by itself.
    """

    def __init__(
        self,
        store: ResponseStore,
        options: Callable[[], JanitorOptions],
        *,
        policies: Callable[[], PolicyBook],
        clock: Clock,
        observer: Observer,
        chores: Sequence[Callable[[], None]] = (),
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._options_now = options
        self._policies = policies
        self._kept: PolicyBook | None = None  # whose quotas were kept last
        self._chores = chores
        self._leads = leads
        self._clock = clock
        self._observer = observer
        self._lock = threading.Lock()
        self._uses: dict[int, Use] = {}
        self._damaged: set[int] = set()
        self._wake = threading.Event()
        self._stopping = False
        self._refused = False
        self._follows = False  # it does not lead, when it was asked last
        self._evicting = threading.Lock()  # one at a time decides how many must go, and lets them go
        self._thread = threading.Thread(target=self._run, name="cachesvc-janitor", daemon=True)

    @property
    def _options(self) -> JanitorOptions:
        return self._options_now()

    def start(self) -> None:
        """Begin. Before that, and after ``stop``, only ``tidy`` does anything."""
        self._thread.start()

    def stop(self) -> None:
        """Do a last round and end the thread. Who did not lead does not begin to: those that end together would each
        do it all once more.
        """
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._round(leads=not self._follows and self._leads())

    @property
    def alive(self) -> bool:
        """Whether housekeeping goes on."""
        return self._thread.is_alive()

    def note_used(self, entry_id: int) -> None:
        """An entry was served. Notes beyond the bound are lost: the order of eviction is then less exact."""
        with self._lock:
            before = self._uses.get(entry_id)
            if before is not None or len(self._uses) < self._options.max_notes:
                count = 1 if before is None else before.count + 1
                self._uses[entry_id] = Use(self._clock.now_ms(), count)

    def quarantine(self, entry_id: int) -> None:
        """An entry failed its digest: drop it soon. It is never served meanwhile, for it is checked each time."""
        with self._lock:
            if len(self._damaged) < self._options.max_notes:
                self._damaged.add(entry_id)
        self._wake.set()

    def wake(self) -> None:
        """Something has expired, or the store fills up: do a round now."""
        self._wake.set()

    def relieve(self) -> None:
        """A write found no room although the bound is not reached: evict a round. A full disk does that."""
        self._refused = True
        self._wake.set()

    def make_room(self) -> None:
        """Evict on the caller's thread when the store is past its bound: stores help before they add."""
        fill = self._fill(self._store.stats())
        if fill >= 1:
            self._evict_round(at_least=1)
        if fill >= self._options.high_watermark:
            self._wake.set()

    def tidy(self) -> None:
        """One round of everything. Failures are reported and tried again in the next round."""
        leads = self._leads()
        self._follows = not leads
        self._round(leads=leads)

    def _round(self, *, leads: bool) -> None:
        own = (self._drop_damaged, self._flush_notes, self._make_relief)
        of_all = (self._expire, self._evict, self._keep_quotas, self._reorder, *self._chores)
        for task in (*own, *of_all) if leads else own:
            self._attempt(task)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._options.interval_s)
            self._wake.clear()
            self.tidy()

    def _attempt(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - the edge of the worker: counted, and the thread lives on
            self._observer.on(TaskFailed.of(task.__name__.strip("_"), error))

    def _drop_damaged(self) -> None:
        while self._damaged:
            with self._lock:
                some = sorted(self._damaged)[:_ROUND_COUNT]
            self._count(Removal.QUARANTINED, self._store.remove(some))
            with self._lock:
                self._damaged.difference_update(some)

    def _flush_notes(self) -> None:
        while self._uses:
            with self._lock:
                some = dict(islice(self._uses.items(), _ROUND_COUNT))
            self._store.touch(some)
            with self._lock:
                for entry_id, noted in some.items():
                    self._uses[entry_id] = Use(
                        self._uses[entry_id].last_ms, self._uses[entry_id].count - noted.count
                    )
                    if not self._uses[entry_id].count:  # else it was used again meanwhile
                        del self._uses[entry_id]

    def _expire(self) -> None:
        full_round = True
        while full_round:
            count = self._store.expire(self._clock.now_ms(), _ROUND_COUNT)
            self._count(Removal.EXPIRED, count)
            full_round = count == _ROUND_COUNT and not self._stopping

    def _make_relief(self) -> None:
        if self._refused:
            self._refused = False
            some = self._store.stats().entries // _RELIEF_SHARE + 1
            self._count(Removal.EVICTED, self._store.evict(min(some, _ROUND_COUNT)))

    def _evict(self) -> None:
        if self._fill(self._store.stats()) < self._options.high_watermark:
            return
        while self._evict_round(at_least=self._options.low_watermark):
            stats = self._store.stats()
            if self._surplus(stats) < _FEW_COUNT and self._fill(stats) < self._options.high_watermark:
                break

    def _evict_round(self, at_least: float) -> int:
        """Evict down to the low watermark, at most a round, where the store is as full as said. How many went.

        It is looked at anew under the lock: many stores that find it full at once make room once.
        """
        with self._evicting:
            stats = self._store.stats()
            fill = self._fill(stats)
            surplus = max(self._surplus(stats), int(fill >= 1)) if fill >= at_least else 0
            removed = self._store.evict(min(surplus, _ROUND_COUNT)) if surplus else 0
        return self._count(Removal.EVICTED, removed)

    def _fill(self, stats: StoreStats) -> float:
        """How full the store is, by its bytes or its entries, whichever is more: 1 at the bound."""
        of_entries = 0.0 if self._options.max_entries is None else stats.entries / self._options.max_entries
        return max(stats.used_bytes / stats.max_bytes, of_entries)

    def _surplus(self, stats: StoreStats) -> int:
        """How many entries are above the low watermark, were they all of one size. 0 when none are."""
        low = self._options.low_watermark
        mean_bytes = max(stats.used_bytes / max(stats.entries, 1), 1.0)
        of_bytes = (stats.used_bytes - low * stats.max_bytes) / mean_bytes
        of_entries = (
            0.0 if self._options.max_entries is None else stats.entries - low * self._options.max_entries
        )
        return max(math.ceil(max(of_bytes, of_entries)), 0)

    def _keep_quotas(self) -> None:
        """Stores keep their namespace's quota; one that was made smaller is reached here. Then it is looked at
        no more until policies change: reading what many namespaces hold takes a while.
        """
        policies = self._policies()
        if policies is self._kept:
            return
        usages = self._store.usage(_NAMESPACE_COUNT)
        evicted = sum(self._keep_quota(usage, policies.of(usage.namespace).quota) for usage in usages)
        if not evicted:
            self._kept = policies

    def _keep_quota(self, usage: NamespaceUsage, quota: Quota) -> int:
        """Evict what is too much, by the mean size of the namespace's entries. How many went."""
        surplus = 0 if quota.max_entries is None else usage.entries - quota.max_entries
        if quota.max_bytes is not None and usage.size_bytes > quota.max_bytes:
            mean_bytes = usage.size_bytes / usage.entries
            surplus = max(surplus, math.ceil((usage.size_bytes - quota.max_bytes) / mean_bytes))
        evicted = 0
        while evicted < surplus and not self._stopping:
            removed = self._store.evict(min(surplus - evicted, _ROUND_COUNT), usage.namespace)
            if not self._count(Removal.EVICTED, removed):
                break
            evicted += removed
        return evicted

    def _reorder(self) -> None:
        while self._store.reorder(_ROUND_COUNT) == _ROUND_COUNT and not self._stopping:
            pass

    def _count(self, why: Removal, count: int) -> int:
        if count:
            self._observer.on(EntriesRemoved(why, count))
        return count
