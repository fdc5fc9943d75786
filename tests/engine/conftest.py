"""A whole engine on the plain ports, with parts that fail when told to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from cachesvc.adapters.memory import ManualClock, MemoryIndex, MemoryStore
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.policy import Policy, PolicyBook
from cachesvc.core.selection import Selector
from cachesvc.core.tickets import TicketBounds
from cachesvc.core.types import (
    Ask,
    Draft,
    Keep,
    LookupResult,
    Lost,
    Message,
    Payload,
    Place,
    Receipt,
    Request,
    Row,
    Selection,
    StoreResult,
    Unseen,
    Use,
    Vector,
)
from cachesvc.engine.admit import Admit
from cachesvc.engine.analyses import Analyses
from cachesvc.engine.curate import Curator
from cachesvc.engine.explain import Explain
from cachesvc.engine.guard import Guard, GuardOptions
from cachesvc.engine.janitor import Janitor, JanitorOptions
from cachesvc.engine.lookup import Lookup
from cachesvc.engine.move import Mover
from cachesvc.engine.parts import EmbedBudget, Parts, Tuning
from cachesvc.engine.tickets import Tickets
from cachesvc.engine.views import Views
from tests.doubles import Events, ToldTrust

DIMENSION = 32
MAX_WAIT_S = 0.25
MIN_LEFT_S = 0.01


class WordEmbedder:
    """An Embedder that adds up a vector per word, so that sharing words is meaning the same.

    ``unseen`` and ``error`` are what it answers instead; ``waits_s`` remembers every call.
    """

    fingerprint = "words:1"
    dimension = DIMENSION

    def __init__(self) -> None:
        self.unseen: Unseen | None = None
        self.error: Kind | None = None
        self.waits_s: list[float] = []

    @property
    def calls(self) -> int:
        """How often it was asked."""
        return len(self.waits_s)

    def embed(self, text: str, wait_s: float) -> Vector | Unseen:
        self.waits_s.append(wait_s)
        if self.error is not None:
            raise CacheError(self.error, "the embedder fails as told")
        if self.unseen is not None:
            return self.unseen
        words = text.lower().split()
        total = np.sum(
            [np.random.default_rng(list(w.encode())).normal(size=DIMENSION) for w in words], axis=0
        )
        scaled: Vector = (total / np.linalg.norm(total)).astype(np.float32)
        return scaled


class ToldStore(MemoryStore):
    """A MemoryStore whose rows can be lost and whose methods can fail by name."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()
        self.corrupt: set[int] = set()
        self.gone: set[int] = set()
        self.unjudged: set[int] = set()
        self.when_selected: list[Callable[[], object]] = []
        self.put_waits_s: list[float | None] = []
        self.removed_counts: list[int] = []

    def _fail(self, method: str) -> None:
        if method in self.failing:
            raise CacheError(Kind.UNAVAILABLE, f"{method} fails as told")

    def _told(self, row: Row) -> Row:
        entry_id = row.entry_id if isinstance(row, Lost) else row.id
        if entry_id in self.corrupt:
            return Lost(entry_id, corrupt=True)
        return Lost(entry_id, corrupt=False) if entry_id in self.gone else row

    def put(self, drafts: Sequence[Draft], wait_s: float | None) -> list[Receipt | None]:
        self._fail("put")
        self.put_waits_s.append(wait_s)
        return super().put(drafts, wait_s)

    def remove(self, entry_ids: Sequence[int]) -> int:
        self._fail("remove")
        self.removed_counts.append(len(entry_ids))
        return super().remove(entry_ids)

    def find(self, scope: bytes, exact_key: bytes) -> Row | None:
        self._fail("find")
        row = super().find(scope, exact_key)
        return None if row is None else self._told(row)

    def fetch(self, scope: bytes, entry_ids: Sequence[int]) -> list[Row]:
        self._fail("fetch")
        return [self._told(row) for row in super().fetch(scope, entry_ids)]

    def get(self, entry_id: int) -> Row | None:
        row = super().get(entry_id)
        return None if row is None else self._told(row)

    def select(self, selector: Selector, after: Place | None, limit: int, first_id: int = 0) -> Selection:
        part = super().select(selector, after, limit, first_id)
        while self.when_selected:
            self.when_selected.pop()()
        judged = tuple(match for match in part.matches if match.entry_id not in self.unjudged)
        damaged = tuple(match.entry_id for match in part.matches if match.entry_id in self.unjudged)
        return Selection(judged, part.after, damaged)

    def touch(self, uses: Mapping[int, Use]) -> None:
        self._fail("touch")
        super().touch(uses)


