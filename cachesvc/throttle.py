"""When a server refuses because it is too busy, its clients should not go on sending it what it will refuse:
refusing takes time from answering.

Each call is let through with a probability that leaves the server about twice what it takes on (client-side
throttling: Beyer et al., Site Reliability Engineering, chapter 21, "Handling Overload"), never less than one call
in ten, so that it is noticed at once when there is room again. Kept apart by ``kind``, what the server goes by when it
refuses: a namespace that floods throttles no other. Used by both clients; thread-safe, and never blocks.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

_TIMES = 2.0  # as many calls as are taken on
_LEAST = 0.1  # share of the calls that is made whatever was refused
_HALF_LIFE_S = 1.0
_MOST_KINDS = 64


class Throttle:
    """Whether to ask. ``clock`` tells monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tallies: OrderedDict[Hashable, _Tally] = OrderedDict()

    def may_ask(self, kind: Hashable) -> bool:
        """Whether to make a call of a kind. If so, ``note`` what came of it."""
        with self._lock:
            tally = self._tallies.get(kind)
            if tally is None:
                return True
            self._tallies.move_to_end(kind)
            return tally.may_ask(self._clock())

    def note(self, kind: Hashable, *, refused: bool) -> None:
        """What came of a call."""
        with self._lock:
            tally = self._tallies.get(kind)
            if tally is None:
                if not refused:
                    return  # nothing to keep of a server that is not too busy
                tally = self._tallies[kind] = _Tally(self._clock())
                if len(self._tallies) > _MOST_KINDS:
                    self._tallies.popitem(last=False)
            tally.taken_on += not refused


class _Tally:
    """Calls of a kind, those long ago counting less and less."""

    def __init__(self, now_s: float) -> None:
        self.asked = 1.0  # the call that was refused and made this
        self.taken_on = 0.0
        self._at_s = now_s
        self._due = 0.0  # calls to make: a whole one is made

    def may_ask(self, now_s: float) -> bool:
        fading = 0.5 ** ((now_s - self._at_s) / _HALF_LIFE_S)
        self._at_s = now_s
        before = self.asked * fading
        self.asked = before + 1
        self.taken_on *= fading
        self._due += max(_LEAST, min(1.0, (_TIMES * self.taken_on + 1) / max(before, 1.0)))
        if self._due < 1:
            return False
        self._due = min(self._due - 1, 1.0)
        return True
