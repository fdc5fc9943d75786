"""What the rooms of trust share, wired once by ``app``."""

from collections.abc import Callable
from dataclasses import dataclass

from cachesvc.core.policy import PolicyBook
from cachesvc.core.ports import Clock, Observer, ResponseStore, TrustStore
from cachesvc.engine.analyses import Analyses

_REST = 3.0
_MOST_REST_S = 0.5


@dataclass(frozen=True, slots=True)
class TrustParts:
    """``policies`` gives the book in force."""

    trust: TrustStore
    store: ResponseStore
    policies: Callable[[], PolicyBook]
    analyses: Analyses
    clock: Clock
    observer: Observer


def rest_s(took_s: float) -> float:
    """How long who learns behind the requests rests after a piece of work that took so long: it has a quarter of a core at
    most, but for pieces that are long.
    """
    return min(_REST * took_s, _MOST_REST_S)
