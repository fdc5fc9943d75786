"""What workers have in common: the lock they are lent, who leads, one clock, and metrics that are added up."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.leader import Leader
from cachesvc.adapters.lmdb_begin import Prepared, prepare
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.errors import CacheError, Kind
from cachesvc.observe.crew import Merged, MetricValues, values_of

PRINT = "engine:test"


def options(path: Path) -> StoreOptions:
    return StoreOptions(
        path=path,
        map_size_bytes=64 << 20,
        max_bytes=32 << 20,
        durability="sync",
        write_queue_length=256,
        compress_min_bytes=256,
        log_max_records=1024,
    )


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Prepared]:
    """A store that workers can attach to."""
    held = prepare(options(tmp_path / "store"), PRINT, lambda told: None)
    yield held
    held.lock.release(stopped=True)


def test_a_store_is_attached_to_with_its_lock_alone(prepared: Prepared, tmp_path: Path) -> None:
    """Who was handed the lock's descriptor opens the store, however long the file; with another one, or with the same
    of another directory, or without, nobody does.
    """
    lent = replace(options(tmp_path / "store"), lent_lock=os.dup(prepared.lock.descriptor))
    store = LmdbStore(lent, PRINT)
    assert store.stats().entries == 0
    store.close()
    with (tmp_path / "other").open("w") as other:
        for wrong in (other.fileno(), 987):
            with pytest.raises(CacheError, match="not handed to this process") as refused:
                LmdbStore(replace(lent, lent_lock=wrong), PRINT)
            assert refused.value.kind is Kind.LOCKED
    with pytest.raises(CacheError, match="in use by process"):
        LmdbStore(options(tmp_path / "store"), PRINT)
    with pytest.raises(CacheError, match="was written with the embedder"):
        LmdbStore(replace(lent, lent_lock=os.dup(prepared.lock.descriptor)), "engine:other")


def test_the_store_is_in_use_until_the_last_has_let_go(prepared: Prepared, tmp_path: Path) -> None:
    """As long as one process has the lent lock the directory is nobody else's, though its supervisor is gone."""
    lent = os.dup(prepared.lock.descriptor)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lent,)
    ) as worker:
        os.close(lent)
        os.close(prepared.lock.descriptor)  # as the end of its process does
        with pytest.raises(CacheError, match="in use by process"):
            LmdbStore(options(tmp_path / "store"), PRINT)
        worker.kill()
    store = LmdbStore(options(tmp_path / "store"), PRINT)
    prepared.lock._descriptor = os.dup(store._lock.descriptor)  # type: ignore[union-attr]  # for the fixture
    store.close()


_READER = """
import sys, lmdb
env = lmdb.open(sys.argv[1], max_dbs=16, map_size=64 << 20, max_readers=4096)
reading = env.begin()
print("reading", flush=True)
input()
"""


def test_the_place_of_a_dead_reader_is_free_again(prepared: Prepared, tmp_path: Path) -> None:
    """A process that was killed while it read holds back no pages once another has taken its place."""
    path = tmp_path / "store"
    lent = replace(options(path), lent_lock=os.dup(prepared.lock.descriptor))
    store = LmdbStore(lent, PRINT)
    with subprocess.Popen(
        [sys.executable, "-c", _READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as dead:
        assert dead.stdout is not None
        assert dead.stdout.readline() == "reading\n"
        dead.kill()
    assert f"{dead.pid} " in store._env.readers()
    code = (
        "import sys; from tests.workers.test_shared import *; from dataclasses import replace\n"
        "LmdbStore(replace(options(Path(sys.argv[1])), lent_lock=int(sys.argv[2])), PRINT).close()"
    )
    descriptor = prepared.lock.descriptor
    subprocess.run(
        [sys.executable, "-c", code, str(path), str(descriptor)],
        check=True,
        pass_fds=(descriptor,),
        timeout=60,
    )
    assert f"{dead.pid} " not in store._env.readers()
    store.close()


_LEADER = """
import sys
from pathlib import Path
from cachesvc.adapters.leader import Leader
leader = Leader(Path(sys.argv[1]))
print(leader.leads(), flush=True)
input()
"""


def test_the_one_that_leads_is_followed_when_it_dies(tmp_path: Path) -> None:
    """One process leads; another does as soon as it has been killed, and a third when that one resigns."""
    file = tmp_path / "housekeeping.lock"
    with subprocess.Popen(
        [sys.executable, "-c", _LEADER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "True\n"
        second, third = Leader(file), Leader(file)
        assert (second.leads(), third.leads()) == (False, False)
        first.send_signal(signal.SIGKILL)
    assert (second.holds, third.holds) == (False, False)
    assert (second.leads(), third.leads(), second.leads()) == (True, False, True)
    assert (second.holds, third.holds) == (True, False)
    second.resign()
    assert third.leads()
    third.resign()


def test_clocks_with_one_start_agree() -> None:
    """A clock that is given another's start says what that one says, whatever the wall clock is."""
    first = SystemClock(floor_ms=4_000_000_000_000)
    second = SystemClock(floor_ms=0, start=first.start)
    assert 0 <= second.now_ms() - first.now_ms() < 1000
    assert second.ahead_s > 1_000_000


class Process:
    """The metrics of a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter("calls", "Calls.", ["code"], registry=self.registry)
        self.took_s = Histogram("took_seconds", "Time.", buckets=(1.0, 2.0), registry=self.registry)
        self.entries = Gauge("cachesvc_entries", "Of the store.", registry=self.registry)
        self.scopes = Gauge("cachesvc_index_scopes", "In memory.", registry=self.registry)
        self.healthy = Gauge("cachesvc_embedder_healthy", "Health.", registry=self.registry)

    def work(self, calls: int, entries: int, scopes: int, *, healthy: bool) -> list[MetricValues]:
        self.calls.labels("OK").inc(calls)
        self.took_s.observe(1.5)
        self.entries.set(entries)
        self.scopes.set(scopes)
        self.healthy.set(healthy)
        return list(map(values_of, self.registry.collect()))


def test_metrics_of_several_are_those_of_one() -> None:
    """Counters and histograms add up; a gauge is the sum, the most or the least, by what it means."""
    shown = CollectorRegistry()
    merged = Merged(CollectorRegistry(), lambda: None)
    shown.register(merged)
    merged.heard(0, Process().work(3, 10, 2, healthy=True))
    merged.heard(1, Process().work(4, 11, 5, healthy=False))
    assert shown.get_sample_value("calls_total", {"code": "OK"}) == 7
    assert shown.get_sample_value("took_seconds_bucket", {"le": "1.0"}) == 0
    assert shown.get_sample_value("took_seconds_count") == 2
    assert shown.get_sample_value("cachesvc_entries") == 11
    assert shown.get_sample_value("cachesvc_index_scopes") == 7
    assert shown.get_sample_value("cachesvc_embedder_healthy") == 0


def test_no_counter_goes_back_when_a_process_ends() -> None:
    """What a process counted is counted on when it has ended; its gauges are not."""
    shown = CollectorRegistry()
    merged = Merged(CollectorRegistry(), lambda: None)
    shown.register(merged)
    for life in range(3):
        merged.heard(0, Process().work(5, 10, 2, healthy=False))
        assert shown.get_sample_value("calls_total", {"code": "OK"}) == 5 * (life + 1)
        merged.gone(0)
        assert shown.get_sample_value("calls_total", {"code": "OK"}) == 5 * (life + 1)
        assert shown.get_sample_value("took_seconds_sum") == 1.5 * (life + 1)
        assert shown.get_sample_value("cachesvc_index_scopes") is None
