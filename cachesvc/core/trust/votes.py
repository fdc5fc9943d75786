"""Candidates vote: of those near a request, the one whose answer others give too is the likelier to be right.

A cosine says that two prompts are about the same; that several stored prompts near the request were given one
answer says that the answer does not turn on what differs between them. And a near one that was answered
otherwise says that it does. This needs no label and no model: only that stored answers can be told apart.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NEAR = 0.1
"""Only who is this near to a candidate's score, or nearer to the request than it, speaks against it."""

WEIGHT = 0.05
"""What a vote moves a score by."""


def votes(answers: Sequence[bytes | None], scores: Sequence[float]) -> NDArray[np.float32]:
    """Of the candidates of one request, best score first: shape (candidates, 2), how many others agree and differ.

    Answers are digests of what counts in them, equal iff a comparator calls the answers the same. None is
    an answer of which that cannot be told: it votes neither way, and nobody votes on it.
    """
    cast = np.zeros((len(answers), 2), np.float32)
    for place, answer in enumerate(answers):
        if answer is None:
            continue
        for other, theirs in enumerate(answers):
            if other == place or theirs is None:
                continue
            if theirs == answer:
                cast[place, 0] += 1
            elif scores[other] > scores[place] - NEAR:
                cast[place, 1] += 1
    return cast


def voted(scores: Sequence[float], cast: NDArray[np.float32]) -> NDArray[np.float64]:
    """The scores, each moved by the votes for and against it: (candidates,). They may pass 1."""
    return np.asarray(scores, np.float64) + WEIGHT * (cast[:, 0] - cast[:, 1]).astype(np.float64)
