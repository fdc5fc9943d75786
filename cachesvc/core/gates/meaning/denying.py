"""What a text denies: the words that a negation reaches."""

_PASSED = frozenset(
    """
    anymore longer ever quite really actually so yet even able to too entirely very the a an any my be been being
    """.split()
)
"""Between a negation and what it denies."""
_UNDENIED = frozenset(
    """
    know understand sure see find recognise recognize certain just only mind care idea clue matter of
    think believe
    """.split()
)
"""After a negation, these deny nothing of the matter: "not sure how", "no idea why", "not only"."""
_FORGOTTEN = frozenset(("remember", "recall"))
"""Neither do these, but they are denied themselves: "I forgot" is "I don't remember"."""
_DENYING_PAIRS = frozenset(
    (
        *("instead of", "place of", "lieu of", "free of", "rid of", "rather than", "other than"),
        *("fail to", "fails to", "failed to", "failing to"),
    )
)
PAIR_ENDS = frozenset(("of", "than", "to"))
_NO_DENIALS = frozenset((("why", "not"), *((word, "sin") for word in ("a", "the", "of", "is"))))
"""The first is said of what was said before; "sin" is "without" in Spanish alone."""
_STOP_REACH = 8
_STOP_NEAR = 3
SOFT = 1


class Denying:
    """``denied`` are the stems, ``hard`` and ``soft`` count: not, no, without …; and avoid, prevent, instead of …

    ``awaits``: a negation whose matter is to come; ``stops``: so many words after "stop" are looked at; ``reach``: so many
    of the words to come that can be denied are.
    """

    def __init__(self) -> None:
        self.denied: list[str] = []
        self.hard = self.soft = 0
        self.reach = self.stops = 0
        self.awaits = ""
        self._is_inverted = False

    def end(self, previous: str, *, is_stop: bool) -> None:
        """A sentence or a part of one ends; a negation reaches no further."""
        if self.awaits and previous == "no" and is_stop:
            self.hard -= 1  # "no." is short for number
        self.awaits = ""
        self.reach = 0

    def negation(self, word: str, strength: int, previous: str, place: int) -> None:
        """A negating word, the ``place``-th of its text."""
        if strength == SOFT:
            self.soft += 1
            self.reach = 1
        elif previous != "or" and (previous, word) not in _NO_DENIALS:
            self.hard += 1
            self.awaits = word
            # "Isn't my card working": the subject comes between.
            self._is_inverted = place < 3 and word == "n't"

    def word(self, word: str, previous: str) -> None:
        """Any other word. To be told of while something is awaited, and of ``PAIR_ENDS``."""
        if self.awaits and word not in _PASSED:
            if word in _UNDENIED:
                self.hard -= 1
            elif word in _FORGOTTEN:
                self.hard -= 1
                self.reach = 1
            else:
                self.reach = 2 if self._is_inverted else 1
            self.awaits = ""
        elif word in PAIR_ENDS and f"{previous} {word}" in _DENYING_PAIRS:
            self.soft += 1
            self.reach = 1
        elif self.stops:
            self.stops -= 1
            is_near = self.stops >= _STOP_REACH - _STOP_NEAR
            if word.endswith("ing") and (is_near or previous == "from"):
                self.soft += 1
                self.reach = 1
                self.stops = 0

    def stop(self) -> None:
        """The word "stop": it denies what follows where that is being done."""
        self.stops = _STOP_REACH

    def content(self, stem: str) -> None:
        """A word that can be denied. To be told of while there is ``reach``."""
        self.reach -= 1
        self.denied.append(stem)
