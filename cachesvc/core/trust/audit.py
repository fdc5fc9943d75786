"""The false-hit rate that audits show: wrong ÷ semantic hits served, with an interval that holds at every moment at once.

An audit is a coin of a known share; each that is answered stands for 1 ÷ share hits. The interval is a confidence
sequence: with probability 95 % it covers the rate at all times together, however the share was adapted and however often
somebody looked. docs/trust.md derives it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import exp, log, log1p, sqrt
from typing import Any

from cachesvc.core.policy import TrustTerms
from cachesvc.core.trust.labels import Label, Origin, Tally

LEVEL = 0.95

_HALVINGS = 30
_LOST = -1e9
"""The log of a stake that is gone: a number, since states are kept as plain numbers."""

_DECAY_HITS = 2_000
"""Traffic at which the share has fallen to 0.7 of what it is in the beginning."""


@dataclass(frozen=True, slots=True)
class _Stakes:
    """Sizes of stakes on an audit of weight 1 being wrong, and the logs of the parts of one unit that go by them."""

    sizes: tuple[float, ...]
    log_parts: tuple[float, ...]

    @classmethod
    def of(cls, sizes: tuple[float, ...], parts: tuple[float, ...]) -> "_Stakes":
        return cls(sizes, tuple(log(part / sum(parts)) for part in parts))


_LOW = _Stakes.of(tuple(2.0 ** (5 - place) for place in range(13)), (1.0,) * 13)
"""Any size is fair against a rate being as low as said: from 32 for one wrong hit in few audits on."""

_HIGH = _Stakes.of(
    tuple(2.0 ** (-place / 2) for place in range(24)),
    tuple(place**-1.5 for place in range(2, 26)),
)
"""At most 1, which is lost by one wrong hit and best while there was none: it gets most. When the share falls, and an
audit weighs more, the boldest are lost; the others must not have got too little to be heard then.
"""


@dataclass(frozen=True, slots=True)
class Audits:
    """What audits came to. ``reference`` is the share of the first; an audit weighs reference ÷ its share.

    ``low_logs`` and ``high_logs`` are the logs of what each stake has become, without the part that the rate decides.
    """

    answered: int = 0
    wrong: int = 0
    reference: float = 0.0
    weight: float = 0.0
    wrong_weight: float = 0.0
    low_logs: tuple[float, ...] = (0.0,) * len(_LOW.sizes)
    high_logs: tuple[float, ...] = (0.0,) * len(_HIGH.sizes)


NO_AUDITS = Audits()


@dataclass(frozen=True, slots=True)
class FalseHitRate:
    """The rate among hits whose audits were answered: an estimate, and the ends of its confidence sequence.

    ``answered_share`` of the audits that were asked for were answered; ``silent_high`` is the upper end if every one
    of the others, too, stood for wrong hits.
    """

    rate: float
    low: float
    high: float
    answered_share: float
    silent_high: float


def fold(audits: Audits, label: Label) -> Audits:
    """With what a label says of a hit that was served; labels of other origins, and those that cannot tell, say nothing.

    The order of labels makes no difference to the sums, but for the first.
    """
    same = _verdict(label)
    if same is None:
        return audits
    reference = audits.reference or label.share
    weight = reference / label.share
    high_logs = tuple(
        _LOST if held <= _LOST or stake * weight > 1.0 else _after(held, -stake * weight, wrong=not same)
        for stake, held in zip(_HIGH.sizes, audits.high_logs, strict=True)
    )
    low_logs = tuple(
        _after(held, stake * weight, wrong=not same)
        for stake, held in zip(_LOW.sizes, audits.low_logs, strict=True)
    )
    return Audits(
        answered=audits.answered + 1,
        wrong=audits.wrong + (not same),
        reference=reference,
        weight=audits.weight + weight,
        wrong_weight=audits.wrong_weight + (0.0 if same else weight),
        low_logs=low_logs,
        high_logs=high_logs,
    )


def _verdict(label: Label) -> bool | None:
    """Whether the audited hit was right; None for what is no audit, or does not tell."""
    if label.origin is not Origin.AUDIT or label.served is None or not 0.0 < label.share <= 1.0:
        return None
    return label.candidates[label.served].same


def _after(held: float, stake: float, *, wrong: bool) -> float:
    if not wrong:
        return held
    return held + log1p(stake) if stake > -1.0 else _LOST


def rate(audits: Audits, tally: Tally) -> FalseHitRate | None:
    """What is known of the rate, or None before the first audit."""
    if not audits.answered:
        return None
    asked = max(tally.audits_asked, audits.answered)
    answered_share = audits.answered / asked
    low, high = interval(audits)
    return FalseHitRate(
        rate=audits.wrong_weight / audits.weight,
        low=low,
        high=high,
        answered_share=answered_share,
        silent_high=high * answered_share + 1.0 - answered_share,
    )


def interval(audits: Audits, level: float = LEVEL) -> tuple[float, float]:
    """The ends of the confidence sequence; (0, 1) before the first audit.

    An end is the rate at which what was staked on the true one being higher, or lower, would have grown
    2 ÷ (1 - level) fold, which happens to the true rate with a chance of (1 - level) ÷ 2 at most (Ville, 1939).
    """
    low, above = 0.0, 1.0
    high, below = 1.0, 0.0
    for _ in range(_HALVINGS):
        middle = (low + above) / 2
        if _is_too_low(audits, middle, level):
            low = middle
        else:
            above = middle
        middle = (below + high) / 2
        if _is_too_high(audits, middle, level):
            high = middle
        else:
            below = middle
    return low, high


def covers(audits: Audits, at: float, level: float = LEVEL) -> bool:
    """Whether a rate is inside, without the ends."""
    return not _is_too_low(audits, at, level) and not _is_too_high(audits, at, level)


def interval_of(wrong: int, seen: int) -> tuple[float, float]:
    """The confidence sequence after so many observations of equal weight."""
    return interval(
        Audits(
            answered=seen,
            wrong=wrong,
            weight=seen,
            wrong_weight=wrong,
            low_logs=tuple(wrong * log1p(stake) for stake in _LOW.sizes),
            high_logs=tuple(
                wrong * log1p(-stake) if wrong and stake < 1 else wrong * _LOST for stake in _HIGH.sizes
            ),
        )
    )


def _is_too_low(audits: Audits, at: float, level: float) -> bool:
    return _grown(audits.low_logs, _LOW, -audits.weight * at) > log(2.0 / (1.0 - level))


def _is_too_high(audits: Audits, at: float, level: float) -> bool:
    return _grown(audits.high_logs, _HIGH, audits.weight * at) > log(2.0 / (1.0 - level))


def _grown(logs: tuple[float, ...], stakes: "_Stakes", expected: float) -> float:
    """The log of what all stakes together have become if ``expected`` is the weight of wrong hits to be expected."""
    each = [
        held + stake * expected + part
        for held, stake, part in zip(logs, stakes.sizes, stakes.log_parts, strict=True)
        if held > _LOST
    ]
    if not each:
        return _LOST
    top = max(each)
    return top + log(sum(exp(one - top) for one in each))


def audit_share(audits: Audits, terms: TrustTerms, traffic: int, *, worried: bool = False) -> float:
    """The share of semantic hits to audit from now on, by what is known before them.

    ``traffic`` is how many hits were served so far. The most that the policy allows while the interval is wider than
    the rate that it tolerates, or the brake is ``worried``; then as the interval grows narrow, but never less than
    the root of the traffic asks for, nor than the policy's least. It falls smoothly and slowly, since each audit at
    a low share outweighs many at a high one: falling with the traffic itself, the last few would outweigh all before.
    """
    least, most = terms.audit_share, max(terms.audit_share, terms.max_audit_share)
    if worried:
        return most
    low, high = interval(audits)
    narrow = min((high - low) / terms.max_false_hit_rate, 1.0)
    return max(least, most * max(narrow * narrow, sqrt(_DECAY_HITS / (_DECAY_HITS + traffic))))


def to_record(audits: Audits) -> dict[str, Any]:
    """As plain numbers."""
    return asdict(audits)


def from_record(record: Mapping[str, Any]) -> Audits:
    """What ``to_record`` made plain. Raises ValueError for anything else."""
    try:
        lows, highs = tuple(record["low_logs"]), tuple(record["high_logs"])
        read = Audits(**{**record, "low_logs": lows, "high_logs": highs})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a record of audits: {error!r}") from None
    if len(lows) != len(_LOW.sizes) or len(highs) != len(_HIGH.sizes):
        raise ValueError("a record of audits with other stakes")
    return read
