"""Keeps the workers of a supervisor: starts them, hears them, and puts another in the place of one that has ended.

A worker that had served is replaced at once; one that ended soon, or could not start, after a pause that doubles. When
none serves and none can be started, and when several died of what a damaged store does to a process, it gives up:
whoever started this server is to start it anew, and the store is then looked at first.

Each place has a thread, which starts its workers (spawned, never forked: LMDB, gRPC and onnxruntime forbid it) and hears
what they say. Locks: ``_state`` guards what the places hold, and nothing is called while it is held; ``_telling`` keeps
a worker's first words first. Order: ``_telling``, ``_state``.
"""

import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import Clock
from cachesvc.link import Ask, Begin, Failed, Link, Publish, Report, Serving

_STEADY_S = 10.0  # who served so long did not die of how it was started
_LONGEST_PAUSE_S = 30.0
_MOST_FAILURES = 4  # in a row, while none serves
_SILENT_S = 30.0  # who has owed an answer for so long will not give it
_TELL_S = 5.0  # a worker that listens to nothing for so long is given up
_ANSWER_S = 1.0  # how long answers are waited for, when somebody wants to know
_MOST_OWED = 64  # questions to one worker
# What LMDB's assertions and pages that are not there end a process with, and how many such deaths call for a look.
_DAMAGE = frozenset((-signal.SIGABRT, -signal.SIGBUS, -signal.SIGSEGV, -signal.SIGFPE))
_MANY_DEATHS = 3
_DEATHS_WITHIN_S = 3600.0


