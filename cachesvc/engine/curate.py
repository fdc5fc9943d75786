"""What an application does to many entries at once: list them, and invalidate those that went wrong.

Both walk through the store in bounded steps, so that neither lookups nor stores wait for them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EntriesRemoved
from cachesvc.core.eviction import size_bytes
from cachesvc.core.identity import canonical_text
from cachesvc.core.selection import Near, Selector
from cachesvc.core.types import Entry, Lost, Match, Place, Removal, Selection, Unseen
from cachesvc.engine.parts import Parts

_ROUND_COUNT = 256  # removals in a transaction, as the janitor's
_PAGE_STEPS = 16  # a page that has found nothing by then is handed out empty, with where to go on
_REPLY_BYTES = 3 << 20  # gRPC clients by default read replies of at most 4 MiB


@dataclass(frozen=True, slots=True)
class Wish:
    """What is meant: criteria, a text to be near to, and ages, which are counted from now."""

    selector: Selector
    near_text: str = ""
    near_min_score: float = 1.0
    older_than_ms: int | None = None
    newer_than_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a walk may go. ``wanted`` says whether the caller still waits; ``deadline_s`` as in Ask."""

    deadline_s: float | None = None
    wanted: Callable[[], bool] = field(default=lambda: True)


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry without its response, which may be large, and what is known of it beside."""

    entry: Entry
    response_bytes: int
    match: Match


@dataclass(frozen=True, slots=True)
class Invalidated:
    """How many entries went, or would, and some of them."""

    count: int
    examples: tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, and where the next page begins; None when there is none."""

    entries: tuple[Listed, ...]
    after: Place | None


class Curator:
    """Thread-safe. Raises INVALID, DEADLINE, OVERLOADED or UNAVAILABLE."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._embedder = parts.embedder
        self._tuning = parts.tuning
        self._janitor = parts.janitor
        self._clock = parts.clock
        self._observer = parts.observer

    def invalidate(self, wish: Wish, walk: Walk, *, dry_run: bool, max_examples: int) -> Invalidated:
        """Remove what is meant, and keep what is being made of it from being stored.

        Forbidding goes first and removing second: whatever is committed in between is removed, whatever
        comes later is refused. Then once more, for what began while that went on: it may have been stored
        behind the walk. When time runs out in between, what is left still counts as forbidden.
        """
        selector, shown = self._selector(wish), _Shown(max_examples)
        if dry_run:
            parts = self._walk(selector, None, _ROUND_COUNT, walk)
            count = sum(self._looked_at(part, shown) for part in parts)
        else:
            new_id = self._store.next_id()
            count = self._forbid_and_remove(selector, 0, shown, walk)
            count += self._forbid_and_remove(selector, new_id, shown, walk)
        return Invalidated(count, tuple(shown.entries))

    def _looked_at(self, part: Selection, shown: "_Shown") -> int:
        for match in part.matches:
            if not shown.has_room:
                break
            shown.add(self._listed(match))
        return len(part.matches)

    def _forbid_and_remove(self, selector: Selector, first_id: int, shown: "_Shown", walk: Walk) -> int:
        """How many went, of those with ids from the first on."""
        self._store.forbid(selector)
        count = 0
        for part in self._walk(selector, None, _ROUND_COUNT, walk, first_id):
            self._looked_at(part, shown)
            count += self._remove(part)
        return count

    def _remove(self, part: Selection) -> int:
        """Remove what is meant, and what is damaged, for that may be meant and served."""
        removed = 0
        for why, entry_ids in (
            (Removal.INVALIDATED, [match.entry_id for match in part.matches]),
            (Removal.QUARANTINED, list(part.damaged)),
        ):
            count = self._store.remove(entry_ids) if entry_ids else 0
            if count:
                self._observer.on(EntriesRemoved(why, count))
            removed += count
        return removed

    def page(self, wish: Wish, after: Place | None, size: int, walk: Walk) -> Page:
        """The next entries that are meant, at most ``size``, and fewer where they are large."""
        shown = _Shown(size)
        for step, part in enumerate(self._walk(self._selector(wish), after, size, walk)):
            for entry_id in part.damaged:
                self._janitor.quarantine(entry_id)
            for match in part.matches:
                if not shown.add(self._listed(match)):
                    return Page(tuple(shown.entries), after)
                after = Place(match.namespace, match.entry_id)
            after = part.after
            if shown.entries or step == _PAGE_STEPS:
                break
        return Page(tuple(shown.entries), after)

    def _selector(self, wish: Wish) -> Selector:
        now_ms = self._clock.now_ms()
        return replace(
            wish.selector,
            before_ms=None if wish.older_than_ms is None else now_ms - wish.older_than_ms,
            since_ms=None if wish.newer_than_ms is None else now_ms - wish.newer_than_ms,
            near=self._near(wish) if wish.near_text else None,
        )

    def _near(self, wish: Wish) -> Near:
        vector = self._embedder.embed(canonical_text(wish.near_text), self._tuning().budget.max_wait_s)
        if isinstance(vector, Unseen):
            raise CacheError.invalid("near.text", f"cannot be compared: {vector.value}")
        return Near(vector, wish.near_min_score)

    def _walk(
        self, selector: Selector, after: Place | None, limit: int, walk: Walk, first_id: int = 0
    ) -> Iterator[Selection]:
        while True:
            part = self._store.select(selector, after, limit, first_id)
            yield part
            if part.after is None:
                return
            after = part.after
            if not walk.wanted():
                raise CacheError(Kind.UNAVAILABLE, "the caller is gone, or the server is stopping")
            if walk.deadline_s is not None and self._clock.monotonic_s() >= walk.deadline_s:
                raise CacheError(Kind.DEADLINE, "not all entries were looked at in time: call again")

    def _listed(self, match: Match) -> Listed | None:
        """None for what has expired, was removed meanwhile, or is damaged."""
        row = self._store.get(match.entry_id)
        if isinstance(row, Lost):
            self._janitor.quarantine(match.entry_id)
            return None
        if row is None or row.expires_ms <= self._clock.now_ms():
            return None
        bare = replace(row, payload=replace(row.payload, response=b""))
        return Listed(bare, len(row.payload.response), match)


class _Shown:
    """Entries in one reply, bounded in number and in bytes."""

    def __init__(self, max_count: int) -> None:
        self.entries: list[Listed] = []
        self._max_count = max_count
        self._size_bytes = 0

    @property
    def has_room(self) -> bool:
        return len(self.entries) < self._max_count and self._size_bytes < _REPLY_BYTES

    def add(self, listed: Listed | None) -> bool:
        """Show an entry, if there is one. False when there is no room for it; the first has room always."""
        if listed is None:
            return True
        size = size_bytes(listed.entry.prompt, listed.entry.payload, None)
        if self.entries and self._size_bytes + size > _REPLY_BYTES:
            return False
        self.entries.append(listed)
        self._size_bytes += size
        return True
