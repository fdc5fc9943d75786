"""What the rooms of trust share, wired once by ``app``."""

from collections.abc import Callable
from dataclasses import dataclass

from cachesvc.core.policy import PolicyBook
from cachesvc.core.ports import Clock, Observer, ResponseStore, TrustStore
from cachesvc.engine.analyses import Analyses


@dataclass(frozen=True, slots=True)
class TrustParts:
    """``policies`` gives the book in force."""

    trust: TrustStore
    store: ResponseStore
    policies: Callable[[], PolicyBook]
    analyses: Analyses
    clock: Clock
    observer: Observer
