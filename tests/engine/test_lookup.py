"""The read path: every outcome, what it costs, and what it leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EntriesRemoved, LookupDone
from cachesvc.core.policy import Mode, TrustTerms
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import Brake, Stance
from cachesvc.core.types import Entry, Keep, Message, Outcome, Payload, Removal, Request, Source, Unseen

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachesvc.core.types import LookupResult
    from tests.engine.conftest import World

STORED = "please turn the kitchen light on now"
NEAR = "please turn the kitchen light on"
FAR = "what is the capital of France"


def hit_exact(world: World) -> LookupResult:
    world.keep(STORED)
    return world.ask(STORED)


def hit_semantic(world: World) -> LookupResult:
    world.keep(STORED)
    return world.ask(NEAR)


def miss_empty(world: World) -> LookupResult:
    return world.ask(STORED)


def miss_below_threshold(world: World) -> LookupResult:
    world.keep(STORED)
    return world.ask(FAR)


def miss_expired(world: World) -> LookupResult:
    world.keep(STORED, ttl_ms=1000)
    world.clock.advance(1000)
    return world.ask(NEAR)


def miss_too_old(world: World) -> LookupResult:
    world.keep(STORED)
    world.clock.advance(500)
    return world.ask(NEAR, max_age_ms=499)


def miss_exact_only(world: World) -> LookupResult:
    world.keep(STORED)
    return world.ask(NEAR, exact_only=True)


def miss_unseen(reason: Unseen) -> Callable[[World], LookupResult]:
    def ask(world: World) -> LookupResult:
        world.keep(STORED)
        world.embedder.unseen = reason
        return world.ask(NEAR)

    return ask


def miss_entry_gone(world: World) -> LookupResult:
    world.store.gone.add(world.keep(STORED).entry_id)
    return world.ask(NEAR)


def miss_unseen_difference(world: World) -> LookupResult:
    world.keep(STORED)
    return world.ask(STORED.replace("kitchen", "kitch\u00e9n"))


def miss_corrupt(world: World) -> LookupResult:
    world.store.corrupt.add(world.keep(STORED).entry_id)
    return world.ask(NEAR)


def bypass_requested(world: World) -> LookupResult:
    world.keep(STORED)
    return world.ask(STORED, bypass=True)


def bypass_disabled(world: World) -> LookupResult:
    world.keep(STORED)
    world.policy(mode=Mode.OFF)
    return world.ask(STORED)


def bypass_deadline(world: World) -> LookupResult:
    world.keep(STORED)
    return world.ask(NEAR, deadline_s=world.clock.monotonic_s() + 0.005)


def miss_source_changed(world: World) -> LookupResult:
    payload = Payload(b"r", sources=(Source("doc", "1"),))
    world.admit.store(Keep(payload, Request("default", (Message("user", STORED),), "m", {})))
    return world.ask(NEAR, sources={"doc": "2"})


def bypass_embedder(kind: Kind) -> Callable[[World], LookupResult]:
    def ask(world: World) -> LookupResult:
        world.keep(STORED)
        world.embedder.error = kind
        return world.ask(NEAR)

    return ask


def bypass_store_failed(world: World) -> LookupResult:
    world.keep(STORED)
    world.store.failing.add("find")
    return world.ask(STORED)


def miss_gated(world: World) -> LookupResult:
    world.keep(STORED + " in 5 rooms")
    return world.ask(STORED + " in 6 rooms")


def miss_vetoed(world: World) -> LookupResult:
    world.trust.vetoes.entry_ids.add(world.keep(STORED).entry_id)
    return world.ask(NEAR)


def miss_held_back(world: World) -> LookupResult:
    world.policy(trust=TrustTerms(max_error_rate=0.01, hold_back_share=0.1))
    world.trust.toss([0.05])
    return hit_semantic(world)


def miss_shadow(world: World) -> LookupResult:
    world.policy(mode=Mode.SHADOW)
    return hit_semantic(world)


def miss_braked(world: World) -> LookupResult:
    world.trust.stance = Stance(Rule(0, 0.8), Brake.EXACT_ONLY)
    return hit_semantic(world)


WAYS: dict[Outcome, Callable[[World], LookupResult]] = {
    Outcome.HIT_EXACT: hit_exact,
    Outcome.HIT_SEMANTIC: hit_semantic,
    Outcome.MISS_EMPTY: miss_empty,
    Outcome.MISS_BELOW_THRESHOLD: miss_below_threshold,
    Outcome.MISS_EXPIRED: miss_expired,
    Outcome.MISS_TOO_OLD: miss_too_old,
    Outcome.MISS_EXACT_ONLY: miss_exact_only,
    Outcome.MISS_PAST_WINDOW: miss_unseen(Unseen.PAST_WINDOW),
    Outcome.MISS_UNKNOWN_TOKENS: miss_unseen(Unseen.UNKNOWN_TOKENS),
    Outcome.MISS_INVISIBLE_CHARACTERS: miss_unseen(Unseen.INVISIBLE_CHARACTERS),
    Outcome.MISS_MIXED_SCRIPTS: miss_unseen(Unseen.MIXED_SCRIPTS),
    Outcome.MISS_SPECIAL_TOKENS: miss_unseen(Unseen.SPECIAL_TOKENS),
    Outcome.MISS_ENTRY_GONE: miss_entry_gone,
    Outcome.MISS_UNSEEN_DIFFERENCE: miss_unseen_difference,
    Outcome.MISS_SOURCE_CHANGED: miss_source_changed,
    Outcome.MISS_CORRUPT: miss_corrupt,
    Outcome.MISS_GATED: miss_gated,
    Outcome.MISS_VETOED: miss_vetoed,
    Outcome.MISS_HELD_BACK: miss_held_back,
    Outcome.MISS_SHADOW: miss_shadow,
    Outcome.MISS_BRAKED: miss_braked,
    Outcome.BYPASS_REQUESTED: bypass_requested,
    Outcome.BYPASS_DISABLED: bypass_disabled,
    Outcome.BYPASS_DEADLINE: bypass_deadline,
    Outcome.BYPASS_EMBEDDER_BUSY: bypass_embedder(Kind.OVERLOADED),
    Outcome.BYPASS_EMBEDDER_FAILED: bypass_embedder(Kind.UNAVAILABLE),
    Outcome.BYPASS_STORE_FAILED: bypass_store_failed,
}


WITHHELD = {Outcome.MISS_HELD_BACK, Outcome.MISS_SHADOW, Outcome.MISS_BRAKED}


@pytest.mark.parametrize("outcome", WAYS, ids=lambda outcome: outcome.label)
def test_every_outcome_is_reached_and_told_once(world: World, outcome: Outcome) -> None:
    """Each outcome is an answer and one event that agree; a hit and nothing else has an entry and its age."""
    result = WAYS[outcome](world)
    assert result.outcome is outcome
    assert (result.entry is not None) == (result.score is not None) == outcome.is_hit
    assert (result.age_ms is not None) == outcome.is_hit
    assert not (outcome.is_hit and result.best_score is not None)
    events = [event for event in world.events.seen if isinstance(event, LookupDone)]
    assert [(event.outcome, event.lookup_id) for event in events] == [(outcome, result.lookup_id)]
    assert events[0].entry_id == (result.entry.id if result.entry is not None else None)
    assert (result.gate is not None) == (outcome is Outcome.MISS_GATED)
    assert (events[0].withheld_id is not None) == (outcome in WITHHELD)
    assert events[0].gate is result.gate


def test_a_scope_larger_than_the_index_memory_is_a_bypass(small_world: World) -> None:
    """The exact tier still answers it."""
    small_world.keep(STORED)
    small_world.keep(FAR)
    assert small_world.ask(NEAR).outcome is Outcome.BYPASS_SCOPE_TOO_LARGE
    assert small_world.ask(STORED).outcome is Outcome.HIT_EXACT


def test_the_table_is_complete() -> None:
    """No outcome is without a test."""
    assert set(Outcome) - set(WAYS) == {
        Outcome.BYPASS_SCOPE_TOO_LARGE,
        Outcome.MISS_NOT_VERIFIED,  # tests/engine/test_second_opinion.py
    }


def test_an_exact_hit_embeds_nothing(world: World) -> None:
    """It is served with a score of one, whatever the threshold, the embedder and the deadline."""
    world.keep(STORED, b"the answer")
    calls = world.embedder.calls
    world.embedder.error = Kind.UNAVAILABLE
    result = world.ask(STORED, min_score=1.0, deadline_s=world.clock.monotonic_s() - 1)
    assert result.outcome is Outcome.HIT_EXACT
    assert result.score == 1.0
    assert result.entry is not None
    assert result.entry.payload.response == b"the answer"
    assert world.embedder.calls == calls


def test_a_semantic_hit_serves_the_best(world: World) -> None:
    """Of several entries above the threshold the nearest is served, with its own score and text."""
    world.keep(NEAR + " at once today", b"far")
    world.keep(STORED, b"near")
    result = world.ask(NEAR)
    assert result.entry is not None
    assert (result.entry.payload.response, result.entry.prompt) == (b"near", STORED)
    assert result.score is not None
    assert 0.8 <= result.score < 1
    assert result.threshold == 0.8


def test_a_near_miss_says_how_near(world: World) -> None:
    """The best score and the threshold applied come with the miss."""
    world.keep(STORED)
    score = world.ask(NEAR).score
    tighter = world.ask(NEAR, min_score=0.999)
    assert tighter.outcome is Outcome.MISS_BELOW_THRESHOLD
    assert tighter.best_score == score
    assert tighter.threshold == 0.999


def test_a_caller_cannot_loosen_the_threshold(world: World) -> None:
    """Asking for less than the policy's threshold changes nothing."""
    world.keep(STORED)
    result = world.ask(FAR, min_score=-1.0)
    assert result.outcome is Outcome.MISS_BELOW_THRESHOLD
    assert result.threshold == 0.8


