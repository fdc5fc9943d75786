"""Has the rate of something come to be credibly above, or below, a target? Asked after each observation, for ever.

An e-detector (Shin, Ramdas, Rinaldo, "E-detectors", 2024) with a prior on when the change came: before each observation
a part of one unit is staked on the rate having changed just then, and what is staked is multiplied by a likelihood ratio
that the target makes fair. While the rate keeps to the target's side, all of it together comes to ``bar`` within n
observations with a chance of (1 + n ÷ 5,000) ÷ bar at most. The parts fall as fast as they must to sum up to one, but
never below 1 ÷ 5,000: a change after any number of good observations is noticed as soon as one after a thousand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any

_PARTS_SUM = 2.1098
"""Of 1 ÷ (n ln² n) over n = 2, 3, …, rounded up."""

_LEAST_PART = 1 / 5_000

_RECENT = 50
"""Observations after which the older half of what is told for people is forgotten."""

_MOST = 1e12
"""What is staked is held below, so that it stays a number."""


@dataclass(frozen=True, slots=True)
class Detector:
    """What was staked on each alternative and has become of it; and the observations of late, for words.

    ``seen`` and ``wrong`` count all since it was made; ``older_*`` and ``newer_*`` the last 50 to 100.
    """

    seen: int = 0
    wrong: int = 0
    stakes: tuple[float, ...] = ()
    older_seen: int = 0
    older_wrong: int = 0
    newer_seen: int = 0
    newer_wrong: int = 0

    @property
    def evidence(self) -> float:
        """What one unit has become."""
        return sum(self.stakes)

    @property
    def recent_seen(self) -> int:
        """The last 50 to 100, or all where there are fewer."""
        return self.older_seen + self.newer_seen

    @property
    def recent_wrong(self) -> int:
        """Those of them that were wrong."""
        return self.older_wrong + self.newer_wrong


UNSEEN = Detector()


def above(target: float) -> tuple[float, ...]:
    """The rates to stake on, if it is to be found out that a rate is above the target."""
    return (min(2 * target, (1 + target) / 2), target + (1 - target) * 0.2, target + (1 - target) * 0.6)


def below(target: float) -> tuple[float, ...]:
    """The same for one that is below."""
    return (target * 0.5, target * 0.2, 0.0)


def observe(detector: Detector, target: float, alternatives: tuple[float, ...], *, wrong: bool) -> Detector:
    """With one more. The alternatives are all above the target, or all below, and always the same for a detector."""
    place = detector.seen + 2
    part = max(1.0 / (_PARTS_SUM * place * log(place) ** 2), _LEAST_PART) / len(alternatives)
    held = detector.stakes or (0.0,) * len(alternatives)
    stakes = tuple(
        min((stake + part) * (rate / target if wrong else (1.0 - rate) / (1.0 - target)), _MOST)
        for stake, rate in zip(held, alternatives, strict=True)
    )
    turned = detector.newer_seen >= _RECENT
    return replace(
        detector,
        seen=detector.seen + 1,
        wrong=detector.wrong + wrong,
        stakes=stakes,
        older_seen=detector.newer_seen if turned else detector.older_seen,
        older_wrong=detector.newer_wrong if turned else detector.older_wrong,
        newer_seen=1 if turned else detector.newer_seen + 1,
        newer_wrong=int(wrong) if turned else detector.newer_wrong + wrong,
    )


def detector_of(record: Mapping[str, Any]) -> Detector:
    """Of what ``dataclasses.asdict`` made of one. Raises ValueError for anything else."""
    try:
        return Detector(**{**record, "stakes": tuple(record["stakes"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a record of a detector: {error!r}") from None
