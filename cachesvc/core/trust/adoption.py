"""Adoption: a learned rule takes the place of the one in force only when it wins under the same bound on fresh labels.

Fresh are the last labels, which nothing was learned from in the trial. The rule that is then made learns from all labels,
and its threshold is chosen by cross-fitted values of them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.trust.calibration import calibrate
from cachesvc.core.trust.features import VERSION
from cachesvc.core.trust.labels import Label
from cachesvc.core.trust.learn import Examples, Picks, cross_fitted, examples, picked_rows, picks, train
from cachesvc.core.trust.operating import LEVEL, Choice, choose
from cachesvc.core.trust.rules import Model, Rule

MIN_LABELS = 600
FRESH_SHARE = 0.4

AHEAD = 0.5
"""The bound is on what the next requests show, half as many as the labels stand for: see ADR 29."""

_MAX_CHANCE = 0.05


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rule is to keep, and when it is made. ``requests`` are those that the labels stand for, labelled or not;
    the next ``ahead`` times as many keep the rate, or, where that is 0, the rate behind all requests is kept.
    """

    max_error_rate: float
    floor_score: float
    requests: int
    now_ms: int
    version: int
    ahead: float = AHEAD


def challenge(labels: Sequence[Label], current: Rule, terms: Terms) -> Rule | str:
    """A learned rule of the given version, or why the current one stays. ``labels`` in their order, the oldest first."""
    given = examples(labels, terms.floor_score)
    if given.requests < MIN_LABELS:
        return f"{given.requests} labels of {MIN_LABELS}"
    fresh = np.arange(given.requests) >= given.requests * (1 - FRESH_SHARE)
    challenger = train(given.of(~fresh))
    if challenger is None:
        return "the labels are all alike"
    refusal = _trial(given.of(fresh), current, challenger, terms, given.requests)
    if refusal is not None:
        return refusal
    values, model = cross_fitted(given), train(given)
    if values is None or model is None:
        return "the labels of a part are all alike"
    rows = picked_rows(given, values)
    best, told = picks(given, values), given.is_known[rows]
    choice = choose_for(best, terms)
    if choice is None:
        return "no threshold keeps the bound on all labels"
    return Rule(
        version=terms.version,
        threshold=choice.threshold,
        made_ms=terms.now_ms,
        model=model,
        calibration=calibrate(best.values[told], best.right[told], 1 / best.share[told]),
        evidence=choice.evidence,
        note=f"learned from {given.requests} labels; won on the last {int(fresh.sum())}",
        features_version=VERSION,
    )


def choose_for(best: Picks, terms: Terms, requests: int | None = None) -> Choice | None:
    """The operating point for picks of labelled requests that stand for so many; for those of the terms by default."""
    stood_for = max(terms.requests if requests is None else requests, len(best.values))
    return choose(
        best.values,
        best.right,
        stood_for,
        terms.max_error_rate,
        shares=best.share,
        level=LEVEL,
        horizon=int(stood_for * terms.ahead) or None,
    )


def _trial(fresh: Examples, current: Rule, challenger: Model, terms: Terms, labelled: int) -> str | None:
    """Why the challenger has not won, or None. Both may choose their threshold by the fresh labels."""
    requests = max(fresh.requests, terms.requests * fresh.requests // labelled)
    old = _served_right(fresh, current.values(fresh.features), requests, terms)
    new = _served_right(fresh, challenger.values(fresh.features), requests, terms)
    if not new.any():
        return "it defends no threshold on the fresh labels"
    won, lost = int((new & ~old).sum()), int((old & ~new).sum())
    if not _is_more(won, lost):
        return f"on the fresh labels it wins {won} hits and loses {lost}"
    return None


def _served_right(
    fresh: Examples, values: NDArray[np.float64], requests: int, terms: Terms
) -> NDArray[np.bool_]:
    """By request: whether it would get a right hit at the threshold that the fresh labels defend."""
    hits = np.zeros(fresh.requests, bool)
    choice = choose_for(picks(fresh, values), terms, requests)
    if choice is not None:
        best = np.where(fresh.is_open, values, -np.inf)
        order = np.lexsort((-best, fresh.request))
        first = order[np.append(True, np.diff(fresh.request[order]) > 0)]
        hits[fresh.request[first]] = fresh.same[first] & (best[first] >= choice.threshold)
    return hits


def _is_more(won: int, lost: int) -> bool:
    """Whether so many more are unlikely by chance: the sign test, one-sided."""
    tosses = won + lost
    return won > lost and sum(comb(tosses, n) for n in range(lost + 1)) <= _MAX_CHANCE * 2**tosses
