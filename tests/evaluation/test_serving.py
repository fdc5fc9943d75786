"""Streams served as the server would: tiers, thresholds, gates, scopes, times."""

from dataclasses import replace

import numpy as np
import pytest

from cachesvc.core.policy import Mode, Policy
from cachesvc.evaluation.data import Asked, Paired, Pairs, Stream
from cachesvc.evaluation.evaluate import evaluate
from cachesvc.evaluation.intervals import clopper_pearson, wilson
from cachesvc.evaluation.near import nearby
from cachesvc.evaluation.serving import PairShop, Shop, with_threshold
from tests.evaluation.conftest import Made

POLICY = Policy(min_score=0.95)


def test_the_exact_tier_is_first(made: Made) -> None:
    """An identical request is served, rightly or not, and counts for the exact tier."""
    served = Shop(made([("cat", "1", 0), ("cat", "1", 0), ("cat", "2", 0)])).serve(POLICY)
    assert served.places.tolist() == [-1, 0, 0]
    assert served.exact.tolist() == [False, True, True]
    assert (served.useful, served.wrong) == (1, 1)


def test_the_threshold_counts_in_the_semantic_tier(made: Made) -> None:
    """cos 10° is .985, cos 30° is .866."""
    stream = made([("one cat", "1", 0), ("a cat", "1", 10), ("the dog", "2", 40), ("some dog", "2", 38)])
    assert Shop(stream).serve(POLICY).places.tolist() == [-1, 0, -1, 2]
    assert Shop(stream).serve(with_threshold(POLICY, 0.99)).places.tolist() == [-1, -1, -1, 2]


def test_a_hit_stores_nothing(made: Made) -> None:
    """What was served is not there to be found: the third is 16° from the first."""
    stream = made([("a cat", "1", 0), ("the cat", "1", 10), ("my cat", "1", 20)])
    assert Shop(stream).serve(POLICY).places.tolist() == [-1, 0, -1]
    assert Shop(stream).serve(POLICY, keeps_all=True).places.tolist() == [-1, 0, 1]


def test_gates_refuse_and_the_next_candidate_is_tried(made: Made) -> None:
    """The nearest has another number; the one behind it is served. The plain cosine serves the nearest."""
    stream = made([("pay 5 cents", "5", 0), ("pay 7 cents", "7", 4), ("please pay 5 cents", "5", 3)])
    gated = Shop(stream).serve(POLICY)
    assert gated.places.tolist() == [-1, -1, 0]
    assert gated.right.tolist() == [False, False, True]
    assert [(one.place, one.candidate, bool(one.gates)) for one in gated.refused] == [
        (1, 0, True),
        (2, 1, True),
    ]
    assert Shop(stream).serve(POLICY, plain=True).places.tolist() == [-1, 0, 0]
    off = replace(POLICY, gates=frozenset())
    assert Shop(stream).serve(off).places.tolist() == [-1, 0, 0]


def test_namespaces_and_models_are_walls() -> None:
    """The same text in another scope is another request."""
    rows = [
        Asked("a cat", "1", namespace="x"),
        Asked("a cat", "1", namespace="y"),
        Asked("a cat", "1", namespace="x"),
    ]
    stream = Stream("made", rows, np.ones((3, 1), np.float32), np.ones(3, np.bool_))
    assert Shop(stream).serve(POLICY).places.tolist() == [-1, -1, 0]


@pytest.mark.parametrize("prompts", [("a cat", "a cat"), ("a cat", "the cat")], ids=["exact", "semantic"])
def test_answers_expire_where_times_are_known(prompts: tuple[str, str]) -> None:
    """By the policy's ttl."""
    for ttl_ms, served in ((1000, -1), (3000, 0)):
        rows = [Asked(prompts[0], "1", at_ms=0), Asked(prompts[1], "1", at_ms=2000)]
        stream = Stream("made", rows, np.ones((2, 1), np.float32), np.ones(2, np.bool_))
        assert Shop(stream).serve(replace(POLICY, ttl_ms=ttl_ms)).places.tolist() == [-1, served]


