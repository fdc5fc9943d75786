"""Time: counted from the start, not read, so that a wall clock that steps resurrects and expires nothing."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.adapters.memory import ManualClock
from cachesvc.core.ports import Clock, Embedder
from cachesvc.making import store_options
from cachesvc.settings import Settings
from tests.conftest import Running

HOUR_MS = 3_600_000


@pytest.mark.parametrize("clock", [SystemClock(0), ManualClock()], ids=["system", "manual"])
def test_time_never_goes_back(clock: Clock) -> None:
    """However often it is asked, now is not before what it was."""
    seen = [clock.now_ms() for _ in range(1000)]
    assert seen == sorted(seen)
    assert clock.monotonic_s() >= 0
    assert 0 <= clock.thread_s() <= clock.thread_s()


def test_a_restart_under_a_wall_clock_set_back_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes on from the latest that is known, not from the wall's."""
    wall_ms = SystemClock(0).now_ms()
    late = SystemClock(wall_ms + HOUR_MS)
    assert late.now_ms() >= wall_ms + HOUR_MS


@pytest.mark.parametrize("step_ms", [-HOUR_MS, 10 * 365 * 24 * HOUR_MS], ids=["an hour back", "ten years on"])
def test_a_wall_clock_that_steps_while_running_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, step_ms: int
) -> None:
    """The wall clock is read at the start and never again."""
    clock = SystemClock(0)
    before_ms, wall_ns = clock.now_ms(), time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns + step_ms * 1_000_000)
    assert 0 <= clock.now_ms() - before_ms < HOUR_MS // 2


@pytest.mark.parametrize(("ahead_ms", "told"), [(HOUR_MS, True), (1000, False)], ids=["an hour", "a second"])
def test_a_wall_clock_behind_the_store_is_told(
    start: Callable[..., Running],
    embedder: Embedder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ahead_ms: int,
    *,
    told: bool,
) -> None:
    """A server on a store that was written later than now says so at its start, and by how much."""
    settings = Settings.model_validate({"store": {"path": tmp_path / "store"}})
    with closing(LmdbStore(store_options(settings), embedder.fingerprint)) as store:
        store.expire(SystemClock(0).now_ms() + ahead_ms, 1)
    start()
    lines = [line for line in capsys.readouterr().err.splitlines() if "wall_clock_behind_store" in line]
    assert len(lines) == told
    assert all(3500 < json.loads(line)["seconds"] <= 3600 for line in lines)
