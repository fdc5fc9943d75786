"""What a text names literally: numbers, quantities, dates, times, versions, ids, addresses, code, quotations."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cachesvc.core.gates.gate import Gate, Veto
from cachesvc.core.gates.words import Word

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Literals:
    """The literals of a text."""

    numbers: tuple[str, ...]


def literals(text: str, words: Sequence[Word]) -> Literals:
    """Find them."""
    return Literals(tuple(sorted(_NUMBER.findall(text))))


def literal_vetoes(ours: Literals, theirs: Literals) -> list[Veto]:
    """What differs, by gate; each gate once at most."""
    if ours.numbers != theirs.numbers:
        return [Veto(Gate.NUMBER, " ".join(ours.numbers), " ".join(theirs.numbers))]
    return []
