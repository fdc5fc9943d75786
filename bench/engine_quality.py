"""``python -m bench.quality``: does the compiled int8 engine tell the same from the different as well as fp32?

ROC-AUC of the cosine on labelled pairs, for each engine; and how far the int8 vector of a text is
from its fp32 vector. Each difference comes with a 95 % interval (paired bootstrap over the pairs): a few
hundred pairs cannot tell half a point of AUC from chance. Exits 1 when all pairs together miss
MAX_LOSS, or when a set's whole interval lies beyond it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from bench.calls import say
from bench.prompts import ROOT, SHARED
from cachesvc.core.ports import Embedder
from cachesvc.core.types import Unseen
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

MAX_LOSS = 0.005
_SEED = 20
_SAMPLE = 3_000
_RESAMPLES = 500
_PAIR_FILES = ("pairs_qqp", "pairs_minpairs", "pairs_paws_qqp", "pairs_gsmplus")
_PROMPTS = ROOT / "bench" / "data" / "demo_prompts.jsonl"
_WAIT_S = 60.0

_Vectors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two texts, and whether the answer to one may serve the other."""

    a: str
    b: str
    same: bool


def main() -> int:
    sets = _pair_sets()
    texts = sorted({text for pairs in sets.values() for pair in pairs for text in (pair.a, pair.b)})
    vectors: dict[str, _Vectors] = {}
    for name, settings in (
        ("int8", EmbedderSettings(precision="int8")),
        ("fp32", EmbedderSettings(precision="fp32")),
        ("sentence-transformers", EmbedderSettings(engine="sentence-transformers")),
    ):
        say(f"embedding {len(texts):,} texts with {name}")
        vectors[name] = _embed(make_embedder(settings, say), texts)
    met = _print_auc(sets, vectors)
    _print_agreement(vectors["int8"], vectors["fp32"])
    return 0 if met else 1


def _pair_sets() -> dict[str, list[_Pair]]:
    """The labelled pairs that are there; else pairs made from the prompts of the demo."""
    sets = {
        name: _sample(
            [_Pair(row["a"], row["b"], bool(row["same"])) for row in _rows(SHARED / f"{name}.jsonl")]
        )
        for name in _PAIR_FILES
        if (SHARED / f"{name}.jsonl").is_file()
    }
    if sets:
        return sets
    if not _PROMPTS.is_file():
        raise SystemExit(
            f"there is nothing to measure with: neither {SHARED}/pairs_*.jsonl nor {_PROMPTS} is there"
        )
    return {"demo prompts": _made_pairs(list(_rows(_PROMPTS)))}


def _sample(pairs: list[_Pair]) -> list[_Pair]:
    if len(pairs) <= _SAMPLE:
        return pairs
    chosen = np.random.default_rng(_SEED).choice(len(pairs), _SAMPLE, replace=False)
    return [pairs[n] for n in sorted(chosen.tolist())]


def _made_pairs(rows: Sequence[Mapping[str, str]]) -> list[_Pair]:
    """Random pairs of prompts, half with the same intent and half with another."""
    generator = np.random.default_rng(_SEED)
    by_intent: dict[str, list[str]] = {}
    for row in rows:
        by_intent.setdefault(row["answer_id"], []).append(row["prompt"])
    intents = [prompts for prompts in by_intent.values() if len(prompts) > 1]
    if len(intents) < 2:
        raise SystemExit(f"{_PROMPTS} has too few intents with two prompts to make pairs")
    pairs: list[_Pair] = []
    while len(pairs) < _SAMPLE:
        here, there = (intents[n] for n in generator.choice(len(intents), 2, replace=False))
        a, b = (here[n] for n in generator.choice(len(here), 2, replace=False))
        pairs.append(_Pair(a, b, same=True))
        pairs.append(_Pair(a, there[int(generator.integers(len(there)))], same=False))
    return pairs


def _rows(file: Path) -> Iterable[dict[str, str]]:
    with file.open() as stream:
        for line in stream:
            yield json.loads(line)


def _embed(embedder: Embedder, texts: Sequence[str]) -> _Vectors:
    """Texts that the engine cannot fully see are left out: the service never compares those."""
    embedded = ((text, embedder.embed(text, _WAIT_S)) for text in texts)
    return {text: vector for text, vector in embedded if not isinstance(vector, Unseen)}


def _print_auc(sets: Mapping[str, Sequence[_Pair]], vectors: Mapping[str, _Vectors]) -> bool:
    table = Table(
        "pairs", "count", *vectors, "int8 − fp32", "95 % interval", "met", title="ROC-AUC of the cosine"
    )
    all_pairs = [pair for pairs in sets.values() for pair in pairs]
    failed = False
    for name, pairs in {**sets, "all together": all_pairs}.items():
        seen = [pair for pair in pairs if all(pair.a in held and pair.b in held for held in vectors.values())]
        same = np.array([pair.same for pair in seen])
        scores = {
            engine: np.array([held[pair.a] @ held[pair.b] for pair in seen])
            for engine, held in vectors.items()
        }
        auc = {engine: float(roc_auc_score(same, values)) for engine, values in scores.items()}
        loss = auc["int8"] - auc["fp32"]
        low, high = _interval(same, scores["int8"], scores["fp32"])
        met = abs(loss) <= MAX_LOSS
        credibly_missed = high < -MAX_LOSS or low > MAX_LOSS
        failed = failed or credibly_missed or (name == "all together" and not met)
        verdict = "yes" if met else "no" if credibly_missed else "no, but too few pairs to tell"
        cells = [f"{value:.4f}" for value in auc.values()]
        table.add_row(name, f"{len(seen):,}", *cells, f"{loss:+.4f}", f"{low:+.4f} … {high:+.4f}", verdict)
    Console(width=130).print(table)
    return not failed


def _interval(
    same: NDArray[np.bool_], ours: NDArray[np.float32], theirs: NDArray[np.float32]
) -> tuple[float, float]:
    """The middle 95 % of the AUC's difference over resampled pairs."""
    generator = np.random.default_rng(_SEED)
    differences: list[float] = []
    while len(differences) < _RESAMPLES:
        chosen = generator.integers(len(same), size=len(same))
        if 0 < same[chosen].sum() < len(same):
            differences.append(
                roc_auc_score(same[chosen], ours[chosen]) - roc_auc_score(same[chosen], theirs[chosen])
            )
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def _print_agreement(int8: _Vectors, fp32: _Vectors) -> None:
    cosines = [float(int8[text] @ fp32[text]) for text in int8.keys() & fp32.keys()]
    print(f"cosine of a text's int8 and fp32 vectors: mean {np.mean(cosines):.4f}, least {min(cosines):.4f}")
    print(f"target: |AUC int8 − AUC fp32| ≤ {MAX_LOSS}")


if __name__ == "__main__":
    raise SystemExit(main())
