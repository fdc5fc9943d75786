"""Listing and invalidation through the engine, beside lookups and stores that are under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EntriesRemoved
from cachesvc.core.selection import Selector
from cachesvc.core.types import Keep, Message, Outcome, Payload, Removal, Request, Source, Unseen
from cachesvc.engine.curate import Walk, Wish
from tests.engine.conftest import request

if TYPE_CHECKING:
    from cachesvc.core.types import Vector
    from tests.engine.conftest import World

QUESTION = "please turn the kitchen light on now"
NEAR = "please turn the kitchen light on"
FAR = "what is the capital of France"


def invalidate(world: World, wish: Wish | None = None, *, dry_run: bool = False, examples: int = 0) -> int:
    wish = Wish(Selector(namespace="default")) if wish is None else wish
    return world.curator.invalidate(wish, Walk(), dry_run=dry_run, max_examples=examples).count


def test_what_is_invalidated_is_not_served(world: World) -> None:
    """After an invalidation neither tier finds the entries, and they are counted as invalidated."""
    world.keep(QUESTION)
    world.keep(FAR)
    assert invalidate(world) == 2
    assert world.ask(QUESTION).outcome is Outcome.MISS_EMPTY
    assert world.ask(NEAR).outcome is Outcome.MISS_EMPTY
    removed = [event for event in world.events.seen if isinstance(event, EntriesRemoved)]
    assert removed == [EntriesRemoved(Removal.INVALIDATED, 2)]


def test_a_dry_run_removes_nothing_and_shows_examples(world: World) -> None:
    """It counts, names as many as asked, and neither removes nor forbids anything."""
    for n in range(4):
        world.keep(f"{QUESTION} {n}")
    looked_up = world.ask(FAR)
    answer = world.curator.invalidate(
        Wish(Selector(namespace="default")), Walk(), dry_run=True, max_examples=3
    )
    assert answer.count == 4
    assert [listed.entry.prompt for listed in answer.examples] == [f"{QUESTION} {n}" for n in range(3)]
    assert world.store.stats().entries == 4
    world.admit.store(Keep(Payload(b"r"), lookup_id=looked_up.lookup_id))
    assert world.ask(FAR).outcome is Outcome.HIT_EXACT


def test_what_began_before_does_not_come_back(world: World) -> None:
    """A response made after a miss that came before the invalidation is refused; one made after it is kept."""
    before = world.ask(QUESTION)
    invalidate(world)
    with pytest.raises(CacheError) as caught:
        world.admit.store(Keep(Payload(b"old"), lookup_id=before.lookup_id))
    assert caught.value.kind is Kind.REFUSED
    assert "invalidation" in caught.value.message
    assert world.ask(QUESTION).outcome is Outcome.MISS_EMPTY
    after = world.ask(QUESTION)
    world.admit.store(Keep(Payload(b"new"), lookup_id=after.lookup_id))
    assert world.ask(QUESTION).outcome is Outcome.HIT_EXACT


def test_what_is_not_meant_is_stored_all_the_same(world: World) -> None:
    """An invalidation of one source's old version refuses what was built from that, and nothing else."""
    before = world.ask(QUESTION)
    invalidate(world, Wish(Selector(source_id="doc", except_version="2")))
    world.admit.store(Keep(Payload(b"r", sources=(Source("doc", "2"),)), lookup_id=before.lookup_id))
    assert world.ask(QUESTION).outcome is Outcome.HIT_EXACT
    with pytest.raises(CacheError, match="invalidation"):
        world.admit.store(Keep(Payload(b"r", sources=(Source("doc", "1"),)), lookup_id=before.lookup_id))


def test_a_store_under_way_is_covered_too(world: World) -> None:
    """An invalidation that comes while a Store is embedding refuses it, though it had no lookup."""

    class Meanwhile:
        def __init__(self) -> None:
            self.inner = world.embedder.embed

        def __call__(self, text: str, wait_s: float) -> object:
            invalidate(world)
            return self.inner(text, wait_s)

    world.embedder.embed = Meanwhile()  # type: ignore[method-assign,assignment]  # the moment that is tested
    with pytest.raises(CacheError, match="invalidation"):
        world.keep(QUESTION)


def test_every_item_of_a_batch_under_way_is_covered(world: World) -> None:
    """An invalidation that comes while a batch embeds its first item refuses those that it embeds later, too."""
    embed = world.embedder.embed
    texts = [QUESTION, FAR]

    def meanwhile(text: str, wait_s: float) -> Vector | Unseen:
        if text == texts[0]:
            invalidate(world)
        return embed(text, wait_s)

    world.embedder.embed = meanwhile  # type: ignore[method-assign]  # the moment that is tested
    answers = world.admit.store_many([Keep(Payload(b"r"), request(text)) for text in texts])
    assert [isinstance(answer, CacheError) for answer in answers] == [True, True]
    assert world.store.stats().entries == 0


