"""A text cut into atoms: numbers, whether written in digits or in words, and everything else word by word."""

import re
from fractions import Fraction
from typing import NamedTuple

from cachesvc.core.gates.literals.lexicon import (
    NUMBER_WORDS,
    ORDINAL_ENDINGS,
    ORDINALS,
    PARTS,
    SCALES,
    SMALL,
    SPOKEN,
    TENS,
)
from cachesvc.core.gates.spelling import SLIPS

_TOKEN = re.compile(
    r"[^\W\d_]+(?:'[^\W\d_]+)*"
    r"|\d{4}-\d{1,2}-\d{1,2}(?!\d)|\d{1,2}/\d{1,2}/\d{2,4}(?![\d/])|\d{1,2}\.\d{1,2}\.\d{4}(?![\d.])"
    r"|\d{1,2}:\d{2}(?::\d{2})?(?![\d:])|\d{1,3}(?:,\d{2,3})*,\d{3}(?!\d)(?:\.\d+)?|\d+(?:\.\d+)*"
    r"|(?<![\w.])\.\d+|[^\w\s]"
)
_CJK_DIGITS = re.compile(r"[〇一二两三四五六七八九十百千万億亿]{1,20}")
_LONGEST = 18
LARGEST = 10**_LONGEST
"""Numbers grow no further when they are beyond it, so none is too long to be written."""

_TEN, _HUNDRED = 10, 100
_HALVES = 2
_GROUP = 3
_ROUND = frozenset(TENS.values())
_CENTURIES = range(11, 21)


class Number(NamedTuple):  # as an atom
    """A number. ``written`` as in the text if that was in digits, else empty; ``ordinal``: it says which, not how many."""

    value: Fraction | int
    written: str = ""
    ordinal: bool = False


class Atom(NamedTuple):  # one a word: made in a third of the time that a frozen dataclass takes
    """A number, or a folded word or sign. ``glued``: nothing stands between it and the one before.

    ``speaks``: it may be a literal or the beginning of one; ``starts``: it may be the beginning of a number.
    """

    text: str
    raw: str
    glued: bool
    number: Number | None = None
    speaks: bool = True
    starts: bool = False


def cut(chunk: str) -> list[Atom]:
    """The atoms of what stands between two gaps of a text that is folded. None reaches over a gap."""
    found = []
    end = -1
    for match in _TOKEN.finditer(chunk):
        start, after = match.span()
        found.append(_atom(match[0], is_glued=start == end))
        end = after
    return found


def joined(tokens: list[Atom]) -> list[Atom]:
    """The atoms of a text, those of one number joined."""
    starts = [place for place, token in enumerate(tokens) if token.starts]
    if not starts:
        return tokens
    found: list[Atom] = []
    end = 0
    for place in starts:
        if place >= end:
            found += tokens[end:place]
            number, end = (_spoken if tokens[place].text in _STARTS else _digits)(tokens, place)
            found.append(number)
    return found + tokens[end:]


def _atom(raw: str, *, is_glued: bool) -> Atom:
    folded = raw.casefold()
    text = SLIPS.get(folded, folded)
    stem = text.removesuffix("'s")
    if stem != text and stem in SPOKEN and stem not in NUMBER_WORDS and text not in SPOKEN:
        text = stem  # last night's
    has_digits = text[0].isdigit()
    starts = has_digits or (text[0] == "." and len(text) > 1) or text in _STARTS
    return Atom(text, raw, is_glued, speaks=has_digits or text in SPOKEN, starts=starts)


def foreign_numbers(text: str) -> list[str]:
    """Numbers in the signs of Chinese and Japanese, as written. A lone one is mostly part of a word."""
    return [] if text.isascii() else [found for found in _CJK_DIGITS.findall(text) if found != "一"]


_STARTS = NUMBER_WORDS | frozenset(ORDINALS) | frozenset(("half", "quarter"))


