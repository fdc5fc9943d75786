"""What the default policy serves of labelled prompts, without a label of its own: streams, minimal pairs and traps.

Streams are served in order, a miss stores the right answer; wrong hits are a share of all requests. Beside each stands
the plain cosine: at its best threshold for the same error, and at the defaults of other caches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import labelled
from cachesvc.core.policy import Policy
from cachesvc.core.ports import Embedder
from cachesvc.evaluation.data import Asked, Paired, pairs_of, read, stream_of
from cachesvc.evaluation.evaluate import Rates, rates
from cachesvc.evaluation.intervals import Share, clopper_pearson
from cachesvc.evaluation.peers import PEERS
from cachesvc.evaluation.serving import PairShop, Shop, with_threshold
from cachesvc.evaluation.traps import GUARDED, bundled, make, spring

MIX = "stream_mix"
MAX_ERROR = 0.01
LEAST_GAIN = 2.0
_FLOOR = 0.78
_COARSE = tuple(np.round(np.arange(0.8, 1.0, 0.01), 4).tolist())
_FINE = tuple(np.round(np.arange(-0.01, 0.0101, 0.0025), 4).tolist())
# Whose labels may be committed or are ours: these have the target.
_TARGETED = (
    "stream_mix",
    "stream_t2s_advising",
    "stream_banking77",
    "stream_clinc150",
    "stream_gsmplus",
    "stream_chat",
)
_KIND_OF_PAIRS: Mapping[str, str] = {"year": "date", "order-swap": "role"}


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One stream: the default policy; the plain cosine at its best for the same error, and by threshold of peers."""

    name: str
    request_count: int
    targeted: bool
    policy: Rates
    same_error_threshold: float
    same_error: Rates
    peers: Mapping[str, Rates]

    @property
    def gain(self) -> float:
        """Right hits ÷ those of the plain cosine at the same error."""
        return self.policy.useful.share / max(self.same_error.useful.share, 1 / self.request_count)


@dataclass(frozen=True, slots=True)
class KindResult:
    """Texts of one kind whose answers differ: how many were served wrongly, by us and by the cosine at the threshold."""

    source: str
    kind: str
    guarded: bool
    wrong: Share
    cosine: int


@dataclass(frozen=True, slots=True)
class KeptResult:
    """Of texts that mean the same, over the threshold: how many are served."""

    source: str
    served: int
    near: int


def streams(
    embedder: Embedder, files: Sequence[Path], policy: Policy, most: int | None
) -> list[StreamResult]:
    """Each stream; ``most`` requests of each at most, but the mix whole: its gain grows with what is stored."""
    results = []
    for file in files:
        rows = [row for row in read(file) if isinstance(row, Asked)]
        vectors = labelled.vectors(embedder, file.stem, [row.prompt for row in rows])
        served = rows if file.stem == MIX else rows[:most]
        stream = stream_of(file.stem, served, vectors, embedder.dimension)
        results.append(_stream(Shop(stream, _FLOOR), policy))
    return results


def pairs(
    embedder: Embedder, files: Sequence[Path], policy: Policy
) -> tuple[list[KindResult], list[KeptResult]]:
    """Pairs by kind, of files that name kinds."""
    kinds: list[KindResult] = []
    kept: list[KeptResult] = []
    for file in files:
        rows = [row for row in read(file) if isinstance(row, Paired)]
        if not any(row.kind for row in rows):
            continue
        vectors = labelled.vectors(embedder, file.stem, [side for row in rows for side in (row.a, row.b)])
        held = pairs_of(file.stem, rows, vectors)
        served = PairShop(held).serve(policy).places >= 0
        near = held.scores >= policy.min_score
        name = file.stem.removeprefix("pairs_")
        for kind in sorted({row.kind for row in rows if not row.same}):
            of = np.array([row.kind == kind and not row.same for row in rows])
            shown = _KIND_OF_PAIRS.get(kind, kind)
            wrong = clopper_pearson(int((served & of).sum()), int(of.sum()))
            kinds.append(KindResult(name, kind, shown in GUARDED, wrong, int((near & of).sum())))
        same = np.array([row.same for row in rows])
        kept.append(KeptResult(name, int((served & near & same).sum()), int((near & same).sum())))
    return kinds, kept


def traps(embedder: Embedder, policy: Policy, per_kind: int) -> tuple[list[KindResult], list[KeptResult]]:
    """The bundled prompts' edits by kind."""
    sprang = spring(make(bundled(), per_kind=per_kind), policy, embedder)
    kinds = [
        KindResult("traps", kind.kind, kind.guarded, clopper_pearson(kind.served, kind.count), kind.cosine)
        for kind in sprang.kinds
        if kind.changes
    ]
    keeping = [kind for kind in sprang.kinds if not kind.changes]
    return kinds, [
        KeptResult("traps", sum(kind.served for kind in keeping), sum(kind.cosine for kind in keeping))
    ]


def _stream(shop: Shop, policy: Policy) -> StreamResult:
    own = rates(shop.serve(policy))
    tried: dict[float, Rates] = {}

    def plain(threshold: float) -> Rates:
        if threshold not in tried:
            tried[threshold] = rates(shop.serve(with_threshold(policy, threshold), plain=True))
        return tried[threshold]

    def best(thresholds: Sequence[float]) -> float:
        # The highest serves next to nothing, so that there is always one with no more error.
        allowed = [one for one in thresholds if plain(one).wrong.share <= own.wrong.share] or [
            max(thresholds)
        ]
        return max(allowed, key=lambda one: plain(one).useful.share)

    coarse = best(_COARSE)
    same_error = best([one for step in _FINE if 0.8 <= (one := round(coarse + step, 4)) < 1])
    name = shop.stream.name
    peers = {f"{threshold:g}": plain(threshold) for threshold in sorted({peer.threshold for peer in PEERS})}
    return StreamResult(name, len(shop.stream), name in _TARGETED, own, same_error, plain(same_error), peers)
