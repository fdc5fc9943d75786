"""What turns the meaning of a text: negation, opposites, roles, comparisons, the kind of question, names, language."""

from cachesvc.core.gates.meaning.reader import meaning
from cachesvc.core.gates.meaning.reading import Meaning, Question
from cachesvc.core.gates.meaning.refusals import REFUSALS, meaning_vetoes

__all__ = ["REFUSALS", "Meaning", "Question", "meaning", "meaning_vetoes"]
