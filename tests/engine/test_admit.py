"""The write path: what is refused, what is embedded once, and how long an entry lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EntriesRemoved, StoreDone
from cachesvc.core.policy import Mode
from cachesvc.core.types import Keep, Outcome, Payload, Quota, Removal, Request, Unseen

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.conftest import World

TEXT = "please turn the kitchen light on now"
NEAR = "please turn the kitchen light on"


def test_a_store_after_a_miss_embeds_nothing_again(world: World) -> None:
    """The vector of the miss is used, by lookup_id alone or beside the identity fields."""
    lookup_id = world.ask(TEXT).lookup_id
    assert world.embedder.calls == 1
    by_id = world.admit.store(Keep(Payload(b"1"), lookup_id=lookup_id))
    with_fields = world.keep(TEXT, b"2", lookup_id=lookup_id)
    assert world.embedder.calls == 1
    assert by_id.semantic
    assert with_fields.semantic
    assert with_fields.replaced_id == by_id.entry_id
    hit = world.ask(NEAR)
    assert hit.outcome is Outcome.HIT_SEMANTIC


def test_a_store_without_a_ticket_embeds_once(world: World) -> None:
    """The identity fields alone are enough."""
    assert world.keep(TEXT).semantic
    assert world.embedder.calls == 1


def test_a_ticket_remembers_that_the_text_cannot_be_seen(world: World) -> None:
    """What was unseen at the miss is stored exact-only, with the reason, without asking again."""
    world.embedder.unseen = Unseen.UNKNOWN_TOKENS
    lookup_id = world.ask(TEXT).lookup_id
    kept = world.admit.store(Keep(Payload(b"r"), lookup_id=lookup_id))
    assert world.embedder.calls == 1
    assert not kept.semantic
    assert kept.reason == Unseen.UNKNOWN_TOKENS.value
    assert world.ask(TEXT).outcome is Outcome.HIT_EXACT


def test_a_ticket_of_a_miss_that_embedded_nothing_embeds_at_the_store(world: World) -> None:
    """An exact-only miss leaves the embedding to the store."""
    lookup_id = world.ask(TEXT, exact_only=True).lookup_id
    assert world.embedder.calls == 0
    assert world.admit.store(Keep(Payload(b"r"), lookup_id=lookup_id)).semantic
    assert world.embedder.calls == 1


def test_a_ticket_of_another_request_is_refused(world: World) -> None:
    """A lookup_id that disagrees with the identity fields is INVALID, names the field and stores nothing."""
    lookup_id = world.ask("another question").lookup_id
    with pytest.raises(CacheError) as caught:
        world.keep(TEXT, lookup_id=lookup_id)
    assert caught.value.kind is Kind.INVALID
    assert [violation.field for violation in caught.value.violations] == ["lookup_id"]
    assert world.store.stats().entries == 0


@pytest.mark.parametrize(
    ("namespace", "model", "vary", "field"),
    [
        pytest.param("", "", {}, None, id="nothing said"),
        pytest.param("default", "m", {}, None, id="the same"),
        pytest.param("other", "", {}, "namespace", id="another namespace"),
        pytest.param("", "n", {}, "model", id="another model"),
        pytest.param("", "", {"t": "0"}, "vary", id="another vary"),
    ],
)
def test_part_of_the_identity_beside_a_ticket_must_agree(
    world: World, namespace: str, model: str, vary: dict[str, str], field: str | None
) -> None:
    """A store by lookup_id that says another namespace, model or vary is INVALID and stores nothing."""
    keep = Keep(Payload(b"r"), Request(namespace, (), model, vary), lookup_id=world.ask(TEXT).lookup_id)
    if field is None:
        assert world.admit.store(keep).semantic
        return
    with pytest.raises(CacheError) as caught:
        world.admit.store(keep)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert world.store.stats().entries == 0


def test_an_unknown_ticket_alone_is_refused(world: World) -> None:
    """Without identity fields there is nothing to store under, and the message says what to send."""
    with pytest.raises(CacheError) as caught:
        world.admit.store(Keep(Payload(b"r"), lookup_id="id99"))
    assert caught.value.kind is Kind.REFUSED
    assert "identity fields" in caught.value.message


def test_an_unknown_ticket_beside_the_identity_fields_is_ignored(world: World) -> None:
    """A forgotten ticket costs an embedding, not the store."""
    assert world.keep(TEXT, lookup_id="id99").semantic
    assert world.embedder.calls == 1


def test_a_ticket_expires(world: World) -> None:
    """After its lifetime a lookup_id alone is refused."""
    lookup_id = world.ask(TEXT).lookup_id
    world.clock.advance(61_000)
    with pytest.raises(CacheError) as caught:
        world.admit.store(Keep(Payload(b"r"), lookup_id=lookup_id))
    assert caught.value.kind is Kind.REFUSED


def test_a_hit_leaves_no_ticket(world: World) -> None:
    """Only a miss may be filled by its lookup_id."""
    world.keep(TEXT)
    with pytest.raises(CacheError):
        world.admit.store(Keep(Payload(b"r"), lookup_id=world.ask(TEXT).lookup_id))


@pytest.mark.parametrize(
    ("ttl_ms", "lives_ms"),
    [
        pytest.param(None, 1000, id="the policy's"),
        pytest.param(10, 10, id="shorter"),
        pytest.param(3000, 3000, id="longer"),
        pytest.param(99_999, 5000, id="capped"),
    ],
)
def test_an_entry_lives_as_long_as_asked_up_to_the_maximum(
    world: World, ttl_ms: int | None, lives_ms: int
) -> None:
    """The reply tells the expiry that counts, and lookups keep to it."""
    world.policy(ttl_ms=1000, max_ttl_ms=5000)
    kept = world.keep(TEXT, ttl_ms=ttl_ms)
    assert kept.expires_ms == world.clock.now_ms() + lives_ms
    world.clock.advance(lives_ms - 1)
    assert world.ask(TEXT).outcome is Outcome.HIT_EXACT
    world.clock.advance(1)
    assert world.ask(TEXT).outcome is Outcome.MISS_EXPIRED


@pytest.mark.parametrize("kind", [Kind.OVERLOADED, Kind.UNAVAILABLE], ids=lambda kind: kind.value)
def test_a_failing_embedder_costs_the_semantic_tier_only(world: World, kind: Kind) -> None:
    """The response is stored, exact-only, and the reply says why."""
    world.embedder.error = kind
    kept = world.keep(TEXT)
    assert not kept.semantic
    assert kept.reason == "the embedder fails as told"
    assert world.ask(TEXT).outcome is Outcome.HIT_EXACT
    world.embedder.error = None
    assert world.ask(NEAR).outcome is Outcome.MISS_EMPTY


def test_a_policy_that_is_off_refuses_stores(world: World) -> None:
    """A disabled namespace takes nothing in, and embeds nothing."""
    world.policy(mode=Mode.OFF)
    with pytest.raises(CacheError) as caught:
        world.keep(TEXT)
    assert caught.value.kind is Kind.REFUSED
    assert world.embedder.calls == 0
    assert world.store.stats().entries == 0


def test_storing_again_replaces_and_is_counted(world: World) -> None:
    """The same identity has one entry, the last, and the replaced one is told of."""
    first = world.keep(TEXT, b"old")
    second = world.keep(TEXT, b"new")
    assert (first.replaced_id, second.replaced_id) == (None, first.entry_id)
    assert EntriesRemoved(Removal.REPLACED, 1) in world.events.seen
    stored = [event for event in world.events.seen if isinstance(event, StoreDone)]
    assert [(event.replaced, event.response_bytes) for event in stored] == [(False, 3), (True, 3)]
    entry = world.ask(NEAR).entry
    assert entry is not None
    assert entry.payload.response == b"new"


def test_a_wrong_item_fails_alone(world: World, ask_for: Callable[[str], Request]) -> None:
    """In a batch each item has its own result, in its place; the good ones are one commit."""
    keeps = [
        Keep(Payload(b"a"), ask_for("first question")),
        Keep(Payload(b"b"), ask_for("  ")),
        Keep(Payload(b"c"), lookup_id="id99"),
        Keep(Payload(b"d"), ask_for("second question")),
    ]
    results = world.admit.store_many(keeps)
    kinds = [result.kind if isinstance(result, CacheError) else None for result in results]
    assert kinds == [None, Kind.INVALID, Kind.REFUSED, None]
    assert len(world.store.put_waits_s) == 1
    assert world.store.stats().entries == 2


def test_a_batch_that_cannot_be_written_fails_as_one(world: World, ask_for: Callable[[str], Request]) -> None:
    """When the commit fails every good item has its error, and a wrong one its own."""
    world.store.failing.add("put")
    results = world.admit.store_many([Keep(Payload(b"a"), ask_for("one")), Keep(Payload(b"b"), ask_for(" "))])
    kinds = [result.kind for result in results if isinstance(result, CacheError)]
    assert kinds == [Kind.UNAVAILABLE, Kind.INVALID]
    assert not [event for event in world.events.seen if isinstance(event, StoreDone)]


def test_a_store_waits_for_durability_until_its_deadline(world: World) -> None:
    """What is left to the deadline is how long the commit may take; without one it takes what it takes."""
    world.keep(TEXT)
    world.keep(TEXT, deadline_s=world.clock.monotonic_s() + 2.0)
    world.keep(TEXT, deadline_s=world.clock.monotonic_s() - 1.0)
    assert world.store.put_waits_s == [None, pytest.approx(2.0), 0.0]


def test_a_store_waits_for_a_slot_no_longer_than_its_deadline(world: World) -> None:
    """Embedding for a store keeps the caller's deadline as embedding for a lookup does."""
    world.keep(TEXT, deadline_s=world.clock.monotonic_s() + 0.05)
    assert max(world.embedder.waits_s, default=0.0) <= 0.05


