"""A text read for its literals, once. Whatever two texts are compared by is made here in the form it is compared in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cachesvc.core.gates.literals.atoms import atoms, foreign_numbers
from cachesvc.core.gates.literals.found import COUNT, DATE, FIRST, NUMBER, QUANTITY, TIME, Item
from cachesvc.core.gates.literals.lexicon import SPOKEN
from cachesvc.core.gates.literals.scanner import Scan
from cachesvc.core.gates.literals.slots import slots
from cachesvc.core.gates.literals.spans import Spans, fold, spans
from cachesvc.core.gates.words import Word

_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Literals:
    """The literals of a text, by what they are compared with; values are in one form however they were written.

    ``ones`` and ``firsts``: how often those are said, which may be a number and may be nothing. ``loose``: what by its kind
    must not differ where both texts say it, and may be left out ("the top 5", "next Monday"). ``bare``: units without a number.
    ``names``: identifiers; ``said``: the words of the text, each number with the word before it too, which is where an
    identifier may be found that the other text writes apart. ``slots``: values by the words that they stand beside.
    """

    numbers: tuple[str, ...]
    versions: frozenset[str]
    ones: int
    firsts: int
    loose: frozenset[tuple[str, str]]
    counts: tuple[str, ...]
    quantities: tuple[str, ...]
    bare: frozenset[str]
    dates: tuple[str, ...]
    times: tuple[str, ...]
    names: frozenset[str]
    said: frozenset[str]
    emails: frozenset[str]
    addresses: frozenset[str]
    code: tuple[str, ...]
    operators: tuple[str, ...]
    flags: frozenset[str]
    quotes: tuple[str, ...]
    plain: str
    order: tuple[str, ...]
    slots: frozenset[tuple[str, str]]


def literals(text: str, words: Sequence[Word]) -> Literals:
    """Find them."""
    found = spans(fold(text))
    said = frozenset(found.plain.split())
    if SPOKEN.isdisjoint(said) and text.isascii() and _DIGIT.search(found.rest) is None:
        return _literals(found, said, Scan([]), [])
    return _literals(found, said, Scan(atoms(found.rest)).run(), foreign_numbers(found.rest))


def _literals(found: Spans, said: frozenset[str], scan: Scan, foreign: list[str]) -> Literals:
    items = [item for item in scan.items if item.value != FIRST]
    counted = [item for item in items if item.kind == COUNT]
    numbers = (
        [item.value for item in items if item.kind == NUMBER]
        + [str(item.number) for item in counted]
        + foreign
    )
    return Literals(
        tuple(sorted(numbers)),
        frozenset(scan.versions),
        scan.ones,
        scan.firsts,
        frozenset(scan.loose),
        tuple(sorted(item.value for item in counted)),
        _values(items, QUANTITY),
        frozenset(scan.bare),
        _values(items, DATE),
        _values(items, TIME),
        found.names | scan.names,
        said | scan.beside,
        found.emails,
        found.addresses,
        found.code,
        found.operators,
        found.flags,
        found.quotes,
        found.plain,
        tuple(item.value for item in items) if len(items) > 1 else (),
        slots(scan) if len(items) > 1 else frozenset(),
    )


def _values(items: list[Item], kind: str) -> tuple[str, ...]:
    return tuple(sorted([item.value for item in items if item.kind == kind]))
