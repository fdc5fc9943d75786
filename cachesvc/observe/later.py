"""Counting after the reply: events are noted at once and handed on by a thread of their own.

Updating ten metrics takes a lookup longer than noting that there is something to update, and many
events in a row cost less each than one at a time. Nothing is lost: who finds the notes full hands
them on itself, and a scrape does so first, so that it never sees less than what was answered.
"""

import threading
from collections import deque

from cachesvc.core.events import Event
from cachesvc.core.ports import Observer

_INTERVAL_S = 0.25
_MAX_NOTES = 8192


class Later:
    """``Observer`` in front of another, which then needs not be quick. ``on`` appends and returns."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._notes: deque[Event] = deque()
        self._turn = threading.Lock()  # one at a time hands on, so that the order is kept
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachesvc-observe", daemon=True)
        self._thread.start()

    def on(self, event: Event) -> None:
        """See ``Observer.on``."""
        self._notes.append(event)
        if len(self._notes) > _MAX_NOTES:
            self.flush()

    def flush(self) -> None:
        """Hand on everything noted so far."""
        with self._turn:
            while self._notes:
                self._observer.on(self._notes.popleft())

    def stop(self) -> None:
        """Hand on the rest and end the thread."""
        self._stop.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self.flush()