def test_what_cannot_be_seen_is_served_by_the_exact_tier_alone() -> None:
    """Its vector says nothing."""
    rows = [Asked("a cat", "1"), Asked("a cat!", "1"), Asked("a cat!", "1")]
    seen = np.array([True, False, False])
    stream = Stream("made", rows, np.ones((3, 1), np.float32), seen)
    assert Shop(stream).serve(POLICY).places.tolist() == [-1, -1, 1]


@pytest.mark.parametrize(
    "policy", [replace(POLICY, semantic=False), replace(POLICY, mode=Mode.OFF)], ids=["exact", "off"]
)
def test_a_policy_may_serve_less(made: Made, policy: Policy) -> None:
    """The exact tier alone, or nothing."""
    served = Shop(made([("a cat", "1", 0), ("the cat", "1", 0), ("a cat", "1", 0)])).serve(policy)
    assert served.places.tolist() == [-1, -1, 0 if policy.enabled else -1]


def test_neighbours_are_those_before_in_the_scope() -> None:
    """Best first, none below the floor; ties keep their order."""
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0.8, 0.6]], np.float32)
    near = nearby(vectors, np.ones(4, np.bool_), np.zeros(4, np.int64), 0.6)
    assert near.of(3, 0.6)[0].tolist() == [0, 2, 1]
    assert near.of(3, 0.7)[0].tolist() == [0, 2]
    assert near.of(0, 0.6)[0].tolist() == []
    walled = nearby(vectors, np.ones(4, np.bool_), np.array([0, 1, 1, 1]), 0.6)
    assert walled.of(3, 0.6)[0].tolist() == [2, 1]


def test_pairs_are_each_by_themselves() -> None:
    """Identical texts are exact hits; gates count for the others."""
    rows = [
        Paired("a cat", "a cat", True),
        Paired("5 cats", "6 cats", False),
        Paired("a cat", "the cat", True),
    ]
    pairs = Pairs("made", rows, np.array([1, 0.99, 0.96], np.float32), np.ones(3, np.bool_))
    served = PairShop(pairs).serve(POLICY)
    assert served.places.tolist() == [0, -1, 2]
    assert served.exact.tolist() == [True, False, False]
    assert PairShop(pairs).serve(with_threshold(POLICY, 0.97), plain=True).places.tolist() == [0, 1, -1]


def test_an_evaluation_tells_all_of_it(made: Made) -> None:
    """Tiers, gates, the curve with the policy's own threshold and the peers', and the wrong hits."""
    stream = made(
        [
            ("pay 5 cents", "5", 0),
            ("pay 7 cents", "7", 4),
            ("we pay 5 cents", "6", 3),
            ("pay 5 cents", "5", 0),
        ]
    )
    told = evaluate(stream, POLICY)
    assert [(tier.tier, tier.right, tier.wrong) for tier in told.tiers] == [
        ("exact", 1, 0),
        ("semantic", 0, 1),
    ]
    assert max(gate.wrong_removed for gate in told.gates) == 2
    assert {0.8, 0.9, 0.95} <= {point.threshold for point in told.curve}
    assert [(hit.asked, hit.served) for hit in told.worst] == [("we pay 5 cents", "pay 5 cents")]
    assert told.peers[0].cosine.wrong.count == 2


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.3085),
        (10, 10, 0.6915, 1.0),
        (1, 10, 0.0025, 0.4450),
        (50, 1000, 0.0373, 0.0654),
        (0, 0, 0, 1),
    ],
)
def test_clopper_pearson(count: int, of: int, low: float, high: float) -> None:
    """As in tables of the binomial's exact intervals."""
    share = clopper_pearson(count, of)
    assert (share.low, share.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (50, 100, 0.4038, 0.5962),
        (0, 0, 0, 1),
    ],
)
def test_wilson(count: int, of: int, low: float, high: float) -> None:
    """As in tables of the score interval."""
    share = wilson(count, of)
    assert (share.low, share.high) == pytest.approx((low, high), abs=1e-4)