class World:
    """Lookup and Admit over one store, one clock, one policy book that tests may exchange."""

    def __init__(self, index_rows: int = 1000, *, verifies: bool = False) -> None:
        self.clock = ManualClock()
        self.trust = ToldTrust()
        self.trust.verifies = verifies
        self.analyses = Analyses(1000)
        self.tickets = Tickets(self.clock, TicketBounds(100, 1 << 20, 60.0))
        self.store = ToldStore()
        self.embedder = WordEmbedder()
        self.events = Events()
        self.book = PolicyBook(Policy(min_score=0.8), {})
        self.janitor = Janitor(
            self.store,
            lambda: JanitorOptions(1.0, 0.95, 0.9, 1000),
            policies=lambda: self.book,
            clock=self.clock,
            observer=self.events,
        )
        row_bytes = DIMENSION * 4 + 8
        views = Views(
            self.store,
            lambda scope: MemoryIndex(DIMENSION),
            row_bytes=row_bytes,
            max_bytes=index_rows * row_bytes,
            clock=self.clock,
            observer=self.events,
        )
        self._ids = 0
        self.guard = Guard(
            self.embedder,
            lambda: self.embedder,
            GuardOptions(threads=1, max_waiting=8, hang_s=5.0, max_stuck=2, long_length=400),
            clock=self.clock,
            observer=self.events,
        )
        parts = Parts(
            store=self.store,
            embedder=self.guard,
            views=views,
            tickets=self.tickets,
            reuse=self.trust.reuse(self.analyses),
            janitor=self.janitor,
            tuning=lambda: Tuning(self.book, EmbedBudget(MAX_WAIT_S, MIN_LEFT_S)),
            clock=self.clock,
            observer=self.events,
            new_id=self._new_id,
        )
        self.lookup = Lookup(parts)
        self.explain = Explain(parts)
        self.admit = Admit(parts)
        self.curator = Curator(parts)
        self.mover = Mover(parts)

    def _new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids}"

    def policy(self, **changes: object) -> None:
        """Change the default policy."""
        self.book = PolicyBook(replace(self.book.default, **changes), {})  # type: ignore[arg-type]  # by name

    def ask(self, text: str, **options: object) -> LookupResult:
        """Look a prompt up."""
        return self.lookup(Ask(request(text), **options))  # type: ignore[arg-type]  # by name

    def keep(self, text: str, response: bytes = b"r", **options: object) -> StoreResult:
        """Store a response to a prompt."""
        return self.admit.store(Keep(Payload(response), request(text), **options))  # type: ignore[arg-type]


def request(text: str, namespace: str = "default") -> Request:
    """A single prompt."""
    return Request(namespace, (Message("user", text),), "m", {})


@pytest.fixture
def world() -> Iterator[World]:
    """An engine with room for everything, a threshold of 0.8 and a clock that stands."""
    made = World()
    yield made
    made.guard.stop()


@pytest.fixture
def small_world() -> Iterator[World]:
    """An engine whose index memory holds one row."""
    made = World(index_rows=1)
    yield made
    made.guard.stop()


@pytest.fixture
def ask_for() -> Callable[[str], Request]:
    """Makes the request of a single prompt."""
    return request
