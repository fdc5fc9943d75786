"""A text read for its meaning: one pass over its words; everything that two texts are compared by is made here."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, unique

from cachesvc.core.gates.meaning.lexemes import Lexeme, lexeme
from cachesvc.core.gates.words import Word


@unique
class Question(Enum):
    """What kind of thing a text asks for."""

    NONE = "nothing that shows"
    WHO = "who"
    WHEN = "when"
    WHERE = "where"
    WHY = "why"
    HOW = "how"
    COUNT = "how many"
    AMOUNT = "how much"
    DURATION = "how long"
    DISTANCE = "how far"
    AGE = "how old"
    FREQUENCY = "how often"
    WHAT = "what or which"
    YES_NO = "yes or no"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What carries the meaning of a text. Words are stems; function words and numbers are in none of the first three.

    ``stems``: the words that carry content; ``order``: the same in order, each with the preposition it stands after
    (or nothing), ``opposites`` of them, and them without a negating prefix (``bared``). ``relations``: (before,
    preposition, after). ``asked``: languages to answer in.
    """

    stems: frozenset[str]
    order: tuple[tuple[str, str], ...]
    joined: tuple[bool, ...]
    gaps: tuple[str, ...]
    opposites: frozenset[str]
    bared: frozenset[str]
    negations: int
    soft_negations: int
    roles: frozenset[tuple[str, str]]
    contrary: frozenset[tuple[str, str]]
    relations: frozenset[tuple[str, str, str]]
    swapped: frozenset[tuple[str, str, str]]
    ands: frozenset[tuple[str, str]]
    ors: frozenset[tuple[str, str]]
    bounds: frozenset[str]
    function: frozenset[str]
    question: Question
    is_symmetric: bool
    names: frozenset[str]
    kinds: frozenset[tuple[str, str]]
    qualifiers: frozenset[str]
    language: str
    asked: frozenset[str]


_CONTRARY = {
    "from": ("to", "second"),
    "to": ("from", "first"),
    "first": ("to",),
    "second": ("from",),
    "before": ("after",),
    "after": ("before",),
}
_ORDERED = frozenset(("to", "than", "by", "before", "after", "over"))
_LEAVING = {
    "leave": "from",
    "leaving": "from",
    "departing": "from",
    "depart": "from",
    "arriving": "to",
    "reach": "to",
}
_UNDENIED = frozenset(
    "know understand sure see find recall remember recognise recognize you certain just only mind care".split()
)
_CLAUSES = frozenset("know tell me show say see explain understand wondering and or please out about".split())
_DETERMINERS = frozenset(
    "a an the my your his her its our their this that these those some any all each every both".split()
)
_JOINS = frozenset(("and", "or", "vs", "versus", "&", ","))
_BOUNDARIES = frozenset(".?!;:()[]{}\n")
_QUESTIONS = {
    "who": Question.WHO,
    "whom": Question.WHO,
    "whose": Question.WHO,
    "who's": Question.WHO,
    "when": Question.WHEN,
    "where": Question.WHERE,
    "where's": Question.WHERE,
    "why": Question.WHY,
    "how": Question.HOW,
    "what": Question.WHAT,
    "what's": Question.WHAT,
    "which": Question.WHAT,
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
    "place": Question.WHERE,
    "country": Question.WHERE,
    "city": Question.WHERE,
    "person": Question.WHO,
    "people": Question.WHO,
    "number": Question.COUNT,
    "age": Question.AGE,
    "distance": Question.DISTANCE,
}
_AUXILIARIES = frozenset(
    "is are was were am do does did can could will would should shall has have had may must isn't aren't don't".split()
)
_BOUND = re.compile(
    r"\b(?:(?P<ge>at least|no less than|no fewer than|minimum of|not less than|\w+ or (?:more|greater|later|above|over)\b)"
    r"|(?P<le>at most|no more than|not more than|maximum of|up to (?=\W?\d)|\w+ or (?:less|fewer|under|below|earlier)\b)"
    r"|(?P<gt>(?:more|greater|higher|larger|longer|bigger|older|over) than(?= \W?\d)|(?:over|above) (?=\W?\d))"
    r"|(?P<lt>(?:less|fewer|lower|smaller|shorter|cheaper|younger) than(?= \W?\d)|(?:under|below) (?=\W?\d)))"
)
_ASKING = frozenset(("in", "into", "to", "auf", "en", "as"))
_QUALIFIERS = frozenset("nonstop roundtrip".split())


