"""Time from the operating system."""

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClockStart:
    """Where a clock counts from: what it said, and CLOCK_BOOTTIME then, which all processes share."""

    start_ms: int
    boot_ns: int


class SystemClock:
    """``Clock`` that reads the wall once and counts elapsed time from there.

    CLOCK_BOOTTIME goes on while the machine sleeps and is not stepped, so an entry's age is the time
    that truly passed. ``floor_ms`` is the latest time known from before, so that a restart after the
    wall clock was set back does not go back either. ``start`` is that of a clock to agree with, in another process.
    """

    def __init__(self, floor_ms: int, start: ClockStart | None = None) -> None:
        wall_ms = time.time_ns() // 1_000_000  # noqa: TID251 - the one place that reads the wall clock
        boot_ns = time.clock_gettime_ns(_ELAPSED)
        self.start = ClockStart(max(wall_ms, floor_ms), boot_ns) if start is None else start
        self._start_ms, self._boot_ns = self.start.start_ms, self.start.boot_ns
        # of the wall: it, or what was known from before, is wrong
        self.ahead_s = (self._start_ms + (boot_ns - self._boot_ns) // 1_000_000 - wall_ms) / 1000

    def now_ms(self) -> int:
        """See ``Clock.now_ms``."""
        return self._start_ms + (time.clock_gettime_ns(_ELAPSED) - self._boot_ns) // 1_000_000

    def monotonic_s(self) -> float:
        """See ``Clock.monotonic_s``."""
        return time.monotonic()

    def thread_s(self) -> float:
        """See ``Clock.thread_s``."""
        return time.thread_time()


_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # BOOTTIME is Linux only
