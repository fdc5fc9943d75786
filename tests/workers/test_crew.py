"""Who keeps workers: each that ends is replaced, one that hangs is killed, and what cannot go on is given up."""

import os
import queue
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.memory import ManualClock
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import Clock
from cachesvc.crew import Crew, CrewOptions, Ended
from cachesvc.link import Begin, Report, Seat

WAIT_S = 60.0

# A worker without an engine. ``settings`` say what becomes of it.
WORKER = """
import os, signal, socket, sys, time
from cachesvc.core.warming import Warming
from cachesvc.link import Ask, Begin, Failed, Link, Publish, Report, Serving
link = Link(socket.socket(fileno=int(sys.argv[-1])))
signal.signal(signal.SIGTERM, lambda *_: link.stop_listening())
told = link.receive().settings
if told["mode"] == "fails":
    link.send(Failed("corrupt", "the engine cannot be read"))
    sys.exit(1)
if told["mode"] == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
link.send(Serving())
while (message := link.receive()) is not None:
    if isinstance(message, Publish):
        told = message.settings
    if isinstance(message, Ask):
        warm = Warming(True, 0, 0, 0, 0, 0.0)
        link.send(Report(message.number, True, True, {told["mode"]: True}, warm, []))
if told["mode"] == "drains":
    os.read(int(sys.argv[-2]), 1)
    link.send(Report(0, True, True, {"last words": True}, warm, []))
while told["mode"] == "deaf":
    time.sleep(60)
"""


@dataclass(frozen=True)
class GaveUp:
    error: CacheError
    suspects_store: bool


@dataclass(frozen=True)
class Serves:
    number: int
    pid: int


