"""The features of a candidate beside a request: what a learned rule goes by. No text is in them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.gates import Analysis

VERSION = 1
"""Changes whenever the same pair would get other features: labels of another version are not learned from."""

NAMES = ("score", "score_to_next", "place", "length_ratio", "common_words")


def features(query: Analysis, entries: Sequence[Analysis], scores: Sequence[float]) -> NDArray[np.float32]:
    """Of the candidates of one request, best score first: shape (candidates, len(NAMES)), float32."""
    rows = np.zeros((len(entries), len(NAMES)), np.float32)
    ours = {word.folded for word in query.words}
    for place, (entry, score) in enumerate(zip(entries, scores, strict=True)):
        theirs = {word.folded for word in entry.words}
        beyond = scores[place + 1] if place + 1 < len(scores) else 0.0
        longer = max(len(query.words), len(entry.words), 1)
        rows[place] = (
            score,
            score - beyond,
            place,
            min(len(query.words), len(entry.words)) / longer,
            len(ours & theirs) / max(len(ours | theirs), 1),
        )
    return rows
