"""Second opinions on threads of their own, so that one which hangs costs a caller its wait and no more.

``Verifier`` made of a function that judges: a cross-encoder, or a call to an HTTP judge. Each caller waits as long
as it was told to, whatever the function does; while all threads are busy others are refused at once. Threads that hang
end with the process: they keep nobody from ending it.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeAlias

from cachesvc.core.errors import CacheError, Kind

Judge: TypeAlias = Callable[[str, str, float], float]
"""Query, candidate and the seconds there are to the probability that the answer to one answers the other; what it raises
is a failure.
"""


class _Question:
    """A pair, and what became of it once ``done``."""

    __slots__ = ("candidate", "done", "error", "probability", "query", "wait_s")

    def __init__(self, query: str, candidate: str, wait_s: float) -> None:
        self.query = query
        self.candidate = candidate
        self.wait_s = wait_s
        self.probability = 0.0
        self.error: CacheError | None = None
        self.done = threading.Event()


class VerifierPool:
    """``Verifier``: ``judge`` on ``concurrency`` threads; yes from ``min_probability`` on. ``let_go`` is what its end takes."""

    def __init__(
        self,
        judge: Judge,
        *,
        concurrency: int,
        min_probability: float,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        self._judge = judge
        self._let_go = let_go
        self._concurrency = concurrency
        self._min_probability = min_probability
        self._free = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()  # guards the threads' number and whether it is closed
        self._threads = 0
        self._closed = False
        self._asked: SimpleQueue[_Question | None] = SimpleQueue()  # None ends a thread

    def verify(self, query: str, candidate: str, wait_s: float) -> bool:
        """See ``Verifier.verify``."""
        if wait_s <= 0:
            raise CacheError(Kind.DEADLINE, "there is no time for a second opinion")
        if not self._free.acquire(blocking=False):
            raise CacheError(Kind.OVERLOADED, "all second opinions are being given")
        question = _Question(query, candidate, wait_s)
        try:
            self._ask(question)
        except BaseException:
            self._free.release()
            raise
        if not question.done.wait(wait_s):
            raise CacheError(Kind.DEADLINE, "the second opinion did not come in time")
        if question.error is not None:
            raise question.error
        return question.probability >= self._min_probability

    def close(self) -> None:
        """Take no more. What is under way is not waited for."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._asked.put(None)
        self._let_go()

    def _ask(self, question: _Question) -> None:
        with self._lock:
            if self._closed:
                raise CacheError(Kind.UNAVAILABLE, "the verifier is stopping")
            if self._threads < self._concurrency:
                thread = threading.Thread(target=self._run, name="cachesvc-verifier", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    raise CacheError(Kind.UNAVAILABLE, "no thread can be had for a second opinion") from None
                self._threads += 1
            self._asked.put(question)

    def _run(self) -> None:
        while (question := self._asked.get()) is not None:
            try:
                question.probability = self._judge(question.query, question.candidate, question.wait_s)
            except CacheError as error:
                question.error = error
            except BaseException as error:  # noqa: BLE001 - the edge of the thread: told by type only, and it lives on
                question.error = CacheError(Kind.UNAVAILABLE, f"the verifier failed: {type(error).__name__}")
            self._free.release()
            question.done.set()
