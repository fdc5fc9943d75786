"""Streams served from nothing under a rate of errors that is borne: what the control of trust makes of its labels.

The service's own parts decide: gates, votes, ``core.trust.control``. A miss, or a hit that was held back by chance,
stores its answer and is a label; a hit that was served is neither, for nobody knows its right answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.labelled import Stream
from bench.simulate import Neighbours, simulate
from cachesvc.core.gates import DEFAULT_GATES, Analysis, analyse, first_veto
from cachesvc.core.trust.control import UNTOLD, ControlTerms, Seen, fold, hold_back_share, reckon
from cachesvc.core.trust.labels import Tally
from cachesvc.core.trust.votes import voted

FLOOR = 0.6
_MOST_NEAR = 400
_BLOCK = 512
_ROUND = 20  # labels from one round of the service to the next
_CANNOT_ERR = Seen(0.0, wrong=False, would_hit=False, stands_for=1.0)  # gates refuse all that is near


class Near:
    """A stream with what is near to each request, best first, found once: for as many runs as are wanted."""

    def __init__(self, stream: Stream) -> None:
        self.name = stream.name
        self.answers = stream.answers
        self.texts = stream.texts
        self._vetoed: dict[tuple[int, int], bool] = {}
        self._analyses: dict[int, Analysis] = {}
        self.rows: list[NDArray[np.int64]] = []
        self.scores: list[NDArray[np.float32]] = []
        for start in range(0, len(stream), _BLOCK):
            block = stream.vectors[start : start + _BLOCK] @ stream.vectors.T
            for own, scores in enumerate(block, start):
                scores[own] = -1.0
                rows = np.flatnonzero(scores >= FLOOR)
                rows = rows[np.argsort(-scores[rows], kind="stable")][:_MOST_NEAR]
                self.rows.append(rows)
                self.scores.append(scores[rows])

    def __len__(self) -> int:
        return len(self.answers)

    def is_vetoed(self, ours: int, theirs: int) -> bool:
        """Whether a gate refuses the one for the other. Gates are symmetric."""
        pair = (ours, theirs) if ours < theirs else (theirs, ours)
        known = self._vetoed.get(pair)
        if known is None:
            veto = first_veto(self._analysis(ours), self._analysis(theirs), DEFAULT_GATES)
            known = self._vetoed[pair] = veto is not None
        return known

    def _analysis(self, row: int) -> Analysis:
        if row not in self._analyses:
            self._analyses[row] = analyse(self.texts[row])
        return self._analyses[row]


@dataclass(frozen=True, slots=True)
class Pick:
    """What was picked for a request that had something near: its value, whether it was right, whether it was served or
    would have been, and for how many requests its label stands; 0: it was not labelled.
    """

    value: float
    right: bool
    would_hit: bool
    stands_for: float


@dataclass(frozen=True, slots=True)
class Course:
    """How a run went, by request: what was served rightly and wrongly, the threshold of then, and what control did:
    before which request, in words. ``picks`` are those of the requests that had one, in order.
    """

    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    thresholds: NDArray[np.float64]
    steps: Sequence[tuple[int, str]]
    picks: Sequence[Pick]


@dataclass(frozen=True, slots=True)
class Play:
    """How a stream is served. ``order``: rows of it, in order. ``answers``: those of the rows, where they are not the
    stream's own. ``votes`` False: by cosine alone, as where stored answers cannot be told apart. ``frozen_at``:
    from that place on the threshold stays as it is, whatever labels say. ``audit_share`` of the hits that are served
    are labels, too, but that control does not ask them.
    """

    order: NDArray[np.int64]
    terms: ControlTerms
    seed: int
    answers: Sequence[str] | None = None
    votes: bool = True
    frozen_at: int | None = None
    audit_share: float = 0.0


def play(near: Near, how: Play) -> Course:
    """Serve a stream from nothing."""
    answers = near.answers if how.answers is None else how.answers
    ours = [answers[row] for row in how.order]
    judge = _Online(near, how, ours)
    run = simulate(ours, _Found(near, how.order), judge)
    wrong = (run.served >= 0) & ~run.right
    return Course(run.right, wrong, np.array(judge.thresholds), judge.steps, judge.picks)


class _Found:
    """An ``Index`` of scores that are known, for as many runs as are wanted."""

    def __init__(self, near: Near, order: NDArray[np.int64]) -> None:
        self._near = near
        self._order = order
        self._place = np.empty(len(near), np.int64)
        self._place[order] = np.arange(len(order))
        self._stored = np.zeros(len(near), np.bool_)

    def nearest(self, place: int, count: int) -> Neighbours:
        row = self._order[place]
        rows = self._near.rows[row]
        there = np.flatnonzero(self._stored[rows])[:count]
        return Neighbours(self._place[rows[there]], self._near.scores[row][there])

    def add(self, place: int) -> None:
        self._stored[self._order[place]] = True


class _Online:
    """The judge: serves by the threshold in force, tosses coins, and folds labels in by rounds."""

    def __init__(self, near: Near, how: Play, answers: Sequence[str]) -> None:
        self._near = near
        self._how = how
        self._answers = answers
        self._digests = [answer.encode() for answer in answers]
        self._coins = np.random.default_rng(how.seed).random(len(answers))
        self._state = UNTOLD
        self._threshold = how.terms.start
        self._held_back = self._share()
        self._told: list[Seen] = []
        self._searched = self._near_count = self._would_hit = self._held_count = 0
        self.thresholds: list[float] = []
        self.steps: list[tuple[int, str]] = []
        self.picks: list[Pick] = []

    def choose(self, place: int, near: Neighbours) -> int | None:
        self.thresholds.append(self._threshold)
        best = self._best(place, near)
        would_hit = best is not None and best[1] >= self._threshold
        held_back = would_hit and bool(self._coins[place] < self._held_back)
        self._searched += 1
        self._near_count += len(near.places) > 0
        self._would_hit += would_hit
        self._held_count += held_back
        if best is None:
            if len(near.places):
                self._told.append(_CANNOT_ERR)
            return None
        wrong = self._answers[best[0]] != self._answers[place]
        if would_hit and not held_back:
            is_audited = (1 - self._coins[place]) < self._how.audit_share * (1 - self._held_back)
            stands_for = 1 / self._how.audit_share if is_audited else 0.0
            self.picks.append(Pick(best[1], not wrong, would_hit, stands_for))
            return best[0]
        self.picks.append(Pick(best[1], not wrong, would_hit, 1 / self._held_back if would_hit else 1.0))
        self._told.append(Seen(best[1], wrong, would_hit, 1 / self._held_back if would_hit else 1.0))
        return None

    def learn(self, place: int) -> None:
        frozen_at = self._how.frozen_at
        if len(self._told) < _ROUND or (frozen_at is not None and place >= frozen_at):
            return
        folded = fold(self._state, self._told, self._how.terms)
        served = self._would_hit - self._held_count
        tally = Tally(self._searched, self._near_count, self._would_hit, served, self._held_count)
        self._state = reckon(folded.state, tally)
        self._threshold = self._state.in_force(self._how.terms)
        self._held_back = self._share()
        self._told.clear()
        self.steps.extend((place, step) for step in folded.steps)

    def _share(self) -> float:
        return hold_back_share(self._state, self._how.terms)

    def _best(self, place: int, near: Neighbours) -> tuple[int, float] | None:
        """The candidate of the greatest value that no gate refuses, and its value."""
        places, scores = near.places.tolist(), near.scores.tolist()
        values = voted(scores, [self._digests[one] for one in places]) if self._how.votes else scores
        order = self._how.order
        for at in sorted(range(len(places)), key=lambda at: -values[at]):
            if not self._near.is_vetoed(int(order[place]), int(order[places[at]])):
                return places[at], float(values[at])
        return None


def shuffled(near: Near, seed: int) -> NDArray[np.int64]:
    """All rows in an order by chance."""
    return np.random.default_rng(seed).permutation(len(near))
