"""Explain: it says what Lookup does, why, and leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.gates import Gate
from cachesvc.core.policy import Mode, Policy, TrustTerms
from cachesvc.core.trust.features import NAMES
from cachesvc.core.trust.labels import NOTHING
from cachesvc.core.trust.rules import Calibration, Rule
from cachesvc.core.trust.state import Brake, Stance
from cachesvc.core.types import Ask, Keep, Message, Outcome, Payload, Request, Source, Unseen
from tests.engine.conftest import World, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from cachesvc.engine.explain import Explanation

STORED = "please turn the kitchen light on now"
NEAR = "please turn the kitchen light on"
FAR = "what is the capital of France"


def explain(world: World, text: str, entry_id: int | None = None, **options: object) -> Explanation:
    return world.explain(Ask(request(text), **options), entry_id)  # type: ignore[arg-type]  # by name


def expired(world: World) -> str:
    world.keep(STORED, ttl_ms=1000)
    world.clock.advance(1000)
    return NEAR


def expired_itself(world: World) -> str:
    expired(world)
    return STORED


def gated(world: World) -> str:
    world.keep(STORED + " in 5 rooms")
    return STORED + " in 6 rooms"


def vetoed(world: World) -> str:
    world.trust.vetoes.entry_ids.add(world.keep(STORED).entry_id)
    return NEAR


def of_mode(mode: Mode) -> Callable[[World], str]:
    def prepare(world: World) -> str:
        world.policy(mode=mode, canary_share=1.0)
        if mode is not Mode.OFF:
            world.keep(STORED)
        return NEAR

    return prepare


def braked(world: World) -> str:
    world.trust.stance = Stance(Rule(0, 0.8), Brake.EXACT_ONLY)
    world.keep(STORED)
    return NEAR


def stored(asked: str) -> Callable[[World], str]:
    def prepare(world: World) -> str:
        world.keep(STORED)
        return asked

    return prepare


def unseen(world: World) -> str:
    world.keep(STORED)
    world.embedder.unseen = Unseen.PAST_WINDOW
    return NEAR


def without_embedder(world: World) -> str:
    world.keep(STORED)
    world.embedder.error = Kind.UNAVAILABLE
    return NEAR


def exact_only(world: World) -> str:
    world.policy(semantic=False)
    world.keep(STORED)
    return NEAR


def gone(world: World) -> str:
    world.store.gone.add(world.keep(STORED).entry_id)
    return NEAR


WAYS = {
    "nothing stored": lambda world: NEAR,
    "exact": stored(STORED),
    "semantic": stored(NEAR),
    "far": stored(FAR),
    "expired": expired,
    "the identical one expired": expired_itself,
    "gated": gated,
    "vetoed": vetoed,
    "off": of_mode(Mode.OFF),
    "shadow": of_mode(Mode.SHADOW),
    "canary": of_mode(Mode.CANARY),
    "braked": braked,
    "unseen": unseen,
    "no embedder": without_embedder,
    "exact tier only": exact_only,
    "gone": gone,
}


@pytest.mark.parametrize("way", WAYS)
def test_it_says_what_lookup_does(world: World, way: str) -> None:
    """The same outcome in every case, before and after a lookup; and where one candidate decides, that one's."""
    asked = WAYS[way](world)
    explained = explain(world, asked)
    assert explain(world, asked).outcome is explained.outcome
    result = world.ask(asked)
    assert explained.outcome is result.outcome
    if len(explained.candidates) == 1:
        assert explained.candidates[0].outcome is result.outcome
    if result.threshold is not None:
        assert explained.threshold == result.threshold


def test_it_leaves_no_trace(world: World) -> None:
    """No event, no ticket, no count, no coin, no use of the entry, no repair."""
    world.policy(mode=Mode.CANARY, trust=TrustTerms(max_error_rate=0.01))
    world.trust.stance = Stance(Rule(0, 0.8), Brake.TIGHT, 0.5, 0.5)
    entry_id = world.keep(STORED).entry_id
    explain(world, FAR)  # which loads the scope, and that is told
    events = list(world.events.seen)
    explain(world, NEAR)
    explain(world, STORED, entry_id)
    world.store.corrupt.add(entry_id)
    explain(world, NEAR)
    assert world.events.seen == events
    assert (world.trust.drawn, world.trust.tally) == (0, NOTHING)
    world.janitor.tidy()
    assert world.store.stats().entries == 1


