"""One event to several observers."""

from cachesvc.core.events import Event
from cachesvc.core.ports import Observer


class Fanout:
    """``Observer`` that hands each event to others, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on(self, event: Event) -> None:
        """See ``Observer.on``."""
        for observer in self._observers:
            observer.on(event)
