"""What tests of several rooms put in the place of others: an Observer, and trust in which nothing is known, nothing is
vetoed, and coins fall as told.
"""

from collections import deque
from collections.abc import Iterable

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Event
from cachesvc.core.policy import Policy
from cachesvc.core.trust.labels import NOTHING, Tally
from cachesvc.core.trust.state import Stance, by_policy
from cachesvc.core.types import Entry, Vector
from cachesvc.engine.analyses import Analyses
from cachesvc.engine.parts import Reuse, SecondOpinion


class Events:
    """An Observer that remembers."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def on(self, event: Event) -> None:
        self.seen.append(event)


class ToldVetoes:
    """Vetoes of the entries that a test names."""

    def __init__(self) -> None:
        self.entry_ids: set[int] = set()
        self.asked: list[tuple[bytes, bytes, int]] = []

    def refuses(self, scope: bytes, query_key: bytes, query: Vector, entry: Entry) -> bool:
        self.asked.append((scope, query_key, entry.id))
        return entry.id in self.entry_ids


class ToldVerifier:
    """A Verifier that answers, or fails, as told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: bool | Kind = True
        self.asked: list[tuple[str, str, float]] = []

    def verify(self, query: str, candidate: str, wait_s: float) -> bool:
        self.asked.append((query, candidate, wait_s))
        if isinstance(self.answer, Kind):
            raise CacheError(self.answer, "the verifier fails as told")
        return self.answer


class ToldTrust:
    """Stances as told, or by the policy; tallies added up; coins in the order told, then tails for ever."""

    def __init__(self) -> None:
        self.stance: Stance | None = None
        self.tally = NOTHING
        self.coins: deque[float] = deque()
        self.drawn = 0
        self.vetoes = ToldVetoes()
        self.verifier = ToldVerifier()
        self.verifies = False

    def reuse(self, analyses: Analyses | None = None) -> Reuse:
        """All of it, as lookups take it."""
        return Reuse(
            stance=self._stance,
            count=self._count,
            vetoes=self.vetoes,
            analyses=Analyses(1000) if analyses is None else analyses,
            second_opinion=SecondOpinion(self.verifier, 0.5) if self.verifies else None,
            coin=self._coin,
        )

    def toss(self, coins: Iterable[float]) -> None:
        """The next coins fall so."""
        self.coins.extend(coins)

    def _stance(self, namespace: str, policy: Policy) -> Stance:
        return self.stance or by_policy(namespace, policy)

    def _count(self, namespace: str, tally: Tally) -> None:
        self.tally = self.tally.plus(tally)

    def _coin(self) -> float:
        self.drawn += 1
        return self.coins.popleft() if self.coins else 1.0
