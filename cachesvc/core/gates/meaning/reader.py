"""Reads a text, word after word, for what a ``Meaning`` is made of."""

import re
from collections.abc import Iterator, Sequence

from cachesvc.core.gates.meaning.asking import OPENING, Asking
from cachesvc.core.gates.meaning.bounding import ENDINGS, bounds, narrowing
from cachesvc.core.gates.meaning.denying import Denying
from cachesvc.core.gates.meaning.lexemes import Lexeme, lexeme
from cachesvc.core.gates.meaning.placing import CONTRARY, Placing
from cachesvc.core.gates.meaning.reading import Meaning, Question
from cachesvc.core.gates.meaning.tongues import language
from cachesvc.core.gates.words import Word

_STOPS = frozenset(".?!;:()[]{}")
_PAUSES = frozenset((",", "&"))
_CLAUSES = frozenset(("and", "or", "but"))
_ASKING_IN = frozenset(("in", "into", "to", "auf", "en"))
_PARTICLES = {"into": "in", "onto": "on"}
_SPLIT = re.compile(r"[-/_.:@]+")
_WHOLE = {
    "non-stop": "nonstop",
    "round-trip": "roundtrip",
    "can't": "cannot",
    "won't": "cannot",
    "u.s": "usa",
    "u.k": "uk",
}


def meaning(text: str, words: Sequence[Word]) -> Meaning:
    """Read a text. Linear in its length; never raises."""
    reader = _Reader()
    starts = True
    for word in words:
        folded = word.folded
        if not folded[:1].isalnum():
            reader.sign(folded)
            starts = starts or folded in _STOPS
            continue
        is_name = not starts and word.text[0].isupper() and word.text != "I"
        starts = False
        if folded.isalpha():
            reader.word(folded, is_name=is_name)
        else:
            for part in _parts(folded):
                reader.word(part, is_name=is_name and part.isalpha())
    return reader.read(text)


def _parts(folded: str) -> Iterator[str]:
    """What is written in one: "don't" is two words, "non-stop" one, "and/or" two; "card's" is "card"."""
    if folded in _WHOLE:
        yield _WHOLE[folded]
        return
    for part in _SPLIT.split(folded):
        if part.endswith("n't"):
            yield from (part[:-3], "n't") if len(part) > 3 else (part,)
        elif part:
            yield part.partition("'")[0] or part


class _Reader:
    """What was read so far. For one text, by one thread."""

    def __init__(self) -> None:
        self._asking = Asking()
        self._denying = Denying()
        self._placing = Placing()
        self._folded: list[str] = []
        self._stems: list[str] = []
        self._names: list[str] = []
        self._kinds: list[tuple[str, str]] = []
        self._asked: list[str] = []
        self._qualifiers: list[str] = []
        self._opposites: set[str] = set()
        self._bared: list[str] = []
        self._degrees: list[str] = []
        self._votes: dict[str, int] = {}
        self._verb = ""
        self._previous = ""

    def sign(self, sign: str) -> None:
        """A sign between words."""
        if sign in _STOPS:
            self._denying.end(self._previous, is_stop=sign == ".")
            self._placing.end()
            self._asking.clause()
            self._verb = ""
        elif sign in _PAUSES:
            self._denying.end(self._previous, is_stop=False)
            self._placing.pause(sign)
            self._asking.clause()

    def word(self, word: str, *, is_name: bool) -> None:
        """The next word, casefolded. ``is_name``: it is written like a name."""
        known = lexeme(word)
        if known.tongue:
            self._votes[known.tongue] = self._votes.get(known.tongue, 0) + 1
        asking = self._asking
        if asking.starts or asking.awaits is not Question.NONE or word in OPENING or word == "of":
            asking.word(word, self._previous)
        self._denying.word(word, self._previous)
        if known.is_marked:
            self._mark(word, known)
        if known.is_content:
            self._content(word, known, is_name=is_name)
        else:
            if word in _CLAUSES:
                self._denying.end(self._previous, is_stop=False)
            self._placing.function(word, known)
        if known.negation:
            self._denying.negation(word, known.negation, self._previous, len(self._folded))
        elif known.stem == "stop":
            self._denying.stop()
        self._folded.append(word)
        self._previous = word

    def _mark(self, word: str, known: Lexeme) -> None:
        """Verbs with particles, opposites and degrees: few words are any of them."""
        if known.is_particle and self._verb:
            composite = f"{self._verb}+{_PARTICLES.get(word, word)}"
            self._stems.append(composite)
            self._opposites |= lexeme(composite).opposites
            self._denying.content(composite)
            self._verb = ""
        if known.takes_particle:
            self._verb = known.stem
        if known.opposites and self._previous != "how":  # "how hard" and "how easy" ask the same
            self._opposites |= known.opposites
        if known.is_degree:
            self._degrees.append(known.stem)
        if known.bare:
            self._bared.append(known.bare)

    def _content(self, word: str, known: Lexeme, *, is_name: bool) -> None:
        stem = known.stem
        self._stems.append(stem)
        self._denying.content(stem)
        if is_name and not known.is_title:
            self._names.append(stem)
        if known.kinds:
            self._kinds += [(kind, stem) for kind in known.kinds]
            if self._previous in _ASKING_IN and "tongue" in known.kinds:
                self._asked.append(stem)
        if word in ENDINGS and (narrowed := narrowing(self._previous, word)):
            self._qualifiers.append(narrowed)
        self._placing.content(word, known, is_name=is_name)

    def read(self, text: str) -> Meaning:
        """All of it."""
        placing, denying = self._placing, self._denying
        questions = self._asking.read()
        function = frozenset(self._folded)
        ordered = not placing.is_symmetric
        roles = placing.roles if ordered else ()
        return Meaning(
            stems=frozenset(self._stems),
            order=tuple(placing.order),
            places=tuple(placing.places),
            function=function,
            opposites=frozenset(self._opposites),
            bared=frozenset(self._bared),
            degrees=frozenset(self._degrees),
            denied=frozenset(denying.denied),
            negations=denying.hard,
            soft_negations=denying.soft,
            roles=frozenset(roles),
            contrary=frozenset((other, stem) for role, stem in roles for other in CONTRARY[role]),
            relations=frozenset(placing.relations if ordered else ()),
            swapped=frozenset(placing.swapped if ordered else ()),
            is_symmetric=placing.is_symmetric,
            ands=frozenset(placing.ands),
            ors=frozenset(placing.ors),
            bounds=bounds(text, function),
            question=questions[0] if questions else Question.NONE,
            questions=frozenset(questions),
            names=frozenset(self._names),
            kinds=frozenset(self._kinds),
            qualifiers=frozenset(self._qualifiers),
            language=language(self._votes, text),
            asked=frozenset(self._asked),
        )
