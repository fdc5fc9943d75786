"""Which entries are meant: criteria that are all met, for listing and for invalidation.

The same test is made of stored entries and of entries on their way in, so that what an invalidation
removes and what it keeps from coming back are one set.
"""

from dataclasses import dataclass

from cachesvc.core.types import Draft, Vector


@dataclass(frozen=True, slots=True)
class Near:
    """A criterion of meaning: unit vector of a text, and the least cosine similarity to it."""

    vector: Vector
    min_score: float


@dataclass(frozen=True, slots=True)
class Selector:
    """Criteria; those that are None or empty exclude nothing.

    ``namespace`` None means every namespace. ``except_version`` goes with ``source_id``: entries
    built from exactly that version of it are left out. Times are the entries' ``created_ms``:
    ``before_ms`` and ``since_ms`` select ``since_ms <= created_ms < before_ms``.
    """

    namespace: str | None = None
    tags: tuple[str, ...] = ()
    source_id: str | None = None
    except_version: str | None = None
    model: str | None = None
    before_ms: int | None = None
    since_ms: int | None = None
    near: Near | None = None


@dataclass(frozen=True, slots=True)
class Traits:
    """What of an entry can be selected by; ``versions`` of the selector's source, of which there may be several."""

    namespace: str
    model: str
    tags: frozenset[str]
    versions: tuple[str, ...]
    created_ms: int


def meets(selector: Selector, traits: Traits, vector: Vector | None) -> bool:
    """Whether an entry is meant. ``vector`` counts only where the selector has a text; None is near nothing."""
    return meets_traits(selector, traits) and (selector.near is None or is_near(selector.near, vector))


def meets_traits(selector: Selector, traits: Traits) -> bool:
    """Whether an entry meets all criteria but nearness, which needs its vector."""
    if selector.namespace is not None and traits.namespace != selector.namespace:
        return False
    if not traits.tags.issuperset(selector.tags):
        return False
    if selector.source_id is not None and not any(v != selector.except_version for v in traits.versions):
        return False
    if selector.model is not None and traits.model != selector.model:
        return False
    if selector.before_ms is not None and traits.created_ms >= selector.before_ms:
        return False
    return selector.since_ms is None or traits.created_ms >= selector.since_ms


def is_near(near: Near, vector: Vector | None) -> bool:
    """Whether a vector is as near as asked; None is near nothing."""
    return vector is not None and score(near, vector) >= near.min_score


def score(near: Near, vector: Vector) -> float:
    """Cosine similarity of unit vectors."""
    return min(float(near.vector @ vector), 1.0)


def forbids(selector: Selector, draft: Draft) -> bool:
    """Whether an invalidation means an entry on its way in. What cannot be compared with a text counts as near."""
    return meets_traits(selector, draft_traits(draft, selector.source_id)) and (
        selector.near is None or draft.unembedded or is_near(selector.near, draft.vector)
    )


def draft_traits(draft: Draft, source_id: str | None) -> Traits:
    """Of an entry on its way in."""
    payload = draft.payload
    return Traits(
        draft.identity.namespace,
        draft.identity.model,
        frozenset(payload.tags),
        tuple(source.version for source in payload.sources if source.id == source_id),
        draft.created_ms,
    )
