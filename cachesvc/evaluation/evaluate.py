"""How often a policy would have hit on labelled prompts, and how often wrongly: by tier, by gate, by threshold."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cachesvc.core.policy import Policy
from cachesvc.evaluation.data import Pairs, Stream
from cachesvc.evaluation.deciding import Refused
from cachesvc.evaluation.intervals import Share, clopper_pearson, wilson
from cachesvc.evaluation.peers import PEERS
from cachesvc.evaluation.serving import FLOOR, PairShop, Served, Shop, with_threshold

THRESHOLDS = (
    0.6,
    0.65,
    0.7,
    0.75,
    0.8,
    0.825,
    0.85,
    0.875,
    0.9,
    0.92,
    0.93,
    0.94,
    0.95,
    0.96,
    0.97,
    0.98,
    0.99,
)
WORST = 20


@dataclass(frozen=True, slots=True)
class Rates:
    """Right hits and wrong hits, each a share of the requests."""

    useful: Share
    wrong: Share


@dataclass(frozen=True, slots=True)
class Tier:
    """What one tier served."""

    tier: Literal["exact", "semantic"]
    right: int
    wrong: int


@dataclass(frozen=True, slots=True)
class GateEffect:
    """What a gate refused of the candidates that reach the threshold: those that would have been wrong, and those that
    would have been right. ``only``: no other gate refused these.
    """

    gate: str
    wrong_removed: int
    right_removed: int
    only_wrong_removed: int
    only_right_removed: int


@dataclass(frozen=True, slots=True)
class Point:
    """A threshold: this policy with it, and the plain cosine."""

    threshold: float
    policy: Rates
    cosine: Rates


@dataclass(frozen=True, slots=True)
class PeerPoint:
    """The plain cosine at a peer's default threshold."""

    name: str
    threshold: float
    cosine: Rates


@dataclass(frozen=True, slots=True)
class WrongHit:
    """A request that was served another's answer."""

    tier: Literal["exact", "semantic"]
    score: float
    asked: str
    served: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All of it. ``unseen_count`` requests can be served by the exact tier alone."""

    name: str
    kind: Literal["stream", "pairs"]
    request_count: int
    unseen_count: int
    threshold: float
    mode: str
    gates_on: Sequence[str]
    policy: Rates
    tiers: Sequence[Tier]
    gates: Sequence[GateEffect]
    curve: Sequence[Point]
    peers: Sequence[PeerPoint]
    worst: Sequence[WrongHit]


def evaluate(
    data: Stream | Pairs, policy: Policy, progress: Callable[[int, int], None] = lambda done, total: None
) -> Evaluation:
    """Serve it under the policy, and with other thresholds in its place. The mode does not count: what would be served
    with mode ``on`` is what is told.
    """
    shop = Shop(data) if isinstance(data, Stream) else PairShop(data)
    thresholds = sorted(
        {*THRESHOLDS, round(max(policy.min_score, FLOOR), 4), *(peer.threshold for peer in PEERS)}
    )
    own = shop.serve(policy)
    curve, cosine = [], {}
    for done, threshold in enumerate(thresholds):
        progress(done, len(thresholds))
        ours = shop.serve(with_threshold(policy, threshold))
        cosine[threshold] = rates(shop.serve(with_threshold(policy, threshold), plain=True))
        curve.append(Point(threshold, rates(ours), cosine[threshold]))
    return Evaluation(
        name=data.name,
        kind="stream" if isinstance(data, Stream) else "pairs",
        request_count=len(data),
        unseen_count=int((~data.seen).sum()),
        threshold=policy.min_score,
        mode=policy.mode.value,
        gates_on=sorted(gate.label for gate in policy.gates),
        policy=rates(own),
        tiers=_tiers(own),
        gates=_gates(own.refused, shop),
        curve=curve,
        peers=[PeerPoint(peer.name, peer.threshold, cosine[peer.threshold]) for peer in PEERS],
        worst=_worst(own, shop),
    )


def rates(served: Served) -> Rates:
    """With intervals; those of the wrong hits hold for any number of them."""
    return Rates(wilson(served.useful, len(served.places)), clopper_pearson(served.wrong, len(served.places)))


def _tiers(served: Served) -> list[Tier]:
    wrong = (served.places >= 0) & ~served.right
    return [
        Tier("exact", int((served.right & served.exact).sum()), int((wrong & served.exact).sum())),
        Tier("semantic", int((served.right & ~served.exact).sum()), int((wrong & ~served.exact).sum())),
    ]


def _gates(refused: Sequence[Refused], shop: Shop | PairShop) -> list[GateEffect]:
    counts: Counter[tuple[str, bool, bool]] = Counter()
    for one in refused:
        right = shop.is_right(one.place, one.candidate)
        for gate in one.gates:
            counts[gate.label, right, False] += 1
            counts[gate.label, right, True] += len(one.gates) == 1
    effects = [
        GateEffect(
            gate,
            counts[gate, False, False],
            counts[gate, True, False],
            counts[gate, False, True],
            counts[gate, True, True],
        )
        for gate in {gate for gate, _, _ in counts}
    ]
    return sorted(effects, key=lambda effect: (-effect.wrong_removed, effect.gate))


def _worst(served: Served, shop: Shop | PairShop) -> list[WrongHit]:
    """The wrong hits that looked most like right ones first."""
    wrong = np.flatnonzero((served.places >= 0) & ~served.right)
    order = wrong[np.argsort(-served.scores[wrong], kind="stable")][:WORST]
    return [
        WrongHit(
            "exact" if served.exact[place] else "semantic",
            round(float(served.scores[place]), 4),
            shop.asked(place),
            shop.answered(int(served.places[place])),
        )
        for place in order.tolist()
    ]
