"""What an import does to the entries that are there, and to the store's time."""

from __future__ import annotations

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


def test_an_entry_from_a_clock_that_is_ahead_is_of_now(world: World) -> None:
    """Another machine's clock does not set the store's, which never goes back."""
    now_ms = world.clock.now_ms()
    list(world.mover.import_([incoming(world, "one", now_ms + 30_000)]))
    (entry_id,) = world.store.ids(0, 10)
    entry = world.admit.get("default", entry_id)
    assert entry is not None
    assert entry.created_ms == now_ms