def test_age_counts_from_the_store(world: World) -> None:
    """A hit tells the milliseconds since it was stored; max_age is met up to that."""
    world.keep(STORED)
    world.clock.advance(1234)
    assert world.ask(STORED).age_ms == 1234
    assert world.ask(STORED, max_age_ms=1234).outcome is Outcome.HIT_EXACT
    assert world.ask(STORED, max_age_ms=1233).outcome is Outcome.MISS_TOO_OLD


@pytest.mark.parametrize(
    ("after_ms", "outcome"),
    [
        pytest.param(999, Outcome.HIT_EXACT, id="before"),
        pytest.param(1000, Outcome.MISS_EXPIRED, id="at the moment"),
        pytest.param(5000, Outcome.MISS_EXPIRED, id="after"),
    ],
)
def test_an_expired_entry_is_not_served_though_it_is_there(
    world: World, after_ms: int, outcome: Outcome
) -> None:
    """Expiry needs no housekeeping to count, in the exact tier either."""
    world.keep(STORED, ttl_ms=1000)
    world.clock.advance(after_ms)
    assert world.ask(STORED).outcome is outcome
    assert world.store.stats().entries == 1


def test_an_expired_exact_entry_gives_way_to_a_fresh_neighbour(world: World) -> None:
    """The semantic tier is asked when the identical request may not be served."""
    world.keep(STORED, b"old", ttl_ms=1000)
    world.clock.advance(1000)
    world.keep(NEAR, b"fresh")
    result = world.ask(STORED)
    assert result.outcome is Outcome.HIT_SEMANTIC
    assert result.entry is not None
    assert result.entry.payload.response == b"fresh"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"semantic": False}, id="semantic off"),
        pytest.param({"store_prompts": False}, id="prompts not kept"),
    ],
)
def test_a_policy_without_the_semantic_tier_embeds_nothing(world: World, changes: dict[str, bool]) -> None:
    """Neither the lookup nor the store embeds; the identical request is answered."""
    world.policy(**changes)
    kept = world.keep(STORED)
    assert not kept.semantic
    assert world.ask(NEAR).outcome is Outcome.MISS_EXACT_ONLY
    assert world.ask(STORED).outcome is Outcome.HIT_EXACT
    assert world.embedder.calls == 0


