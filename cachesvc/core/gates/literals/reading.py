"""A text read for its literals, once. Whatever two texts are compared by is made here in the form it is compared in."""

import re
from typing import Final, NamedTuple

from cachesvc.core.gates.literals.atoms import atoms, foreign_numbers
from cachesvc.core.gates.literals.found import COUNT, DATE, FIRST, NUMBER, QUANTITY, TIME, Item
from cachesvc.core.gates.literals.lexicon import SPOKEN
from cachesvc.core.gates.literals.scanner import Scan
from cachesvc.core.gates.literals.slots import slots
from cachesvc.core.gates.literals.spans import Spans, fold, spans

_DIGIT = re.compile(r"\d")
_NONE: Final[frozenset[str]] = frozenset()
_NO_PAIRS: Final[frozenset[tuple[str, str]]] = frozenset()


class Literals(NamedTuple):  # its many fields are set at once, in a third of the time that a frozen dataclass takes
    """The literals of a text, by what they are compared with; values are in one form however they were written.

    ``ones`` and ``firsts``: how often those are said, which may be a number and may be nothing. ``loose``: what by its kind
    must not differ where both texts say it, and may be left out ("the top 5", "next Monday"). ``bare``: units without a number.
    ``names``: identifiers; ``plain``: the words of the text between blanks; ``beside``: each number with the word before it,
    which is where an identifier may be found that the other text writes apart. ``slots``: values by the words that they
    stand beside.
    """

    plain: str
    quotes: tuple[str, ...]
    code: tuple[str, ...]
    operators: tuple[str, ...]
    flags: frozenset[str]
    emails: frozenset[str]
    addresses: frozenset[str]
    names: frozenset[str]
    numbers: tuple[str, ...] = ()
    versions: frozenset[str] = _NONE
    ones: int = 0
    firsts: int = 0
    loose: frozenset[tuple[str, str]] = _NO_PAIRS
    counts: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    beside: frozenset[str] = _NONE
    order: tuple[str, ...] = ()
    slots: frozenset[tuple[str, str]] = _NO_PAIRS

    @property
    def said(self) -> frozenset[str]:
        """The words of the text, and those beside numbers. Few comparisons ask, so they are not kept."""
        return self.beside.union(self.plain.split())


def literals(text: str) -> Literals:
    """Find them."""
    found = spans(fold(text))
    written = found[1:]  # Literals begin with the fields of Spans, but for the rest of the text
    if text.isascii() and _DIGIT.search(found.rest) is None and SPOKEN.isdisjoint(found.plain.split()):
        return Literals(*written)
    return _literals(found, Scan(atoms(found.rest)).run(), foreign_numbers(found.rest))


def _literals(found: Spans, scan: Scan, foreign: list[str]) -> Literals:
    items = [item for item in scan.items if item.value != FIRST]
    numbers = [*foreign]
    values: dict[str, list[str]] = {NUMBER: numbers, COUNT: [], QUANTITY: [], DATE: [], TIME: []}
    for item in items:
        values[item.kind].append(item.value)
        if item.kind == COUNT:
            numbers.append(str(item.number))
    return Literals(
        found.plain,
        found.quotes,
        found.code,
        found.operators,
        found.flags,
        found.emails,
        found.addresses,
        found.names | scan.names if scan.names else found.names,
        tuple(sorted(numbers)),
        frozenset(scan.versions) if scan.versions else _NONE,
        scan.ones,
        scan.firsts,
        frozenset(scan.loose) if scan.loose else _NO_PAIRS,
        tuple(sorted(values[COUNT])),
        tuple(sorted(values[QUANTITY])),
        tuple(sorted(scan.bare)),
        tuple(sorted(values[DATE])),
        tuple(sorted(values[TIME])),
        frozenset(scan.beside) if scan.beside else _NONE,
        tuple([item.value for item in items]) if len(items) > 1 else (),
        slots(scan) if len(items) > 1 else _NO_PAIRS,
    )
