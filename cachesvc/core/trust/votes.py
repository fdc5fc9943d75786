"""Candidates vote: of those near a request, the one whose answer others give too is the likelier to be right.

A cosine says that two prompts are about the same. That several stored prompts near a request were given one answer
says that the answer does not turn on what differs between them; that a near one was answered otherwise says that it
does. This needs neither labels nor training, only that stored answers can be told apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.trust.features import NAMES

AGREEING = 0.05
"""What each other candidate with the same answer adds to a score."""

ROOM = 0.2
"""A candidate with another answer speaks against all whose scores do not pass its own by so much, …"""

DISSENT = 0.5
"""… by so much of what they lack of it."""


def voted(scores: Sequence[float], answers: Sequence[bytes | None]) -> NDArray[np.float64]:
    """The scores of a request's candidates (n,), moved by votes; they may pass 1, up to ``1 + AGREEING * (n - 1)``.

    ``answers`` are digests of what counts in the stored answers; None agrees with nothing, itself included.
    """
    values = np.asarray(scores, np.float64)
    agreeing, over = np.zeros(len(values)), values.copy()
    for place, answer in enumerate(answers):
        dissent = 0.0
        for other, score in enumerate(scores):
            if other == place:
                continue
            if answer is not None and answers[other] == answer:
                agreeing[place] += 1
            else:
                dissent = max(dissent, score)
        over[place] -= dissent
    return _moved(values, agreeing, over)


@dataclass(frozen=True, slots=True)
class Voting:
    """The same as a model of a rule, by the features ``score``, ``agreeing`` and ``over_dissent``."""

    kind: ClassVar[Literal["votes"]] = "votes"

    def values(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of candidates (n, features): (n,)."""
        columns = features.astype(np.float64).T
        return _moved(*(columns[NAMES.index(name)] for name in ("score", "agreeing", "over_dissent")))

    def to_record(self) -> dict[str, object]:
        """It has nothing to keep: whoever serves by votes makes it anew."""
        return {}

    @property
    def importance(self) -> Mapping[str, float]:
        """It is not learned: each counts for what one of it may move a value."""
        return {"score": 1 - AGREEING - DISSENT * ROOM, "agreeing": AGREEING, "over_dissent": DISSENT * ROOM}


def _moved(
    scores: NDArray[np.float64], agreeing: NDArray[np.float64], over: NDArray[np.float64]
) -> NDArray[np.float64]:
    return scores + AGREEING * agreeing - DISSENT * np.maximum(ROOM - over, 0.0)