def test_prompts_that_are_not_kept_are_nowhere(world: World) -> None:
    """With store_prompts off the entry has neither text nor vector."""
    world.policy(store_prompts=False)
    entry_id = world.keep(STORED).entry_id
    entry = world.store.get(entry_id)
    assert isinstance(entry, Entry)
    assert entry.prompt == ""
    assert world.store.vectors(entry.scope, [entry_id]) == [None]


@pytest.mark.parametrize(
    ("left_s", "wait_s"),
    [
        pytest.param(None, 0.25, id="no deadline: the bound"),
        pytest.param(10.0, 0.25, id="far off: the bound"),
        pytest.param(0.11, 0.10, id="near: what is left, less the reserve"),
    ],
)
def test_the_wait_for_a_slot_fits_the_deadline(world: World, left_s: float | None, wait_s: float) -> None:
    """A lookup waits for the embedder no longer than its caller would for it."""
    deadline_s = None if left_s is None else world.clock.monotonic_s() + left_s
    world.ask(STORED, deadline_s=deadline_s)
    assert world.embedder.waits_s == [pytest.approx(wait_s, abs=1e-6)]


@pytest.mark.parametrize("left_s", [0.01, 0.0, -1.0])
def test_too_little_time_embeds_nothing(world: World, left_s: float) -> None:
    """At or under the reserve the exact tier alone answers, and says so."""
    world.keep(STORED)
    calls = world.embedder.calls
    result = world.ask(NEAR, deadline_s=world.clock.monotonic_s() + left_s)
    assert result.outcome is Outcome.BYPASS_DEADLINE
    assert world.embedder.calls == calls


