"""What an import does to the entries that are there, and to the store's time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cachesvc.core.events import EntriesRemoved
from cachesvc.core.identity import identify
from cachesvc.core.types import Payload, Quota, Removal
from cachesvc.engine.move import Incoming
from tests.engine.conftest import request

if TYPE_CHECKING:
    from tests.engine.conftest import World


def incoming(world: World, text: str, created_ms: int) -> Incoming:
    identity = identify(request(text), world.embedder.fingerprint)
    return Incoming(
        namespace="default",
        model="m",
        context=identity.context,
        exact_key=identity.exact_key,
        prompt=text,
        payload=Payload(b"imported"),
        vector=None,
        semantic=True,
        created_ms=created_ms,
        expires_ms=created_ms + 1000,
        sliding_ms=0,
        latest_ms=created_ms + 1000,
        fingerprint=world.embedder.fingerprint,
    )


def test_what_an_import_replaces_and_pushes_out_is_counted(world: World) -> None:
    """As a Store's, under the same reasons."""
    world.keep("one")
    world.clock.advance(10)
    world.policy(quota=Quota(max_entries=1))
    now_ms = world.clock.now_ms()
    list(world.mover.import_([incoming(world, "one", now_ms), incoming(world, "two", now_ms)]))
    removed = [event for event in world.events.seen if isinstance(event, EntriesRemoved)]
    assert removed == [EntriesRemoved(Removal.REPLACED, 1), EntriesRemoved(Removal.EVICTED, 1)]


def test_an_entry_that_its_namespace_cannot_hold_pushes_nothing_out(world: World) -> None:
    """It fails alone, as when it is stored: taken, all others would go, and it next."""
    for text in ("one", "two", "three"):
        world.keep(text)
    world.policy(quota=Quota(max_bytes=6000))
    large = replace(incoming(world, "large", world.clock.now_ms()), payload=Payload(b"x" * 20_000))
    small = incoming(world, "small", world.clock.now_ms())
    *_, tally = world.mover.import_([large, small])
    assert (tally.stored, tally.failed) == (1, 1)
    assert tally.errors[0].startswith("record 1: response: makes an entry of 20")
    assert len(world.store.ids(0, 10)) == 4


def test_an_entry_from_a_clock_that_is_ahead_is_of_now(world: World) -> None:
    """Another machine's clock does not set the store's, which never goes back."""
    now_ms = world.clock.now_ms()
    list(world.mover.import_([incoming(world, "one", now_ms + 30_000)]))
    (entry_id,) = world.store.ids(0, 10)
    entry = world.admit.get("default", entry_id)
    assert entry is not None
    assert entry.created_ms == now_ms


def test_an_import_of_entries_that_are_ahead_is_idempotent(world: World) -> None:
    """They are stored once, whether it is done again before their time or after it."""
    ahead = incoming(world, "one", world.clock.now_ms() + 50_000)
    stored = []
    for _ in range(4):
        *_, tally = world.mover.import_([ahead])
        stored.append(tally.stored)
        world.clock.advance(16_000)
    assert stored == [1, 0, 0, 0]
    assert world.store.ids(0, 10) == [1]


def test_a_newer_entry_replaces_another_response(world: World) -> None:
    """However little newer it is; the same response as little newer is what is there."""
    now_ms = world.clock.now_ms()
    first = incoming(world, "one", now_ms)
    list(world.mover.import_([first]))
    world.clock.advance(10)
    other = replace(incoming(world, "one", now_ms + 5), payload=Payload(b"another"))
    *_, tally = world.mover.import_([replace(first, created_ms=now_ms + 5), other])
    assert (tally.unchanged, tally.stored) == (1, 1)


def test_an_entry_that_is_ahead_outlives_its_policy_by_nothing(world: World) -> None:
    """The longest lifetime counts from when it is stored as of, not from the other clock's time."""
    world.policy(ttl_ms=1000, max_ttl_ms=5000)
    now_ms = world.clock.now_ms()
    ahead = replace(incoming(world, "one", now_ms + 30_000), latest_ms=now_ms + 90_000)
    list(world.mover.import_([replace(ahead, expires_ms=now_ms + 90_000)]))
    entry = world.admit.get("default", 1)
    assert entry is not None
    assert (entry.expires_ms, entry.latest_ms) == (now_ms + 5000, now_ms + 5000)
