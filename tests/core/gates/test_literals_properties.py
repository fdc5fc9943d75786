"""What holds of the gates of literals for any text there is."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cachesvc.core.gates.literals import literal_vetoes, literals
from cachesvc.core.gates.literals.lexicon import SCALES, UNITS

_PIECES = (
    "5 5.0 1,500 1/2 ½ -5 5-10 five twenty-five hundred and a half third first one dozen million k km miles per hour $ £ % "
    "usd July 4th , 2024 2024-07-04 07/04/2024 4.7.2024 Monday next last today 5pm 17:00 half past noon morning v1.2 1.2.3 "
    "EECS 492 eecs492 B12 INV-2024-001 snake_case getUser report.pdf a@b.org https://x.org/y /etc/hosts `x` ` < <= == + -x "
    '--all O(n) B+ +x %d $HOME ~1.2.3 += per cent half cup years old yo C W m2 10x12 by 27" 40-50k Q1 quarter H2 2021/22 '
    "2021-22 plus divided times 000 UTC+1 tonight's every other ago later mid - 80s 1980's eighties now in day x y Mb "
    "\" ' ‘ ’ “ ” « » ( [ { ² ５ ٥ 三 \u200b \ud800 . ? ! is the from to at"
).split(" ")
_ANY = st.one_of(
    st.text(st.characters(), max_size=80),
    st.lists(st.sampled_from(_PIECES), max_size=14).map(" ".join),
    st.lists(st.sampled_from(_PIECES), max_size=14).map("".join),
    st.builds(
        lambda number, words, times: f"{number} " + (" ".join(words) + " ") * times,
        st.sampled_from(("1", "1/2", "1.5", "$1", "2nd", "two", "half a", "-9", "1,5", "5-7")),
        st.lists(st.sampled_from(sorted({*SCALES, *UNITS, "1", "square", "cubic"})), max_size=8),
        st.sampled_from((1, 2, 600)),
    ),
)
_PRIMES = [number for number in range(101, 20_000) if all(number % low for low in range(2, 142))]


@settings(deadline=None)
@given(_ANY)
@example("\ud800" * 3)
@example("1.0/0")
@example("5/0 1 0/0 ½/0")
@example("²" * 40)
@example("9" * 5000)
@example("nine hundred " + "trillion " * 60)
@example("24:60 99:99 0:00 13pm 0am")
@example("1 " + "bn " * 478)
@example("1/2 " + "trillion " * 478)
@example("1.5 " + "bn " * 478)
@example("$1 " + "bn " * 478)
@example("2nd " + "trillion " * 478)
@example("1 km " + " ".join(f"1/{prime} m" for prime in _PRIMES))
def test_a_text_is_itself(text: str) -> None:
    """Nothing raises, the same text reads alike, and no text refuses itself."""
    read = literals(text)
    assert read == literals(text)
    assert literal_vetoes(read, literals(text)) == []


@given(_ANY, _ANY)
def test_both_ways(ours: str, theirs: str) -> None:
    """What refuses one for the other refuses the other for the one, each gate once."""
    there = [veto.gate for veto in literal_vetoes(literals(ours), literals(theirs))]
    back = [veto.gate for veto in literal_vetoes(literals(theirs), literals(ours))]
    assert there == back
    assert len(there) == len(set(there))


@given(st.integers(2, 10**15), st.integers(2, 10**15))
def test_numbers(one: int, other: int) -> None:
    """Two numbers refuse iff they are two, with thousands marked or not."""
    vetoes = literal_vetoes(literals(f"add {one} up"), literals(f"add {other:,} up"))
    assert bool(vetoes) == (one != other)


@given(st.integers(2, 999_999))
def test_spoken(number: int) -> None:
    """A number is the same in words, with "and" and without."""
    for words in (_spoken(number, " and "), _spoken(number, " ")):
        assert literal_vetoes(literals(f"add {number} up"), literals(f"add {words} up")) == [], words


_WILD = {
    "digits": "1",
    "numbers": "5 ",
    "fractions": "1/2",
    "thousands": "1,",
    "minus": "-1",
    "clocks": "12:3",
    "double quotes": '"a ',
    "single quotes": "'a ",
    "apostrophes": "'",
    "backticks": "`",
    "parentheses": "((",
    "brackets": "<a ",
    "words": "one hundred and ",
    "e-mail": "a@b.",
    "hosts": "www.",
    "paths": "/a",
    "snakes": "a_",
    "hyphens": "a1-",
    "blanks": " ",
    "letters": "a",
    "phone": "+1 (555) ",
    "cjk": "三",
    "arabic": "٣",
    "schemes": "http://",
    "dots": "x.",
    "inches": '5"',
    "thousands apart": "5 000 ",
    "zeros": "000 ",
    "lists with nouns": "5 hats and ",
    "seasons": "2021/22-",
    "sizes": "5x",
    "lone letters": "x y ",
    "differences": "5 - 3 ",
    "decades": "the 80s ",
    "calls": "f(",
    "flags": "--a ",
    "grades": "B+",
    "machines": "t3.a",
    "formats": "%d",
    "sums": "2 * ",
    "equals": "= ",
}


@pytest.mark.parametrize("piece", _WILD.values(), ids=_WILD)
def test_time_is_linear(piece: str) -> None:
    """Four times the text takes about four times as long: nothing backtracks over what repeats."""

    def cost(length: int) -> float:
        text = (piece * length)[:length]
        began = time.process_time()
        literals(text)
        return time.process_time() - began

    short = min(cost(4_000) for _ in range(3))
    assert min(cost(16_000) for _ in range(3)) < max(12 * short, 0.25)


@settings(max_examples=5, deadline=None)
@given(_ANY)
def test_long_texts(text: str) -> None:
    """A hundred kilobytes are read as any text is, far beyond what is ever analysed."""
    long = (text or "1") * (100_000 // max(len(text), 1))
    assert literal_vetoes(literals(long), literals(long)) == []


_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def _spoken(number: int, joint: str) -> str:
    if number < 20:
        return _SMALL[number]
    if number < 100:
        return _TENS[number // 10 - 2] + (f"-{_SMALL[number % 10]}" if number % 10 else "")
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = number % size
            link = joint if rest and (size == 100 or rest < 100) else " "
            return f"{_spoken(number // size, joint)} {name}" + (
                f"{link}{_spoken(rest, joint)}" if rest else ""
            )
    raise AssertionError(number)
