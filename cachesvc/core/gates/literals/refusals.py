"""The literals of two texts compared. Whatever is asked here is symmetric: it refuses both ways or neither."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

from cachesvc.core.gates.gate import Gate, Veto
from cachesvc.core.gates.literals.found import WHEN, WRITTEN
from cachesvc.core.gates.literals.lexicon import TIME_DIMENSIONS
from cachesvc.core.gates.literals.reading import Literals
from cachesvc.core.gates.literals.slots import LIMIT, LIMITS
from cachesvc.core.gates.literals.spans import said

_YEARS = range(1900, 2101)
_FEW = 16
_FRACTION = re.compile(r"-?[0-9]{1,18}/[1-9][0-9]{0,17}(?![0-9])")
_FRACTIONAL = frozenset((Gate.NUMBER, Gate.VERSION, Gate.QUANTITY, Gate.TIME))
_WORD_AND_NUMBER = re.compile(r"([a-z]{2,10})([0-9]{1,18})")
_DECIMAL = 10**12
"""Fractions whose denominator divides it are written as decimals in full."""


def literal_vetoes(ours: Literals, theirs: Literals) -> list[Veto]:
    """What differs, by gate; each gate once at most."""
    vetoes: list[Veto] = []
    for veto in literal_differences(ours, theirs):
        if all(veto.gate is not other.gate for other in vetoes):
            vetoes.append(_readable(veto))
    return vetoes


def _readable(veto: Veto) -> Veto:
    """As people write numbers: what is compared are fractions, in which 1.2 is 6/5."""
    if veto.gate not in _FRACTIONAL or "/" not in f"{veto.ours}{veto.theirs}":
        return veto
    ours, theirs = (_FRACTION.sub(_decimal, text) for text in (veto.ours, veto.theirs))
    return replace(veto, ours=ours, theirs=theirs) if ours != theirs else veto


def _decimal(found: re.Match[str]) -> str:
    value = Fraction(found[0])
    if _DECIMAL % value.denominator == 0:
        return f"{Decimal(value.numerator) / value.denominator:f}"
    return found[0] if abs(value) < 1 else f"{float(value):.6g}"


def literal_differences(ours: Literals, theirs: Literals) -> Iterator[Veto]:  # noqa: C901, PLR0912 - one question a gate
    """What differs, looked for as it is asked for; a gate may come more than once."""
    if ours.numbers != theirs.numbers:
        yield from _numbers(ours, theirs)
    if ours.loose != theirs.loose:
        yield from _loose(ours, theirs)
    if ours.quantities != theirs.quantities or ours.bare != theirs.bare or ours.counts != theirs.counts:
        yield from _quantities(ours, theirs)
    if ours.dates != theirs.dates:
        yield from _differing(Gate.DATE, ours.dates, theirs.dates)
    if ours.times != theirs.times:
        yield from _differing(Gate.TIME, ours.times, theirs.times)
    if ours.names != theirs.names:
        yield from _names(ours, theirs)
    if ours.letters != theirs.letters:
        yield from _letters(ours, theirs)
    if ours.emails != theirs.emails:
        yield from _sets(Gate.EMAIL, ours.emails, theirs.emails)
    if ours.addresses != theirs.addresses:
        yield from _sets(Gate.URL, ours.addresses, theirs.addresses)
    if ours.operators != theirs.operators or ours.flags != theirs.flags or ours.code != theirs.code:
        yield from _code(ours, theirs)
    if ours.quotes != theirs.quotes:
        yield from _quotes(ours, theirs)
    if ours.order != theirs.order:
        yield from _order(ours, theirs)
    if ours.slots != theirs.slots:
        yield from _limits(ours, theirs)


def _numbers(ours: Literals, theirs: Literals) -> Iterable[Veto]:
    mine, other = _beyond(ours.numbers, theirs.numbers), _beyond(theirs.numbers, ours.numbers)
    _forgive(mine, theirs)
    _forgive(other, ours)
    for gate in _in_order(_gate(value, ours, theirs) for value in (*mine, *other)):
        yield Veto(gate, " ".join(mine), " ".join(other))


def _gate(value: str, ours: Literals, theirs: Literals) -> Gate:
    """What a number is, when it is no quantity: a version or a year where it looks like one."""
    if value in ours.versions or value in theirs.versions:
        return Gate.VERSION
    if len(value) == len("2000") and value.isdigit() and int(value) in _YEARS:
        return Gate.DATE
    return Gate.NUMBER


def _in_order(gates: Iterable[Gate]) -> list[Gate]:
    """Each once, in an order that is the same both ways and in every process."""
    found = set(gates)
    return sorted(found, key=lambda gate: gate.label) if len(found) > 1 else list(found)


def _quantities(ours: Literals, theirs: Literals) -> Iterable[Veto]:
    """Amounts must be the same. A unit alone refuses only where the other text has another one in its place.

    One of a unit ("1 week") is the same as the unit alone ("a week").
    """
    mine = [value for value in _beyond(ours.quantities, theirs.quantities) if value not in theirs.bare]
    other = [value for value in _beyond(theirs.quantities, ours.quantities) if value not in ours.bare]
    for gate in _in_order(map(_gate_of_unit, (*mine, *other))):
        yield Veto(gate, " ".join(mine), " ".join(other))
    alone = [value for value in _beyond(ours.bare, theirs.bare) if value not in theirs.quantities]
    alone_there = [value for value in _beyond(theirs.bare, ours.bare) if value not in ours.quantities]
    if alone and alone_there:
        for gate in _in_order(map(_gate_of_unit, (*alone, *alone_there))):
            yield Veto(gate, " ".join(alone), " ".join(alone_there))
    counted, counted_there = _beyond(ours.counts, theirs.counts), _beyond(theirs.counts, ours.counts)
    if counted and counted_there:
        yield Veto(Gate.QUANTITY, " ".join(counted), " ".join(counted_there))


def _gate_of_unit(quantity: str) -> Gate:
    return Gate.TIME if quantity.partition(":")[0] in TIME_DIMENSIONS else Gate.QUANTITY


def _differing(gate: Gate, ours: Sequence[str], theirs: Sequence[str]) -> Iterable[Veto]:
    mine, other = _beyond(ours, theirs), _beyond(theirs, ours)
    if mine or other:
        yield Veto(gate, " ".join(mine), " ".join(other))


def _sets(gate: Gate, mine: frozenset[str], other: frozenset[str]) -> Iterable[Veto]:
    if mine != other:
        yield Veto(gate, " ".join(sorted(mine)), " ".join(sorted(other)))


def _names(ours: Literals, theirs: Literals) -> Iterable[Veto]:
    mine, other = ours.names - theirs.names - theirs.said, theirs.names - ours.names - ours.said
    if mine and not other:
        mine = _joined_only(mine, theirs)
    elif other and not mine:
        other = _joined_only(other, ours)
    yield from _sets(Gate.IDENTIFIER, mine, other)


def _joined_only(names: frozenset[str], there: Literals) -> frozenset[str]:
    """Those whose number does not follow the word in the other text either: "HTTP 404", "HTTP status 404"."""
    words = there.plain.split()
    together = {*pairwise(words), *zip(words, words[2:], strict=False)}  # with one word between at most
    parts = {name: _WORD_AND_NUMBER.fullmatch(name) for name in names}
    return frozenset(name for name, part in parts.items() if part is None or part.groups() not in together)


def _letters(ours: Literals, theirs: Literals) -> Iterable[Veto]:
    """Another letter in its place; only one too many may be anything ("e mail")."""
    mine, other = _beyond(ours.letters, theirs.letters), _beyond(theirs.letters, ours.letters)
    if not other:
        other = _in_place(mine, ours, theirs)
    elif not mine:
        mine = _in_place(other, theirs, ours)
    if mine and other:
        yield Veto(Gate.IDENTIFIER, " ".join(mine), " ".join(other))


def _in_place(letters: list[str], here: Literals, there: Literals) -> list[str]:
    """The letters that stand there behind the same word: "vitamin d" for "vitamin k"."""
    pairs = set(pairwise(("", *here.plain.split())))
    before = {word for word, letter in pairs if letter in letters}
    return sorted(
        letter
        for word, letter in set(pairwise(("", *there.plain.split()))) - pairs
        if word in before and len(letter) == 1 and letter.isalpha()
    )


def _code(ours: Literals, theirs: Literals) -> Iterable[Veto]:
    """What stands between backticks may stand in the other text without them. What looks like a short flag may be a slip."""
    mine = _unwritten(_beyond(ours.code, theirs.code), theirs)
    other = _unwritten(_beyond(theirs.code, ours.code), ours)
    if mine or other:
        yield Veto(Gate.CODE, " ".join(mine), " ".join(other))
    elif ours.flags != theirs.flags and (
        (ours.flags and theirs.flags) or _named_only(ours, theirs) or _named_only(theirs, ours)
    ):
        yield Veto(Gate.CODE, " ".join(sorted(ours.flags)), " ".join(sorted(theirs.flags)))
    elif ours.operators != theirs.operators:
        yield Veto(Gate.CODE, " ".join(ours.operators), " ".join(theirs.operators))


def _unwritten(codes: list[str], there: Literals) -> list[str]:
    """Those that do not stand in the other text as they are; of mere words the case does not matter."""
    if not codes:
        return codes
    text, plain = there.text, there.plain
    return [
        code for code in codes if code and f" {code.casefold()} " not in plain and not _stands(code, text)
    ]


def _stands(code: str, text: str) -> bool:
    """It stands there, and is no part of a longer word."""
    start = text.find(code)
    while start >= 0:
        end = start + len(code)
        if not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()):
            return True
        start = text.find(code, end)
    return False


def _named_only(here: Literals, there: Literals) -> bool:
    """A flag that is a word ("--force") stands here, and there not even the word does."""
    return any(f" {said(flag)} " not in there.plain for flag in here.flags - there.flags if flag[:2] == "--")


def _quotes(ours: Literals, theirs: Literals) -> Iterable[Veto]:
    """Whether words are quoted does not matter, but which: those of one text must stand in the other.

    Where the other quotes nothing it may have put it more freely: then most of the words are enough.
    """
    mine, other = _unheard(ours.quotes, theirs), _unheard(theirs.quotes, ours)
    if mine or other:
        yield Veto(Gate.QUOTE, " ".join(mine), " ".join(other))


def _unheard(quotes: Sequence[str], there: Literals) -> list[str]:
    """Those that do not stand in the other text."""
    plain = there.plain
    unheard = [quote.strip() for quote in quotes if quote not in plain]
    if there.quotes or not unheard:
        return unheard
    said = there.said
    return [quote for quote in unheard if not _mostly(quote.split(), said)]


def _mostly(words: Sequence[str], said: frozenset[str]) -> bool:
    return 2 * sum(word in said for word in words) > len(words)


def _order(ours: Literals, theirs: Literals) -> Iterable[Veto]:
    """The same values, but beside other words."""
    if not ours.slots or not theirs.slots or sorted(ours.order) != sorted(theirs.order):
        return
    there = {slot: value for slot, value in theirs.slots if not slot.startswith(LIMIT)}
    for slot, value in sorted(ours.slots):
        other = there.get(slot, value)
        if other != value and not (slot.startswith("before") and _is_part(value, other)):
            for gate in _in_order(_gate_of_value(values, ours, theirs) for values in (value, other)):
                yield Veto(gate, f"{slot} {value}", f"{slot} {other}")


def _is_part(value: str, other: str) -> bool:
    """One is only more of a list than the other."""
    here, there = set(value.split()), set(other.split())
    return here < there or there < here


def _limits(ours: Literals, theirs: Literals) -> Iterable[Veto]:
    """The same value, but one text says that and the other what comes before or after: "at 5 pm", "after 5 pm"."""
    mine = _limited(ours)
    yours = _limited(theirs) if mine else {}
    for value in sorted(mine.keys() & yours.keys()):
        here, there = mine[value], yours[value]
        if len(here) == len(there) == 1 and here != there:
            yield Veto(_gate_of_value(value, ours, theirs), f"{min(here)} {value}", f"{min(there)} {value}")


def _limited(text: Literals) -> dict[str, set[str]]:
    limits: dict[str, set[str]] = {}
    for slot, value in text.slots:
        word = slot.removeprefix(LIMIT)
        # In two hours is after two hours.
        if word != slot and (word != "in" or value not in text.quantities):
            limits.setdefault(value, set()).add(LIMITS[word])
    return limits


def _gate_of_value(values: str, ours: Literals, theirs: Literals) -> Gate:
    if values in ours.dates:
        return Gate.DATE
    if values in ours.times:
        return Gate.TIME
    if values in ours.quantities:
        return _gate_of_unit(values)
    return _gate(values, ours, theirs)


def _beyond(values: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those that are not among the others, each as often as it is there too often, in order."""
    if len(values) > _FEW or len(others) > _FEW:
        return sorted((Counter(values) - Counter(others)).elements())
    left = list(others)
    beyond = []
    for value in values:
        if value in left:
            left.remove(value)
        else:
            beyond.append(value)
    return beyond


def _forgive(values: list[str], there: Literals) -> None:
    """Take out what the other text says in words that may be a number: "one", "first", "twice"."""
    for value, count in (("1", there.ones), ("1th", there.firsts)):
        if count:
            for _ in range(min(count, values.count(value))):
                values.remove(value)
    for kind, value in there.loose:
        if kind == "multiple" and value in values:
            values.remove(value)


def _loose(ours: Literals, theirs: Literals) -> Iterable[Veto]:
    kinds = {kind for kind, _ in ours.loose} & {kind for kind, _ in theirs.loose}
    for kind in sorted(kinds):
        mine = {value for there, value in ours.loose if there == kind}
        other = {value for there, value in theirs.loose if there == kind}
        if mine != other and (kind not in (WHEN, WRITTEN) or mine.isdisjoint(other)):
            gate = Gate.NUMBER if kind in ("top", "multiple") else Gate.DATE
            yield Veto(gate, " ".join(sorted(mine)), " ".join(sorted(other)))
