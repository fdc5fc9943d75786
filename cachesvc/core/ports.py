"""What the engine needs from the world. Each port has two implementations and one contract suite.

All calls are synchronous and thread-safe unless a docstring says otherwise; all raise only
``CacheError``.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.events import Event
from cachesvc.core.selection import Selector
from cachesvc.core.tickets import Ticket
from cachesvc.core.trust.labels import Label, News, Origin, Tally, VetoPair
from cachesvc.core.trust.state import TrustState
from cachesvc.core.types import (
    Candidate,
    Change,
    CheckStep,
    Draft,
    NamespaceUsage,
    Place,
    Receipt,
    Row,
    ScopeVectors,
    Selection,
    Snapshot,
    StoreStats,
    Unseen,
    Use,
    Vector,
)
from cachesvc.core.warming import ScopeNote


def no_failpoint(name: str) -> None:
    """What a failpoint does outside of tests: nothing."""


Failpoint: TypeAlias = Callable[[str], None]
"""Called with a name at each moment at which a process may die with something half done. Tests pass one
that kills; see tests/crash.
"""


class Clock(Protocol):
    """Time. Never blocks."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch that never step back: wall time at start, advanced
        by elapsed time alone, so that a wall clock set back resurrects nothing and one set
        forward expires nothing.
        """

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary instant, for durations and deadlines."""

    def thread_s(self) -> float:
        """Seconds of a core that the calling thread has taken so far."""


class Embedder(Protocol):
    """Text to vector. The same text gives the same vector, whatever runs beside it."""

    @property
    def fingerprint(self) -> str:
        """Names model, engine, precision and pooling; part of every scope."""

    @property
    def dimension(self) -> int:
        """Length of the vectors."""

    def embed(self, text: str, wait_s: float) -> Vector | Unseen:
        """Embed one text, or say why it cannot be fully seen.

        Blocks for at most ``wait_s`` until an inference slot is free, and then until the inference
        ends. Raises OVERLOADED when none was, UNAVAILABLE when the engine failed.
        """


class VectorIndex(Protocol):
    """The vectors of one scope. Searches run side by side; changes exclude them and each other."""

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add rows: ids (n,), unit vectors (n, dimension). Ids that are there already are replaced."""

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Remove rows. Ids that are not there are ignored."""

    def search(self, vector: Vector, count: int) -> list[Candidate]:
        """The nearest rows, best score first, at most ``count``. Empty for an empty index."""

    @property
    def is_settled(self) -> bool:
        """Whether it is laid out for as many rows as it has. Cheap."""

    def settle(self) -> Generator[None, None, None]:
        """Lay it out for the rows it has, in steps of some ms between which one may pause, or leave it at that.

        It is searched and changed meanwhile as ever. Nothing to do when it is settled. By one thread at a time.
        """

    def dump(self) -> Iterator[bytes]:
        """Every row, in pieces for ``load``. Others wait for one piece at most, so that what is changed meanwhile
        may be in it, or not, or twice.
        """

    def load(self, piece: bytes) -> None:
        """Add the rows of a piece of a dump of the same implementation. Raises ValueError when it is none."""

    def ids(self) -> frozenset[int]:
        """Ids of the rows, as of one moment."""

    def __len__(self) -> int:
        """Rows."""

    @property
    def memory_bytes(self) -> int:
        """Memory held, as near as the library tells. Removal need not give it back at once."""

    @property
    def moving_bytes(self) -> int:
        """What of that is of a layout that ``settle`` has not finished: it is free again when that is left."""


class SnapshotStore(Protocol):
    """Indexes of scopes, kept beside the store so that they need not be read from it again. May lose any."""

    def load(self, scope: bytes) -> Snapshot | None:
        """What was saved last, or None; what is damaged or foreign is None too and counted as rejected, what is of
        another past of the store as stale.

        Its pieces raise ValueError where damage is met later.
        """

    def save(self, scope: bytes, snapshot: Snapshot) -> None:
        """Keep it in place of the last one. Blocks until it is on disk. Raises FULL."""

    def scopes(self) -> list[bytes]:
        """Those of which one is kept."""

    def forget(self, scope: bytes) -> None:
        """Keep none of this scope."""


