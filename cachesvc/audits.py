"""Fresh answers behind the user's back: what the service asks for on some hits, to learn how often it errs.

A decorated call knows how to answer anew. It is done on one thread of its own, a few at a time wait, and what goes
wrong there is counted and otherwise of no consequence to the application.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context

MAX_WAITING = 16
"""Fresh answers that wait for their turn; further ones are not made."""


class Audits:
    """Runs audits one after the other on a daemon thread, which is there from the first one on. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, audit: Callable[[], None]) -> bool:
        """Have it run later, in the context of now; what it raises is lost. False: too many wait, or it is closed."""
        context = copy_context()
        with self._lock:
            if self._closed:
                return False
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="cachesvc-audits", daemon=True)
                self._thread.start()
            try:
                self._waiting.put_nowait(lambda: context.run(audit))
            except queue.Full:
                return False
        return True

    def close(self) -> None:
        """Begin no more; one that is under way goes on by itself."""
        with self._lock:
            self._closed = True
            with suppress(queue.Empty):
                while True:
                    self._waiting.get_nowait()
            self._waiting.put_nowait(None)

    def _work(self) -> None:
        while (audit := self._waiting.get()) is not None:
            with suppress(
                BaseException
            ):  # also what is meant to end a program: it ends no more than this audit
                audit()