def _digits(tokens: list[Atom], place: int) -> tuple[Atom, int]:
    token = tokens[place]
    value = _value(token.text)
    end = place + 1
    if value is None:
        return token, end
    ordinal = False
    written = token.text
    if isinstance(value, int) and (parted := _parted(tokens, end, token.text)):
        value, end = parted
        written = str(value)
    if end < len(tokens) and tokens[end].glued and tokens[end].text in ORDINAL_ENDINGS:
        ordinal, end = True, end + 1
    elif _is_sign(tokens, end, "/") and (below := _whole(tokens, end + 1)):
        value, written, end = Fraction(value) / below, f"{token.text}/{tokens[end + 1].text}", end + 2
    elif isinstance(value, int) and (part := _mixed_part(tokens, end)):
        value, written, end = value + part, "", end + 3
    value, end = _scaled(tokens, value, end)
    value, end = _and_a_half(tokens, value, end)
    return Atom(token.text, token.raw, token.glued, Number(value, written, ordinal)), end


def _parted(tokens: list[Atom], end: int, digits: str) -> tuple[Fraction | int, int] | None:
    """As others write numbers: "1,5 million", "45 000"."""
    if end + 1 < len(tokens) and tokens[end].text == "," and tokens[end].glued and tokens[end + 1].glued:
        part = tokens[end + 1].text
        following = tokens[end + 2].text if end + 2 < len(tokens) else ""
        if not part.isdigit() or len(part) > _HALVES or following not in SCALES:
            return None
        return _value(f"{digits}.{part}") or 0, end + 2
    if len(digits) > _GROUP or end >= len(tokens) or tokens[end].text != "000":
        return None
    while (
        end < len(tokens) and tokens[end].text == "000" and not tokens[end].glued and len(digits) < _LONGEST
    ):
        digits, end = f"{digits}000", end + 1
    return (int(digits), end) if len(digits) > _GROUP else None


def _value(text: str) -> Fraction | int | None:
    if text.isdigit():
        if len(text) > _LONGEST or not text.isascii() or (len(text) > 1 and text[0] == "0"):
            return None
        return int(text)
    plain = text.replace(",", "")
    whole, point, part = plain.partition(".")
    if (
        ":" in plain
        or "/" in plain
        or "-" in plain
        or "." in part
        or len(plain) > _LONGEST
        or not plain.isascii()
    ):
        return None
    if not point:
        return int(whole)
    return Fraction(int((whole or "0") + part), 10 ** len(part))


def _whole(tokens: list[Atom], place: int) -> int:
    """The digits there as a number, if they are glued and all there is; else 0."""
    if place >= len(tokens) or not tokens[place].glued or not tokens[place].text.isdigit():
        return 0
    if (
        _is_sign(tokens, place + 1, "/")
        or len(tokens[place].text) > _LONGEST
        or not tokens[place].text.isascii()
    ):
        return 0
    return int(tokens[place].text)


def _mixed_part(tokens: list[Atom], place: int) -> Fraction | None:
    """What stands after the whole in "1 1/2"."""
    if place >= len(tokens) or tokens[place].glued or not _is_sign(tokens, place + 1, "/"):
        return None
    over, below = tokens[place].text, _whole(tokens, place + 2)
    if (
        not below
        or not over.isdigit()
        or len(over) > len(str(below))
        or not over.isascii()
        or int(over) >= below
    ):
        return None
    return Fraction(int(over), below)


def _is_sign(tokens: list[Atom], place: int, sign: str) -> bool:
    return place < len(tokens) and tokens[place].text == sign and tokens[place].glued


def _scaled(tokens: list[Atom], value: Fraction | int, end: int) -> tuple[Fraction | int, int]:
    while end < len(tokens) and value <= LARGEST:
        after = end + 1 if _is_sign(tokens, end, "-") and end + 1 < len(tokens) else end
        scale = SCALES.get(tokens[after].text)
        if scale is None or (tokens[after].glued and after == end):
            break
        value, end = value * scale, after + 1
    return value, end


def _and_a_half(tokens: list[Atom], value: Fraction | int, end: int) -> tuple[Fraction | int, int]:
    """Two and a half, two and three quarters."""
    words = [token.text for token in tokens[end : end + 4]]
    if words[:1] != ["and"]:
        return value, end
    if words[1:3] == ["a", "half"] or words[1:3] == ["one", "half"]:
        return value + Fraction(1, 2), end + 3
    if words[1:3] == ["a", "quarter"] or words[1:3] == ["one", "quarter"]:
        return value + Fraction(1, 4), end + 3
    if words[1:3] == ["three", "quarters"]:
        return value + Fraction(3, 4), end + 3
    return value, end


