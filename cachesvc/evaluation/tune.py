"""The loosest policy that labelled requests defend: Clopper–Pearson with fixed-sequence testing, and what it says of it.

The threshold is chosen on requests of which each is labelled; gates, where they are chosen too, on the first half of
them, and the threshold then on the second alone, so that the choice of gates spends none of the evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.gates import Gate
from cachesvc.core.policy import Policy
from cachesvc.core.trust.operating import (
    LEVEL,
    Choice,
    choose,
    clopper_pearson_upper,
    weighted_upper,
)
from cachesvc.evaluation.data import Pairs, Stream
from cachesvc.evaluation.evaluate import Rates, rates
from cachesvc.evaluation.serving import FLOOR, PairShop, Shop, with_threshold

_MOST_DROPPED = 3
_LEAST_GAIN = 1.02
_MOST_NEEDED = 10_000_000


@dataclass(frozen=True, slots=True)
class Judged:
    """Labelled requests: the value of what each would be served, and whether that is right. ``request_count`` counts
    those that would be served nothing, too; ``shares`` are the chances by which each came to be labelled.
    """

    values: NDArray[np.float64]
    right: NDArray[np.bool_]
    request_count: int
    shares: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """The policy that is defended, or None, and why. ``more_needed``: about so many more labels would defend one;
    None where none is missing, or no number would do. ``most_weight``: for how many requests one label stands at most.
    """

    max_error_rate: float
    label_count: int
    threshold: float | None
    evidence: Choice | None
    gates: frozenset[Gate]
    dropped: Sequence[Gate]
    more_needed: int | None
    before: Rates | None
    after: Rates | None
    most_weight: float = 1.0


def tune(data: Stream | Pairs, policy: Policy, max_error_rate: float, *, choose_gates: bool) -> Tuned:
    """Choose by labelled prompts, and serve them by what was chosen."""
    shop = Shop(data) if isinstance(data, Stream) else PairShop(data)
    dropped: list[Gate] = []
    start = 0
    if choose_gates:
        start = len(data) // 2
        dropped = _gates_dropped(shop, policy, max_error_rate, start)
    chosen = replace(policy, gates=policy.gates - set(dropped))
    tuned = decide_threshold(_judged(shop, chosen, start, len(data)), chosen, max_error_rate)
    after = None if tuned.threshold is None else rates(shop.serve(with_threshold(chosen, tuned.threshold)))
    return replace(tuned, dropped=dropped, before=rates(shop.serve(policy)), after=after)


def decide_threshold(judged: Judged, policy: Policy, max_error_rate: float) -> Tuned:
    """Choose by requests that were judged."""
    best = choose(judged.values, judged.right, judged.request_count, max_error_rate, shares=judged.shares)
    return Tuned(
        max_error_rate=max_error_rate,
        label_count=judged.request_count,
        threshold=None if best is None else ceil(best.threshold * 1e4 - 1e-6) / 1e4,
        evidence=best,
        gates=policy.gates,
        dropped=(),
        more_needed=_more_needed(judged, max_error_rate) if best is None else None,
        before=None,
        after=None,
        most_weight=_most_weight(judged),
    )


def least_labels(max_error_rate: float) -> int:
    """With fewer, not even labels without a single error defend it."""
    return ceil(log(1 - LEVEL) / log(1 - max_error_rate))


def _judged(shop: Shop | PairShop, policy: Policy, start: int, end: int) -> Judged:
    """What each request would be served at the lowest threshold of all: at a higher one it is that, or nothing."""
    lowest = with_threshold(policy, FLOOR)
    served = shop.serve(lowest, keeps_all=True) if isinstance(shop, Shop) else shop.serve(lowest)
    by_meaning = (served.places >= 0) & ~served.exact
    by_meaning[:start] = False
    by_meaning[end:] = False
    # Exact hits, and what the embedder cannot see, are not searched by meaning: the rate is not of them.
    seen = (shop.stream if isinstance(shop, Shop) else shop.pairs).seen
    searched = int((seen & ~served.exact)[start:end].sum())
    return Judged(served.scores[by_meaning].astype(np.float64), served.right[by_meaning], searched)


def _gates_dropped(shop: Shop | PairShop, policy: Policy, max_error_rate: float, end: int) -> list[Gate]:
    """The gates without which the first part has more right hits under the same bound, one after the other."""
    dropped: list[Gate] = []
    best = _useful(shop, policy, max_error_rate, end)
    while len(dropped) < _MOST_DROPPED:
        tried = {
            gate: _useful(shop, replace(policy, gates=policy.gates - {*dropped, gate}), max_error_rate, end)
            for gate in sorted(policy.gates - set(dropped), key=lambda gate: gate.name)
        }
        gate = max(tried, key=lambda gate: tried[gate], default=None)
        if gate is None or tried[gate] < max(best * _LEAST_GAIN, best + 2):
            break
        best = tried[gate]
        dropped.append(gate)
    return dropped


def _useful(shop: Shop | PairShop, policy: Policy, max_error_rate: float, end: int) -> int:
    choice = decide_threshold(_judged(shop, policy, 0, end), policy, max_error_rate).evidence
    return 0 if choice is None else choice.evidence.served - choice.evidence.wrong


def _more_needed(judged: Judged, max_error_rate: float) -> int | None:
    """About how many more labels like these would defend the threshold that errs least; None: no number would."""
    order = np.argsort(-judged.values, kind="stable")
    weights = np.ones(len(order)) if judged.shares is None else 1 / judged.shares[order]
    wrong = np.cumsum(weights * ~judged.right[order])
    right = np.cumsum(judged.right[order])
    share = wrong / max(judged.request_count, 1)
    useful = np.flatnonzero((right > 0) & (share < max_error_rate))
    if not len(useful) and len(order):
        return None
    rate = float(share[useful].min()) if len(useful) else 0.0
    needed = max(judged.request_count, least_labels(max_error_rate))
    greatest = _most_weight(judged)
    while _bound(rate, needed, greatest) > max_error_rate:
        needed = ceil(needed * 1.1)
        if needed > _MOST_NEEDED:
            return None
    return max(needed - judged.request_count, 1)


def _bound(rate: float, requests: int, greatest: float) -> float:
    """What so many requests would defend if they erred at this rate."""
    if greatest == 1:
        return clopper_pearson_upper(ceil(rate * requests), requests)
    return weighted_upper(np.full(ceil(rate * requests / greatest), greatest), greatest, requests)


def _most_weight(judged: Judged) -> float:
    return 1.0 if judged.shares is None or not len(judged.shares) else float(1 / judged.shares.min())
