"""What a text denies: the words that a negation reaches."""

_PASSED = frozenset(
    """
    anymore longer ever quite really actually so yet even able to too entirely very the a an any my be been being
    """.split()
)
"""Between a negation and what it denies."""
_UNDENIED = frozenset(
    """
    know understand sure see find recall remember recognise recognize certain just only mind care idea clue matter of
    think believe
    """.split()
)
"""After a negation, these deny nothing of the matter: "not sure how", "no idea why", "not only"."""
_DENYING_PAIRS = frozenset(
    (
        *("instead of", "place of", "lieu of", "free of", "rid of", "rather than", "other than"),
        *("fail to", "fails to", "failed to", "failing to"),
    )
)
_PAIR_ENDS = frozenset(("of", "than", "to"))
_STOP_REACH = 3
HARD = 2
SOFT = 1


class Denying:
    """``denied`` are the stems, ``hard`` and ``soft`` count: not, no, without …; and avoid, prevent, instead of …"""

    def __init__(self) -> None:
        self.denied: list[str] = []
        self.hard = self.soft = 0
        self._reach = self._stops = 0
        self._awaits = ""
        self._is_inverted = False

    def end(self, previous: str, *, is_stop: bool) -> None:
        """A sentence or a part of one ends; a negation reaches no further."""
        if self._awaits and previous == "no" and is_stop:
            self.hard -= 1  # "no." is short for number
        self._awaits = ""
        self._reach = 0

    def negation(self, word: str, strength: int, previous: str, place: int) -> None:
        """A negating word, the ``place``-th of its text."""
        if strength == SOFT:
            self.soft += 1
            self._reach = 1
        elif previous != "or" and (previous, word) != ("why", "not"):  # said of what was said before
            self.hard += 1
            self._awaits = word
            self._is_inverted = (
                place < 3 and word == "n't"
            )  # "isn't my card working": the subject comes between

    def word(self, word: str, previous: str) -> None:
        """Any other word."""
        if self._awaits and word not in _PASSED:
            if word in _UNDENIED:
                self.hard -= 1
            else:
                self._reach = 2 if self._is_inverted else 1
            self._awaits = ""
        elif word in _PAIR_ENDS and f"{previous} {word}" in _DENYING_PAIRS:
            self.soft += 1
            self._reach = 1
        elif self._stops:
            self._stops -= 1
            if word.endswith("ing"):
                self.soft += 1
                self._reach = 1
                self._stops = 0

    def stop(self) -> None:
        """The word "stop": it denies what follows where that is being done."""
        self._stops = _STOP_REACH

    def content(self, stem: str) -> None:
        """A word that can be denied."""
        if self._reach:
            self._reach -= 1
            self.denied.append(stem)

    @property
    def reaches(self) -> bool:
        """Whether the next word is denied."""
        return self._reach > 0