def test_a_store_under_way_is_older_than_now(world: World) -> None:
    """All that was stored until now is invalidated while a Store embeds: it is stored no more."""
    embed = world.embedder.embed

    def meanwhile(text: str, wait_s: float) -> Vector | Unseen:
        world.clock.advance(10)
        invalidate(world, Wish(Selector(), older_than_ms=0))
        return embed(text, wait_s)

    world.embedder.embed = meanwhile  # type: ignore[method-assign]  # the moment that is tested
    with pytest.raises(CacheError, match="invalidation"):
        world.keep(QUESTION)


def test_what_could_not_be_embedded_counts_as_near(world: World) -> None:
    """A Store whose embedding fails cannot be compared with an invalidation by meaning: it is refused, too."""
    before = world.ask(QUESTION, exact_only=True)
    elsewhere = world.ask(FAR, exact_only=True)
    invalidate(world, Wish(Selector(model="m"), near_text=NEAR, near_min_score=0.8))
    world.embedder.error = Kind.UNAVAILABLE
    with pytest.raises(CacheError, match="invalidation"):
        world.admit.store(Keep(Payload(b"old"), lookup_id=before.lookup_id))
    world.embedder.error = None
    world.admit.store(Keep(Payload(b"r"), lookup_id=elsewhere.lookup_id))
    assert world.keep(QUESTION).semantic


def test_what_cannot_be_seen_is_near_nothing(world: World) -> None:
    """A Store of a text that only the exact tier can serve is none of an invalidation by meaning."""
    before = world.ask(FAR, exact_only=True)
    invalidate(world, Wish(Selector(), near_text=NEAR, near_min_score=0.8))
    world.embedder.unseen = Unseen.UNKNOWN_TOKENS
    assert not world.admit.store(Keep(Payload(b"r"), lookup_id=before.lookup_id)).semantic


def test_nearness_is_by_meaning(world: World) -> None:
    """Entries near a text go, whatever their words; those that are far stay."""
    world.keep(QUESTION)
    world.keep(FAR)
    assert invalidate(world, Wish(Selector(), near_text=NEAR, near_min_score=0.8)) == 1
    assert world.ask(FAR).outcome is Outcome.HIT_EXACT
    assert world.ask(QUESTION).outcome is Outcome.MISS_BELOW_THRESHOLD


def test_a_text_that_cannot_be_compared_is_refused(world: World) -> None:
    """The error names the field; nothing is forbidden."""
    world.embedder.unseen = Unseen.UNKNOWN_TOKENS
    with pytest.raises(CacheError) as caught:
        invalidate(world, Wish(Selector(), near_text="你好"))
    assert caught.value.violations[0].field == "near.text"
    assert world.store.epoch() == 0


def test_ages_are_counted_from_now(world: World) -> None:
    """Older than an hour means created before an hour ago; newer the opposite."""
    world.keep(QUESTION)
    world.clock.advance(3_600_000)
    world.keep(FAR)
    hour = 3_600_000
    assert invalidate(world, Wish(Selector(), newer_than_ms=hour), dry_run=True) == 2
    assert invalidate(world, Wish(Selector(), newer_than_ms=hour - 1), dry_run=True) == 1
    assert invalidate(world, Wish(Selector(), older_than_ms=hour - 1)) == 1
    assert world.ask(FAR).outcome is Outcome.HIT_EXACT


def test_time_that_runs_out_is_told_and_what_is_left_stays_forbidden(world: World) -> None:
    """A walk that passes its deadline raises DEADLINE; a Store that had begun is refused all the same."""
    for n in range(600):
        world.keep(f"{QUESTION} {n}")
    before = world.ask(FAR)
    walk = Walk(deadline_s=world.clock.monotonic_s())
    with pytest.raises(CacheError) as caught:
        world.curator.invalidate(Wish(Selector(namespace="default")), walk, dry_run=False, max_examples=0)
    assert caught.value.kind is Kind.DEADLINE
    assert world.store.stats().entries == 600 - 256
    with pytest.raises(CacheError, match="invalidation"):
        world.admit.store(Keep(Payload(b"r"), lookup_id=before.lookup_id))


def test_a_caller_that_left_ends_the_walk(world: World) -> None:
    """Nobody waits: the walk stops after a step."""
    for n in range(300):
        world.keep(f"{QUESTION} {n}")
    walk = Walk(wanted=lambda: False)
    with pytest.raises(CacheError) as caught:
        world.curator.invalidate(Wish(Selector(namespace="default")), walk, dry_run=False, max_examples=0)
    assert caught.value.kind is Kind.UNAVAILABLE


