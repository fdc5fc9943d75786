"""Labelled requests served as the server would under a policy: the exact tier, then the nearest entries and the gates.

Of a stream each request looks up; a miss stores the right answer, a hit stores nothing. Of pairs each one is a request
for which the other text alone is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.gates import Analysis, analyse
from cachesvc.core.policy import Policy
from cachesvc.core.types import Candidate, Entry
from cachesvc.evaluation.data import Pairs, Stream
from cachesvc.evaluation.deciding import FOREVER_MS, Option, Refused, bar_of, choose, entry_of
from cachesvc.evaluation.near import nearby

FLOOR = 0.6


@dataclass(frozen=True, slots=True)
class Served:
    """What came of it: by request the place whose answer was served or -1, by which tier, with what score."""

    places: NDArray[np.int64]
    exact: NDArray[np.bool_]
    scores: NDArray[np.float32]
    right: NDArray[np.bool_]
    refused: Sequence[Refused] = field(default=())

    @property
    def useful(self) -> int:
        """Right hits."""
        return int(self.right.sum())

    @property
    def wrong(self) -> int:
        """Wrong hits."""
        return int(((self.places >= 0) & ~self.right).sum())


class Shop:
    """A stream with what does not change between the policies that it is served under. For one thread."""

    def __init__(self, stream: Stream, floor: float = FLOOR) -> None:
        self.stream = stream
        self.texts = stream.texts
        self._answers = np.unique(np.asarray(stream.answers), return_inverse=True)[1]
        names = [f"{row.namespace}\0{row.model}" for row in stream.rows]
        self.scopes = np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)
        self.near = nearby(stream.vectors, stream.seen, self.scopes, floor)
        self._analyses: dict[int, Analysis] = {}

    def serve(
        self,
        policies: Policy | Sequence[Policy],
        *,
        plain: bool = False,
        keeps_all: bool = False,
        missed: NDArray[np.bool_] | None = None,
    ) -> Served:
        """Serve it all, under one policy or one a request. ``plain``: the score alone decides, as in other caches.
        ``keeps_all``: every request's answer is stored, as when nothing is served. ``missed`` (n,): requests that are
        answered as misses whatever is found, as in mode shadow.
        """
        return _Run(self, policies, plain=plain, keeps_all=keeps_all, missed=missed).result()

    def analysis(self, place: int) -> Analysis:
        """Of a request's text, made once."""
        known = self._analyses.get(place)
        if known is None:
            known = self._analyses[place] = analyse(self.texts[place])
        return known

    def is_right(self, place: int, served: int) -> bool:
        """Whether the answer of one request is right for another."""
        return bool(self._answers[place] == self._answers[served])

    def answer(self, place: int) -> bytes:
        """Equal for requests of which the answers are."""
        return int(self._answers[place]).to_bytes(8, "big")

    def asked(self, place: int) -> str:
        """What a request asked."""
        return self.texts[place]

    def answered(self, served: int) -> str:
        """What the answer that was served was stored for."""
        return self.texts[served]


