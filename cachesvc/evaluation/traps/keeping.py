"""Edits that keep the meaning of a prompt, by kind: gates that refuse these would refuse everything."""

import re
from collections.abc import Iterator, Mapping

from cachesvc.evaluation.traps import lists
from cachesvc.evaluation.traps.changing import Edit, Pick, instead

_CODE_SIGNS = re.compile(r"[`@/=<>\"_#~]|https?:|\b[A-Z0-9]{2,}\b|\d")
_GREETINGS = ("Please tell me: {}", "Hi, {}", "{} Thanks!", "Quick question: {}", "Hello! {}")


def politeness(text: str, pick: Pick) -> Iterator[str]:
    """A polite word more."""
    yield pick.one(text, _GREETINGS).format(text)


def letter_case(text: str, pick: Pick) -> Iterator[str]:
    """Another letter case, where it does not count."""
    if not _CODE_SIGNS.search(text):
        yield text.lower()


def punctuation(text: str, pick: Pick) -> Iterator[str]:
    """The last mark left out, or doubled."""
    if text[-1] in "?.":
        yield text[:-1]
        yield text + text[-1] if text[-1] == "?" else f"{text[:-1]}!"


def contraction(text: str, pick: Pick) -> Iterator[str]:
    """Two words drawn together, or apart."""
    for long, short in lists.CONTRACTIONS:
        yield from instead(text, long, short)
        yield from instead(text, short, long)


def number_word(text: str, pick: Pick) -> Iterator[str]:
    """The same number in words, or in digits."""
    for value, word in enumerate(lists.NUMBER_WORDS, 2):
        for match in re.finditer(rf"(?<![\w.,:/#-]){value}(?= [a-z]{{4,}})", text):
            before = text[: match.start()].split()
            if len(before) < 2 or not before[-1][0].isupper():  # a number of things, not of a model
                yield text[: match.start()] + word + text[match.end() :]
        yield from instead(text, word, str(value))


def unit_name(text: str, pick: Pick) -> Iterator[str]:
    """The same unit, written out or not."""
    for long, short in lists.SPELLED_UNITS:
        changed = re.sub(rf"(?<=\d ){long}\b", short, text)
        if changed != text:
            yield changed


def typo(text: str, pick: Pick) -> Iterator[str]:
    """Two neighbouring letters of a long word in each other's place."""
    words = list(re.finditer(r"(?<![\w/@`.])(?!minutes)[a-z]{7,}(?![\w/@`.])", text))
    if words:
        match = pick.one(text, words)
        place = match.start() + 2 + pick.number(text, len(match[0]) - 4)
        if text[place] != text[place + 1]:
            yield text[:place] + text[place + 1] + text[place] + text[place + 2 :]


KEEPING: Mapping[str, Edit] = {
    "politeness": politeness,
    "letter case": letter_case,
    "punctuation": punctuation,
    "contraction": contraction,
    "number in words": number_word,
    "unit written out": unit_name,
    "typo": typo,
}
"""By kind."""
