"""What ``views`` knows of one scope: its index, or the part of one that is loaded so far.

Guarded by the lock of ``Views`` but where it says otherwise.
"""

import threading
from typing import TYPE_CHECKING

from cachesvc.core.ports import VectorIndex

if TYPE_CHECKING:
    from cachesvc.engine.snapshots import Restoring


class Part:
    """An index that has a part of the vectors so far, and has still to follow the log.

    From a snapshot when it is being restored, else from the store, up to ``last_id``.
    """

    def __init__(self, index: VectorIndex, sequence: int, started_s: float) -> None:
        self.index = index
        self.sequence = sequence
        self.started_s = started_s
        self.restoring: Restoring | None = None
        self.saved_at = -1  # of the snapshot that it is restored from
        self.last_id = 0
        self.changes = 0  # of its rows, since its sequence

    def begin_anew(self, index: VectorIndex, sequence: int) -> None:
        """Its snapshot was of no use: read it from the store."""
        self.index, self.sequence, self.restoring, self.saved_at = index, sequence, None, -1


class View:
    """A scope: its index once it is loaded, and how that stands to the log, to memory and to disk."""

    def __init__(self) -> None:
        self.loading = threading.Lock()
        self.part: Part | None = None  # a load under way, or left by a caller whose time was up
        self.index: VectorIndex | None = None  # None until loaded, and again once dropped
        self.sequence = 0  # the log position that the index had when it was loaded
        self.counted_bytes = 0  # its share of the account
        self.removed_at = 0  # the last removal the log told of
        self.too_large_at = -1  # the log position when it was last found too large
        self.saved_at = -1  # the log position when it was last saved, or could not be
        self.changes = 0  # of its rows, since then
        self.moves = 0  # to another layout, so far
        self.is_cramped = False  # its move was given up, for both layouts did not fit

    @property
    def is_too_large(self) -> bool:
        """Whether it was, and nothing was removed since."""
        return self.too_large_at >= self.removed_at

    @property
    def memory_bytes(self) -> int:
        """Of the index, or of the part."""
        held = self.part.index if self.part is not None else self.index
        if held is None:
            return 0
        return held.memory_bytes - (held.moving_bytes if self.is_cramped else 0)

    def may_move(self, room_bytes: int) -> bool:
        """Whether its index is to be moved and may be. After a move that was given up: only where there is as
        much room as it holds, lest it be given up again and again.
        """
        if self.index is None or self.index.is_settled:
            return False
        if self.is_cramped:
            self.is_cramped = self.index.moving_bytes > 0 or room_bytes < self.counted_bytes
        return not self.is_cramped

    def wants_moved(self, index: VectorIndex) -> bool:
        """Whether a move of an index is to go on."""
        return self.index is index and not self.is_cramped

    def give_up_move(self) -> bool:
        """Leave a move that is under way, which makes room within a step of it. Whether there was one."""
        is_moving = self.index is not None and self.index.moving_bytes > 0 and not self.is_cramped
        self.is_cramped = self.is_cramped or is_moving
        return is_moving