def _spoken(tokens: list[Atom], place: int) -> tuple[Atom, int]:
    """A number in words: "twenty-five", "one hundred and five", "two thirds", "half a million", "third"."""
    token = tokens[place]
    if token.text in ("half", "quarter"):
        return _fraction_word(tokens, place)
    value, end = _cardinal(tokens, place)
    if value is None:
        return _numbered(token, Number(ORDINALS[token.text], "", ordinal=True), token.text), place + 1
    whole: Fraction | int = value
    follows, after = _word_after(tokens, end)
    rank = ORDINALS.get(follows, 0)
    if value in _ROUND and 0 < rank < _TEN:
        return _numbered(token, Number(value + rank, "", ordinal=True)), after
    below = PARTS.get(follows) or (rank if value == 1 and rank > _HALVES else 0)
    if below:
        return _numbered(token, Number(Fraction(value, below))), after
    if end < len(tokens) and tokens[end].text == "point":
        whole, end = _decimals(tokens, value, end)
    whole, end = _and_a_half(tokens, whole, end)
    whole, end = _scaled(tokens, whole, end)
    return _numbered(token, Number(whole), token.text if end == place + 1 else ""), end


def _numbered(token: Atom, number: Number, text: str = "") -> Atom:
    return Atom(text, token.raw, token.glued, number)


def _decimals(tokens: list[Atom], value: int, place: int) -> tuple[Fraction | int, int]:
    """Decimals said digit by digit: three point one four."""
    digits = ""
    end = place + 1
    while end < len(tokens) and SMALL.get(tokens[end].text, _TEN) < _TEN and len(digits) < _LONGEST:
        digits += str(SMALL[tokens[end].text])
        end += 1
    return (value + Fraction(int(digits), 10 ** len(digits)), end) if digits else (value, place)


def _fraction_word(tokens: list[Atom], place: int) -> tuple[Atom, int]:
    token = tokens[place]
    words = [after.text for after in tokens[place + 1 : place + 3]]
    if token.text == "quarter":
        if words[:1] == ["of"] and place and tokens[place - 1].text == "a":
            return _numbered(token, Number(Fraction(1, 4))), place + 1
        return token, place + 1
    if len(words) > 1 and words[0] == "a" and words[1] in SCALES:
        return _numbered(token, Number(Fraction(SCALES[words[1]], 2))), place + 3
    if words and words[0] in SCALES:
        return _numbered(token, Number(Fraction(SCALES[words[0]], 2))), place + 2
    return _numbered(token, Number(Fraction(1, 2)), "half"), place + 1


def _word_after(tokens: list[Atom], end: int) -> tuple[str, int]:
    if _is_sign(tokens, end, "-"):
        end += 1
    return (tokens[end].text, end + 1) if end < len(tokens) else ("", end)


def _cardinal(tokens: list[Atom], place: int) -> tuple[int | None, int]:  # noqa: C901, PLR0912 - a grammar in one place
    """The whole number that words from there on say, and where it ends; None where they say none."""
    total = current = 0
    last = 0
    end = place
    while end < len(tokens):
        at = end
        word = tokens[at].text
        if end > place and word == "-" and tokens[at].glued and at + 1 < len(tokens):
            at, word = at + 1, tokens[at + 1].text
        if end > place and word == "and" and last >= _HUNDRED and at + 1 < len(tokens):
            if tokens[at + 1].text not in SMALL and tokens[at + 1].text not in TENS:
                break
            at, word = at + 1, tokens[at + 1].text
        if word in SCALES:
            scale = SCALES[word]
            if scale <= _HUNDRED:
                current = max(current, 1) * scale
            else:
                total, current = total + max(current, 1) * scale, 0
            last = scale
        elif word in TENS or word in SMALL:
            small = TENS.get(word, SMALL.get(word, 0))
            if end == place or (last >= _HUNDRED and last > small) or (last in _ROUND and 0 < small < _TEN):
                current += small
            elif end == place + 1 and last in _CENTURIES and small >= _TEN:
                current = last * _HUNDRED + small
            else:
                break
            last = small
        else:
            break
        end = at + 1
        if total > LARGEST or current > LARGEST:
            break
    return (total + current, end) if end > place else (None, place)