class PairShop:
    """Pairs: ``a`` is stored, ``b`` is asked. An entry has the place of its pair."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        self._analyses: dict[str, Analysis] = {}

    def serve(self, policy: Policy, *, plain: bool = False) -> Served:
        """Every pair by itself."""
        count = len(self.pairs)
        places, exact = np.full(count, -1, np.int64), np.zeros(count, np.bool_)
        refused: list[Refused] = []
        for place, row in enumerate(self.pairs.rows):
            exact[place] = row.a == row.b
            if exact[place] or (plain and self._reaches(place, policy)):
                places[place] = place
            elif self._reaches(place, policy) and policy.embeds:
                choice = choose(place, row.b, self._analysis(row.b), [self._option(place)], policy)
                places[place] = -1 if choice.candidate is None else place
                refused += choice.refused
        right = (places >= 0) & np.array([row.same for row in self.pairs.rows])
        scores = np.where(exact, np.float32(1.0), self.pairs.scores)
        return Served(places, exact, scores, right, tuple(refused))

    def is_right(self, place: int, served: int) -> bool:
        """Whether the pair is of the same."""
        return self.pairs.rows[place].same

    def asked(self, place: int) -> str:
        """What a request asked."""
        return self.pairs.rows[place].b

    def answered(self, served: int) -> str:
        """What the answer that was served was stored for."""
        return self.pairs.rows[served].a

    def _reaches(self, place: int, policy: Policy) -> bool:
        return bool(self.pairs.seen[place]) and float(self.pairs.scores[place]) >= policy.min_score

    def _option(self, place: int) -> Option:
        stored = self.pairs.rows[place].a
        return Option(entry_of(place, stored), self._analysis(stored), float(self.pairs.scores[place]))

    def _analysis(self, text: str) -> Analysis:
        known = self._analyses.get(text)
        if known is None:
            known = self._analyses[text] = analyse(text)
        return known


class _Run:
    """One pass over a stream."""

    def __init__(
        self,
        shop: Shop,
        policies: Policy | Sequence[Policy],
        *,
        plain: bool,
        keeps_all: bool,
        missed: NDArray[np.bool_] | None,
    ) -> None:
        count = len(shop.stream)
        self._shop = shop
        self._plain = plain
        self._keeps_all = keeps_all
        self._missed = np.zeros(count, np.bool_) if missed is None else missed
        self._policies = [policies] * count if isinstance(policies, Policy) else policies
        self._stored = np.zeros(count, np.bool_)
        self._by_text: dict[tuple[int, str], int] = {}
        self._entries: dict[int, Entry] = {}
        self._places = np.full(count, -1, np.int64)
        self._exact = np.zeros(count, np.bool_)
        self._scores = np.zeros(count, np.float32)
        self._refused: list[Refused] = []

    def result(self) -> Served:
        for place in range(len(self._places)):
            self._request(place)
        served = enumerate(self._places.tolist())
        right = np.array([other >= 0 and self._shop.is_right(place, other) for place, other in served])
        return Served(self._places, self._exact, self._scores, right, tuple(self._refused))

    def _request(self, place: int) -> None:
        policy = self._policies[place]
        if not policy.enabled:
            return
        now_ms = self._shop.stream.rows[place].at_ms or 0
        key = (int(self._shop.scopes[place]), self._shop.texts[place])
        same = self._by_text.get(key)
        is_exact = same is not None and self._entry(same).expires_ms > now_ms
        if self._missed[place]:
            is_exact = False
        elif same is not None and is_exact:
            self._places[place], self._exact[place], self._scores[place] = same, True, 1.0
        else:
            chosen = self._by_meaning(place, policy, now_ms)
            if chosen is not None:
                self._places[place], self._scores[place] = chosen.entry_id, chosen.score
        if self._places[place] < 0 or (self._keeps_all and not is_exact):
            if same is not None:
                self._stored[same] = False
            self._by_text[key] = place
            self._stored[place] = self._shop.stream.seen[place] and policy.embeds

    def _by_meaning(self, place: int, policy: Policy, now_ms: int) -> Candidate | None:
        if not (policy.embeds and self._shop.stream.seen[place]):
            return None
        bar = bar_of(policy)
        lowest = policy.min_score if self._plain or bar.rule.model is None else bar.near_score
        places, scores = self._shop.near.of(place, max(lowest, self._shop.near.floor))
        kept = np.flatnonzero(self._stored[places])[: 1 if self._plain else policy.candidate_count].tolist()
        if not kept:
            return None
        if self._plain:
            return Candidate(int(places[kept[0]]), float(scores[kept[0]]))
        options = [
            Option(self._entry(near), self._shop.analysis(near), float(score), self._shop.answer(near))
            for near, score in zip(places[kept].tolist(), scores[kept], strict=True)
        ]
        choice = choose(place, self._shop.texts[place], self._shop.analysis(place), options, policy, now_ms)
        self._refused += choice.refused
        return choice.candidate

    def _entry(self, place: int) -> Entry:
        known = self._entries.get(place)
        if known is None:
            row = self._shop.stream.rows[place]
            expires_ms = FOREVER_MS if row.at_ms is None else row.at_ms + self._policies[place].ttl_ms
            known = self._entries[place] = entry_of(place, row.prompt, row.at_ms or 0, expires_ms)
        return known


def with_threshold(policy: Policy, threshold: float) -> Policy:
    """The same policy with another threshold, and no rule of its own that would choose one."""
    return replace(policy, min_score=threshold, trust=replace(policy.trust, max_error_rate=None))