@dataclass(frozen=True, slots=True)
class CrewOptions:
    """How many workers, the program that they are, the descriptors and the environment that each gets, and how long
    they have to end. The program is told its end of the link, a descriptor, as its last argument. ``look_s`` is how often
    they are asked how they are, ``first_pause_s`` how long one that came to nothing is not followed by another.
    """

    count: int
    command: tuple[str, ...]
    descriptors: tuple[int, ...]
    environment: Mapping[str, str]
    stop_s: float
    look_s: float = 2.0
    first_pause_s: float = 0.25


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker has ended: its exit code, negative for a signal, and whether it was to end."""

    number: int
    code: int
    wanted: bool


class CrewWatcher(Protocol):
    """Who is told what becomes of the workers. Called from their threads; must not wait for the crew."""

    def worker_serves(self, number: int, pid: int) -> None:
        """It answers calls."""

    def worker_reports(self, number: int, report: Report) -> None:
        """How it is."""

    def worker_ended(self, ended: Ended) -> None:
        """Another will take its place, unless it was wanted."""

    def gave_up(self, error: CacheError, *, suspects_store: bool) -> None:
        """There is no use in going on."""


@dataclass(frozen=True, slots=True)
class Member:
    """How a worker is. ``report`` is its last."""

    number: int
    serving: bool
    report: Report | None


class _Place:
    def __init__(self, number: int) -> None:
        self.number = number
        self.process: subprocess.Popen[bytes] | None = None
        self.link: Link | None = None
        self.thread: threading.Thread | None = None
        self.failures = 0  # starts in a row that came to nothing
        self.failure: CacheError | None = None  # why the last one did, as the worker said
        self.begin_anew()

    def begin_anew(self) -> None:
        self.serving_since_s: float | None = None
        self.report: Report | None = None
        self.asked = self.answered = 0
        self.owed_since_s = 0.0
        self.leaving_since_s: float | None = None  # it listens no more, and ends in order

    @property
    def serving(self) -> bool:
        return self.serving_since_s is not None and self.leaving_since_s is None


class Crew:
    """The workers, from ``start`` to ``stop``. ``begin`` makes what each is told first. Thread-safe."""

    def __init__(
        self, options: CrewOptions, begin: Callable[[int], Begin], watcher: CrewWatcher, clock: Clock
    ) -> None:
        self._options = options
        self._begin = begin
        self._watcher = watcher
        self._clock = clock
        self._state = threading.Condition()
        self._telling = threading.Lock()
        self._stop = threading.Event()
        self._has_served = False
        self._damaging: deque[float] = deque(maxlen=_MANY_DEATHS)  # when workers died so
        self._places = [_Place(number) for number in range(options.count)]
        self._looker = threading.Thread(target=self._look, name="cachesvc-look", daemon=True)

    def start(self) -> None:
        """Start all, without waiting for them."""
        for place in self._places:
            place.thread = threading.Thread(
                target=self._keep, args=(place,), name=f"cachesvc-worker-{place.number}", daemon=True
            )
            place.thread.start()
        self._looker.start()

    def stop(self) -> None:
        """Have them finish what is under way and end; who takes too long is killed."""
        self._stop.set()
        with self._telling:
            links = [place.link for place in self._places if place.link is not None]
        for link in links:
            link.end()
        until_s = self._clock.monotonic_s() + self._options.stop_s
        for place in self._places:
            if place.thread is None:
                continue
            place.thread.join(max(until_s - self._clock.monotonic_s(), 0.0))
            if place.thread.is_alive() and place.process is not None:
                place.process.kill()
                place.thread.join()
        if self._looker.is_alive():
            self._looker.join()

    def publish(self, settings: Callable[[int], dict[str, Any]]) -> None:
        """Have each go by its settings, which ``begin`` gives already. Once it returns those that answer do."""
        with self._telling:
            for place in self._places:
                if place.link is not None:
                    place.link.send(Publish(settings(place.number)))
        self.refresh()  # what is said on a link is heeded in order

    def refresh(self) -> None:
        """Have all report, and wait a little for it; who says nothing keeps its last report."""
        asked = [(place, self._ask(place)) for place in self._places if place.serving]
        with self._state:
            self._state.wait_for(
                lambda: all(not place.serving or place.answered >= number for place, number in asked),
                _ANSWER_S,
            )

    def members(self) -> Sequence[Member]:
        """How they are, as far as is known."""
        with self._state:
            return [Member(place.number, place.serving, place.report) for place in self._places]

    def _ask(self, place: _Place) -> int:
        """Ask a worker to report. The number of its answer."""
        with self._state:
            link = place.link
            if link is None or place.asked - place.answered >= _MOST_OWED:
                return place.asked
            if place.asked == place.answered:
                place.owed_since_s = self._clock.monotonic_s()
            place.asked += 1
            number = place.asked
        if not link.send(Ask(number)):
            with self._state:
                if place.link is link and place.leaving_since_s is None:
                    place.leaving_since_s = self._clock.monotonic_s()
        return number

    def _look(self) -> None:
        """So that little of what a worker counted is lost with it, and one that hangs is noticed."""
        while not self._stop.wait(self._options.look_s):
            for place in self._places:
                if place.process is not None and self._takes_too_long(place):
                    place.process.kill()
                elif place.serving:
                    self._ask(place)

    def _takes_too_long(self, place: _Place) -> bool:
        """To answer, or to end when it said that it would by listening no more."""
        with self._state:
            now_s = self._clock.monotonic_s()
            if place.leaving_since_s is not None:
                return now_s - place.leaving_since_s > self._options.stop_s
            return place.serving and place.asked > place.answered and now_s - place.owed_since_s > _SILENT_S

    def _keep(self, place: _Place) -> None:
        """A place's thread."""
        try:
            self._keep_filled(place)
        except Exception as error:  # noqa: BLE001 - the edge of the thread: without it the place would stay empty
            fault = f"a worker cannot be kept: {type(error).__name__}"
            self._watcher.gave_up(CacheError(Kind.INTERNAL, fault), suspects_store=False)

    def _keep_filled(self, place: _Place) -> None:
        """One worker after the other."""
        while not self._stop.is_set():
            place.failure = None
            code = self._live(place)
            served_s = 0.0
            with self._state:
                if place.serving_since_s is not None:
                    served_s = self._clock.monotonic_s() - place.serving_since_s
                place.begin_anew()
                self._state.notify_all()
            wanted = self._stop.is_set()
            self._watcher.worker_ended(Ended(place.number, code, wanted))
            if wanted:
                return
            place.failures = 0 if served_s >= _STEADY_S else place.failures + 1
            if code in _DAMAGE:
                self._damaging.append(self._clock.monotonic_s())
            if self._is_hopeless(place, code):
                return
            at_once = served_s > 0 and place.failures <= 1
            pause_s = 0.0 if at_once else self._options.first_pause_s * 2 ** min(place.failures - 1, 16)
            self._stop.wait(min(pause_s, _LONGEST_PAUSE_S))

    def _live(self, place: _Place) -> int:
        """Start a worker and hear it to its end. Its exit code."""
        ours, theirs = socket.socketpair()
        link = Link(ours, _TELL_S)
        try:
            with theirs:
                process = subprocess.Popen(  # noqa: S603 - our own program
                    [*self._options.command, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *self._options.descriptors),
                    env=dict(self._options.environment),
                    start_new_session=True,  # what a terminal sends to all (Ctrl-C) is the supervisor's alone
                )
            place.process = process
            with self._telling:
                place.link = link
                link.send(self._begin(place.number))
            if self._stop.is_set():  # it was set before there was a link to end
                link.end()
            while (message := link.receive()) is not None:
                match message:
                    case Serving():
                        self._now_serves(place)
                    case Failed():
                        place.failure = CacheError(Kind(message.kind), message.message)
                    case Report():
                        self._heard(place, message)
                    case _:
                        process.kill()  # it is none of ours
            return self._awaited(process)
        except OSError as error:
            place.failure = CacheError(Kind.UNAVAILABLE, f"no worker can be started: {error.strerror}")
            return 1
        finally:
            with self._telling:
                place.link = None
            link.close()

    def _awaited(self, process: "subprocess.Popen[bytes]") -> int:
        """The exit code of a worker that says no more. What does not end by itself is killed."""
        try:
            return process.wait(self._options.stop_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _now_serves(self, place: _Place) -> None:
        assert place.process is not None
        with self._state:
            place.serving_since_s = self._clock.monotonic_s()
            self._has_served = True
        self._ask(place)
        self._watcher.worker_serves(place.number, place.process.pid)

    def _heard(self, place: _Place, report: Report) -> None:
        self._watcher.worker_reports(place.number, report)
        with self._state:
            place.report = report
            if report.number:  # else its last words
                place.answered = report.number
                place.owed_since_s = self._clock.monotonic_s()
            self._state.notify_all()

    def _is_hopeless(self, place: _Place, code: int) -> bool:
        """Whether there is no use in going on, which is told then."""
        died_s = self._damaging
        if len(died_s) == _MANY_DEATHS and died_s[-1] - died_s[0] < _DEATHS_WITHIN_S:
            fault = f"{_MANY_DEATHS} workers died within an hour as of a damaged store (signal {-code})"
            self._watcher.gave_up(CacheError(Kind.UNAVAILABLE, fault), suspects_store=True)
            return True
        if any(other.serving for other in self._places):
            return False
        if place.failure is not None and not self._has_served:
            self._watcher.gave_up(place.failure, suspects_store=False)
            return True
        if place.failures < _MOST_FAILURES:
            return False
        why = f"killed by signal {-code}" if code < 0 else f"exit {code}"
        error = place.failure or CacheError(
            Kind.UNAVAILABLE, f"workers end as soon as they are started ({why})"
        )
        self._watcher.gave_up(error, suspects_store=False)
        return True
