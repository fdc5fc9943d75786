"""Which list of an inverted file an id is in: sorted arrays of 12 bytes an id, where a dict takes a hundred.

Ids mostly come in order and are appended; those that do not wait in a small second array until they are merged.
Not thread-safe: its owner locks.
"""

import numpy as np
from numpy.typing import NDArray

ABSENT = -1
_MERGE_MIN_COUNT = 4096
_MERGE_SHARE = 8  # the second array is merged when it has more than an eighth of the first
_SPARE_SHARE = 8  # room for an eighth more is made at once


class IdLists:
    """Ids with the number of a list each."""

    def __init__(self) -> None:
        self._main = _Run()
        self._late = _Run()
        self._count = 0

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        """The list of each id, or ABSENT."""
        lists = self._main.find(ids)
        if self._late.count:
            lists = np.where(lists == ABSENT, self._late.find(ids), lists)
        return lists

    def put(self, ids: NDArray[np.int64], lists: NDArray[np.int32]) -> None:
        """Note ids that are absent, each once."""
        self._count += len(ids)
        revived = self._main.put(ids, lists)
        revived |= self._late.put(ids, lists)
        new_ids, new_lists = ids[~revived], lists[~revived]
        order = np.argsort(new_ids, kind="stable")
        new_ids, new_lists = new_ids[order], new_lists[order]
        split = int(np.searchsorted(new_ids, self._main.last, side="right"))
        self._main.append(new_ids[split:], new_lists[split:])
        if split:
            self._late = _Run.merged(self._late, new_ids[:split], new_lists[:split])
            if self._late.count > max(_MERGE_MIN_COUNT, self._main.count // _MERGE_SHARE):
                self._merge()

    def drop(self, ids: NDArray[np.int64]) -> None:
        """Forget ids that are there, each once."""
        self._count -= len(ids)
        gone = np.full(len(ids), ABSENT, np.int32)
        self._main.put(ids, gone)
        self._late.put(ids, gone)
        if self._count < (self._main.count + self._late.count) // 2:
            self._merge()

    def _merge(self) -> None:
        self._main = _Run.merged(self._main, self._late.ids, self._late.lists)
        self._late = _Run()

    def ids(self) -> NDArray[np.int64]:
        """All that are there."""
        return np.concatenate([run.ids[run.lists != ABSENT] for run in (self._main, self._late)])

    def __len__(self) -> int:
        return self._count

    @property
    def memory_bytes(self) -> int:
        """Of both arrays."""
        return self._main.memory_bytes + self._late.memory_bytes


class _Run:
    """Sorted ids, some of which may be gone (ABSENT)."""

    def __init__(self) -> None:
        self._ids = np.empty(0, np.int64)
        self._lists = np.empty(0, np.int32)
        self.count = 0

    @classmethod
    def merged(cls, run: "_Run", ids: NDArray[np.int64], lists: NDArray[np.int32]) -> "_Run":
        """Of those that are there in both."""
        all_ids, all_lists = np.concatenate([run.ids, ids]), np.concatenate([run.lists, lists])
        kept = all_lists != ABSENT
        order = np.argsort(all_ids[kept], kind="stable")
        made = cls()
        made._ids, made._lists = all_ids[kept][order], all_lists[kept][order]
        made.count = len(made._ids)
        return made

    @property
    def ids(self) -> NDArray[np.int64]:
        return self._ids[: self.count]

    @property
    def lists(self) -> NDArray[np.int32]:
        return self._lists[: self.count]

    @property
    def last(self) -> int:
        return int(self._ids[self.count - 1]) if self.count else -1

    @property
    def memory_bytes(self) -> int:
        return self._ids.nbytes + self._lists.nbytes

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        if not self.count:
            return np.full(len(ids), ABSENT, np.int32)
        places = np.minimum(np.searchsorted(self.ids, ids), self.count - 1)
        return np.where(self._ids[places] == ids, self._lists[places], np.int32(ABSENT))

    def put(self, ids: NDArray[np.int64], lists: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Set those that have a place here, there or gone. Which these are."""
        if not self.count:
            return np.zeros(len(ids), np.bool_)
        places = np.minimum(np.searchsorted(self.ids, ids), self.count - 1)
        here: NDArray[np.bool_] = self._ids[places] == ids
        self._lists[places[here]] = lists[here]
        return here

    def append(self, ids: NDArray[np.int64], lists: NDArray[np.int32]) -> None:
        """Ids above all, in order."""
        count = self.count + len(ids)
        if count > len(self._ids):
            room = count + count // _SPARE_SHARE
            self._ids, self._lists = _grown(self._ids, room), _grown(self._lists, room)
        self._ids[self.count : count], self._lists[self.count : count] = ids, lists
        self.count = count


def _grown(array: NDArray[np.generic], room: int) -> NDArray:  # type: ignore[type-arg]  # of the same type
    grown = np.empty(room, array.dtype)
    grown[: len(array)] = array
    return grown
