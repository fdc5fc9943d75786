"""What the gates know of a text, found out once.

Texts are analysed at most ``MAX_LENGTH`` characters far; what is longer is exact-tier anyway.
"""

from dataclasses import dataclass

from cachesvc.core.gates.literals import Literals, literals
from cachesvc.core.gates.meaning import Meaning, meaning
from cachesvc.core.gates.profile import Profile, profile
from cachesvc.core.gates.words import Word, words

VERSION = 1
"""Changes whenever an analysis of the same text would come out otherwise."""

MAX_LENGTH = 20_000


@dataclass(frozen=True, slots=True)
class Analysis:
    """The words of a text, its literals (numbers, dates, names of things …) what carries its meaning, and its shape."""

    words: tuple[Word, ...]
    literals: Literals
    meaning: Meaning
    profile: Profile


def analyse(text: str) -> Analysis:
    """Analyse a text. Never raises; the same text gives an equal analysis."""
    seen = text[:MAX_LENGTH]
    found = words(seen)
    meant = meaning(seen, found)
    return Analysis(found, literals(seen, found), meant, profile(found, meant))
