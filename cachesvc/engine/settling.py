"""Moves indexes that have outgrown their layout to another one, behind the requests.

One thread for all, one index after the other, a short step at a time; after each it pauses as long as the step took, so
that requests have the processor at least half of the time. ``views`` offers what is to be moved. An index is a view:
one that is let go of half way has lost nothing.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from cachesvc.core.errors import Kind
from cachesvc.core.events import IndexSettled, TaskFailed
from cachesvc.core.ports import Clock, Observer, VectorIndex
from cachesvc.engine.snapshots import Snapshots

_NOTED_STEPS = 64  # after so many steps the account of memory is brought up to date
_LONGEST_PAUSE_S = 0.1
_AFTER_FAILURE_S = 10.0


@dataclass(frozen=True, slots=True)
class Settling:
    """An index that is to be moved, whether it is still searched, and whom to tell that its size is another, and that
    it has moved.
    """

    index: VectorIndex
    is_wanted: Callable[[], bool]
    note_size: Callable[[], None]
    note_moved: Callable[[], None]


class Settler:
    """Thread-safe."""

    def __init__(self, clock: Clock, observer: Observer, begin_thread: Callable[[], None]) -> None:
        """``begin_thread`` is called by the thread when it begins, to give itself less of the processor."""
        self._clock = clock
        self._observer = observer
        self._begin_thread = begin_thread
        self._changed = threading.Condition()
        self._offered: deque[Settling] = deque()  # each index once at most: as many as are loaded
        self._indexes: set[int] = set()  # of those offered or under way
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachesvc-settler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Leave what is under way and end the thread."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def offer(self, settling: Settling) -> None:
        """Have an index moved. Never blocks for long."""
        with self._changed:
            if id(settling.index) not in self._indexes:
                self._indexes.add(id(settling.index))
                self._offered.append(settling)
                self._changed.notify_all()

    def _run(self) -> None:
        self._begin_thread()
        while (settling := self._taken()) is not None:
            try:
                self.settle(settling)
            except Exception as error:  # noqa: BLE001 - the edge of the worker: counted, and the thread lives on
                self._observer.on(TaskFailed("settle", Kind.INTERNAL, type(error).__name__))
                self._stopping.wait(_AFTER_FAILURE_S)
            finally:
                with self._changed:
                    self._indexes.discard(id(settling.index))
            settling.note_size()  # which offers it again if it has grown out of that layout, too
            del settling  # which would keep an index that is unloaded while this thread waits

    def _taken(self) -> Settling | None:
        """The next that was offered; None when it is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._offered or self._stopping.is_set())
            return None if self._stopping.is_set() else self._offered.popleft()

    def _let_go(self) -> None:
        """Of indexes that were unloaded before their turn came, and whose memory is counted as free."""
        with self._changed:
            for _ in range(len(self._offered)):
                settling = self._offered.popleft()
                if settling.is_wanted():
                    self._offered.append(settling)
                else:
                    self._indexes.discard(id(settling.index))

    def settle(self, settling: Settling) -> None:
        """Move one index, on the caller's thread."""
        index, began_s = settling.index, self._clock.monotonic_s()
        if index.is_settled or not settling.is_wanted():
            return
        self._tell("started", index, began_s)
        steps = index.settle()
        try:
            finished = self._go_through(steps, settling)
        except Exception:
            self._tell("failed", index, began_s)
            raise
        finally:
            steps.close()
        if finished:
            settling.note_moved()
        self._tell("finished" if finished else "abandoned", index, began_s)

    def _go_through(self, steps: Iterator[None], settling: Settling) -> bool:
        """Whether it came to its end."""
        began_s = self._clock.monotonic_s()
        for number, _ in enumerate(steps):
            if not settling.is_wanted():
                return False
            if number % _NOTED_STEPS == 0:
                settling.note_size()
                self._let_go()
            if self._stopping.wait(min(self._clock.monotonic_s() - began_s, _LONGEST_PAUSE_S)):
                return False
            began_s = self._clock.monotonic_s()
        return True

    def _tell(
        self,
        result: Literal["started", "finished", "abandoned", "failed"],
        index: VectorIndex,
        began_s: float,
    ) -> None:
        self._observer.on(IndexSettled(result, len(index), self._clock.monotonic_s() - began_s))


@dataclass(frozen=True, slots=True)
class Behind:
    """What is done for indexes behind the searches: kept on disk, and moved when they outgrow their layout; or not."""

    snapshots: Snapshots | None = None
    settler: Settler | None = None


NOTHING_BEHIND = Behind()
