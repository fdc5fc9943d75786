"""Where the words of a text stand to each other: after which preposition, to which side of it, joined by what."""

from cachesvc.core.gates.meaning.lexemes import Lexeme
from cachesvc.core.gates.meaning.stems import stem

CONTRARY = {
    "from": ("to", "second", "via"),
    "to": ("from", "first", "via"),
    "via": ("from", "to"),
    "first": ("to",),
    "second": ("from",),
    "before": ("after",),
    "after": ("before",),
}
"""Roles that one word cannot have had in both texts. ``first`` and ``second`` are those between which something is:
from the one to the other, where no more is said."""
_BETWEEN = frozenset(("first", "second"))
_ORDERED = frozenset(("to", "than", "by", "before", "after", "over", "between"))
_GOING = {
    "leave": "from",
    "leaves": "from",
    "leaving": "from",
    "depart": "from",
    "departs": "from",
    "departing": "from",
    "reach": "to",
    "reaches": "to",
    "reaching": "to",
}
_STOPPING = frozenset(map(stem, ("stop", "stopover", "layover", "connect", "connection", "change")))
_AT = frozenset(("in", "at"))
"""Where one stops on the way is not where one goes."""
_TIMES = frozenset(
    """
    monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday tonight morning afternoon evening night
    noon midnight next last early late daily now soon
    """.split()
)
_DETERMINERS = frozenset(
    """
    a an the my your his her its our their this that these those some any all each every both i you he she it we they
    """.split()
)
_JOINS = frozenset(("and", "or", "vs", "versus"))
_LONGEST_RUN = 2


class Placing:
    """The places so far."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.places: list[tuple[str, bool]] = []
        self.roles: set[tuple[str, str]] = set()
        self.relations: set[tuple[str, str, str]] = set()
        self.swapped: set[tuple[str, str, str]] = set()
        self.ands: set[tuple[str, str]] = set()
        self.ors: set[tuple[str, str]] = set()
        self.is_symmetric = False
        self.end()

    def end(self) -> None:
        """A sentence ends: nothing reaches beyond."""
        self._role = self._last_role = ""
        self._before = self._first = self._last = self._subject = ""
        self._join = self._gap = self._last_gap = ""
        self._is_rejoined = False
        self._run = 0

    def pause(self, sign: str) -> None:
        """A comma or an ampersand."""
        self._join = self._join or sign

    def content(self, word: str, known: Lexeme, *, is_name: bool) -> None:
        """A word that has a place."""
        stem = known.stem
        if known.is_symmetric:
            self.is_symmetric = True
        if self._role:
            self._hold_role(word, known, is_name=is_name)
        if self._join and self._last:
            self._add_join(stem)
        if is_name and self._gap == self._role == self._last_role == "to":
            for passed in (self._first, self._last):
                self.roles.discard(("to", passed))
                self.roles.add(("via", passed))  # "to Bonn to Ulm" ends in Ulm
        if self._before:
            self._relate(self._before, stem)
            self._before = ""
            self._first = stem
        self._first = self._first or stem
        self._subject = self._subject or stem
        if self._role in CONTRARY:
            self.roles.add((self._role, stem))
        self.order.append(stem)
        self.places.append((self._gap, bool(self._join) or self._is_rejoined))
        self._last_gap, self._is_rejoined = self._gap, False
        self._last, self._last_role = stem, self._role
        self._join = self._gap = ""
        self._run += 1
        if word in _GOING:
            self._role, self._run = _GOING[word], 0

    def _hold_role(self, word: str, known: Lexeme, *, is_name: bool) -> None:
        """A role is that of the words right after the preposition; "to" before a verb gives none.

        Not every verb is known: what follows on the word after "to" has a role only where it is a name's.
        """
        if self._run == 0:
            if (word in _TIMES and self._role != "than") or (
                known.is_verb and self._role == "to" and not is_name
            ):
                self._role = self._before = ""
        elif self._role not in _BETWEEN and (
            self._run > _LONGEST_RUN
            or known.is_gerund
            or known.is_verb
            or (self._role == "to" and not is_name)
        ):
            self._role = ""

    def _add_join(self, stem: str) -> None:
        if self._role == "first":
            self._role = "second"
            self._relate("between", stem)
            self._first = ""
        elif self._role != "second":
            pair = (self._last, stem) if self._last < stem else (stem, self._last)
            if self._join == "or":
                self.ors.add(pair)
            elif self._join == "and":
                self.ands.add(pair)

    def _relate(self, preposition: str, stem: str) -> None:
        """Note what stands to both sides of a preposition, and how the other way round would look.

        "To Rome from Paris" is "Paris to Rome"; "from B to A" is the other way round from "between A and B".
        """
        if preposition == "from" and self._last_role == "to":
            preposition, pairs = "to", {(stem, self._first), (stem, self._last)}
        elif preposition in _ORDERED:
            pairs = {(self._first, stem), (self._last, stem)}
            if preposition == "than":
                pairs.add((self._subject, stem))
        else:
            return
        for before, after in pairs:
            self.relations.add((before, preposition, after))
            if preposition != "between":
                self.swapped.add((after, preposition, before))
            if preposition == "to":
                self.swapped.add((after, "between", before))
            elif preposition == "between":
                self.swapped.add((after, "to", before))

    def function(self, word: str, known: Lexeme) -> None:
        """A word that places others."""
        if word in _DETERMINERS:
            return
        if word in _JOINS:
            self._join = word
            self.is_symmetric = self.is_symmetric or known.is_symmetric
            return
        self._role = "via" if word in _AT and self._last in _STOPPING else known.role
        self._is_rejoined = bool(self._join) and word == self._last_gap  # "to rent or to buy"
        if known.role:
            self._before = known.role if self._last and not self._is_rejoined else ""
            self._join = ""
            if known.role == "between":
                self._role = "first"
        else:
            self._before = self._first = self._join = ""
        self._gap = word
        self._run = 0
