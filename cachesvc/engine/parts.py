"""What the read path and the write path are made of, wired once by ``app``, and what every write does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EntriesRemoved
from cachesvc.core.eviction import size_bytes
from cachesvc.core.policy import Policy, PolicyBook
from cachesvc.core.ports import Clock, Observer, ResponseStore, TicketBook, Verifier
from cachesvc.core.trust.labels import Tally
from cachesvc.core.trust.state import Stance
from cachesvc.core.types import Draft, Entry, Receipt, Removal, Vector
from cachesvc.engine.analyses import Analyses
from cachesvc.engine.guard import Guard
from cachesvc.engine.janitor import Janitor
from cachesvc.engine.views import Views


@dataclass(frozen=True, slots=True)
class EmbedBudget:
    """How long a call may wait for an inference slot, and how much time embedding must be left."""

    max_wait_s: float
    min_left_s: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """What of the configuration the engine goes by and may change while it runs: taken once per request."""

    policies: PolicyBook
    budget: EmbedBudget


class Vetoing(Protocol):
    """What feedback said of reuses."""

    def refuses(self, scope: bytes, query_key: bytes, query: Vector, entry: Entry) -> bool:
        """Whether serving this entry for the request of this exact key and vector is vetoed. Any thread; does not
        block, and does not raise.
        """


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """Who is asked about candidates in the grey band, and for how long at most."""

    verifier: Verifier
    max_wait_s: float


@dataclass(frozen=True, slots=True)
class Reuse:
    """What lookups by meaning go by beside the policy. ``stance`` gives a namespace's, under its policy; ``count`` takes
    what one of its lookups came to; ``coin`` draws evenly from 0 to 1. None of them blocks or raises.
    """

    stance: Callable[[str, Policy], Stance]
    count: Callable[[str, Tally], None]
    vetoes: Vetoing
    analyses: Analyses
    second_opinion: SecondOpinion | None
    coin: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Parts:
    """The engine's parts. ``tuning`` gives what is in force; ``new_id`` an unguessable lookup id."""

    store: ResponseStore
    embedder: Guard
    views: Views
    tickets: TicketBook
    reuse: Reuse
    janitor: Janitor
    tuning: Callable[[], Tuning]
    clock: Clock
    observer: Observer
    new_id: Callable[[], str]


def check_size(draft: Draft) -> None:
    """An entry larger than all its namespace may hold would push out the others and go itself next."""
    entry_bytes, max_bytes = size_bytes(draft.prompt, draft.payload, draft.vector), draft.quota.max_bytes
    if max_bytes is not None and entry_bytes > max_bytes:
        raise CacheError.invalid(
            "response",
            f"makes an entry of {entry_bytes} bytes; the namespace may hold {max_bytes} (policy.*.max_bytes)",
        )


def put_with_room(
    store: ResponseStore, janitor: Janitor, drafts: Sequence[Draft], wait_s: float | None
) -> list[Receipt | None]:
    """Store drafts, with room made for them before, or after where there was none. Raises as ``store.put``."""
    try:
        janitor.make_room()
        return store.put(drafts, wait_s)
    except CacheError as error:
        if error.kind is Kind.FULL:
            janitor.relieve()
        raise


def tell_removed(observer: Observer, receipt: Receipt) -> None:
    """What had to go for an entry is counted."""
    if receipt.replaced_id is not None:
        observer.on(EntriesRemoved(Removal.REPLACED, 1))
    if receipt.evicted_count:
        observer.on(EntriesRemoved(Removal.EVICTED, receipt.evicted_count))