class Watcher:
    """What it was told, in order; reports apart."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def worker_serves(self, number: int, pid: int) -> None:
        self.told.put(Serves(number, pid))

    def worker_reports(self, number: int, report: Report) -> None:
        if not report.number:
            self.told.put(report)

    def worker_ended(self, ended: Ended) -> None:
        self.told.put(ended)

    def gave_up(self, error: CacheError, *, suspects_store: bool) -> None:
        self.told.put(GaveUp(error, suspects_store))

    def next(self, kind: type[Any]) -> Any:
        """The next thing of this kind."""
        while not isinstance(told := self.told.get(timeout=WAIT_S), kind):
            pass
        return told


class House:
    """A crew and who watches it."""

    def __init__(self, mode: str, count: int, clock: Clock, stop_s: float) -> None:
        self.mode = mode
        drained, self.gate = os.pipe()
        self.watcher = Watcher()
        options = CrewOptions(
            count,
            (sys.executable, "-c", WORKER, str(drained)),
            (drained,),
            {"PYTHONPATH": os.pathsep.join(sys.path)},
            stop_s,
            look_s=0.05,
            first_pause_s=0.01,
        )
        self.crew = Crew(options, self._begin, self.watcher, clock)
        self.crew.start()
        self.pipe = (drained, self.gate)

    def close(self) -> None:
        self.crew.stop()
        for end in self.pipe:
            os.close(end)

    def _begin(self, number: int) -> Begin:
        return Begin({"mode": self.mode}, Seat(number, 0, 0, 0, b""))

    def modes(self) -> list[list[str]]:
        self.crew.refresh()
        return [list(member.report.components) if member.report else [] for member in self.crew.members()]


@pytest.fixture
def start() -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def start_crew(mode: str, count: int = 1, clock: Clock | None = None, stop_s: float = WAIT_S) -> House:
        houses.append(House(mode, count, clock or SystemClock(0), stop_s))
        return houses[-1]

    yield start_crew
    for house in houses:
        house.close()


def test_who_ends_is_replaced(start: Callable[..., House]) -> None:
    """A worker that was killed has a successor in its place, while the other goes on; stopping ends both with 0."""
    house = start("serves", count=2)
    pids = {told.number: told.pid for told in (house.watcher.next(Serves), house.watcher.next(Serves))}
    os.kill(pids[1], signal.SIGKILL)
    assert house.watcher.next(Ended) == Ended(1, -signal.SIGKILL, wanted=False)
    again = house.watcher.next(Serves)
    assert (again.number, again.pid == pids[1]) == (1, False)
    house.crew.stop()
    codes = [house.watcher.next(Ended), house.watcher.next(Ended)]
    assert sorted(codes, key=lambda ended: ended.number) == [
        Ended(0, 0, wanted=True),
        Ended(1, 0, wanted=True),
    ]


def test_what_is_published_is_gone_by(start: Callable[..., House]) -> None:
    """Once published, settings are those of every worker, and of one that is started later."""
    house = start("serves", count=2)
    house.watcher.next(Serves)
    pid = house.watcher.next(Serves).pid
    house.mode = "other"
    house.crew.publish(lambda number: {"mode": house.mode})
    assert house.modes() == [["other"], ["other"]]
    os.kill(pid, signal.SIGTERM)
    house.watcher.next(Serves)
    assert house.modes() == [["other"], ["other"]]


def test_who_is_silent_is_killed(start: Callable[..., House]) -> None:
    """A worker that has owed an answer for too long is as good as dead, and is replaced."""
    clock = ManualClock()
    house = start("serves", clock=clock)
    pid = house.watcher.next(Serves).pid
    house.crew.refresh()
    os.kill(pid, signal.SIGSTOP)
    house.crew.refresh()  # it owes an answer from now on
    clock.advance(31_000)
    assert house.watcher.next(Ended).code == -signal.SIGKILL
    assert house.watcher.next(Serves).pid != pid


def test_who_ends_in_order_has_its_time_and_its_last_words(start: Callable[..., House]) -> None:
    """A worker that was told to end is asked no more and counted among those that serve no more, may take its time
    however silent it is, and is heard to its end; what takes longer than it may is killed.
    """
    clock = ManualClock()
    house = start("drains", clock=clock)
    for is_killed in (False, True):
        os.kill(house.watcher.next(Serves).pid, signal.SIGTERM)
        while house.crew.members()[0].serving:
            house.crew.refresh()
        clock.advance(59_000)
        house.crew.refresh()
        if is_killed:
            house.mode = "serves"
            clock.advance(2_000)
        else:
            os.write(house.gate, b".")
            assert "last words" in house.watcher.next(Report).components
        assert house.watcher.next(Ended) == Ended(0, -signal.SIGKILL if is_killed else 0, wanted=False)


def test_a_terminal_reaches_no_worker(start: Callable[..., House]) -> None:
    """Workers are in a session of their own: Ctrl-C, which goes to all of a terminal, is their supervisor's."""
    pid = start("serves").watcher.next(Serves).pid
    assert os.getsid(pid) == pid


def test_who_does_not_end_is_killed(start: Callable[..., House]) -> None:
    """A worker that is still there when its time to end is over is killed."""
    house = start("deaf", stop_s=0.2)
    house.watcher.next(Serves)
    house.crew.stop()
    assert house.watcher.next(Ended) == Ended(0, -signal.SIGKILL, wanted=True)


@pytest.mark.parametrize(
    ("mode", "kind", "message"),
    [
        pytest.param("fails", Kind.CORRUPT, "the engine cannot be read", id="says-why"),
        pytest.param("dies", Kind.UNAVAILABLE, "killed by signal 9", id="dies"),
    ],
)
def test_workers_that_cannot_start(start: Callable[..., House], mode: str, kind: Kind, message: str) -> None:
    """When none comes to serve it is given up with the worker's reason, or after some attempts."""
    told = start(mode).watcher.next(GaveUp)
    assert (told.error.kind, message in told.error.message, told.suspects_store) == (kind, True, False)


def test_deaths_as_of_a_damaged_store(start: Callable[..., House]) -> None:
    """Three workers that LMDB or the kernel ended are a reason to stop and look at the store."""
    house = start("serves")
    for _ in range(3):
        os.kill(house.watcher.next(Serves).pid, signal.SIGABRT)
    assert house.watcher.next(GaveUp).suspects_store is True
