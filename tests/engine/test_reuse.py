"""What becomes of a semantic hit: modes, the brake, holding back and audits; what is remembered and counted of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from cachesvc.core.events import LookupDone
from cachesvc.core.gates import Gate
from cachesvc.core.policy import Mode, TrustTerms
from cachesvc.core.trust.labels import Origin, Tally
from cachesvc.core.trust.rules import Calibration, Rule
from cachesvc.core.trust.state import Brake, Stance
from cachesvc.core.types import Keep, Outcome, Payload, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cachesvc.core.tickets import Ticket
    from cachesvc.core.types import LookupResult, Request
    from tests.engine.conftest import World

STORED = "please turn the kitchen light on now"
NEAR = "please turn the kitchen light on"
FAR = "what is the capital of France"


def ticket_of(world: World, result: LookupResult) -> Ticket:
    ticket = world.tickets.find(result.lookup_id)
    assert ticket is not None
    return ticket


def done(world: World) -> LookupDone:
    return [event for event in world.events.seen if isinstance(event, LookupDone)][-1]


def stance(brake: Brake = Brake.OPEN, hold_back: float = 0.0, audit: float = 0.0, version: int = 0) -> Stance:
    return Stance(Rule(version, 0.8), brake, hold_back, audit)


def test_shadow_serves_nothing_and_says_what_it_would_have(
    world: World, ask_for: Callable[[str], Request]
) -> None:
    """Neither tier answers; event and ticket have the entry, and what it would have saved."""
    world.policy(mode=Mode.SHADOW)
    payload = Payload(b"r", input_tokens=3, output_tokens=4, cost_usd=0.5)
    entry_id = world.admit.store(Keep(payload, ask_for(STORED))).entry_id
    for asked, served in ((STORED, None), (NEAR, entry_id)):
        result = world.ask(asked)
        assert (result.outcome, result.entry) == (Outcome.MISS_SHADOW, None)
        told = done(world)
        assert (told.entry_id, told.withheld_id) == (None, entry_id)
        assert (told.saved_input_tokens, told.saved_output_tokens, told.saved_cost_usd) == (3, 4, 0.5)
        ticket = ticket_of(world, result)
        assert (ticket.served, ticket.origin, ticket.share) == (served, Origin.SHADOW, 1.0)
    assert world.trust.drawn == 0


def test_a_miss_in_shadow_is_a_miss(world: World) -> None:
    """Only what would have hit is told so."""
    world.policy(mode=Mode.SHADOW)
    world.keep(STORED)
    assert world.ask(FAR).outcome is Outcome.MISS_BELOW_THRESHOLD
    assert done(world).withheld_id is None


def test_an_answer_after_a_shadowed_hit_is_stored(world: World) -> None:
    """The lookup_id is good for a Store, of either tier, as after any miss."""
    world.policy(mode=Mode.SHADOW)
    world.keep(STORED)
    calls = world.embedder.calls
    for text in (STORED, NEAR):
        result = world.ask(text)
        assert world.admit.store(Keep(Payload(b"fresh"), lookup_id=result.lookup_id)).semantic
    assert (
        world.embedder.calls == calls + 2
    )  # one for the exact tier's, which embedded nothing; one for NEAR's lookup


@pytest.mark.parametrize(("coin", "outcome"), [(0.24, True), (0.25, False)], ids=["chosen", "not chosen"])
@pytest.mark.parametrize("asked", [STORED, NEAR], ids=["exact", "semantic"])
def test_canary_serves_its_share_of_both_tiers(
    world: World, asked: str, coin: float, *, outcome: bool
) -> None:
    """One coin a lookup decides: served as with on, or shadowed."""
    world.policy(mode=Mode.CANARY, canary_share=0.25)
    world.keep(STORED)
    world.trust.toss([coin])
    result = world.ask(asked)
    assert result.outcome.is_hit is outcome
    assert result.outcome.is_hit or result.outcome is Outcome.MISS_SHADOW
    assert world.trust.drawn == 1


@pytest.mark.parametrize(
    ("mode", "hold_back", "brake", "coins", "share"),
    [
        pytest.param(Mode.ON, 0.1, Brake.OPEN, [0.05], 0.1, id="held back"),
        pytest.param(Mode.CANARY, 0.1, Brake.OPEN, [0.9], 0.775, id="shadowed, might have been held back"),
        pytest.param(
            Mode.CANARY, 0.1, Brake.OPEN, [0.1, 0.05], 0.775, id="held back, might have been shadowed"
        ),
        pytest.param(Mode.SHADOW, 0.1, Brake.OPEN, [], 1.0, id="always shadowed"),
        pytest.param(Mode.ON, 0.1, Brake.EXACT_ONLY, [], 1.0, id="always braked"),
        pytest.param(Mode.CANARY, 0.1, Brake.EXACT_ONLY, [0.9], 1.0, id="shadowed or else braked"),
    ],
)
def test_the_share_is_the_chance_of_a_fresh_answer(
    world: World, mode: Mode, hold_back: float, brake: Brake, coins: list[float], share: float
) -> None:
    """Whatever kept a hit from being served: rates are reckoned from it."""
    world.policy(mode=mode, canary_share=0.25, trust=TrustTerms(max_error_rate=0.01))
    world.trust.stance = stance(brake, hold_back)
    world.keep(STORED)
    world.trust.toss(coins)
    result = world.ask(NEAR)
    assert result.entry is None
    ticket = ticket_of(world, result)
    assert ticket.share == pytest.approx(share)
    assert ticket.served is not None
    assert ticket.origin in (Origin.HELD_BACK, Origin.SHADOW)


@pytest.mark.parametrize(
    ("max_error_rate", "brake", "is_held_back"),
    [
        pytest.param(None, Brake.OPEN, False, id="a threshold is stated"),
        pytest.param(0.01, Brake.OPEN, True, id="an error rate is"),
        pytest.param(None, Brake.TIGHT, True, id="the brake wants to know"),
    ],
)
def test_when_hits_are_held_back(
    world: World, max_error_rate: float | None, brake: Brake, *, is_held_back: bool
) -> None:
    """Only where something is to be learned of them that decides; exact hits never are."""
    world.policy(trust=TrustTerms(max_error_rate=max_error_rate))
    world.trust.stance = stance(brake, hold_back=1.0)
    world.keep(STORED)
    assert world.ask(STORED).outcome is Outcome.HIT_EXACT
    result = world.ask(NEAR)
    assert (result.outcome is Outcome.MISS_HELD_BACK) == is_held_back
    assert result.best_score is not None or result.score is not None


@pytest.mark.parametrize(("coin", "is_asked"), [(0.19, True), (0.2, False)])
def test_a_share_of_the_hits_is_audited(world: World, coin: float, *, is_asked: bool) -> None:
    """The reply asks for a fresh answer, event and ticket know it, and by what chance."""
    world.trust.stance = stance(audit=0.2)
    entry_id = world.keep(STORED).entry_id
    world.trust.toss([coin])
    result = world.ask(NEAR)
    assert result.audit == done(world).audit == is_asked
    ticket = ticket_of(world, result)
    assert (ticket.audit, ticket.share, ticket.served, ticket.origin) == (is_asked, 0.2, entry_id, None)
    assert not world.ask(STORED).audit


def test_tickets_of_hits(world: World) -> None:
    """A semantic hit has one, with candidates, for feedback; an exact hit has none."""
    near_id, far_id = world.keep(STORED).entry_id, world.keep(NEAR + " and the radio off too").entry_id
    world.keep(FAR)
    result = world.ask(NEAR)
    ticket = ticket_of(world, result)
    assert [candidate.entry_id for candidate in ticket.candidates] == [near_id, far_id]
    assert ticket.candidates[0].score == result.score
    assert isinstance(ticket.embedded, np.ndarray)
    assert world.tickets.find(world.ask(STORED).lookup_id) is None


def test_the_ticket_of_a_near_miss_has_what_was_near(world: World) -> None:
    """Nothing was served, the candidates are there to be compared with, and none from below the floor."""
    world.policy(min_score=0.99)
    near_id = world.keep(STORED).entry_id
    world.keep(FAR)
    ticket = ticket_of(world, world.ask(NEAR))
    assert [candidate.entry_id for candidate in ticket.candidates] == [near_id]
    assert (ticket.served, ticket.origin, ticket.share) == (None, Origin.MISS, 1.0)
    assert ticket_of(world, world.ask("nothing like it at all")).candidates == ()


class Told:
    """A model that gives all candidates the value told."""

    kind: Literal["learned"] = "learned"
    importance: Mapping[str, float] = {}

    def __init__(self, value: float) -> None:
        self._value = value

    def values(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.full(len(features), self._value)

    def to_record(self) -> dict[str, object]:
        raise NotImplementedError  # nobody keeps this one


def test_a_rule_that_was_learned_decides(world: World) -> None:
    """Its version, its value, its threshold and its confidence are told in result, event and ticket."""
    rule = Rule(7, 0.5, model=Told(0.75), calibration=Calibration((0.0, 1.0), (0.0, 1.0), 0.0))
    world.policy(min_score=0.999)
    world.trust.stance = Stance(rule)
    world.keep(STORED)
    result = world.ask(NEAR)
    assert result.outcome is Outcome.HIT_SEMANTIC
    assert (result.rule_version, result.value, result.threshold, result.confidence) == (7, 0.75, 0.5, 0.75)
    told = done(world)
    assert (told.rule_version, told.value, told.confidence) == (7, 0.75, 0.75)
    assert ticket_of(world, result).rule_version == 7


def test_a_gate_is_named_where_it_is_on(world: World) -> None:
    """In result and event; where it is off it refuses nothing."""
    world.keep(STORED + " in 5 rooms")
    result = world.ask(STORED + " in 6 rooms")
    assert result.gate is done(world).gate
    assert result.gate is not None
    world.policy(gates=frozenset(Gate) - {result.gate, Gate.NUMBER, Gate.QUANTITY})
    assert world.ask(STORED + " in 6 rooms").outcome is Outcome.HIT_SEMANTIC


def test_vetoes_are_asked_of_what_would_be_served(world: World) -> None:
    """By scope and exact key, and the next candidate is served instead."""
    vetoed, other = world.keep(STORED).entry_id, world.keep(NEAR + " now please").entry_id
    world.trust.vetoes.entry_ids.add(vetoed)
    result = world.ask(NEAR)
    assert result.entry is not None
    assert result.entry.id == other
    identity = ticket_of(world, result).identity
    assert world.trust.vetoes.asked == [
        (identity.scope, identity.exact_key, vetoed),
        (identity.scope, identity.exact_key, other),
    ]


def test_texts_are_analysed_only_where_something_is_near(world: World) -> None:
    """A miss that is far from all analyses nothing; a hit keeps the entry's analysis for the next."""
    world.keep(STORED)
    world.ask(FAR)
    assert len(world.analyses) == 0
    world.ask(NEAR)
    assert len(world.analyses) == 1


