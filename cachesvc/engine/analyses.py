"""What the gates know of entries, kept by entry id: an id is never used for another text, so nothing here grows stale."""

import threading
from collections import OrderedDict

from cachesvc.core.gates import Analysis, analyse
from cachesvc.core.types import Entry


class Analyses:
    """At most ``max_count``, the least recently used go first. Thread-safe; never raises. See ADR 0032."""

    def __init__(self, max_count: int) -> None:
        self._max_count = max_count
        self._lock = threading.Lock()  # not held while a text is analysed
        self._kept: OrderedDict[int, Analysis] = OrderedDict()

    def of(self, entry: Entry) -> Analysis:
        """The analysis of an entry's prompt."""
        with self._lock:
            kept = self._kept.get(entry.id)
            if kept is not None:
                self._kept.move_to_end(entry.id)
                return kept
        made = analyse(entry.prompt)
        with self._lock:
            self._kept[entry.id] = made
            while len(self._kept) > self._max_count:
                self._kept.popitem(last=False)
        return made

    def __len__(self) -> int:
        return len(self._kept)
