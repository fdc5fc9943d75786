"""What a person or a model reads in a text but an embedder does not.

A text with any of these matches exactly or not at all: two texts that differ only in what the
embedder cannot see have the same vector, whatever the threshold. Window and vocabulary are the
embedder's own business; this is the part that is true of characters alone.
"""

import re
import unicodedata
from functools import lru_cache

from cachesvc.core.types import Unseen

# Control, format (zero-width, bidi, tag), surrogate, private and unassigned characters.
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_MARKS = frozenset({"Mn", "Me"})
# Default-ignorable characters whose category does not tell: fillers, variation selectors.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_VISIBLE_CONTROLS = frozenset("\t\n")
_WORD = re.compile(r"[^\W\d_]+")
_PROSE_PUNCTUATION = ".,;:!?\"'()[]{}<>«»“”‘’`"
# Together they find all words with a capital that _case_counts could say yes to, and more. Each begins with a set of
# characters, for which the regex engine looks quickly.
_CAPITAL_BEFORE_CODE = re.compile(r"[A-Z]\S*(?:[_$/\\=@#0-9-]|\.\S)")
_CODE_BEFORE_CAPITAL = re.compile(r"[_$/\\=@#0-9.-]\S*[A-Z]")
_CODE_CHARACTER = re.compile(r"[_$/\\=@#0-9.-]")
_HUMP = re.compile(r"[a-z][A-Z]")
_CODE_SIGN = re.compile(r"[._$/\\=@#]")
# Alphabets that look alike. Scripts that mix in ordinary writing (kana and han) are not among them.
_LOOK_ALIKE = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "GEORGIAN"})


def unseen_characters(text: str, *, sees_marks: bool) -> Unseen | None:
    """Whether a canonical (NFC) text holds characters that an embedder cannot see, or mixed scripts.

    ``sees_marks`` says whether the embedder's tokenizer keeps combining marks; where it strips
    them, marks that did not compose with their letter are unseen.
    """
    if text.isascii():
        return Unseen.INVISIBLE_CHARACTERS if _ascii_control(text) else None
    if _IGNORABLE.search(text):
        return Unseen.INVISIBLE_CHARACTERS
    for character in set(text):
        if character.isascii() and character.isprintable():
            continue
        category = unicodedata.category(character)
        if category in _UNSEEN_CATEGORIES and character not in _VISIBLE_CONTROLS:
            return Unseen.INVISIBLE_CHARACTERS
        if category in _MARKS and not sees_marks:
            return Unseen.INVISIBLE_CHARACTERS
    for word in _WORD.findall(text):
        if not word.isascii() and _mixes_scripts(word):
            return Unseen.MIXED_SCRIPTS
    return None


def _ascii_control(text: str) -> bool:
    return not text.isprintable() and any(
        not character.isprintable() and character not in _VISIBLE_CONTROLS for character in text
    )


def _mixes_scripts(word: str) -> bool:
    return len({script for script in map(_script, word) if script in _LOOK_ALIKE}) > 1


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    """The first word of a letter's Unicode name is its script for the alphabets that matter here.

    Micro sign, ordinals and letter-like symbols have other first words and mix freely.
    """
    return unicodedata.name(letter, "").split(" ", 1)[0]


def unseen_difference(one: str, other: str) -> bool:
    """Whether two texts differ in what embedders drop from both: accents, case in code, indentation.

    Uncased models fold accents and case, and tokenizers fold white space, so "20 años" and "20 anos", or
    ``curl -X`` and ``curl -x``, have the same vector; no threshold tells them apart. A word that both
    texts hold must be spelt the same in both, case aside; a flag, path, dotted name or mixed-case id must
    be the same in case as well; and lines that are the same must be indented the same.
    """
    if one == other:
        return False
    if _plain(one) and _plain(other) and one[:1].isspace() == other[:1].isspace():
        return False
    ours, theirs = _spellings(one), _spellings(other)
    for word in ours.keys() & theirs.keys():
        here, there = ours[word], theirs[word]
        if here != there and (len(here) == len(there) or set(here) != set(there)):
            return True
    return one.split() == other.split() and _indents(one) != _indents(other)


def _plain(text: str) -> bool:
    """Nothing in it that could be dropped and count: no accent, no lines, no code whose case counts."""
    return (
        text.isascii()
        and "\n" not in text
        and (
            text.islower()
            or _CODE_CHARACTER.search(text.rstrip(".")) is None  # most prose is told by this alone
            or (_CAPITAL_BEFORE_CODE.search(text) is None and _CODE_BEFORE_CAPITAL.search(text) is None)
        )
        and (text.islower() or _HUMP.search(text) is None)
    )


def _spellings(text: str) -> dict[str, list[str]]:
    """Each word as embedders see it, and how it is spelt, in order."""
    spellings: dict[str, list[str]] = {}
    for token in text.split():
        word = token.strip(_PROSE_PUNCTUATION)
        if word:
            lower = word.lower()
            seen = lower if lower.isascii() else _without_marks(lower)
            spellings.setdefault(seen, []).append(word if _case_counts(word) else lower)
            if _HUMP.search(word):
                # "iPhone" is "iphone", but two that are written with humps are two names where those differ.
                spellings.setdefault(f" {seen}", []).append(word)
    return spellings


def _without_marks(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")


def _case_counts(word: str) -> bool:
    """Code and ids, as against prose, where a word may be capitalised or not."""
    if word.startswith("-") or _CODE_SIGN.search(word):
        return True
    uniform = word.islower() or word.isupper() or word.istitle()
    return not uniform and any(character.isdigit() for character in word)


def _indents(text: str) -> list[str]:
    """The white space that code begins its lines with; nothing for text that has none."""
    lines = [line for line in text.split("\n") if line.strip()]
    indents = [line[: len(line) - len(line.lstrip())] for line in lines]
    return indents if any(indents) else []
