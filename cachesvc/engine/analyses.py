"""What is known of entries, kept by entry id: an id is never used for another text or answer, so nothing here grows stale."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from cachesvc.core.gates import Analysis, analyse
from cachesvc.core.trust.compare import digest
from cachesvc.core.types import Entry


@dataclass(frozen=True, slots=True)
class _Kept:
    analysis: Analysis
    answer: bytes


class Analyses:
    """At most ``max_count``, the least recently used go first. Thread-safe; never raises. See ADR 0032."""

    def __init__(self, max_count: int) -> None:
        self._max_count = max_count
        self._lock = threading.Lock()  # not held while a text is analysed
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    def of(self, entry: Entry) -> Analysis:
        """The analysis of an entry's prompt."""
        return self._of(entry).analysis

    def answer_of(self, entry: Entry) -> bytes:
        """What counts in an entry's answer, digested: equal for answers that say the same."""
        return self._of(entry).answer

    def _of(self, entry: Entry) -> _Kept:
        with self._lock:
            kept = self._kept.get(entry.id)
            if kept is not None:
                self._kept.move_to_end(entry.id)
                return kept
        made = _Kept(analyse(entry.prompt), digest(entry.payload.response))
        with self._lock:
            self._kept[entry.id] = made
            while len(self._kept) > self._max_count:
                self._kept.popitem(last=False)
        return made

    def __len__(self) -> int:
        return len(self._kept)
