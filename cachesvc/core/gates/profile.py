"""The shape of a text: what two texts are likened by, beside what the gates refuse for. Kept with the analysis."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

from cachesvc.core.gates.meaning import Meaning
from cachesvc.core.gates.words import Word

CODES = 4096
"""Words are told apart by as many codes: enough to learn by, too few to read them back."""

_GRAM = 4
_KEPT_WORDS = 50_000


@dataclass(frozen=True, slots=True)
class Profile:
    """``words``: folded; ``grams``: of characters, within words and across a gap; ``digits``: words with a digit;
    ``opening``: the first three words; ``codes``: 1 to ``CODES`` - 1, of the stems and the function words.
    """

    words: frozenset[str]
    grams: frozenset[str]
    digits: frozenset[str]
    opening: tuple[str, ...]
    count: int
    codes: frozenset[int]


def profile(words: Sequence[Word], meaning: Meaning) -> Profile:
    """Of a text's words and what they mean."""
    spoken = [word.folded for word in words if word.folded[0].isalnum()]
    line = " ".join(spoken)
    return Profile(
        frozenset(spoken),
        frozenset(line[start : start + _GRAM] for start in range(len(line) - _GRAM + 1)),
        frozenset(word for word in spoken if any(map(str.isdigit, word))),
        tuple(spoken[:3]),
        len(spoken),
        frozenset(map(_code, meaning.stems | meaning.function)),
    )


@lru_cache(_KEPT_WORDS)
def _code(word: str) -> int:
    return 1 + crc32(word.encode(errors="surrogatepass")) % (CODES - 1)
