"""The thread pool under gRPC. It knows every call from the moment gRPC hands it over until its reply is
out, so that stopping can let all of them end; a call that comes later is marked as such.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class CallPool(ThreadPoolExecutor):
    """Counts what is under way. Whatever is submitted once ``drain`` has been called is late."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="cachesvc-call")
        self._under_way = threading.Condition()  # guards the next two
        self._count = 0
        self._draining = False
        self._here = threading.local()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """As ThreadPoolExecutor; counted until it has ended or was cancelled, unless it is late."""
        with self._under_way:
            if self._draining:
                return super().submit(self._run_late, partial(fn, *args, **kwargs))
            self._count += 1
        try:
            future = super().submit(fn, *args, **kwargs)
        except BaseException:
            self.leave()
            raise
        future.add_done_callback(lambda _: self.leave())
        return future

    @property
    def is_late(self) -> bool:
        """Whether what this thread is running was submitted after draining began."""
        return getattr(self._here, "late", False)

    def enter(self) -> None:
        """Count one more: a reply that is to go out. To be called from what is counted already."""
        with self._under_way:
            self._count += 1

    def leave(self) -> None:
        """The opposite of ``enter``."""
        with self._under_way:
            self._count -= 1
            if self._draining and not self._count:
                self._under_way.notify_all()

    def drain(self, most_s: float) -> bool:
        """From now on all is late. Wait until what is counted has ended; false if that takes too long."""
        with self._under_way:
            self._draining = True
            return self._under_way.wait_for(lambda: not self._count, most_s)

    def _run_late(self, call: Callable[[], _T]) -> _T:
        self._here.late = True
        try:
            return call()
        finally:
            self._here.late = False