class ScopeNotes(Protocol):
    """Which scopes were in memory, kept over the end of the process. A hint: it may be old, or lost."""

    def load(self) -> list[ScopeNote]:
        """What was saved last, the most recently used first; empty for none, and for what is damaged or of another
        store.
        """

    def save(self, notes: Sequence[ScopeNote]) -> None:
        """Keep these in place of the last. Need not be on disk when it returns. Raises FULL."""


class ResponseStore(Protocol):
    """The truth: entries, their vectors and the log of changes.

    Writes return once durable. A write and the log records that tell of it are one transaction.
    """

    def put(self, drafts: Sequence[Draft], wait_s: float | None) -> list[Receipt | None]:
        """Store entries in one transaction, in order, replacing those of equal exact key.

        None for a draft that is not stored, since an invalidation after its epoch covers it. Where
        the quota of a draft's namespace is passed, entries of least rank leave in the same transaction.
        Blocks until durable, at most ``wait_s`` (None: as long as it takes). Raises DEADLINE when
        that was not enough (the write may still happen), OVERLOADED when the queue is full,
        FULL when the disk or the map is, UNAVAILABLE when the store is closing.
        """

    def remove(self, entry_ids: Sequence[int]) -> int:
        """Remove entries and everything that refers to them. How many there were."""

    def find(self, scope: bytes, exact_key: bytes) -> Row | None:
        """The entry of an identical request, or None. Checked against scope and digest."""

    def fetch(self, scope: bytes, entry_ids: Sequence[int]) -> list[Row]:
        """Rows of a scope in the order asked, all from one moment. Each checked as in ``find``."""

    def namespace_of(self, entry_id: int) -> str | None:
        """The namespace of an entry, without reading the entry; None when it is gone or damaged."""

    def get(self, entry_id: int) -> Row | None:
        """One row by id, or None."""

    def sequence(self) -> int:
        """The sequence of the last change. A microsecond or two: called before each search."""

    def changes(self, after: int, limit: int) -> list[Change] | None:
        """Changes after a sequence, in order, or None when the log no longer reaches that far back."""

    def vectors(self, scope: bytes, entry_ids: Sequence[int]) -> list[Vector | None]:
        """Vectors in the order asked, all from one moment; None for one that is gone or fails its check."""

    def scope_vectors(
        self, scope: bytes, max_count: int, *, after_id: int = 0, limit: int | None = None
    ) -> ScopeVectors | None:
        """Vectors of a scope in order of id, with the sequence they stand at.

        Those with ids above ``after_id``, at most ``limit`` (None: all); fewer means that there are
        no more. None when the scope has more than ``max_count``, which is counted, without reading
        the vectors, only when ``after_id`` is 0.
        """

    def touch(self, uses: Mapping[int, Use]) -> None:
        """Note that entries were served: their rank, and where it slides their expiry, move. Ids that
        are gone are ignored.
        """

    def expire(self, now_ms: int, limit: int) -> int:
        """Remove at most ``limit`` entries that expired by ``now_ms``. How many were removed."""

    def evict(self, limit: int, namespace: str | None = None) -> int:
        """Remove at most ``limit`` entries of least rank, of one namespace or of all. How many were removed."""

    def reorder(self, limit: int) -> int:
        """Give entries that were ranked by another policy their rank, at most ``limit``. How many it looked at."""

    def epoch(self) -> int:
        """How many invalidations there were. A microsecond or two."""

    def forbid(self, selector: Selector) -> int:
        """From now on store nothing that this selector means and that began before now. The new epoch."""

    def next_id(self) -> int:
        """The id that the next entry gets: what is stored from now on has none below. A microsecond or two."""

    def select(self, selector: Selector, after: Place | None, limit: int, first_id: int = 0) -> Selection:
        """Entries that a selector means, from a place on, in order of namespace and id; a bounded step.

        At most ``limit`` matches, and perhaps fewer though there are more: ``after`` of the result tells.
        Entries that are damaged, and so cannot be judged, are named apart. Ids below ``first_id`` are left out.
        """

    def usage(self, limit: int) -> list[NamespaceUsage]:
        """What namespaces hold, the largest first, at most ``limit``."""

    def stats(self) -> StoreStats:
        """How full it is. Cheap."""

    def ids(self, after_id: int, limit: int) -> list[int]:
        """Ids of entries after one, in order, at most ``limit``."""

    def checking(self) -> Iterator[CheckStep]:
        """Read everything, step by step; no problems at all when clean. Slow."""


