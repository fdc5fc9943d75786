"""Votes of candidates: who agrees, who differs, and what that moves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesvc.core.trust.features import NAMES
from cachesvc.core.trust.votes import Voting, voted

CASES: dict[str, tuple[list[float], list[bytes | None], list[float]]] = {
    "none": ([], [], []),
    "one alone": ([0.9], [b"a"], [0.9]),
    "two agree": ([0.9, 0.8], [b"a", b"a"], [0.95, 0.85]),
    "a near one differs": ([0.9, 0.8], [b"a", b"b"], [0.85, 0.65]),
    "a far one differs": ([0.9, 0.65], [b"a", b"b"], [0.9, 0.425]),
    "outvoted": ([0.9, 0.88, 0.87], [b"a", b"b", b"b"], [0.81, 0.82, 0.805]),
    "cannot be told": ([0.9, 0.8], [None, None], [0.85, 0.65]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_values(case: tuple[list[float], list[bytes | None], list[float]]) -> None:
    """Scores, moved by who agrees and by the nearest that does not."""
    scores, answers, values = case
    assert voted(scores, answers) == pytest.approx(values)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.sampled_from([b"a", b"b", None])), max_size=6))
def test_the_model_of_a_rule_says_the_same(candidates: list[tuple[float, bytes | None]]) -> None:
    """By features, as a rule goes by, and by answers at hand."""
    scores, answers = [score for score, _ in candidates], [answer for _, answer in candidates]
    rows = np.zeros((len(candidates), len(NAMES)), np.float32)
    for place, (score, answer) in enumerate(candidates):
        agrees = [
            other
            for other, theirs in enumerate(answers)
            if other != place and answer is not None and theirs == answer
        ]
        dissent = [scores[other] for other in range(len(scores)) if other != place and other not in agrees]
        rows[place, NAMES.index("score")] = score
        rows[place, NAMES.index("agreeing")] = len(agrees)
        rows[place, NAMES.index("over_dissent")] = score - max(dissent, default=0.0)
    assert Voting().values(rows) == pytest.approx(voted(scores, answers), abs=1e-6)


def test_importance_sums_up() -> None:
    """As for every model."""
    assert sum(Voting().importance.values()) == pytest.approx(1)
