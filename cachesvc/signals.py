"""The signals of a process that serves: SIGTERM and SIGINT end it, SIGHUP has the configuration read again.

The same for ``app`` and ``supervisor``; a worker has its own, for its supervisor tells it.
"""

import signal
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from types import FrameType
from typing import TypeVar

from cachesvc.core.errors import CacheError
from cachesvc.reload import Reloader

_T = TypeVar("_T")


def hear(tell: Callable[[int], None]) -> None:
    """From now on tell of these signals. To be called on the main thread."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        tell(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)


def until_the_end(heard: SimpleQueue[_T], reloader: Reloader) -> _T:
    """Read the configuration again at each SIGHUP. Returns what was heard instead."""
    while (said := heard.get()) == signal.SIGHUP:
        with suppress(CacheError):  # told by its event
            reloader.reload()
    return said
