"""The features of a candidate beside a request: what a learned rule goes by. No text is in them.

Those that compare two texts come from sets that were made when the texts were analysed; those that set a candidate
beside the others of the request say whether it stands out, and what the others have that it lacks.
"""

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.gates import Analysis

VERSION = 4
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
    stems, names, kinds, roles, relations = ours.stems, ours.names, ours.kinds, ours.roles, ours.relations
    function, qualifiers, bounds, order = ours.function, ours.qualifiers, ours.bounds, ours.order
    many, known, count, codes, grams = len(entries), len(stems), shape.count, shape.codes, shape.grams
    meanings = [entry.meaning for entry in entries]
    lacks = [stems - theirs.stems for theirs in meanings]
    adds = [theirs.stems - stems for theirs in meanings]
    lacked_by_all = len(lacks[0].intersection(*lacks[1:]))
    alike = [_alike(shape.words, entry.profile.words) for entry in entries]
    added: dict[str, int] = {}
    for add in adds:
        for word in add:
            added[word] = added.get(word, 0) + 1
    best, spread = scores[0], scores[0] - scores[-1]
    ranked = sorted((0.0, *alike))
    agreeing, dissent = _votes(scores, answers)
    rows = []
    for place, entry in enumerate(entries):
        score, theirs, other = scores[place], meanings[place], entry.profile
        lack, add, words, length = lacks[place], adds[place], alike[place], other.count
        lacking, adding = len(lack), len(add)
        shared, fewest = known - lacking, min(known, len(theirs.stems))
        seen = [added[word] for word in add]
        apart, both = codes ^ other.codes, codes & other.codes
        rows.append(
            _PACK(
                score,
                score - best,
                score - scores[place + 1] if place + 1 < many else score,
                spread,
                place,
                words,
                shared / (known + adding or 1),
                _alike(grams, other.grams),
                shared / fewest if fewest else 0.0,
                lacking,
                adding,
                len("".join(lack)),
                len("".join(add)),
                len(shape.digits ^ other.digits),
                len(names ^ theirs.names),
                len(kinds ^ theirs.kinds),
                len(roles ^ theirs.roles),
                len(relations ^ theirs.relations),
                len(function ^ theirs.function),
                len(qualifiers ^ theirs.qualifiers),
                len(bounds ^ theirs.bounds),
                abs(ours.negations - theirs.negations) + abs(ours.soft_negations - theirs.soft_negations),
                ours.question is not theirs.question,
                _opening(shape.opening, other.opening),
                order == theirs.order,
                count,
                (count / length if count < length else length / count) if count else 0.0,
                lacking - lacked_by_all,
                seen.count(1),
                sum(seen) - adding,
                score - scores[place == 0] if many > 1 else score,
                words - (ranked[-2] if words == ranked[-1] else ranked[-1]),
                agreeing[place],
                score - dissent[place],
                *sorted(apart)[:DIFFERING],
                *_NO_CODES[len(apart) : DIFFERING],
                *sorted(both)[:SHARED],
                *_NO_CODES[len(both) : SHARED],
            )
        )
    return np.frombuffer(b"".join(rows), np.float32).reshape(many, len(NAMES))


def _votes(scores: Sequence[float], answers: Sequence[bytes] | None) -> "_Votes":
    """Of each candidate: how many others have its answer, and how near the nearest with another is; 0 for none."""
    if answers is None:
        nearest = scores[1] if len(scores) > 1 else 0.0
        return _Votes([0] * len(scores), [nearest, *[scores[0]] * (len(scores) - 1)])
    # The best score comes first, so that the first with another answer is the nearest of those.
    dissent = [
        next((score for score, other in zip(scores, answers, strict=True) if other != answer), 0.0)
        for answer in answers
    ]
    return _Votes([answers.count(answer) - 1 for answer in answers], dissent)


class _Votes(NamedTuple):
    agreeing: list[int]
    dissent: list[float]


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


_NO_CODES = (0,) * max(DIFFERING, SHARED)
_PACK = Struct(f"{len(NAMES)}f").pack
