"""A text read for its literals, once. Whatever two texts are compared by is made here in the form it is compared in."""

from typing import NamedTuple

from cachesvc.core.gates.literals.atoms import foreign_numbers, joined
from cachesvc.core.gates.literals.chunks import LETTERS, ODD, SPEAKS, chunks, marks
from cachesvc.core.gates.literals.found import COUNT, DATE, FIRST, NUMBER, QUANTITY, TIME
from cachesvc.core.gates.literals.scanner import Scan
from cachesvc.core.gates.literals.slots import slots
from cachesvc.core.gates.literals.spans import Spans, fold, inches, quotes, said, spans
from cachesvc.core.gates.words import NONE


class Literals(
    NamedTuple
):  # its many fields are set at once, in a third of the time that a frozen dataclass takes
    """The literals of a text, by what they are compared with; values are in one form however they were written.

    ``ones`` and ``firsts``: how often those are said, which may be a number and may be nothing. ``loose``: what by its kind
    must not differ where both texts say it, and may be left out ("the top 5", "next Monday"). ``bare``: units without a number.
    ``letters``: those that stand alone.
    ``names``: identifiers; ``text``: all of it, folded; ``beside``: each number with the word before it,
    which is where an identifier may be found that the other text writes apart. ``slots``: values by the words that they
    stand beside.
    """

    text: str
    quotes: tuple[str, ...]
    code: tuple[str, ...]
    operators: tuple[str, ...]
    flags: frozenset[str]
    emails: frozenset[str]
    addresses: frozenset[str]
    names: frozenset[str]
    numbers: tuple[str, ...] = ()
    versions: frozenset[str] = NONE
    ones: int = 0
    firsts: int = 0
    loose: frozenset[tuple[str, str]] = NONE
    counts: tuple[str, ...] = ()
    quantities: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    letters: tuple[str, ...] = ()
    beside: frozenset[str] = NONE
    order: tuple[str, ...] = ()
    slots: frozenset[tuple[str, str]] = NONE

    @property
    def plain(self) -> str:
        """The words of the text between blanks. Few comparisons ask."""
        return f" {said(self.text)} "

    @property
    def said(self) -> frozenset[str]:
        """The words of the text, and those beside numbers. Few comparisons ask."""
        return self.beside.union(self.plain.split())


def literals(text: str) -> Literals:
    """Find them. A text of prose has none, and of most that is all there is to find out."""
    folded = inches(fold(text))
    parts = chunks(folded)
    quoted = quotes(folded)
    found = Spans(folded)
    marked = marks(parts)
    if marked & ODD:
        found = spans(folded)
        parts = chunks(found.rest)
        marked = marks(parts)
    letters = tuple([letter for part in parts for letter in part.letters]) if marked & LETTERS else ()
    if text.isascii() and not marked & SPEAKS:
        return Literals(folded, quoted, *found[1:], letters=letters)
    scan = Scan(joined([atom for part in parts for atom in part.atoms])).run()
    return _literals(folded, quoted, found, scan, foreign_numbers(found.rest), letters)


def _literals(
    text: str, quoted: tuple[str, ...], found: Spans, scan: Scan, foreign: list[str], letters: tuple[str, ...]
) -> Literals:
    items = [item for item in scan.items if item.value != FIRST]
    numbers = [*foreign]
    values: dict[str, list[str]] = {NUMBER: numbers, COUNT: [], QUANTITY: [], DATE: [], TIME: []}
    for item in items:
        values[item.kind].append(item.value)
        if item.kind == COUNT:
            numbers.append(str(item.number))
    return Literals(
        text,
        quoted,
        found.code,
        (*found.operators, *scan.signs) if scan.signs else found.operators,
        found.flags,
        found.emails,
        found.addresses,
        found.names | scan.names if scan.names else found.names,
        tuple(sorted(numbers)) if numbers else (),
        frozenset(scan.versions) if scan.versions else NONE,
        scan.ones,
        scan.firsts,
        frozenset(scan.loose) if scan.loose else NONE,
        tuple(sorted(values[COUNT])) if values[COUNT] else (),
        tuple(sorted(values[QUANTITY])) if values[QUANTITY] else (),
        tuple(sorted(scan.bare)) if scan.bare else (),
        tuple(sorted(values[DATE])) if values[DATE] else (),
        tuple(sorted(values[TIME])) if values[TIME] else (),
        letters,
        frozenset(scan.beside) if scan.beside else NONE,
        tuple([item.value for item in items]) if len(items) > 1 else (),
        slots(scan) if items else NONE,
    )
