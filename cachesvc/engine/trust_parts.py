"""What the rooms of trust share, wired once by ``app``."""

from collections.abc import Callable
from dataclasses import dataclass

from cachesvc.core.gates import Analysis
from cachesvc.core.policy import PolicyBook
from cachesvc.core.ports import Clock, Observer, ResponseStore, TrustStore
from cachesvc.core.types import Entry


@dataclass(frozen=True, slots=True)
class TrustParts:
    """``policies`` gives the book in force; ``analysis`` what the gates know of an entry."""

    trust: TrustStore
    store: ResponseStore
    policies: Callable[[], PolicyBook]
    analysis: Callable[[Entry], Analysis]
    clock: Clock
    observer: Observer
