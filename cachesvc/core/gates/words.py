"""A text cut into words."""

import re
from typing import Any, Final

NONE: Final[frozenset[Any]] = frozenset()
"""The one empty set. Most sets of most texts are empty, and one of their own would take 216 bytes each."""

_WORD = re.compile(r"[^\W_]+(?:['’.\-_@/:][^\W_]+)*|[^\w\s]")

KEPT_WORDS = 50_000
"""Of so many words is kept what they bring by themselves. Most words of a text have come before."""

MAX_KEPT_LENGTH = 40
"""What is longer is hardly a word, and not kept."""


def words(text: str) -> list[str]:
    """The words and signs of a text as they are written, in order."""
    return _WORD.findall(text)
