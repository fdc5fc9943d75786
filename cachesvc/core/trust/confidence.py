"""Confidence: the chance that a reuse is right, whatever rule is in force, as the namespace's own labels have it.

A calibration is of the values of one rule, and made anew when the rule is another or enough became known. Pure; the
labels are read behind the requests, by ``engine.calibrating``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.trust.calibration import MIN_LABELS, calibrate
from cachesvc.core.trust.features import VERSION
from cachesvc.core.trust.labels import Label, Origin
from cachesvc.core.trust.rules import Calibration, Rule

MOST_LABELS = 20_000
"""A calibration is made from so many at most, the newest."""

GROWTH = 0.25
"""It is made anew when so many more became known, as a share of those that it could be made from."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Of a namespace. ``told``: labels so far that are a sample; ``made_at``: how many there were when it was tried last to
    calibrate the values of rule ``rule_version``. ``calibration`` None: too few labels say anything of that rule.
    ``after``: the sequence of the newest label that is too old to count.
    """

    told: int = 0
    made_at: int = 0
    rule_version: int = 0
    calibration: Calibration | None = None
    after: int = 0


_WITHHELD = (Origin.HELD_BACK, Origin.SHADOW)
_AUDITED = (Origin.AUDIT,)
_OF_HITS = _WITHHELD + _AUDITED

UNKNOWN = Confidence()
"""Before the first label."""


@dataclass(frozen=True, slots=True)
class Picked:
    """By request, in order: the value of the candidate that a rule picks, whether that is right, how many requests it
    stands for, and its label's sequence. Each (n,).
    """

    values: NDArray[np.float64]
    right: NDArray[np.bool_]
    weights: NDArray[np.float64]
    sequences: NDArray[np.int64]

    def plus(self, other: "Picked") -> "Picked":
        """These and then the others; the newest, where they are too many."""
        return Picked(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])[-MOST_LABELS:]
                for name in Picked.__slots__
            )
        )


NOTHING_PICKED = Picked(np.zeros(0), np.zeros(0, bool), np.zeros(0), np.zeros(0, np.int64))


def is_due(known: Confidence, rule: Rule) -> bool:
    """Whether the values of this rule should be calibrated anew."""
    if known.told < MIN_LABELS:
        return False
    if known.rule_version != rule.version or not known.made_at:
        return True
    return known.told - known.made_at >= GROWTH * min(known.made_at, MOST_LABELS)


def made(known: Confidence, rule: Rule, given: Picked) -> Confidence:
    """With what is picked by a rule, of all labels after ``known.after``."""
    is_full = len(given.sequences) == MOST_LABELS
    return replace(
        known,
        made_at=known.told,
        rule_version=rule.version,
        calibration=calibrate(given.values, given.right, given.weights),
        after=int(given.sequences[0]) - 1 if is_full else known.after,
    )


def calibrated(rule: Rule, known: Confidence) -> Rule:
    """The rule with what is known of its values. A learned one brings what was known when it was made, by values of
    models that had not seen the label; that holds until there are labels enough since.
    """
    if known.calibration is None or known.rule_version != rule.version:
        return rule
    return replace(rule, calibration=known.calibration)


def picked(labels: Sequence[tuple[int, Label]], rule: Rule, floor_score: float) -> Picked:
    """What a rule picks of each label's candidates, which follow on each other. Left out are labels that are no sample, or
    that the rule was learned from, and those of which nobody knows whether the pick is right.
    """
    usable = [(sequence, label) for sequence, label in labels if _is_usable(label, rule)]
    found = [
        (sequence, label, value, same)
        for (sequence, label), values in zip(usable, _values(usable, rule), strict=True)
        for value, same in _pick(label, values, rule, floor_score)
    ]
    if not found:
        return NOTHING_PICKED
    sequences, told, values, right = zip(*found, strict=True)
    once = _once(told)
    weights = [(once if label.origin in _OF_HITS else 1.0) / label.share for label in told]
    return Picked(np.array(values), np.array(right, bool), np.array(weights), np.array(sequences, np.int64))


def _is_usable(label: Label, rule: Rule) -> bool:
    if not label.origin.is_sampled or label.share <= 0 or label.at_ms < rule.made_ms or not label.candidates:
        return False
    return rule.model is None or label.features_version == VERSION


def _once(labels: Sequence[Label]) -> float:
    """By how much less each label of a would-be hit counts, so that together they stand for every hit once.

    Those that were not served, with their share, stand for all hits, and those that were audited again for all that were
    served. Not all are answered, and not of all it can be told whether they are right: the hits are as many as the sample has it that has more.
    """
    withheld, audited = (
        sum(1 / label.share for label in labels if label.origin in origins)
        for origins in (_WITHHELD, _AUDITED)
    )
    return max(withheld, audited) / max(withheld + audited, 1.0)


def _values(usable: Sequence[tuple[int, Label]], rule: Rule) -> Iterator[Sequence[float]]:
    """By label, of each of its candidates. All at once: a model is quick with many."""
    if rule.model is None:
        yield from ([candidate.score for candidate in label.candidates] for _, label in usable)
        return
    rows = [candidate.features for _, label in usable for candidate in label.candidates]
    values = rule.values(np.stack(rows)).tolist() if rows else []
    start = 0
    for _, label in usable:
        yield values[start : start + len(label.candidates)]
        start += len(label.candidates)


def _pick(
    label: Label, values: Sequence[float], rule: Rule, floor_score: float
) -> Iterator[tuple[float, bool]]:
    """The value of the pick and whether it is right; nothing where there is none or that is not known."""
    place = label.served if label.rule_version == rule.version else None
    if place is None:
        is_open = [
            candidate.gate is None and candidate.score >= floor_score for candidate in label.candidates
        ]
        places = [place for place, may in enumerate(is_open) if may]
        place = max(places, key=lambda place: values[place]) if places else None
    if place is not None:
        same = label.candidates[place].same
        if same is not None:
            yield values[place], same