def test_a_store_that_fails_after_the_search_is_a_bypass(world: World) -> None:
    """Rows that cannot be fetched are an outcome, not an exception, and it works again afterwards."""
    world.keep(STORED)
    world.store.failing.add("fetch")
    assert world.ask(NEAR).outcome is Outcome.BYPASS_STORE_FAILED
    world.store.failing.clear()
    assert world.ask(NEAR).outcome is Outcome.HIT_SEMANTIC


@pytest.mark.parametrize("asked", [STORED, NEAR], ids=["exact tier", "semantic tier"])
def test_a_corrupt_row_is_quarantined(world: World, asked: str) -> None:
    """A row that failed its digest is a counted miss, is dropped by the next round, and is then no candidate."""
    entry_id = world.keep(STORED).entry_id
    world.store.corrupt.add(entry_id)
    assert world.ask(asked).outcome is Outcome.MISS_CORRUPT
    assert world.store.stats().entries == 1
    world.janitor.tidy()
    assert EntriesRemoved(Removal.QUARANTINED, 1) in world.events.seen
    assert world.store.stats().entries == 0
    assert world.ask(asked).outcome is Outcome.MISS_EMPTY


def test_a_corrupt_best_does_not_hide_the_next(world: World) -> None:
    """The next candidate above the threshold is served, and the corrupt one is dropped all the same."""
    world.store.corrupt.add(world.keep(STORED).entry_id)
    other = world.keep(NEAR + " now please").entry_id
    result = world.ask(NEAR)
    assert result.outcome is Outcome.HIT_SEMANTIC
    assert result.entry is not None
    assert result.entry.id == other
    world.janitor.tidy()
    assert world.store.stats().entries == 1


def test_a_row_that_is_gone_is_forgotten_by_the_index(world: World) -> None:
    """Met once, it is no candidate the next time."""
    world.store.gone.add(world.keep(STORED).entry_id)
    assert world.ask(NEAR).outcome is Outcome.MISS_ENTRY_GONE
    assert world.ask(NEAR).outcome is Outcome.MISS_EMPTY


def test_a_bypass_reads_and_embeds_nothing(world: World) -> None:
    """Neither store nor embedder is asked, and the lookup_id is good for a store."""
    world.store.failing.update({"find", "fetch"})
    result = world.ask(STORED, bypass=True)
    assert result.outcome is Outcome.BYPASS_REQUESTED
    assert world.embedder.calls == 0
    kept = world.admit.store(Keep(Payload(b"r"), lookup_id=result.lookup_id))
    assert kept.semantic


def test_namespaces_do_not_meet(world: World, ask_for: Callable[[str], Request]) -> None:
    """A request in another namespace finds nothing of this one."""
    world.keep(STORED)
    other = ask_for(STORED)
    stranger = type(other)("other", other.messages, other.model, other.vary)
    kept = world.admit.store(Keep(Payload(b"theirs"), stranger))
    entry = world.ask(NEAR).entry
    assert isinstance(entry, Entry)
    assert entry.id != kept.entry_id
    assert entry.namespace == "default"


def test_a_blank_question_is_the_one_error(world: World) -> None:
    """A lookup raises INVALID and nothing else."""
    with pytest.raises(CacheError) as caught:
        world.ask("  ")
    assert caught.value.kind is Kind.INVALID


def test_an_event_tells_what_a_hit_saved(world: World) -> None:
    """Tokens and money come from the entry; a miss saves nothing."""
    payload = Payload(b"r", input_tokens=11, output_tokens=22, cost_usd=0.5)
    world.ask(STORED, journey="checkout", request_id="r-1")
    miss_id = world.ask(STORED).lookup_id
    world.admit.store(Keep(payload, lookup_id=miss_id))
    world.ask(STORED, journey="checkout", request_id="r-2")
    done = [event for event in world.events.seen if isinstance(event, LookupDone)]
    assert [(e.saved_input_tokens, e.saved_output_tokens, e.saved_cost_usd) for e in done] == [
        (0, 0, 0.0),
        (0, 0, 0.0),
        (11, 22, 0.5),
    ]
    assert (done[2].journey, done[2].request_id, done[2].namespace) == ("checkout", "r-2", "default")


def test_why_the_identical_request_was_refused_is_told(
    world: World, ask_for: Callable[[str], Request]
) -> None:
    """It has no vector, and what is near scores below the threshold: the nearer reason is given."""
    world.keep(FAR)
    world.embedder.error = Kind.UNAVAILABLE
    world.admit.store(Keep(Payload(b"r", sources=(Source("doc", "1"),)), ask_for(STORED)))
    world.embedder.error = None
    reply = world.ask(STORED, sources={"doc": "2"})
    assert reply.outcome is Outcome.MISS_SOURCE_CHANGED
    assert reply.best_score is not None