def test_pages_hold_every_entry_once(world: World) -> None:
    """Page after page gives the namespace's entries in order of id, and then no further page."""
    kept = [world.keep(f"{QUESTION} {n}").entry_id for n in range(7)]
    request = Request("other", (Message("user", FAR),), "m", {})
    world.admit.store(Keep(Payload(b"r"), request))
    seen: list[int] = []
    after = None
    while True:
        page = world.curator.page(Wish(Selector(namespace="default")), after, 3, Walk())
        assert len(page.entries) <= 3
        seen += [listed.entry.id for listed in page.entries]
        after = page.after
        if after is None:
            break
    assert seen == kept


def test_a_damaged_entry_is_not_listed_but_dropped(world: World) -> None:
    """Listing passes over what fails its digest, and has it removed."""
    first = world.keep(QUESTION).entry_id
    second = world.keep(FAR).entry_id
    world.store.corrupt.add(first)
    page = world.curator.page(Wish(Selector(namespace="default")), None, 10, Walk())
    assert [listed.entry.id for listed in page.entries] == [second]


def test_pages_are_bounded_in_bytes(world: World) -> None:
    """Large prompts make pages short, so that a reply is readable and memory bounded; none is left out."""
    world.embedder.unseen = Unseen.PAST_WINDOW
    kept = [world.keep(f"{n}" + "x" * (1 << 20), response=b"r" * 1000).entry_id for n in range(5)]
    sizes, seen, after = [], [], None
    while True:
        page = world.curator.page(Wish(Selector(namespace="default")), after, 1000, Walk())
        sizes.append(len(page.entries))
        seen += [listed.entry.id for listed in page.entries]
        assert all(not listed.entry.payload.response for listed in page.entries)
        assert all(listed.response_bytes == 1000 for listed in page.entries)
        after = page.after
        if after is None:
            break
    assert seen == kept
    assert sizes == [2, 2, 1]


def test_examples_are_bounded_in_bytes(world: World) -> None:
    """All are counted, and as many shown as a reply can hold."""
    world.embedder.unseen = Unseen.PAST_WINDOW
    for n in range(5):
        world.keep(f"{n}" + "x" * (1 << 20))
    answer = world.curator.invalidate(
        Wish(Selector(namespace="default")), Walk(), dry_run=True, max_examples=100
    )
    assert (answer.count, len(answer.examples)) == (5, 2)


def test_an_entry_larger_than_a_page_is_a_page(world: World) -> None:
    """The first of a page is there whatever its size: else nothing after it would ever be listed."""
    world.embedder.unseen = Unseen.PAST_WINDOW
    world.keep("x" * (4 << 20))
    assert len(world.curator.page(Wish(Selector(namespace="default")), None, 10, Walk()).entries) == 1


def test_what_has_expired_is_not_listed(world: World) -> None:
    """As with Get, though housekeeping has yet to remove it."""
    world.keep(QUESTION, ttl_ms=10)
    world.keep(FAR)
    world.clock.advance(10)
    page = world.curator.page(Wish(Selector(namespace="default")), None, 10, Walk())
    assert [listed.entry.prompt for listed in page.entries] == [FAR]


def test_what_went_meanwhile_is_not_counted(world: World) -> None:
    """Two invalidations at once: each entry is counted by the one that removed it."""
    kept = world.keep(QUESTION).entry_id
    world.store.when_selected.append(lambda: world.admit.delete("default", kept))
    assert invalidate(world) == 0


def test_what_was_stored_during_an_invalidation_does_not_stay(world: World) -> None:
    """A Store that began and ended while the walk was beyond its place is removed before the answer, and one
    that ends after it is refused.
    """
    world.keep(QUESTION)
    begun = []

    def meanwhile() -> None:
        begun.append(world.ask(FAR).lookup_id)
        world.keep(NEAR)

    world.store.when_selected.append(meanwhile)
    assert invalidate(world) == 2
    assert world.ask(NEAR).outcome is Outcome.MISS_EMPTY
    with pytest.raises(CacheError, match="invalidation"):
        world.admit.store(Keep(Payload(b"r"), lookup_id=begun[0]))


def test_what_cannot_be_judged_goes_with_an_invalidation(world: World) -> None:
    """A damaged entry may be meant, and its body may be whole and served: it is dropped before the answer."""
    damaged = world.keep(QUESTION).entry_id
    world.keep(FAR)
    world.store.unjudged.add(damaged)
    assert invalidate(world, dry_run=True) == 1
    assert world.ask(QUESTION).outcome is Outcome.HIT_EXACT
    assert invalidate(world) == 2
    assert world.ask(QUESTION).outcome is Outcome.MISS_EMPTY
    removed = [event for event in world.events.seen if isinstance(event, EntriesRemoved)]
    assert removed == [EntriesRemoved(Removal.INVALIDATED, 1), EntriesRemoved(Removal.QUARANTINED, 1)]
