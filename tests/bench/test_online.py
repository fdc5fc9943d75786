"""The bench of the life from nothing: what it simulates, and how it judges."""

import numpy as np
import pytest

from bench.labelled import Stream
from bench.online import figures, is_credibly_above
from bench.online_drift import drifts
from bench.online_sim import Near, Play, play, shuffled
from cachesvc.core.trust.control import ControlTerms


def made_up(name: str, topics: int, requests: int, seed: int = 1) -> Stream:
    """Prompts of so many topics, each with its own direction and answer."""
    draw = np.random.default_rng(seed)
    middles = draw.normal(size=(topics, 32))
    topic = draw.integers(topics, size=requests)
    vectors = middles[topic] + draw.normal(scale=0.25, size=(requests, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = ["please tell me about it"] * requests
    return Stream(
        name, texts, [f"{name} {one}" for one in topic], [name] * requests, vectors.astype(np.float32)
    )


def test_a_run_is_the_same_each_time() -> None:
    """Orders and coins come from the seed alone."""
    near = Near(made_up("topics", 8, 300))
    one, other = (play(near, Play(shuffled(near, 3), ControlTerms(0.01), 3)) for _ in range(2))
    assert (one.right == other.right).all()
    assert (one.thresholds == other.thresholds).all()


def test_figures_of_a_stream() -> None:
    """Both ways of valuing, so many runs; shares are of requests."""
    found = figures([made_up("topics", 8, 600)], 2)
    assert [figure.runs for figure in (*found.voting, *found.cosine)] == [2, 2]
    assert 0.1 < found.voting[0].useful.median <= 1.0
    assert found.are_met


def test_what_changes_is_noticed() -> None:
    """After all answers changed fewer wrong ones are served than where the threshold stood still."""
    drift = drifts(made_up("topics", 8, 1_200), made_up("others", 8, 100), "answers", 1)[0]
    assert drift.wrong_after < drift.wrong_after_still
    assert drift.closed_after is not None


@pytest.mark.parametrize(
    ("wrong", "above"),
    [
        ([False] * 400, False),
        ([False] * 99 + [True], False),
        ([True] * 3, True),
        (([False] * 9 + [True]) * 40, True),
    ],
    ids=["none", "one late", "three at once", "one in ten"],
)
def test_when_errors_are_credibly_more(wrong: list[bool], above: bool) -> None:  # noqa: FBT001 - a column of the table
    """Held against 1 %."""
    assert is_credibly_above(np.array(wrong), 0.01) is above


def test_chance_alone_is_seldom_credible() -> None:
    """Errors at just the rate come out as above it in 5 % of runs at most, though every moment is looked at."""
    draw = np.random.default_rng(5)
    above = [is_credibly_above(draw.random(3_000) < 0.01, 0.01) for _ in range(200)]
    assert sum(above) <= 10
