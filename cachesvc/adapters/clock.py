"""Time from the operating system."""

import time


class SystemClock:
    """``Clock`` that reads the wall once and counts elapsed time from there.

    CLOCK_BOOTTIME goes on while the machine sleeps and is not stepped, so an entry's age is the time
    that truly passed. ``floor_ms`` is the latest time known from before, so that a restart after the
    wall clock was set back does not go back either.
    """

    def __init__(self, floor_ms: int) -> None:
        wall_ms = time.time_ns() // 1_000_000  # noqa: TID251 - the one place that reads the wall clock
        self._start_ms = max(wall_ms, floor_ms)
        self.ahead_s = (
            self._start_ms - wall_ms
        ) / 1000  # of the wall: it, or what was known from before, is wrong
        self._boot_ns = time.clock_gettime_ns(_ELAPSED)

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