def test_candidates_are_shown_with_every_step(world: World) -> None:
    """Scores, prompts, every gate that objects, on or not, with the parts that differ; features by name."""
    one = world.keep(STORED + " in 5 rooms").entry_id
    other = world.keep(STORED + " in 6 rooms please").entry_id
    world.policy(gates=frozenset(Gate) - {Gate.NUMBER})
    explained = explain(world, STORED + " in 6 rooms")
    assert {candidate.entry_id for candidate in explained.candidates} == {one, other}
    refused = next(candidate for candidate in explained.candidates if candidate.entry_id == one)
    assert refused.prompt == STORED + " in 5 rooms"
    assert any(veto.gate in (Gate.NUMBER, Gate.QUANTITY) for veto in refused.vetoes)
    assert any("5" in veto.theirs and "6" in veto.ours for veto in refused.vetoes)
    assert set(refused.features) == set(NAMES)
    assert explained.gates == frozenset(Gate) - {Gate.NUMBER}
    assert (refused.identical, refused.differs_in) == (False, ())


class Halved:
    """A model that halves the score."""

    kind: Literal["learned"] = "learned"
    importance: Mapping[str, float] = {}

    def values(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return features[:, NAMES.index("score")].astype(np.float64) / 2

    def to_record(self) -> dict[str, object]:
        raise NotImplementedError  # nobody keeps this one


def test_a_learned_rule_is_shown_at_work(world: World) -> None:
    """Its value and confidence of each candidate that it may look at."""
    rule = Rule(3, 0.47, model=Halved(), calibration=Calibration((0.0, 1.0), (0.0, 1.0), 0.0))
    world.trust.stance = Stance(rule)
    world.keep(STORED)
    world.keep(FAR)
    explained = explain(world, NEAR)
    assert (explained.rule_version, explained.threshold) == (3, 0.47)
    best, far = explained.candidates
    assert best.value == best.confidence == pytest.approx((best.score or 0) / 2, abs=1e-6)
    assert (far.value, far.confidence, far.outcome) == (None, None, Outcome.MISS_BELOW_THRESHOLD)
    assert far.features == {}
    assert explained.outcome is world.ask(NEAR).outcome


def test_an_entry_far_away_is_explained_when_asked_for(world: World) -> None:
    """It comes last, with its score; one that is among the nearest is not shown twice."""
    world.policy(candidate_count=1)
    near, far = world.keep(STORED).entry_id, world.keep(FAR).entry_id
    explained = explain(world, NEAR, far)
    assert [candidate.entry_id for candidate in explained.candidates] == [near, far]
    assert explained.candidates[1].outcome is Outcome.MISS_BELOW_THRESHOLD
    assert explained.candidates[1].score is not None
    assert [candidate.entry_id for candidate in explain(world, NEAR, near).candidates] == [near]


@pytest.mark.parametrize(
    ("other", "differs_in"),
    [
        pytest.param(Request("default", (Message("user", STORED),), "n", {}), ("model",), id="model"),
        pytest.param(
            Request("default", (Message("user", STORED),), "m", {"t": "1"}), ("context",), id="vary"
        ),
        pytest.param(
            Request("default", (Message("system", "s"), Message("user", STORED)), "m", {}),
            ("context",),
            id="system prompt",
        ),
    ],
)
def test_an_entry_of_another_scope_says_in_what(
    world: World, other: Request, differs_in: tuple[str, ...]
) -> None:
    """It is out of reach, however near; its gates are shown all the same."""
    entry_id = world.admit.store(Keep(Payload(b"r"), other)).entry_id
    (explained,) = explain(world, NEAR, entry_id).candidates
    assert (explained.entry_id, explained.differs_in, explained.outcome) == (
        entry_id,
        differs_in,
        Outcome.MISS_EMPTY,
    )
    assert explained.score == pytest.approx(explained.score)
    assert explained.score is not None
    assert explained.score > 0.8


def test_entries_of_other_namespaces_do_not_exist(world: World) -> None:
    """Nothing is said of them, not even that they are there."""
    theirs = world.admit.store(Keep(Payload(b"r"), request(STORED, "other"))).entry_id
    for entry_id in (theirs, 12345):
        with pytest.raises(CacheError) as caught:
            explain(world, NEAR, entry_id)
        assert caught.value.kind is Kind.NOT_FOUND
        assert caught.value.message == f"entry_id: no entry {entry_id:016x} in namespace default"


def test_texts_that_cannot_be_seen_are_explained(world: World) -> None:
    """Why they are exact-only is said, and an entry that was asked for is held against them by the gates alone."""
    entry_id = world.keep(STORED + " in 5 rooms").entry_id
    world.embedder.unseen = Unseen.PAST_WINDOW
    explained = explain(world, STORED + " in 6 rooms", entry_id)
    assert (explained.outcome, explained.unseen) == (Outcome.MISS_PAST_WINDOW, Unseen.PAST_WINDOW)
    (candidate,) = explained.candidates
    assert (candidate.score, candidate.outcome) == (None, Outcome.MISS_PAST_WINDOW)
    assert candidate.vetoes


def test_an_entry_without_a_vector_is_exact_only(world: World) -> None:
    """It was stored for the exact tier, so the search cannot name it."""
    world.embedder.unseen = Unseen.PAST_WINDOW
    entry_id = world.keep(STORED).entry_id
    world.embedder.unseen = None
    (candidate,) = explain(world, NEAR, entry_id).candidates
    assert (candidate.score, candidate.outcome) == (None, Outcome.MISS_EXACT_ONLY)


def test_the_identical_entry_is_marked(world: World) -> None:
    """The exact tier's answer is shown among the candidates, and what speaks against it if anything does."""
    world.admit.store(Keep(Payload(b"r", sources=(Source("doc", "1"),)), request(STORED)))
    (hit,) = explain(world, STORED).candidates
    assert (hit.identical, hit.outcome) == (True, Outcome.HIT_EXACT)
    (refused,) = explain(world, STORED, sources={"doc": "2"}).candidates
    assert (refused.identical, refused.outcome) == (True, Outcome.MISS_SOURCE_CHANGED)
    world.policy(mode=Mode.SHADOW)
    assert explain(world, STORED).candidates[0].outcome is Outcome.MISS_SHADOW


def test_a_bypass_is_explained_as_if_it_were_none(world: World) -> None:
    """Who explains wants to see the decision."""
    world.keep(STORED)
    assert explain(world, NEAR, bypass=True).outcome is Outcome.HIT_SEMANTIC


def test_mode_and_brake_are_named(world: World) -> None:
    """With what a request of this namespace meets."""
    world.trust.stance = Stance(Rule(0, 0.8), Brake.TIGHT)
    world.book = replace(world.book, by_pattern={"other": Policy(mode=Mode.SHADOW)})
    assert (explain(world, NEAR).mode, explain(world, NEAR).brake) == (Mode.ON, Brake.TIGHT)
    assert world.explain(Ask(request(NEAR, "other"))).mode is Mode.SHADOW


@pytest.fixture
def judged() -> Iterator[World]:
    """An engine with a grey band and somebody to ask."""
    made = World(verifies=True)
    made.policy(min_score=0.999, trust=TrustTerms(verify_min_score=0.8))
    yield made
    made.guard.stop()


def test_the_second_opinion_is_heard(judged: World) -> None:
    """Once, on the candidate that Lookup would ask about; of others it is said that nobody vouches for them."""
    judged.keep(STORED)
    judged.keep(NEAR + " now please")
    explained = explain(judged, NEAR)
    assert explained.outcome is Outcome.HIT_SEMANTIC
    assert [candidate.outcome for candidate in explained.candidates] == [
        Outcome.HIT_SEMANTIC,
        Outcome.MISS_NOT_VERIFIED,
    ]
    assert len(judged.trust.verifier.asked) == 1
    judged.trust.verifier.answer = False
    assert explain(judged, NEAR).outcome is Outcome.MISS_NOT_VERIFIED