def meaning(text: str, words: Sequence[Word]) -> Meaning:
    """Read a text. Linear in its length; never raises."""
    reader = _Reader()
    is_start = True
    for word in words:
        folded = word.folded
        if not folded[0].isalnum():
            reader.sign(folded)
            is_start = is_start or folded in _BOUNDARIES
            continue
        is_name = not is_start and word.text[0].isupper() and word.text != "I"
        is_start = False
        for part in _parts(folded):
            reader.word(part, is_name=is_name)
    return reader.read(text)


def _parts(folded: str) -> Iterator[str]:
    if folded.isalpha():
        yield folded
        return
    for part in re.split(r"[-/_]", folded):
        if part.endswith("n't") and part != "n't":
            yield part[:-3] or part
            yield "n't"
        elif "'" in part and part != "n't":
            yield part.partition("'")[0] or part
        elif part:
            yield part


class _Reader:
    """What has been read so far."""

    def __init__(self) -> None:
        self.folded: list[str] = []
        self.stems: list[str] = []
        self.order: list[tuple[str, str]] = []
        self.joined: list[bool] = []
        self.gaps: list[str] = []
        self.names: set[str] = set()
        self.kinds: set[tuple[str, str]] = set()
        self.opposites: set[str] = set()
        self.bared: set[str] = set()
        self.asked: set[str] = set()
        self.relations: set[tuple[str, str, str]] = set()
        self.ands: set[tuple[str, str]] = set()
        self.ors: set[tuple[str, str]] = set()
        self.votes: dict[str, int] = {}
        self.question = Question.NONE
        self.hard = 0
        self.soft = 0
        self.is_symmetric = False
        self.denial = ""
        self.how = Question.NONE
        self.previous = ""
        self._break()

    def _break(self) -> None:
        self.role = self.last = self.first = self.last_role = self.join = self.verb = self.before = (
            self.gap
        ) = ""
        self.run = 0
        self.starts_clause = True

    def sign(self, sign: str) -> None:
        if sign in _BOUNDARIES:
            self._break()
        elif sign in (",", "&"):
            self.join = self.join or sign
            self.starts_clause = True

    def word(self, word: str, *, is_name: bool) -> None:
        known = lexeme(word)
        for tongue in known.tongues:
            self.votes[tongue] = self.votes.get(tongue, 0) + 1
        if known.negation or self.denial:
            self._negation(word, known)
        if self.how is not Question.NONE:
            self.question = (_AFTER_HOW if self.how is Question.HOW else _AFTER_WHAT).get(word, self.how)
            self.how = Question.NONE
        elif word in _QUESTIONS or self.starts_clause:
            self._question(word)
        if known.is_particle and self.verb:
            composite = f"{self.verb}+{word}"
            self.stems.append(composite)
            self.opposites |= lexeme(composite).opposites
            self.verb = ""
        elif known.opposites:
            self.opposites |= known.opposites
        if known.takes_particle:
            self.verb = known.stem
        if known.is_symmetric:
            self.is_symmetric = True
        if known.is_content:
            self._content(word, known, is_name=is_name)
        else:
            self._function(word, known)
        self.folded.append(word)
        self.previous = word

    def _negation(self, word: str, known: Lexeme) -> None:
        if self.denial:
            # "do not know why", "not sure", "why not?": nothing is denied. "stop smoking" denies.
            if self.denial == "stop":
                self.soft += word.endswith("ing")
            elif word not in _UNDENIED:
                self.hard += 1
            self.denial = ""
        if known.negation == 2 and self.previous not in ("or", "why"):
            if word in ("not", "n't", "cannot", "dont", "cant", "no") or word.endswith("nt"):
                self.denial = word
            else:
                self.hard += 1
        elif known.stem == "stop":
            self.denial = "stop"
        elif known.negation == 1:
            self.soft += 1

    def _question(self, word: str) -> None:
        if self.starts_clause or self.previous in _CLAUSES:
            kind = _QUESTIONS.get(word)
            if kind is Question.HOW or kind is Question.WHAT:
                self.how = self.question = kind
            elif kind is not None:
                self.question = kind
            elif self.starts_clause and word in _AUXILIARIES and self.question is Question.NONE:
                self.question = Question.YES_NO
        self.starts_clause = False

    def _content(self, word: str, known: Lexeme, *, is_name: bool) -> None:
        stem = known.stem
        self.stems.append(stem)
        if known.bare:
            self.bared.add(known.bare)
        if is_name:
            self.names.add(stem)
        for kind in known.kinds:
            self.kinds.add((kind, stem))
            if kind == "tongue" and self.previous in _ASKING:
                self.asked.add(stem)
        if self.role:
            self._hold_role(word, known, is_name=is_name)
        if self.join and self.last:
            self._join(stem)
        if self.before:
            self._relate(self.before, stem)
            self.before = ""
            self.first = stem
        elif not self.first:
            self.first = stem
        self.joined.append(bool(self.join))
        self.order.append((stem, self.role))
        self.gaps.append(self.gap)
        self.last = stem
        self.last_role = self.role
        self.join = self.gap = ""
        self.run += 1
        if word in _LEAVING:
            self.role, self.run = _LEAVING[word], 0

    def _hold_role(self, word: str, known: Lexeme, *, is_name: bool) -> None:
        """A role is that of the words right after the preposition; "to" before a verb gives none."""
        if self.run == 0:
            if known.is_verb and self.role == "to" and not is_name:
                self.role = self.before = ""
        elif (self.run > 2 or known.is_gerund or known.is_verb) and self.role not in ("first", "second"):
            self.role = ""

    def _join(self, stem: str) -> None:
        pair = (self.last, stem) if self.last < stem else (stem, self.last)
        if self.role == "first":
            self.role = "second"
            self._relate("to", stem)
            self.first = ""
        elif self.join == "or":
            self.ors.add(pair)
        elif self.join == "and":
            self.ands.add(pair)

    def _relate(self, preposition: str, stem: str) -> None:
        if preposition == "from":
            if self.last_role == "to":
                self.relations.add((stem, "to", self.first))
                self.relations.add((stem, "to", self.last))
        elif preposition in _ORDERED:
            self.relations.add((self.last, preposition, stem))
            self.relations.add((self.first, preposition, stem))

    def _function(self, word: str, known: Lexeme) -> None:
        if known.role:
            self.role = "first" if known.role == "between" else known.role
            self.before = self.role if self.last else ""
            self.join = ""
            self.gap = word
            self.run = 0
        elif word in ("and", "or", "vs", "versus"):
            self.join = word
            if self.role != "first":
                self.gap = word
        elif word not in _DETERMINERS:
            self.role = self.before = self.first = ""
            self.gap = word
            self.run = 0

    def read(self, text: str) -> Meaning:
        """All of it."""
        if self.denial not in ("", "stop"):
            self.hard += self.previous not in ("not", "no")
        if self.is_symmetric:
            self.relations.clear()
            roles: frozenset[tuple[str, str]] = frozenset()
        else:
            roles = frozenset((role, stem) for stem, role in self.order if role in _CONTRARY)
        lowered = text.casefold()
        return Meaning(
            stems=frozenset(self.stems),
            order=tuple(self.order),
            joined=tuple(self.joined),
            gaps=tuple(self.gaps),
            opposites=frozenset(self.opposites),
            bared=frozenset(self.bared),
            negations=self.hard,
            soft_negations=self.soft,
            roles=roles,
            contrary=frozenset((other, stem) for role, stem in roles for other in _CONTRARY[role]),
            relations=frozenset(self.relations),
            swapped=frozenset((after, role, before) for before, role, after in self.relations),
            ands=frozenset(self.ands),
            ors=frozenset(self.ors),
            bounds=frozenset(match.lastgroup or "" for match in _BOUND.finditer(lowered)),
            function=frozenset(self.folded),
            question=self.question,
            is_symmetric=self.is_symmetric,
            names=frozenset(self.names),
            kinds=frozenset(self.kinds),
            qualifiers=frozenset(_QUALIFIERS.intersection(self.folded)),
            language=self._language(lowered),
            asked=frozenset(self.asked),
        )

    def _language(self, lowered: str) -> str:
        if not lowered.isascii():
            script = _script(lowered)
            if script:
                return script
        if not self.votes:
            return ""
        best = max(self.votes, key=lambda tongue: (self.votes[tongue], tongue))
        others = max((count for tongue, count in self.votes.items() if tongue != best), default=0)
        return best if self.votes[best] >= 2 and self.votes[best] >= 2 * others else ""


_SCRIPTS = (
    ("greek", 0x370, 0x3FF),
    ("cyrillic", 0x400, 0x52F),
    ("hebrew", 0x590, 0x5FF),
    ("arabic", 0x600, 0x6FF),
    ("devanagari", 0x900, 0x97F),
    ("thai", 0xE00, 0xE7F),
    ("kana", 0x3040, 0x30FF),
    ("han", 0x4E00, 0x9FFF),
    ("hangul", 0xAC00, 0xD7AF),
)


def _script(text: str) -> str:
    """The script of most letters where that is not Latin."""
    counts: dict[str, int] = {}
    latin = 0
    for character in text:
        code = ord(character)
        if code < 0x250:
            latin += character.isalpha()
            continue
        for name, first, last in _SCRIPTS:
            if first <= code <= last:
                counts[name] = counts.get(name, 0) + 1
                break
    if not counts:
        return ""
    if "kana" in counts:
        return "kana"
    best = max(counts, key=lambda name: (counts[name], name))
    return best if counts[best] > latin else ""
