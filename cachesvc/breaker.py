"""When a cache hangs, an application should not pay its whole patience with every call.

After some lookups in a row that had no answer in time, calls are not made for a moment; then one is, and
what comes of it decides. A cache that cannot be reached fails at once by itself and is none of this. Used by both
clients; thread-safe, and never blocks.
"""

import threading
import time
from collections.abc import Callable

TRIES = 5  # lookups in a row without an answer
PAUSE_S = 1.0


class Breaker:
    """Whether to ask. ``clock`` tells monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._unanswered = 0
        self._until_s = 0.0

    @property
    def paused(self) -> bool:
        """Whether calls are not made just now."""
        return self._unanswered >= TRIES and self._clock() < self._until_s

    def may_look_up(self) -> bool:
        """Whether to make a lookup. After a pause one caller may; the others wait for what comes of it."""
        if self._unanswered < TRIES:
            return True
        with self._lock:
            if self.paused:
                return False
            self._until_s = self._clock() + PAUSE_S
            return True

    def note(self, *, in_time: bool) -> None:
        """What came of a lookup that had the client's own patience."""
        with self._lock:
            self._unanswered = 0 if in_time else self._unanswered + 1
            if self._unanswered >= TRIES:
                self._until_s = self._clock() + PAUSE_S
