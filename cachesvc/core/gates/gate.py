"""The gates by name. The value is the sentence that a person reads when one refuses."""

from dataclasses import dataclass
from enum import Enum, unique


@unique
class Gate(Enum):
    """What two texts may differ in so that the answer to one is none to the other.

    Names are those of ``cachesvc.v1.Gate`` without its prefix.
    """

    NUMBER = "a number differs"
    QUANTITY = "a quantity or its unit differs"
    DATE = "a date, weekday or month differs"
    TIME = "a time of day or a duration differs"
    VERSION = "a version differs"
    IDENTIFIER = "an identifier differs"
    EMAIL = "an e-mail address differs"
    URL = "an address of the web or a path differs"
    CODE = "code or an operator differs"
    QUOTE = "a quoted text differs"
    ANTONYM = "a word has its opposite in the place"
    NEGATION = "one is negated and the other is not"
    ROLE = "the same words stand in other roles"
    COMPARISON = "a comparison or a bound differs"
    CONNECTIVE = "and stands for or, or all for any"
    QUESTION = "another kind of thing is asked"
    ENTITY = "a name differs"
    QUALIFIER = "one is narrower than the other"
    LANGUAGE = "the language differs, or the one that is asked for"

    # Members are one of a kind; Enum's own hash is a call into Python, and lookups ask it of sets some twenty times.
    __hash__ = object.__hash__

    @property
    def label(self) -> str:
        """The name in settings, metrics and logs: ``number``, ``role`` …"""
        return self.name.lower()


DEFAULT_GATES = frozenset(Gate)
"""Those that are on where the policy says nothing."""


@dataclass(frozen=True, slots=True)
class Veto:
    """A gate refused. ``ours`` and ``theirs`` are the parts of the texts that differ: for Explain alone."""

    gate: Gate
    ours: str = ""
    theirs: str = ""
