"""What turns the meaning of a text: negation, opposites, roles, comparisons, the kind of question, names, language."""

from collections.abc import Sequence
from dataclasses import dataclass

from cachesvc.core.gates.gate import Gate, Veto
from cachesvc.core.gates.words import Word

_NEGATIONS = frozenset({"not", "no", "never", "without", "don't", "doesn't", "can't", "cannot", "won't"})


@dataclass(frozen=True, slots=True)
class Meaning:
    """What carries the meaning of a text."""

    negated: bool


def meaning(text: str, words: Sequence[Word]) -> Meaning:
    """Find it."""
    return Meaning(any(word.folded in _NEGATIONS for word in words))


def meaning_vetoes(ours: Meaning, theirs: Meaning) -> list[Veto]:
    """What differs, by gate; each gate once at most."""
    if ours.negated != theirs.negated:
        return [Veto(Gate.NEGATION)]
    return []
