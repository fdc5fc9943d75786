"""The shape of a text: what two texts are likened by, beside what the gates refuse for. Only features need it."""

from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

from cachesvc.core.gates.meaning import Meaning
from cachesvc.core.gates.words import NONE

CODES = 4096
"""Words are told apart by as many codes: enough to learn by, too few to read them back."""

_GRAM = 4
_KEPT_WORDS = 50_000


@dataclass(frozen=True, slots=True)
class Profile:
    """``words``: folded; ``line``: they in order; ``digits``: words with a digit; ``opening``: the first three words;
    ``codes``: 1 to ``CODES`` - 1, of the stems and the function words.
    """

    words: frozenset[str]
    line: str
    digits: frozenset[str]
    opening: tuple[str, ...]
    count: int
    codes: frozenset[int]

    @property
    def grams(self) -> frozenset[str]:
        """Of characters, within words and across a gap. Made when asked for: kept, they take more than all the rest."""
        line = self.line
        return frozenset([line[start : start + _GRAM] for start in range(len(line) - _GRAM + 1)])


def profile(line: str, meaning: Meaning) -> Profile:
    """Of a text's words, folded, with a blank between two, and what they mean."""
    spoken = line.split(" ") if line else []
    digits = [word for word in spoken if not word.isalpha() and any(map(str.isdigit, word))]
    return Profile(
        frozenset(spoken),
        line,
        frozenset(digits) if digits else NONE,
        tuple(spoken[:3]),
        len(spoken),
        frozenset(map(_code, meaning.stems | meaning.function)),
    )


@lru_cache(_KEPT_WORDS)
def _code(word: str) -> int:
    return 1 + crc32(word.encode(errors="surrogatepass")) % (CODES - 1)
