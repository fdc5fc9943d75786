"""Replays: what another configuration gains and loses, and what the log of the server cannot tell."""

from dataclasses import replace

import pytest

from cachesvc.core.gates import Gate
from cachesvc.core.policy import Mode, Policy, PolicyBook
from cachesvc.core.types import Outcome
from cachesvc.evaluation.replay import replay_log, replay_stream
from tests.evaluation.conftest import Made

POLICY = Policy(min_score=0.95)


def books(old: Policy, new: Policy) -> tuple[PolicyBook, PolicyBook]:
    return PolicyBook(old, {}), PolicyBook(new, {})


def test_hits_gained_and_lost_are_told_with_their_truth(made: Made) -> None:
    """A lower threshold gains one right and one wrong hit, and money."""
    rows = [("a cat", "1", 0.0), ("the cat", "1", 20), ("my dog", "2", 100), ("the dog", "3", 122)]
    stream = made(rows, cost_usd=0.5)
    told = replay_stream(stream, stream, books(POLICY, replace(POLICY, min_score=0.9)), "default")
    assert (told.gained_right, told.gained_wrong, told.lost_right) == (1, 1, 0)
    assert (told.before.saved_usd, told.after.saved_usd) == (0.0, 1.0)
    assert [(change.what, change.right, change.asked, change.after) for change in told.changes] == [
        ("gained", True, "the cat", "a cat"),
        ("gained", False, "the dog", "my dog"),
    ]
    back = replay_stream(stream, stream, books(replace(POLICY, min_score=0.9), POLICY), "default")
    assert (back.lost_right, back.lost_wrong) == (1, 1)


@pytest.mark.parametrize(
    ("mode", "hits"),
    [(Mode.ON, 3), (Mode.SHADOW, 0), (Mode.OFF, 0), (Mode.CANARY, 1)],
    ids=str,
)
def test_modes_count(made: Made, mode: Mode, hits: int) -> None:
    """Shadow and off serve nothing, not even the identical; canary by the same chance in each replay."""
    stream = made([("a cat", "1", 0.0)] * 4)
    new = replace(POLICY, mode=mode, canary_share=0.6)
    told = replay_stream(stream, stream, books(POLICY, new), "default")
    assert told.before.hits_exact == 3
    assert told.after.hits_exact == hits


def test_namespaces_have_their_policies(made: Made) -> None:
    """Each row is served by the policy of its namespace."""
    stream = made([("a cat", "1", 0.0), ("the cat", "1", 20)], namespace="lax")
    other = PolicyBook(POLICY, {"lax": replace(POLICY, min_score=0.9)})
    assert replay_stream(stream, stream, (PolicyBook(POLICY, {}), other), "default").gained_right == 1


LOGGED = {
    "a hit stays": ({"outcome": "hit_semantic", "score": 0.97}, POLICY, True),
    "a hit below the new threshold": (
        {"outcome": "hit_semantic", "score": 0.96},
        replace(POLICY, min_score=0.97),
        False,
    ),
    "an exact hit needs no score": (
        {"outcome": "hit_exact", "score": 1.0},
        replace(POLICY, min_score=1.0),
        True,
    ),
    "an exact hit with the mode off": ({"outcome": "hit_exact"}, replace(POLICY, mode=Mode.OFF), False),
    "a hit in shadow": ({"outcome": "hit_semantic", "score": 0.97}, replace(POLICY, mode=Mode.SHADOW), False),
    "a hit in canary": ({"outcome": "hit_semantic", "score": 0.97}, replace(POLICY, mode=Mode.CANARY), None),
    "a miss far below": (
        {"outcome": "miss_below_threshold", "score": 0.5},
        replace(POLICY, min_score=0.9),
        False,
    ),
    "a miss that is near enough now": (
        {"outcome": "miss_below_threshold", "score": 0.92},
        replace(POLICY, min_score=0.9),
        None,
    ),
    "what was shadowed": ({"outcome": "miss_shadow", "score": 0.97}, POLICY, True),
    "a gate that stays": ({"outcome": "miss_gated", "score": 0.97, "gate": "number"}, POLICY, False),
    "a gate that is off now": (
        {"outcome": "miss_gated", "score": 0.97, "gate": "number"},
        replace(POLICY, gates=POLICY.gates - {Gate.NUMBER}),
        None,
    ),
    "another gate that is off now": (
        {"outcome": "miss_gated", "score": 0.97, "gate": "date"},
        replace(POLICY, gates=POLICY.gates - {Gate.NUMBER}),
        False,
    ),
    "the exact tier alone": (
        {"outcome": "hit_semantic", "score": 0.97},
        replace(POLICY, semantic=False),
        False,
    ),
}


@pytest.mark.parametrize(("line", "new", "hits"), LOGGED.values(), ids=LOGGED.keys())
def test_what_the_log_tells(line: dict[str, object], new: Policy, hits: "bool | None") -> None:
    """A hit, a miss, or that it cannot be told."""
    told = replay_log([line], books(POLICY, new))
    after = told.after.hits_exact + told.after.hits_semantic
    assert (after, told.possible) == (int(hits is True), int(hits is None))
    assert len(told.cannot_tell) == 1 + (hits is None)


@pytest.mark.parametrize("outcome", list(Outcome), ids=lambda outcome: outcome.label)
def test_every_outcome_can_be_replayed(outcome: Outcome) -> None:
    """What is no hit under the same policy is none again."""
    told = replay_log([{"outcome": outcome.label, "score": 0.97}], books(POLICY, POLICY))
    assert told.request_count == 1
    assert told.before.hits_exact + told.before.hits_semantic == outcome.is_hit
