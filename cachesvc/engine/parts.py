"""What the read path and the write path are made of, wired once by ``app``."""

from collections.abc import Callable
from dataclasses import dataclass

from cachesvc.core.policy import PolicyBook
from cachesvc.core.ports import Clock, Observer, ResponseStore
from cachesvc.engine.guard import Guard
from cachesvc.engine.janitor import Janitor
from cachesvc.engine.tickets import Tickets
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
    tickets: Tickets
    janitor: Janitor
    tuning: Callable[[], Tuning]
    clock: Clock
    observer: Observer
    new_id: Callable[[], str]
