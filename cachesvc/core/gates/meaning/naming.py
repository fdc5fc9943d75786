"""Whether two names may be one: inflected, derived or misspelt."""

_ENDINGS = frozenset(
    ("", "s", "'s", "n", "an", "ian", "ans",
        "ean",
        "eans", "ians", "ese", "i", "is", "ish", "ic", "es", "a", "e", "y", "ies", "er", "ers", "ey", "en")
)  # fmt: skip
_CALLED = frozenset(
    frozenset(pair)
    for pair in (
        *(("usa", name) for name in ("america", "american", "unit", "stat")),
        *(("uk", name) for name in ("britain", "british", "unit", "kingdom")),
    )
)
"""Stems of other names for the same."""
_MIN_SHARED = 4
_MIN_TYPO = 6


def same_name(one: str, other: str) -> bool:
    """One is the other's inflection, or a typo of it: Israel and Israeli, Kurosawa and Kurosowa; not Iran and Iraq."""
    if is_derived(one, other) or frozenset((one, other)) in _CALLED:
        return True
    return len(one) >= _MIN_TYPO and len(other) >= _MIN_TYPO and one.isalpha() and is_typo(one, other)


def is_derived(one: str, other: str) -> bool:
    """Israel and Israeli, Europe and European; not Niger and Nigeria."""
    shared = _shared_prefix(one, other)
    return shared >= _MIN_SHARED and one[shared:] in _ENDINGS and other[shared:] in _ENDINGS


def _shared_prefix(one: str, other: str) -> int:
    for place, (x, y) in enumerate(zip(one, other, strict=False)):
        if x != y:
            return place
    return min(len(one), len(other))


def is_typo(one: str, other: str) -> bool:
    """One letter more, less, other, or two neighbours exchanged."""
    if len(one) > len(other):
        one, other = other, one
    if len(other) - len(one) > 1:
        return False
    shared = _shared_prefix(one, other)
    mine, yours = one[shared:], other[shared:]
    if len(one) < len(other):
        return mine == yours[1:]
    return mine[1:] == yours[1:] or (mine[:2] == yours[1::-1] and mine[2:] == yours[2:])
