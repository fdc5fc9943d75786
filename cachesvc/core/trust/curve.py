"""Wrong hits per request by threshold: how many are likely, and how many the labels defend.

Labels stand for unlike numbers of requests, so that an exact binomial bound does not fit; that of a weighted sum of
Poisson counts does, and with equal weights it is the exact one of Garwood, next to that of Clopper and Pearson.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z = 1.645  # 95 %, one-sided
_LEAST_GROUP = 5  # labels
_ONE_MAY_WEIGH = 1 / 8  # of what is borne: the requests that a label of a group stands for, at most


@dataclass(frozen=True, slots=True)
class Curve:
    """Wrong hits per request by rung, were it the threshold: ``likely``, and what the labels defend (95 %)."""

    likely: tuple[float, ...]
    bound: tuple[float, ...]


def drawn(
    labelled: Sequence[float],
    wrong: Sequence[float],
    stood: Sequence[float],
    requests: float,
    max_error_rate: float,
) -> Curve:
    """By rung: labels, wrong ones, and how many of the ``requests`` they stand for.

    Rungs are put together from the strictest down, until a label of a group stands for few enough requests: as
    the chance of a wrong hit does not grow with the value, a group's labels, most of which lie low in it, rather
    overstate what its hits would be.
    """
    may_weigh = max(max_error_rate * requests * _ONE_MAY_WEIGH, 1.0)
    likely, bound = [0.0] * len(labelled), [0.0] * len(labelled)
    above, last, group = _Wrongs(), _Group(), _Group()
    mean, most = 0.0, above.most()
    for rung in range(len(labelled) - 1, -1, -1):
        if labelled[rung]:
            group = group.plus(labelled[rung], wrong[rung], stood[rung])
            if group.labelled >= _LEAST_GROUP and group.weight <= may_weigh:
                above, last, group = above.plus(last), group, _Group()
            together = above.plus(last.plus(group.labelled, group.wrong, group.stood))
            mean, most = together.mean, together.most()
        likely[rung], bound[rung] = mean / requests, most / requests
    return Curve(tuple(likely), tuple(bound))


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring rungs: labels, wrong ones of them, and the requests that they stand for."""

    labelled: float = 0.0
    wrong: float = 0.0
    stood: float = 0.0

    def plus(self, labelled: float, wrong: float, stood: float) -> "_Group":
        return _Group(self.labelled + labelled, self.wrong + wrong, self.stood + stood)

    @property
    def weight(self) -> float:
        """How many requests a label stands for; never less than itself."""
        return max(self.stood / self.labelled, 1.0) if self.labelled else 1.0


@dataclass(frozen=True, slots=True)
class _Wrongs:
    """Wrong hits: a sum of counts by weight, with its variance and the largest weight of one."""

    mean: float = 0.0
    variance: float = 0.0
    largest: float = 1.0

    def plus(self, group: _Group) -> "_Wrongs":
        if not group.labelled:
            return self
        weight = group.weight
        return _Wrongs(
            self.mean + weight * group.wrong,
            self.variance + weight * weight * group.wrong,
            max(self.largest, weight),
        )

    def most(self) -> float:
        """An upper bound of the expected sum: Fay and Feuer, Statistics in Medicine 16 (1997) 791, by way of a gamma."""
        mean = self.mean + self.largest
        variance = self.variance + self.largest**2
        return variance / mean * _gamma_quantile(mean**2 / variance, _Z)


def _gamma_quantile(shape: float, z: float) -> float:
    """By Wilson and Hilferty's approximation, of a gamma of scale 1; within 1 % for shapes of 1 and more."""
    part = 1 / (9 * shape)
    return shape * (1 - part + z * math.sqrt(part)) ** 3