def test_what_lookups_came_to_is_counted(world: World) -> None:
    """By the semantic tier alone; see Tally."""
    world.trust.stance = stance(audit=1.0)
    world.ask(STORED)
    world.keep(STORED)
    world.ask(STORED)
    assert world.trust.tally == Tally(searched=1)
    world.ask(NEAR)
    world.ask(FAR)
    assert world.trust.tally == Tally(searched=3, near=1, would_hit=1, served=1, audits_asked=1)
    world.trust.vetoes.entry_ids.add(1)
    world.ask(NEAR)
    world.store.failing.add("fetch")
    world.ask(NEAR)
    world.store.failing.clear()
    world.embedder.error = None
    assert world.trust.tally == Tally(searched=4, near=2, would_hit=1, served=1, audits_asked=1, vetoed=1)
    world.trust.vetoes.entry_ids.clear()
    world.trust.stance = stance(Brake.TIGHT, hold_back=1.0)
    world.ask(NEAR)
    world.trust.stance = stance(Brake.EXACT_ONLY)
    world.ask(NEAR)
    assert world.trust.tally == Tally(
        searched=6, near=4, would_hit=3, served=1, held_back=1, audits_asked=1, vetoed=1
    )


def test_a_brake_leaves_the_exact_tier_alone(world: World) -> None:
    """The identical request is answered whatever was found of the others."""
    world.trust.stance = stance(Brake.EXACT_ONLY)
    world.keep(STORED)
    assert world.ask(STORED).outcome is Outcome.HIT_EXACT
    assert world.ask(NEAR).outcome is Outcome.MISS_BRAKED
    assert world.ask(FAR).outcome is Outcome.MISS_BELOW_THRESHOLD


@pytest.mark.parametrize(
    "terms", [{"sources": {"doc": "2"}}, {"max_age_ms": 10}], ids=["another version of a source", "too old"]
)
def test_what_the_request_rules_out_is_not_learned_from(
    world: World, ask_for: Callable[[str], Request], terms: dict[str, object]
) -> None:
    """No rule could have served it, and that its answer is another by now says nothing of reuse."""
    world.policy(min_score=0.999)
    world.trust.stance = Stance(Rule(7, 0.5, model=Told(0.75)))
    world.admit.store(Keep(Payload(b"r", sources=(Source("doc", "1"),)), ask_for(STORED)))
    world.clock.advance(1_000)
    other = world.admit.store(Keep(Payload(b"r"), ask_for(NEAR + " now please"))).entry_id
    result = world.ask(NEAR, **terms)
    assert [candidate.entry_id for candidate in ticket_of(world, result).candidates] == [other]