def test_get_keeps_to_the_namespace_and_the_expiry(world: World) -> None:
    """An id of another namespace, an unknown and an expired one are all not there."""
    entry_id = world.keep(TEXT, ttl_ms=100).entry_id
    entry = world.admit.get("default", entry_id)
    assert entry is not None
    assert entry.id == entry_id
    assert world.admit.get("other", entry_id) is None
    assert world.admit.get("default", 999) is None
    world.clock.advance(100)
    assert world.admit.get("default", entry_id) is None


def test_delete_keeps_to_the_namespace(world: World) -> None:
    """Only the namespace that has the entry deletes it, once, and the next lookup misses."""
    entry_id = world.keep(TEXT).entry_id
    assert world.ask(NEAR).outcome is Outcome.HIT_SEMANTIC
    assert not world.admit.delete("other", entry_id)
    assert world.ask(NEAR).outcome is Outcome.HIT_SEMANTIC
    assert world.admit.delete("default", entry_id)
    assert not world.admit.delete("default", entry_id)
    assert world.ask(NEAR).outcome is Outcome.MISS_EMPTY
    assert world.ask(TEXT).outcome is Outcome.MISS_EMPTY
    assert EntriesRemoved(Removal.DELETED, 1) in world.events.seen


def test_an_entry_larger_than_its_namespace_s_quota_is_refused(world: World) -> None:
    """It names the field and pushes nothing out."""
    world.keep(TEXT)
    world.policy(quota=Quota(max_bytes=5000))
    with pytest.raises(CacheError) as caught:
        world.keep("another", response=b"r" * 5000)
    assert [violation.field for violation in caught.value.violations] == ["response"]
    assert world.ask(TEXT).outcome is Outcome.HIT_EXACT


def test_use_lets_an_entry_live_on_where_the_policy_says_so(world: World) -> None:
    """For its own lifetime again, once housekeeping has noted it, and never past the maximum."""
    world.policy(sliding_ttl=True, max_ttl_ms=2500)
    world.keep(TEXT, ttl_ms=1000)
    for elapsed_ms in (900, 1800, 2400):
        world.clock.advance(900 if elapsed_ms < 2400 else 600)
        assert world.ask(TEXT).outcome is Outcome.HIT_EXACT, elapsed_ms
        world.janitor.tidy()
    world.clock.advance(100)
    assert world.ask(TEXT).outcome is Outcome.MISS_EXPIRED
    world.janitor.tidy()
    assert world.store.stats().entries == 0
