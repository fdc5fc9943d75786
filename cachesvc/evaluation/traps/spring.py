"""Traps under a policy: which would be served, and what held the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cachesvc.core.gates import analyse, first_veto
from cachesvc.core.policy import Policy
from cachesvc.core.ports import Embedder
from cachesvc.core.types import Vector
from cachesvc.core.visibility import unseen_difference
from cachesvc.evaluation.data import Paired, embedded, pairs_of
from cachesvc.evaluation.serving import PairShop
from cachesvc.evaluation.traps.changing import GUARDED
from cachesvc.evaluation.traps.make import Trap


@dataclass(frozen=True, slots=True)
class Sprung:
    """A trap that was served, or an edit that keeps the meaning and was refused by gates."""

    kind: str
    score: float
    gate: str
    stored: str
    asked: str


@dataclass(frozen=True, slots=True)
class KindResult:
    """Of one kind: how many there are, how many the cosine would serve at the policy's threshold and at 0.8, how many
    are refused whatever the threshold (by gates, and as what the embedder cannot see), and how many are served.
    """

    kind: str
    changes: bool
    guarded: bool
    count: int
    cosine: int
    cosine_at_08: int
    refused: int
    served: int


@dataclass(frozen=True, slots=True)
class Sprang:
    """All of it: ``slipped`` traps that were served, ``lost`` edits that keep the meaning and were refused."""

    threshold: float
    kinds: Sequence[KindResult]
    slipped: Sequence[Sprung]
    lost: Sequence[Sprung]

    @property
    def failed(self) -> bool:
        """Whether a trap of a guarded kind was served."""
        return any(kind.guarded and kind.served for kind in self.kinds)


def spring(
    traps: Sequence[Trap],
    policy: Policy,
    embedder: Embedder,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sprang:
    """Store each trap's prompt, ask the edited one, as the server would."""
    vectors = embedded(embedder, [text for trap in traps for text in (trap.stored, trap.asked)], progress)
    return sprang(traps, policy, vectors)


def sprang(traps: Sequence[Trap], policy: Policy, vectors: Mapping[str, Vector]) -> Sprang:
    """The same with vectors that are there; a text without one cannot be fully seen."""
    pairs = pairs_of("traps", [Paired(trap.stored, trap.asked, not trap.changes) for trap in traps], vectors)
    served = PairShop(pairs).serve(policy).places >= 0
    refused = [
        "" if not seen else _refusal(trap, policy)
        for trap, seen in zip(traps, pairs.seen.tolist(), strict=True)
    ]
    kinds: list[KindResult] = []
    for kind, changes in dict.fromkeys((trap.kind, trap.changes) for trap in traps):
        of = [n for n, trap in enumerate(traps) if (trap.kind, trap.changes) == (kind, changes)]
        kinds.append(
            KindResult(
                kind,
                changes,
                changes and kind in GUARDED,
                len(of),
                sum(bool(pairs.scores[n] >= policy.min_score) for n in of),
                sum(bool(pairs.scores[n] >= 0.8) for n in of),
                sum(bool(refused[n]) or not pairs.seen[n] for n in of),
                sum(bool(served[n]) for n in of),
            )
        )
    told = [
        Sprung(trap.kind, round(float(pairs.scores[n]), 4), refused[n], trap.stored, trap.asked)
        for n, trap in enumerate(traps)
    ]
    told_of = list(zip(traps, told, served.tolist(), strict=True))
    slipped = [one for trap, one, hit in told_of if trap.changes and hit]
    lost = [one for trap, one, hit in told_of if not trap.changes and one.gate and not hit]
    return Sprang(
        policy.min_score, kinds, sorted(slipped, key=lambda one: (one.kind not in GUARDED, -one.score)), lost
    )


def _refusal(trap: Trap, policy: Policy) -> str:
    """What refuses it whatever its score: the first gate, or a difference that embedders do not see."""
    veto = first_veto(analyse(trap.asked), analyse(trap.stored), policy.gates)
    if veto is not None:
        return veto.gate.label
    return "unseen_difference" if unseen_difference(trap.asked, trap.stored) else ""