class TrustStore(Protocol):
    """Labels, vetoes and the state of trust, by namespace. Durable apart from the entries: it may be lost, and the
    cache goes on with what its policy says. Several processes may share it.
    """

    def add(self, namespace: str, labels: Sequence[Label], tally: Tally) -> int:
        """Append labels, but those whose keys are there, and count up the tally, in one durable transaction. A label with
        a verdict takes the place of one without under its key, which goes.

        How many labels were new. The oldest go where there are more than the bound, and the namespaces of which least is
        known, but for their vetoes, where there are too many. Blocks until durable. Raises FULL, UNAVAILABLE.
        """

    def add_all(self, news: Sequence[News]) -> None:
        """As ``add``, of several namespaces at once: they share the wait for the disk."""

    def labels(self, namespace: str, after: int, limit: int) -> list[tuple[int, Label]]:
        """Labels with sequences above one, in order, at most ``limit``; sequences grow and are never reused.

        Damaged ones are left out.
        """

    def label_counts(self, namespace: str) -> Mapping[Origin, int]:
        """How many labels are kept, by origin; none of which there are none. Cheap."""

    def tally(self, namespace: str) -> Tally:
        """What was counted up."""

    def namespaces(self) -> list[str]:
        """Those of which there is anything, in order."""

    def add_veto(self, namespace: str, veto: VetoPair, label: Label | None, since_ms: int = 0) -> bool:
        """Keep a veto pair and its label in one durable transaction; False, and nothing changes, when it is known. What
        was told before ``since_ms`` was of another entry: it is told anew.

        The oldest vetoes of a scope go where there are more than the bound. Raises FULL, UNAVAILABLE.
        """

    def vetoes(self, scope: bytes, after: int = 0) -> list[VetoPair]:
        """Those of a scope, the oldest first; only later ones than when ``last_veto`` was ``after``."""

    def veto_count(self, namespace: str) -> int:
        """How many vetoes were kept of a namespace; those that were pushed out since count, too."""

    def last_veto(self, scope: bytes) -> int:
        """Grows with every veto of a scope; 0 while it has none. A microsecond or two: called before each search."""

    def sequence(self) -> int:
        """Grows with every change by any process. A microsecond or two."""

    def state(self, namespace: str) -> TrustState | None:
        """What was put last, or None; None too when it is damaged."""

    def generation(self, namespace: str) -> int:
        """That of the state that was put last, 0 for none. Cheaper than ``state``: asked of many namespaces a second."""

    def put_state(self, state: TrustState) -> bool:
        """Keep it if its generation is above the one that is kept; whether it was. Durable. Raises FULL, UNAVAILABLE."""


class Verifier(Protocol):
    """A second opinion on candidates in the grey band."""

    def verify(self, query: str, candidate: str, wait_s: float) -> bool:
        """Whether the answer to the candidate's prompt answers the query, too. Blocks for ``wait_s`` at most.

        Raises DEADLINE when that was not enough, UNAVAILABLE when it failed, OVERLOADED when it is asked too much.
        """


class TicketBook(Protocol):
    """A bounded memory of misses and semantic hits by lookup id; the oldest go first. Any thread may call; it does no
    more than wait for others that keep.
    """

    def keep(self, lookup_id: str, ticket: Ticket) -> None:
        """Remember a lookup, and forget those that are too old or too many."""

    def find(self, lookup_id: str) -> Ticket | None:
        """The ticket, or None when it is unknown, too old, or was pushed out. It may be used again."""


class Observer(Protocol):
    """Sees one event per operation, on every exit. Must not block and must not raise."""

    def on(self, event: Event) -> None:
        """Take note of it."""
