"""Waiting for what another thread or process does, where nothing tells that it is done."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_PAUSE_S = 0.01


def until(holds: Callable[[], T | None], within_s: float = 15.0, told: Callable[[], object] = str) -> T:
    """The first true value of ``holds``. A test fails when there is none in time, with what is ``told`` then."""
    ended_s = time.monotonic() + within_s
    while not (value := holds()):
        if time.monotonic() > ended_s:
            raise AssertionError(f"it did not happen: {told()}")
        threading.Event().wait(_PAUSE_S)
    return value
