"""Inference slots, first come first served. ``threading.Semaphore`` lets a thread that has just released
take the slot again before those that wait; under steady load some then wait without end.
"""

import threading
from collections import deque


class Slots:
    """A fixed number of slots, handed from one holder to whoever has waited longest. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self, wait_s: float) -> bool:
        """Take a slot, waiting at most ``wait_s``. Whether there was one."""
        with self._lock:
            if self._free:  # then nobody waits
                self._free -= 1
                return True
            if wait_s <= 0:
                return False
            handed_over = threading.Lock()
            handed_over.acquire()
            self._waiting.append(handed_over)
        if handed_over.acquire(timeout=wait_s):
            return True
        with self._lock:
            if handed_over in self._waiting:
                self._waiting.remove(handed_over)
                return False
        return True  # it was handed over at the last moment

    def release(self) -> None:
        """Give a slot back."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
