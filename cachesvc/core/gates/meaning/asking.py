"""What a text asks for: who, when, how many …; from the words that open its clauses."""

from cachesvc.core.gates.meaning.reading import Question

_OPENING = {
    "who": Question.WHO,
    "whom": Question.WHO,
    "whose": Question.WHO,
    "when": Question.WHEN,
    "where": Question.WHERE,
    "why": Question.WHY,
    "how": Question.HOW,
    "what": Question.WHAT,
    "which": Question.WHICH,
}
_AFTER_HOW = {
    "many": Question.COUNT,
    "much": Question.AMOUNT,
    "long": Question.DURATION,
    "far": Question.DISTANCE,
    "old": Question.AGE,
    "often": Question.FREQUENCY,
    "come": Question.WHY,
}
_AFTER_WHAT = {
    "time": Question.WHEN,
    "day": Question.WHEN,
    "date": Question.WHEN,
    "year": Question.WHEN,
}
_LISTING = frozenset("list show return name enumerate display".split())
_LEADING = frozenset(
    "know tell me show say explain understand wondering wonder and or please out about".split()
)
"""A word that opens a question may stand after these within a clause."""
_TELLING = frozenset("know tell me say explain understand wondering wonder".split())
_AUXILIARIES = frozenset(
    "is are was were am do does did can could will would should shall has have had may must to 's".split()
)

OPENING = frozenset(_OPENING)
_PREPOSITIONS = frozenset("in on at for from with by".split())
"""A question may open with one: "in which year", "with whom"."""


class Asking:
    """The kinds of question so far. ``found`` is in order; ``awaits`` says that the next word decides."""

    def __init__(self) -> None:
        self.found: list[Question] = []
        self.awaits: Question | None = None
        self.starts = True

    def clause(self) -> None:
        """A clause ends; the next word opens another."""
        self.starts = True

    def word(self, word: str, previous: str) -> None:
        """The next word. To be told of those that open a clause, of what awaited a word, and of ``OPENING``."""
        if self.awaits is not None:
            self._decide(word, self.awaits)
        elif word in _OPENING and (self.starts or previous in _LEADING):
            self._open(_OPENING[word], is_told=previous in _TELLING)
        elif word == "how":
            self.awaits = Question.COUNT  # "how many" asks wherever it stands, "how" alone does not
        elif self.starts and not self.found:
            self._start(word)
        if word == "of" and previous in ("number", "no", "count"):
            self.found.append(Question.COUNT)
        self.starts = self.starts and word in _PREPOSITIONS

    def _start(self, word: str) -> None:
        if word in _AUXILIARIES:
            self.found.append(Question.YES_NO)
        elif word in _LISTING:
            self.found.append(Question.LIST)

    def _open(self, kind: Question, *, is_told: bool) -> None:
        if kind is Question.WHO or (is_told and kind in (Question.WHEN, Question.WHERE, Question.WHY)):
            self.found.append(kind)
        else:
            self.awaits = kind

    def _decide(self, word: str, kind: Question) -> None:
        self.awaits = None
        if kind is Question.COUNT:
            if word in ("many", "much"):
                self.found.append(_AFTER_HOW[word])
        elif kind is Question.HOW:
            self.found.append(_AFTER_HOW.get(word, kind))
        elif kind in (Question.WHAT, Question.WHICH):
            self.found.append(_AFTER_WHAT.get(word, kind))
        elif word in _AUXILIARIES or kind is Question.WHY:
            self.found.append(kind)  # "when I paid, it failed" does not ask when

    def read(self) -> tuple[Question, ...]:
        """All, in order."""
        if self.awaits is not None and self.awaits is not Question.COUNT:
            self.found.append(self.awaits)
        return tuple(self.found)
