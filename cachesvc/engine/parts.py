"""What the read path and the write path are made of, wired once by ``app``, and what every write does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EntriesRemoved
from cachesvc.core.eviction import size_bytes
from cachesvc.core.policy import PolicyBook
from cachesvc.core.ports import Clock, Observer, ResponseStore, TicketBook
from cachesvc.core.types import Draft, Receipt, Removal
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


@dataclass(frozen=True, slots=True)
class Parts:
    """The engine's parts. ``tuning`` gives what is in force; ``new_id`` an unguessable lookup id."""

    store: ResponseStore
    embedder: Guard
    views: Views
    tickets: TicketBook
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
