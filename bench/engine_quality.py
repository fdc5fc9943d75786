"""Does the compiled int8 engine tell the same from the different as well as fp32? A section of ``bench.quality``.

ROC-AUC of the cosine on labelled pairs, for each engine; and how far the int8 vector of a text is from its fp32 vector.
Each difference comes with a 95 % interval (paired bootstrap over the pairs): a few hundred pairs cannot tell half a
point of AUC from chance. What counts is all pairs together, and a set whose whole interval lies beyond ``MAX_LOSS``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from bench.calls import say
from bench.prompts import DEMO_PROMPTS, rows_of
from cachesvc.core.types import Vector
from cachesvc.evaluation.data import Paired, embedded, read
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

MAX_LOSS = 0.005
_SAMPLE = 1_000
_SEED = 20
_RESAMPLES = 500
_PAIR_FILES = ("pairs_qqp", "pairs_minpairs", "pairs_paws_qqp", "pairs_gsmplus")

_Vectors = Mapping[str, Vector]


@dataclass(frozen=True, slots=True)
class Loss:
    """AUC of int8 less that of fp32 on a set of pairs. ``counts``: enough pairs to hold it against ``MAX_LOSS``."""

    name: str
    pair_count: int
    auc: Mapping[str, float]
    difference: float
    low: float
    high: float
    counts: bool


def losses(files: Sequence[Path]) -> list[Loss]:
    """Of each file and of all together, with at most ``_SAMPLE`` pairs of each file; the table is printed."""
    sets = _pair_sets(files)
    texts = sorted({text for pairs in sets.values() for pair in pairs for text in (pair.a, pair.b)})
    vectors: dict[str, _Vectors] = {}
    for name, settings in (
        ("int8", EmbedderSettings(precision="int8")),
        ("fp32", EmbedderSettings(precision="fp32")),
        ("sentence-transformers", EmbedderSettings(engine="sentence-transformers")),
    ):
        say(f"embedding {len(texts):,} texts with {name}")
        vectors[name] = embedded(make_embedder(settings, say), texts)
    together = [pair for pairs in sets.values() for pair in pairs]
    found = [
        _loss(name, pairs, vectors, whole=name == "all together")
        for name, pairs in {**sets, "all together": together}.items()
    ]
    _print_auc(found)
    _print_agreement(vectors["int8"], vectors["fp32"])
    return found


def _pair_sets(files: Sequence[Path]) -> dict[str, list[Paired]]:
    """The labelled pairs that are there, and pairs made from the prompts of the demo where those are few."""
    sets = {
        file.stem: _sample([row for row in read(file) if isinstance(row, Paired)])
        for file in files
        if file.stem in _PAIR_FILES
    }
    if sum(map(len, sets.values())) < _SAMPLE:
        sets["demo prompts"] = _made_pairs(rows_of(DEMO_PROMPTS))
    return sets


def _sample(pairs: list[Paired]) -> list[Paired]:
    if len(pairs) <= _SAMPLE:
        return pairs
    chosen = np.random.default_rng(_SEED).choice(len(pairs), _SAMPLE, replace=False)
    return [pairs[n] for n in sorted(chosen.tolist())]


def _made_pairs(rows: Sequence[Mapping[str, str]]) -> list[Paired]:
    """Random pairs of prompts, half with the same intent and half with another."""
    generator = np.random.default_rng(_SEED)
    by_intent: dict[str, list[str]] = {}
    for row in rows:
        by_intent.setdefault(row["answer_id"], []).append(row["prompt"])
    intents = [prompts for prompts in by_intent.values() if len(prompts) > 1]
    pairs: list[Paired] = []
    while len(pairs) < _SAMPLE:
        here, there = (intents[n] for n in generator.choice(len(intents), 2, replace=False))
        a, b = (here[n] for n in generator.choice(len(here), 2, replace=False))
        pairs.append(Paired(a, b, same=True))
        pairs.append(Paired(a, there[int(generator.integers(len(there)))], same=False))
    return pairs


def _loss(name: str, pairs: Sequence[Paired], vectors: Mapping[str, _Vectors], *, whole: bool) -> Loss:
    # Texts that an engine cannot fully see are left out: the service never compares those.
    seen = [pair for pair in pairs if all(pair.a in held and pair.b in held for held in vectors.values())]
    same = np.array([pair.same for pair in seen])
    scores = {
        engine: np.array([held[pair.a] @ held[pair.b] for pair in seen]) for engine, held in vectors.items()
    }
    auc = {engine: float(roc_auc_score(same, values)) for engine, values in scores.items()}
    low, high = _interval(same, scores["int8"], scores["fp32"])
    beyond = high < -MAX_LOSS or low > MAX_LOSS
    return Loss(name, len(seen), auc, auc["int8"] - auc["fp32"], low, high, whole or beyond)


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


def _print_auc(found: Sequence[Loss]) -> None:
    table = Table(
        "pairs", "count", *found[0].auc, "int8 − fp32", "95 % interval", title="ROC-AUC of the cosine"
    )
    for loss in found:
        cells = [f"{value:.4f}" for value in loss.auc.values()]
        table.add_row(
            loss.name,
            f"{loss.pair_count:,}",
            *cells,
            f"{loss.difference:+.4f}",
            f"{loss.low:+.4f} … {loss.high:+.4f}",
        )
    Console(width=130).print(table)


def _print_agreement(int8: _Vectors, fp32: _Vectors) -> None:
    cosines = [float(int8[text] @ fp32[text]) for text in int8.keys() & fp32.keys()]
    print(f"cosine of a text's int8 and fp32 vectors: mean {np.mean(cosines):.4f}, least {min(cosines):.4f}")
