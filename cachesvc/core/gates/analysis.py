"""What the gates know of a text, found out once.

Texts are analysed at most ``MAX_LENGTH`` characters far; what is longer is exact-tier anyway.
"""

from dataclasses import dataclass

from cachesvc.core.gates.literals import Literals, literals
from cachesvc.core.gates.meaning import Meaning, meaning
from cachesvc.core.gates.words import Word, words

VERSION = 1
"""Changes whenever an analysis of the same text would come out otherwise."""

MAX_LENGTH = 20_000


@dataclass(frozen=True, slots=True)
class Analysis:
    """The words of a text, its literals (numbers, dates, names of things …) and what carries its meaning."""

    words: tuple[Word, ...]
    literals: Literals
    meaning: Meaning


def analyse(text: str) -> Analysis:
    """Analyse a text. Never raises; the same text gives an equal analysis."""
    found = words(text[:MAX_LENGTH])
    return Analysis(found, literals(text[:MAX_LENGTH], found), meaning(text[:MAX_LENGTH], found))
