"""Second opinions on threads of their own, so that one which hangs costs a caller its wait and no more.

``Verifier`` made of a function that judges: a cross-encoder, or a call to an HTTP judge. Each caller waits as long
as it was told to, whatever the function does; while all threads are busy others are refused at once.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeAlias

from cachesvc.core.errors import CacheError, Kind

Judge: TypeAlias = Callable[[str, str, float], float]
"""Query, candidate and the seconds there are to the probability that the answer to one answers the other; raises
CacheError, OSError or ValueError.
"""


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
        self._min_probability = min_probability
        self._free = threading.BoundedSemaphore(concurrency)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="cachesvc-verifier")

    def verify(self, query: str, candidate: str, wait_s: float) -> bool:
        """See ``Verifier.verify``."""
        if wait_s <= 0:
            raise CacheError(Kind.DEADLINE, "there is no time for a second opinion")
        if not self._free.acquire(blocking=False):
            raise CacheError(Kind.OVERLOADED, "all second opinions are being given")
        try:
            opinion: Future[float] = self._threads.submit(self._judge, query, candidate, wait_s)
        except RuntimeError:  # it is closed
            self._free.release()
            raise CacheError(Kind.UNAVAILABLE, "the verifier is stopping") from None
        opinion.add_done_callback(lambda _: self._free.release())
        try:
            return opinion.result(wait_s) >= self._min_probability
        except FutureTimeoutError:
            opinion.cancel()
            raise CacheError(Kind.DEADLINE, "the second opinion did not come in time") from None
        except (OSError, ValueError) as error:
            raise CacheError(Kind.UNAVAILABLE, f"the verifier failed: {type(error).__name__}") from None

    def close(self) -> None:
        """Take no more. What is under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._let_go()
