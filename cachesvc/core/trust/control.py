"""The online life of a namespace that states how many wrong hits per request it bears: which threshold it serves by.

It starts at the policy's threshold, learns from labels, opens as far as they defend, holds the rate of wrong
hits there and closes when they become too many. A pure fold over what labels say, in order (``fold``); what only
counts can tell, how many requests a label stands for, is taken over between folds (``reckon``).
See docs/adr/0030-control.md for what was weighed, and docs/trust.md for where it ends.

Labels are of two kinds. A request below the threshold is a miss, and its fresh answer always tells. One above it
tells only when it was held back or audited, by a chance that is known; it then stands for the others.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cachesvc.core.trust.curve import Curve, drawn
from cachesvc.core.trust.features import VERSION
from cachesvc.core.trust.labels import Label, LabelledCandidate, Tally
from cachesvc.core.trust.rules import Rule

CLOSED = 10.0
"""A threshold that no value reaches, whatever number of candidates agree."""

_FORGOTTEN_HALF_AFTER = 4_000.0  # requests
_HORIZON = 2_000.0  # requests within which what was overspent is saved again
_OPENING = 4  # rungs at once
_DECIDED_EVERY = 10  # labels
_LEAST_LABELS = 10
_LEAST_WRONG = 2  # one wrong hit closes nothing
_BACK_BELOW = 0.8  # of the target: where closing ends
_RECENT = 64  # would-be hits
_ALARM = 8.0  # log likelihood ratio
_ALARM_EXCESS = 1.5  # times the share of wrong hits that is borne
_LEAST_ALARM_SHARE = 0.02
_MOST_HELD_BACK = 0.5
_HELD_BACK_UNTIL = 40.0  # labels of would-be hits: their share is halved once so many more are there
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Ladder:
    """The values that may be a threshold, rising. What is below the first counts as the first."""

    rungs: tuple[float, ...]

    def rung(self, value: float) -> int:
        """The highest that a value reaches."""
        return max(bisect_right(self.rungs, value + _ROUNDING) - 1, 0)


SCORES = Ladder(tuple(round(0.6 + 0.005 * step, 3) for step in range(121)))
"""For rules whose values are scores, and those that votes have moved past 1."""

CHANCES = Ladder(tuple(round(1 - 10 ** (-step / 24), 6) for step in range(97)))
"""For rules whose values are chances: the nearer to 1 the finer."""


@dataclass(frozen=True, slots=True)
class ControlTerms:
    """``max_error_rate``: wrong hits ÷ requests that are borne. ``start``: the threshold while labels say nothing."""

    max_error_rate: float
    start: float = 0.95
    hold_back_share: float = 0.05
    ladder: Ladder = SCORES


@dataclass(frozen=True, slots=True)
class Seen:
    """What a label says to the controller: the value of the candidate that the rule would serve first, whether it
    is wrong, whether the threshold of then would have served it, and how many such requests it stands for (≥ 1).
    """

    value: float
    wrong: bool
    would_hit: bool
    stands_for: float


@dataclass(frozen=True, slots=True)
class ControlState:
    """Plain numbers. ``threshold`` None: the terms' start. ``labelled``, ``wrong``, ``misses`` and ``hits`` go by rung:
    labels, wrong ones, and the requests that labels of misses and of would-be hits stand for; what is old counts
    for less in them. The other sums forget nothing. ``recent``: of the newest would-be hits, which were wrong.
    """

    threshold: float | None = None
    labels: int = 0
    hit_labels: int = 0
    told_misses: float = 0.0
    told_hits: float = 0.0
    wrong_served: float = 0.0
    requests_per_near: float = 1.0
    hit_factor: float = 1.0
    alarms: int = 0
    recent: tuple[bool, ...] = ()
    labelled: tuple[float, ...] = ()
    wrong: tuple[float, ...] = ()
    misses: tuple[float, ...] = ()
    hits: tuple[float, ...] = ()

    def in_force(self, terms: ControlTerms) -> float:
        """The threshold to serve by; CLOSED when nothing may be served."""
        return terms.start if self.threshold is None else self.threshold

    def to_record(self) -> dict[str, Any]:
        """As plain values, for whoever keeps it."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name in ControlState.__slots__
            for value in (getattr(self, name),)
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ControlState":
        """What ``to_record`` gave. Raises TypeError for names that are not of it."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
        }
        return cls(**values)


UNTOLD = ControlState()
"""Before the first label."""


@dataclass(frozen=True, slots=True)
class Folded:
    """The state after labels, and what was changed by them, in words."""

    state: ControlState
    steps: tuple[str, ...]


def seen(label: Label, rule: Rule, floor_score: float) -> Seen | None:
    """What a label says of a rule; None when it says nothing: verdicts of people are no sample, features may be of
    another version, and a comparison may have failed. A request that no candidate may serve is one that cannot err.
    """
    if not label.origin.is_sampled or label.share <= 0 or not label.candidates:
        return None
    if rule.model is not None and label.features_version != VERSION:
        return None
    would_hit, stands_for = label.served is not None, 1 / label.share
    may_serve = {
        place: candidate
        for place, candidate in enumerate(label.candidates)
        if candidate.gate is None and candidate.score >= floor_score
    }
    if not may_serve:
        return Seen(0.0, wrong=False, would_hit=would_hit, stands_for=stands_for)
    served = label.served if label.rule_version == rule.version else None
    if served in may_serve:
        chosen = may_serve[served]
    else:
        told = [candidate for candidate in may_serve.values() if candidate.same is not None]
        chosen = max(told, key=lambda one: _value(rule, one), default=_UNTOLD)
    if chosen.same is None:
        return None
    return Seen(_value(rule, chosen), not chosen.same, would_hit, stands_for)


_UNTOLD = LabelledCandidate(np.zeros(0, np.float32), 0.0, None, None)


def _value(rule: Rule, candidate: LabelledCandidate) -> float:
    if rule.model is None:
        return candidate.score
    return float(rule.model.values(candidate.features[None])[0])


def fold(state: ControlState, news: Iterable[Seen], terms: ControlTerms) -> Folded:
    """Take over what labels say, in order. In one go or in pieces, the outcome is the same."""
    ledger = _Ledger(state, terms)
    for item in news:
        ledger.add(item)
    return Folded(ledger.state(), tuple(ledger.steps))


def anew(before: ControlState) -> ControlState:
    """The control of another rule than before, of which no label says anything yet; what was spent stays spent."""
    return replace(before, threshold=None, recent=(), labelled=(), wrong=(), misses=(), hits=())


def reckon(state: ControlState, tally: Tally) -> ControlState:
    """Take over what counts tell, once the labels up to them are folded in.

    Not all misses are answered, nor all audits: ``hit_factor`` makes labels of would-be hits stand for as many requests
    as they should beside those of misses.
    """
    if not tally.near:
        return state
    factor = state.hit_factor
    missed = tally.near - tally.would_hit
    if min(state.told_hits, state.told_misses, tally.would_hit, missed) >= _LEAST_LABELS:
        factor = (tally.would_hit / state.told_hits) / (missed / state.told_misses)
    return replace(
        state,
        requests_per_near=max(tally.searched / tally.near, 1.0),
        hit_factor=min(max(factor, 0.25), 4.0),
    )


def hold_back_share(state: ControlState, terms: ControlTerms) -> float:
    """Of the semantic hits, how many to answer as misses: half while nothing is known of hits, less with each
    that was labelled, never under what the terms ask for.
    """
    wanted = _HELD_BACK_UNTIL / (_HELD_BACK_UNTIL + state.hit_labels)
    return max(min(wanted, _MOST_HELD_BACK), terms.hold_back_share)


def curve(state: ControlState, terms: ControlTerms) -> Curve:
    """What the labels so far say of each rung."""
    return _Ledger(state, terms).curve()


class _Ledger:
    """A state while it is folded into. One owner, short-lived."""

    def __init__(self, state: ControlState, terms: ControlTerms) -> None:
        self._state = state
        self._terms = terms
        rungs = len(terms.ladder.rungs)
        counted = (state.labelled, state.wrong, state.misses, state.hits)
        # What was counted by another ladder says nothing by this one.
        columns = [column if len(column) == rungs else (0.0,) * rungs for column in counted]
        self._sums = np.array(columns, np.float64)
        self.steps: list[str] = []

    def state(self) -> ControlState:
        labelled, wrong, misses, hits = (tuple(column) for column in self._sums.tolist())
        return replace(self._state, labelled=labelled, wrong=wrong, misses=misses, hits=hits)

    def add(self, item: Seen) -> None:
        """Count one, and see what follows from it."""
        was = self._state
        self._sums *= math.exp2(-item.stands_for * was.requests_per_near / _FORGOTTEN_HALF_AFTER)
        rung = self._terms.ladder.rung(item.value)
        self._sums[:, rung] += (1, item.wrong, 0 if item.would_hit else item.stands_for, 0)
        if not item.would_hit:
            self._state = replace(was, labels=was.labels + 1, told_misses=was.told_misses + item.stands_for)
        else:
            self._sums[3, rung] += item.stands_for
            self._state = replace(
                was,
                labels=was.labels + 1,
                hit_labels=was.hit_labels + 1,
                told_hits=was.told_hits + item.stands_for,
                wrong_served=was.wrong_served + item.wrong * (item.stands_for - 1) * was.hit_factor,
                recent=(*was.recent, item.wrong)[-_RECENT:],
            )
        turns = item.would_hit and item.wrong
        if turns and self._alarm():
            return
        if self._state.labels >= _LEAST_LABELS and (turns or self._state.labels % _DECIDED_EVERY == 0):
            self._decide()

    def _requests(self) -> float:
        """How many the sums stand for."""
        _, _, misses, hits = self._sums
        return max(
            float(misses.sum() + hits.sum() * self._state.hit_factor) * self._state.requests_per_near, 1.0
        )

    def _alarm(self) -> bool:
        """Whether the newest would-be hits are wrong so much more often than is borne that it cannot be chance: the
        likelihood ratio of any number of the newest against the share that is borne (a scan for a change). What was known is then void.
        """
        state, terms = self._state, self._terms
        first = bisect_right(terms.ladder.rungs, state.in_force(terms) - _ROUNDING)
        hit_share = float(self._sums[2:, first:].sum()) / self._requests()
        borne = _ALARM_EXCESS * terms.max_error_rate / max(hit_share, terms.max_error_rate)
        borne = min(max(borne, _LEAST_ALARM_SHARE), 0.5)
        wrong = 0
        for count, was_wrong in enumerate(reversed(state.recent), 1):
            wrong += was_wrong
            if was_wrong and wrong > borne * count and _likelihood_ratio(wrong, count, borne) > _ALARM:
                self._close_at_once(wrong, count, borne)
                return True
        return False

    def _close_at_once(self, wrong: int, count: int, borne: float) -> None:
        self._sums[:] = 0
        self._state = replace(
            self._state, threshold=CLOSED, hit_labels=0, recent=(), alarms=self._state.alarms + 1
        )
        self.steps.append(
            f"closed: of the last {count} semantic hits that were answered anew {wrong} were wrong, and at most"
            f" {borne:.1%} are borne; what was known before counts no more"
        )

    def _decide(self) -> None:
        """Open as far as is defended, by steps; close where more errors are likely than the target."""
        state, terms = self._state, self._terms
        rungs = terms.ladder.rungs
        target, curve = self._target(), self.curve()
        now = state.in_force(terms)
        place = bisect_right(rungs, now - _ROUNDING)
        defended = _lowest(curve.bound, target)
        if defended < place:
            start = bisect_right(rungs, terms.start - _ROUNDING)
            to = max(defended, start if place == len(rungs) else place - _OPENING)
            if place == len(rungs) and defended > start:
                to = defended
            self._move(
                to, f"labels defend {curve.bound[to]:.2%} wrong hits per request there, of {target:.2%}"
            )
        elif (
            place < len(rungs)
            and curve.likely[place] > target
            and self._sums[1, place:].sum() >= _LEAST_WRONG
        ):
            to = max(_lowest(curve.likely, _BACK_BELOW * target), place)
            if to > place:
                self._move(
                    to, f"{curve.likely[place]:.2%} wrong hits per request are likely, of {target:.2%}"
                )

    def _target(self) -> float:
        """What may be spent per request now: what is borne, less what was overspent so far."""
        state, borne = self._state, self._terms.max_error_rate
        requests = (state.told_misses + state.told_hits * state.hit_factor) * state.requests_per_near
        left = borne * (requests + _HORIZON) - state.wrong_served
        return min(max(left / _HORIZON, 0.0), borne)

    def _move(self, to: int, why: str) -> None:
        rungs = self._terms.ladder.rungs
        was = self._state.in_force(self._terms)
        threshold = rungs[to] if to < len(rungs) else CLOSED
        self._state = replace(self._state, threshold=threshold)
        way = "opened" if threshold < was else "closed"
        self.steps.append(f"{way} from {_worded(was)} to {_worded(threshold)}: {why}")

    def curve(self) -> Curve:
        stood = self._sums[2] + self._sums[3] * self._state.hit_factor
        return drawn(
            self._sums[0].tolist(),
            self._sums[1].tolist(),
            stood.tolist(),
            self._requests(),
            self._terms.max_error_rate,
        )


def _lowest(rising_to_the_left: tuple[float, ...], target: float) -> int:
    """From the strictest rung down while the target is met: the last that meets it, or their count for none.

    The order is fixed beforehand and the first failure ends it, so that many rungs need no correction.
    """
    place = len(rising_to_the_left)
    while place and rising_to_the_left[place - 1] <= target:
        place -= 1
    return place


def _likelihood_ratio(wrong: int, count: int, borne: float) -> float:
    """Logarithm: the observed share of wrong ones against the share that is borne."""
    share, right = wrong / count, count - wrong
    against = right * math.log((1 - share) / (1 - borne)) if right else 0.0
    return wrong * math.log(share / borne) + against


def _worded(threshold: float) -> str:
    return "nothing is served" if threshold >= CLOSED else f"{threshold:.3f}"
