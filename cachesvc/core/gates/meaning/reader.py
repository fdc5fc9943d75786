"""Reads a text, word after word, for what a ``Meaning`` is made of."""

from collections.abc import Sequence
from functools import lru_cache

from cachesvc.core.gates.meaning.asking import Asking
from cachesvc.core.gates.meaning.bounding import bounds, narrowing
from cachesvc.core.gates.meaning.denying import Denying
from cachesvc.core.gates.meaning.lexemes import Lexeme, lexeme, written
from cachesvc.core.gates.meaning.placing import CONTRARY, Placing
from cachesvc.core.gates.meaning.reading import Meaning, Question
from cachesvc.core.gates.meaning.stems import stem
from cachesvc.core.gates.meaning.tongues import language
from cachesvc.core.gates.words import NONE

_STOPS = frozenset(".?!;:()[]{}")
_PAUSES = frozenset((",", "&"))
_CLAUSES = frozenset(("and", "or", "but"))
_ASKING_IN = frozenset(("in", "into", "to", "auf", "en"))
_DEAR = frozenset(map(stem, ("expensive", "costly", "pricey")))
_DEARER, _CHEAPER = stem("pricier"), stem("cheaper")
_LISTING = frozenset(("", "please", "you", "and", "me", "i", "can", "just", "kindly", "to"))
"""After these "list" is what one is asked to do; else it is a thing."""
_STOPPING = frozenset(("stop", "quit"))
_US = frozenset(("us", "US"))
_THE = frozenset(("the", "The", "THE"))
_PARTICLES = {"into": "in", "onto": "on"}


def meaning(text: str, words: Sequence[str]) -> Meaning:
    """Read a text, of which these are the words as written. Linear in its length; never raises."""
    if "us" in words or "US" in words:
        words = _with_country(words, is_shouted=text.isupper())
    reader = _Reader()
    read = reader.word
    starts = True
    for known in written(words):
        if known.sign:
            reader.sign(known.sign)
            starts = starts or known.sign in _STOPS
            continue
        for part, is_named in known.parts:
            read(part, is_name=is_named and not starts)
        starts = False
    return reader.read(text)


def _with_country(words: Sequence[str], *, is_shouted: bool) -> list[str]:
    """The words with "US" where the country is meant: no pronoun follows "the". In capitals throughout, "US" alone is "us"."""
    read = list(words)
    for place, word in enumerate(words):
        if word in _US:
            is_country = place > 0 and words[place - 1] in _THE
            read[place] = "US" if is_country or (word == "US" and not is_shouted) else "us"
    return read


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
        self._votes: list[str] = []
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

    def word(self, known: Lexeme, *, is_name: bool) -> None:
        """The next word. ``is_name``: it is written like a name."""
        word, previous = known.word, self._previous
        if known.tongue:
            self._votes.append(known.tongue)
        asking = self._asking
        if asking.starts or known.opens or asking.awaits is not None:
            asking.word(word, previous)
        denying = self._denying
        if denying.awaits or denying.stops or known.ends_pair:
            denying.word(word, previous)
        if known.is_marked:
            self._mark(word, known)
        if known.is_content or (word == "list" and previous not in _LISTING):
            self._content(word, known, is_name=is_name)
        else:
            if word in _CLAUSES:
                denying.end(previous, is_stop=False)
            self._placing.function(word, known)
        if known.negation:
            denying.negation(word, known.negation, previous, len(self._folded))
        elif known.stem in _STOPPING:
            denying.stop()
        self._folded.append(word)
        self._previous = word

    def _mark(self, word: str, known: Lexeme) -> None:
        """Verbs with particles, opposites and degrees: few words are any of them."""
        if known.is_particle and self._verb:
            composite = f"{self._verb}+{_PARTICLES.get(word, word)}"
            self._stems.append(composite)
            self._opposites |= lexeme(composite).opposites
            if self._denying.reach:
                self._denying.content(composite)
            self._verb = ""
        if known.takes_particle:
            self._verb = known.stem
        if known.opposites and self._previous != "how":  # "how hard" and "how easy" ask the same
            self._opposites |= known.opposites
        if known.is_degree:
            self._degrees.append(known.stem)
        elif self._previous in ("more", "less") and known.stem in _DEAR:
            self._degrees[-1:] = [_DEARER if self._previous == "more" else _CHEAPER]
        if known.bare:
            self._bared.append(known.bare)

    def _content(self, word: str, known: Lexeme, *, is_name: bool) -> None:
        stem = known.stem
        self._stems.append(stem)
        if self._denying.reach:
            self._denying.content(stem)
        if is_name and not known.is_title:
            self._names.append(stem)
        if known.kinds:
            self._kinds += [(kind, stem) for kind in known.kinds]
            if self._previous in _ASKING_IN and "tongue" in known.kinds:
                self._asked.append(stem)
        if known.narrows and (narrowed := narrowing(self._previous, word)):
            self._qualifiers.append(narrowed)
        self._placing.content(word, known, is_name=is_name)

    def read(self, text: str) -> Meaning:
        """All of it. What there is nothing of is one empty set for all texts: kept analyses are mostly that."""
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
            opposites=frozenset(self._opposites) if self._opposites else NONE,
            bared=frozenset(self._bared) if self._bared else NONE,
            degrees=frozenset(self._degrees) if self._degrees else NONE,
            denied=frozenset(denying.denied) if denying.denied else NONE,
            negations=denying.hard,
            soft_negations=denying.soft,
            roles=frozenset(roles) if roles else NONE,
            contrary=frozenset([(other, stem) for role, stem in roles for other in CONTRARY[role]])
            if roles
            else NONE,
            relations=frozenset(placing.relations) if ordered and placing.relations else NONE,
            swapped=frozenset(placing.swapped) if ordered and placing.swapped else NONE,
            is_symmetric=placing.is_symmetric,
            ands=frozenset(placing.ands) if placing.ands else NONE,
            ors=frozenset(placing.ors) if placing.ors else NONE,
            bounds=bounds(text, function),
            question=questions[0] if questions else Question.NONE,
            questions=_asked_of(questions),
            names=frozenset(self._names) if self._names else NONE,
            kinds=frozenset(self._kinds) if self._kinds else NONE,
            qualifiers=frozenset(self._qualifiers) if self._qualifiers else NONE,
            language=language(self._votes, text),
            asked=frozenset(self._asked) if self._asked else NONE,
        )


@lru_cache(1024)
def _asked_of(questions: tuple[Question, ...]) -> frozenset[Question]:
    return frozenset(questions)
