"""The thread pool under gRPC, and the admission of calls to it.

It knows every call from the moment gRPC hands it over until its reply is out, so that stopping can let all
of them end. A refusal never waits behind the work that it is refused for: what comes when enough calls wait
already is turned away before it is handed over (``Edge``), and what is handed over all the same meets a thread
that does nothing else.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from cachesvc.core.errors import CacheError, Kind
from cachesvc.serve.straight import Arrival, arrival

_P = ParamSpec("_P")
_T = TypeVar("_T")


LATE = CacheError(Kind.UNAVAILABLE, "the server is stopping")
CROWDED = CacheError(
    Kind.OVERLOADED, "too many calls wait already (server.max_queued_calls): try again later"
)


class CallPool(ThreadPoolExecutor):
    """Counts what is under way. Whatever is submitted once ``drain`` has been called is late."""

    def __init__(self, threads: int, max_queued: int, max_queue_s: float, at_once: int = 0) -> None:
        """``at_once``: how many polling threads may be busy with answers of their own at a time."""
        super().__init__(threads, thread_name_prefix="cachesvc-call")
        self._turns = [None] * at_once  # taken and given back whole, for which a list needs no lock
        self._door = ThreadPoolExecutor(1, thread_name_prefix="cachesvc-door")
        self._max_queued = max_queued
        self._max_queue_s = max_queue_s
        self._lock = threading.Lock()  # guards the next three
        self._none_left = threading.Condition(self._lock)
        self._count = 0
        self._queued = 0
        self._draining = False
        self._here = threading.local()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Any:
        """As ThreadPoolExecutor; counted until it has ended or was cancelled, unless it is late. What it gives for a
        call that has arrived knows no more than ``Handled``, which is all that gRPC asks of it.
        """
        call = partial(fn, *args, **kwargs)
        come = arrival(args)
        with self._lock:
            if self._draining:
                return self._door.submit(self._refuse, LATE, call)
            self._count += 1
        if come is None:
            return self._hand_over(call)
        come.on_end(self.leave)
        come.receive(self._arrived)
        return come.handled

    def _arrived(self, come: Arrival, data: bytes) -> None:
        """A message is here, on a polling thread: answer it on the spot, or let the pool do it, which does all once it
        drains: stopping ends all polling threads but gRPC's own.
        """
        argument: object = data
        if come.method.begins and self._turns and not self._draining:
            argument = self._begun(come, data)
            if argument is None:
                come.handled.now()
                return
        self.enter()
        self._hand_over(partial(come.run, argument)).add_done_callback(come.handled.now)

    def _begun(self, come: Arrival, data: bytes) -> object:
        """What is left to do of a call: all of it when all polling threads but one are busy, for that one must not be."""
        try:
            self._turns.pop()
        except IndexError:
            return data
        try:
            return come.method.begin(data, come)
        finally:
            self._turns.append(None)

    def _hand_over(self, call: Callable[[], _T]) -> "Future[_T]":
        """Let a thread of the pool do what is counted already, or refuse it when enough wait: those who were silent
        when they came may all speak at once.
        """
        with self._lock:
            crowded = self._queued >= self._max_queued
            self._queued += not crowded
        try:
            if crowded:
                future = self._door.submit(self._refuse, CROWDED, call)
            else:
                future = super().submit(self._run, time.monotonic(), call)
        except BaseException:
            self._ended(queued=not crowded)
            raise
        future.add_done_callback(lambda done: self._ended(queued=not crowded and done.cancelled()))
        return future

    def refusal(self) -> CacheError | None:
        """What a call that comes now would be refused for, if it would. A glance, without the lock."""
        if self._draining:
            return LATE
        return CROWDED if self._queued >= self._max_queued else None

    def admit(self) -> None:
        """To be called first by what runs here: raises what it is refused for, if it is."""
        refusal: CacheError | None = getattr(self._here, "refusal", None)
        if refusal is not None:  # a new one each time: an exception gathers a traceback with every raise
            raise CacheError(refusal.kind, refusal.message)

    def enter(self) -> None:
        """Count one more: a reply that is to go out. To be called from what is counted already."""
        with self._lock:
            self._count += 1

    def leave(self) -> None:
        """The opposite of ``enter``."""
        with self._lock:
            self._count -= 1
            if self._draining and not self._count:
                self._none_left.notify_all()

    def drain(self, most_s: float) -> bool:
        """From now on all is late. Wait until what is counted has ended; false if that takes too long."""
        with self._lock:
            self._draining = True
            return self._none_left.wait_for(lambda: not self._count, most_s)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as there
        """As ThreadPoolExecutor."""
        self._door.shutdown(wait, cancel_futures=cancel_futures)
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _run(self, queued_s: float, call: Callable[[], _T]) -> _T:
        self._dequeue()
        if time.monotonic() - queued_s > self._max_queue_s:
            return self._refuse(_TOO_LONG, call)
        return call()

    def _refuse(self, refusal: CacheError, call: Callable[[], _T]) -> _T:
        """Let a call meet its refusal; what needs no admission, as health, is answered all the same."""
        self._here.refusal = refusal
        try:
            return call()
        finally:
            self._here.refusal = None

    def _dequeue(self) -> None:
        with self._lock:
            self._queued -= 1

    def _ended(self, *, queued: bool) -> None:
        """What was handed over has ended; ``queued``: without having run."""
        if queued:
            self._dequeue()
        self.leave()


_TOO_LONG = CacheError(
    Kind.OVERLOADED, "the call waited too long to be begun (server.max_queue_s): try again later"
)
