"""A text cut into words."""

import re
from typing import NamedTuple

_WORD = re.compile(r"[^\W_]+(?:['’.\-_@/:][^\W_]+)*|[^\w\s]")


class Word(NamedTuple):
    """A word or a sign: as written, and folded for comparison. ``start`` is where it begins."""

    text: str
    folded: str
    start: int


def words(text: str) -> tuple[Word, ...]:
    """The words of a text, in order."""
    return tuple(
        [
            Word(match[0], match[0].casefold().replace("’", "'"), match.start())
            for match in _WORD.finditer(text)
        ]
    )
