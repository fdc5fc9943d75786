"""The features of a candidate beside a request: what a learned rule goes by. No text is in them.

Those that compare two texts come from sets that were made when the texts were analysed; those that set a candidate
beside the others of the request say whether it stands out, and what the others have that it lacks.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.gates import Analysis

VERSION = 3
"""Changes whenever the same pair would get other features: labels of another version are not learned from."""

MEASURES = (
    "score",
    "over_best",
    "over_next",
    "spread",
    "place",
    "words_alike",
    "stems_alike",
    "grams_alike",
    "contained",
    "stems_ours",
    "stems_theirs",
    "letters_ours",
    "letters_theirs",
    "digits_apart",
    "names_apart",
    "kinds_apart",
    "roles_apart",
    "relations_apart",
    "function_apart",
    "qualifiers_apart",
    "bounds_apart",
    "negations_apart",
    "question_apart",
    "opening_alike",
    "order_alike",
    "count",
    "count_ratio",
    "elsewhere_ours",
    "elsewhere_theirs",
    "common_theirs",
    "over_rest",
    "words_over_rest",
    "agreeing",
    "over_dissent",
)
"""The columns that are measures."""

DIFFERING, SHARED = 12, 12
NAMES = (
    *MEASURES,
    *(f"differing_{place}" for place in range(DIFFERING)),
    *(f"shared_{place}" for place in range(SHARED)),
)
"""All columns. The last two groups hold codes of words that one text has alone, and that both have; 0 for none."""


def features(
    query: Analysis,
    entries: Sequence[Analysis],
    scores: Sequence[float],
    *,
    answers: Sequence[bytes] | None = None,
) -> NDArray[np.float32]:
    """Of the candidates of one request, best score first: shape (candidates, len(NAMES)), float32.

    ``answers`` are digests of what is stored for each; without them, no two answers agree.
    """
    if not entries:
        return np.zeros((0, len(NAMES)), np.float32)
    ours, shape = query.meaning, query.profile
    many, grams = len(entries), shape.grams
    lacks = [ours.stems - entry.meaning.stems for entry in entries]
    adds = [entry.meaning.stems - ours.stems for entry in entries]
    alike = [_alike(shape.words, entry.profile.words) for entry in entries]
    added = Counter(word for add in adds for word in add)
    known = len(ours.stems)
    ranked = sorted((0.0, *alike))
    rows = array("f")
    for place, entry in enumerate(entries):
        score, theirs, other = scores[place], entry.meaning, entry.profile
        lack, add = lacks[place], adds[place]
        shared, fewest = known - len(lack), min(known, len(theirs.stems))
        seen = [added[word] - 1 for word in add]
        agreeing, dissent = _votes(place, scores, answers)
        rows.extend(
            (
                score,
                score - scores[0],
                score - scores[place + 1] if place + 1 < many else score,
                scores[0] - scores[-1],
                place,
                alike[place],
                shared / (known + len(add) or 1),
                _alike(grams, other.grams),
                shared / fewest if fewest else 0.0,
                len(lack),
                len(add),
                sum(map(len, lack)),
                sum(map(len, add)),
                len(shape.digits ^ other.digits),
                len(ours.names ^ theirs.names),
                len(ours.kinds ^ theirs.kinds),
                len(ours.roles ^ theirs.roles),
                len(ours.relations ^ theirs.relations),
                len(ours.function ^ theirs.function),
                len(ours.qualifiers ^ theirs.qualifiers),
                len(ours.bounds ^ theirs.bounds),
                abs(ours.negations - theirs.negations) + abs(ours.soft_negations - theirs.soft_negations),
                ours.question is not theirs.question,
                _opening(shape.opening, other.opening),
                ours.order == theirs.order,
                shape.count,
                min(shape.count, other.count) / (max(shape.count, other.count) or 1),
                len(lack) - len(lack.intersection(*lacks)) if lack else 0,
                seen.count(0),
                sum(seen),
                score - scores[place == 0] if many > 1 else score,
                alike[place] - (ranked[-2] if alike[place] == ranked[-1] else ranked[-1]),
                agreeing,
                score - dissent,
            )
        )
        rows.extend(_codes(shape.codes ^ other.codes, DIFFERING))
        rows.extend(_codes(shape.codes & other.codes, SHARED))
    return np.frombuffer(rows, np.float32).reshape(many, len(NAMES))


def _votes(place: int, scores: Sequence[float], answers: Sequence[bytes] | None) -> "_Votes":
    """How many other candidates have the answer of this one, and how near the nearest with another is; 0 for none."""
    agreeing, dissent = 0, 0.0
    for near, score in enumerate(scores):
        if near == place:
            continue
        if answers is not None and answers[near] == answers[place]:
            agreeing += 1
        else:
            dissent = max(dissent, score)
    return _Votes(agreeing, dissent)


class _Votes(NamedTuple):
    agreeing: int
    dissent: float


def _alike(ours: frozenset[str], theirs: frozenset[str]) -> float:
    shared = len(ours & theirs)
    return shared / (len(ours) + len(theirs) - shared or 1)


def _opening(ours: tuple[str, ...], theirs: tuple[str, ...]) -> int:
    same = 0
    for left, right in zip(ours, theirs, strict=False):
        if left != right:
            break
        same += 1
    return same


def _codes(codes: frozenset[int], count: int) -> list[int]:
    """The least of the codes, so that the same words come first in every pair; 0 where there are too few."""
    return [*sorted(codes)[:count], *_NO_CODES[len(codes) : count]]


_NO_CODES = (0,) * max(DIFFERING, SHARED)
