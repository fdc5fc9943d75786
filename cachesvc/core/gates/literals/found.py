"""What a pass over the atoms of a text has found so far."""

from dataclasses import dataclass, field
from fractions import Fraction

from cachesvc.core.gates.literals.atoms import Atom
from cachesvc.core.gates.literals.lexicon import Unit

NUMBER, QUANTITY, COUNT, DATE, TIME, NAME = "number", "quantity", "count", "date", "time", "name"
FIRST = "first"
"""The word: a number in "the first chapter", hardly one in "the first thing to do"."""
WHEN = "when"
WRITTEN = "written"
FULL_DECADE, SHORT_DECADE = (WRITTEN, "1980s"), (WRITTEN, "80s")
"""A decade of years, and one of less than a hundred: "of the 80s" is either."""

AHEAD, AGO = (WHEN, "ahead"), (WHEN, "ago")

_NOTHING = Atom("", "", glued=False)


@dataclass(slots=True)
class Item:
    """A literal: where it stands among the atoms, and its value in the form that is compared."""

    kind: str
    value: str
    start: int
    end: int
    number: Fraction | int = 0
    unit: Unit | None = None
    rate: str = ""


@dataclass(slots=True)
class Found:
    """The atoms, and what was found among them. ``beside``: words with the number right behind them; ``signs``: said in words."""

    atoms: list[Atom]
    items: list[Item] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)
    loose: set[tuple[str, str]] = field(default_factory=set)
    signs: list[str] = field(default_factory=list)
    ones: int = 0
    firsts: int = 0

    def at(self, place: int) -> Atom:
        """The atom there, or one that is empty beyond either end."""
        return self.atoms[place] if 0 <= place < len(self.atoms) else _NOTHING

    def add(self, kind: str, value: str, start: int, end: int) -> int:
        """Keep a literal; returns where it ends."""
        self.items.append(Item(kind, value, start, end))
        return end
