"""What a single word brings to a text's meaning, found out once per word."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cachesvc.core.gates.meaning.asking import OPENING
from cachesvc.core.gates.meaning.bounding import ENDINGS
from cachesvc.core.gates.meaning.denying import PAIR_ENDS
from cachesvc.core.gates.meaning.kinds import KINDS_OF
from cachesvc.core.gates.meaning.opposites import OPPOSED_DEGREES, OPPOSITES, PARTICLE_VERBS, PARTICLES
from cachesvc.core.gates.meaning.stems import stem
from cachesvc.core.gates.meaning.tongues import TONGUE_OF
from cachesvc.core.gates.spelling import SLIPS
from cachesvc.core.gates.words import KEPT_WORDS, MAX_KEPT_LENGTH

_PARTICLES = PARTICLES | {"into", "onto"}
_NONE: frozenset[str] = frozenset()
_SPLIT = re.compile(r"[-/_.:@]+")
_WHOLE = {
    "non-stop": "nonstop",
    "round-trip": "roundtrip",
    "who's": "who-is",
    "can't": "cannot",
    "won't": "cannot",
    "u.s": "usa",
    "u.s.a": "usa",
    "US": "usa",
    "u.k": "uk",
}

_FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any all each every both either only also just even very really quite too so
    i me my mine myself we us our ours you your yours he him his she her hers it its they them their theirs one ones
    who whom whose what which when where why how whether if
    be am is are was were been being do does did done doing have has had having can could will would shall should may might must
    of at on in to from by with for about into onto over under than as between among through via per during within upon toward
    towards after before since until against along across around near off up down out without except
    and or but nor not no never n't cannot yes ok okay then else because while though although however
    there here please kindly hi hello hey thanks thank sir madam dear
    s d m t ll re ve im ive id 've 're 'll 's 'd 'm dont doesnt didnt cant wont isnt arent
    let tell give show list find get want wants need needs know see me able
    """.split()
)
_HARD_NEGATIONS = frozenset(
    """
    not no never without n't cannot none nobody nothing neither nor dont doesnt didnt cant wont isnt arent wasnt couldnt
    shouldnt wouldnt hasnt havent unable nicht kein keine keinen ohne nie niemals pas jamais sans nunca jamás sin
    """.split()
)
_SOFT_NEGATIONS = frozenset(
    stem(word)
    for word in "avoid prevent refuse lack except excluding exclude unless skip omit ignore".split()
)
_ROLES = {
    **{
        word: word
        for word in "from to by than before after with for via through in on at as of about".split()
    },
    **dict.fromkeys("into onto toward towards".split(), "to"),
    "between": "between",
    "against": "against",
    "over": "over",
    "under": "under",
    "since": "after",
    "until": "before",
}
_TITLES = frozenset(
    """
    january february march april may june july august september october november december jan feb mar apr jun jul aug sep sept oct nov
    dec monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun president mr mrs ms dr prof
    secretary minister pm rs inr am saint st mount mt
    """.split()
)
_SYMMETRIC = frozenset(
    stem(word)
    for word in """
    differ different difference differentiate distinguish distinction compare comparison similar similarity same common
    distance choose choice equal relation relationship versus vs
    """.split()
)
_VERBS = frozenset(
    """
    abide accept access achieve activate add apply arrange arrive ask avoid be become begin block book bring build burn buy call cancel
    change check choose clean close complete connect convert cook copy create deal delete deposit depart do download
    drink drive eat end exchange explain fill find fix fly freeze get give go grow have help ignite improve increase
    install join keep know learn leave let live look lose make marry meet move need open order pay play prepare prevent
    put reach read receive reduce register remove renew replace report request reset return run say see sell send
    set show sleep speak spend start stay stop study take talk teach tell think track transfer travel try turn
    understand update upgrade use verify visit wait walk want wash watch win withdraw work write
    """.split()
)
_PREFIXES = (("non", 3), ("dis", 3), ("un", 3), ("in", 4), ("im", 4), ("ir", 4), ("il", 4), ("mis", 4))


_FIRST_PARTS = tuple(
    pair
    for one, other in (
        *(("hyper", "hypo"), ("over", "under"), ("macro", "micro"), ("endo", "exo")),
        *(("north", "south"), ("east", "west")),
    )
    for pair in ((one, other), (other, one))
)
"""Those that begin many a word that they do not turn (in, up, pre, sub) stand in the list with what they turn."""
_MIN_REST = 2


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A casefolded word, its stem, and what the word can do. ``bare``: the stem without a negating prefix, or empty.

    ``opens``, ``ends_pair`` and ``narrows`` say that questions, denials and narrowings are to be looked for there.
    """

    word: str
    stem: str
    is_content: bool
    opposites: frozenset[str]
    is_degree: bool
    is_marked: bool
    bare: str
    negation: int
    role: str
    kinds: tuple[str, ...]
    tongue: str
    takes_particle: bool
    is_particle: bool
    is_symmetric: bool
    is_verb: bool
    is_gerund: bool
    is_title: bool
    opens: bool
    ends_pair: bool
    narrows: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What is written in one: a sign, folded, or one or more words, each with whether it is written like a name."""

    sign: str
    parts: tuple[tuple[Lexeme, bool], ...]


def written(words: Sequence[str]) -> list[Written]:
    """Of words and signs as they are written. What is too long to be a word is not kept."""
    return [_written_kept(word) if len(word) <= MAX_KEPT_LENGTH else _written(word) for word in words]


def _written(word: str) -> Written:
    folded = _WHOLE.get(word) or word.casefold().replace("’", "'")
    folded = _WHOLE.get(folded, folded)
    if not folded[:1].isalnum():
        return Written(folded, ())
    is_capital = word[0].isupper() and word != "I"
    parts = (folded,) if folded.isalpha() else _parts(folded)
    return Written("", tuple([(lexeme(part), is_capital and part.isalpha()) for part in parts]))


_written_kept = lru_cache(KEPT_WORDS)(_written)


def _parts(folded: str) -> Iterator[str]:
    """What is written in one: "don't" and "who's" are two words, "non-stop" one, "and/or" two; "card's" is "card"."""
    for part in _SPLIT.split(folded):
        if part.endswith("n't"):
            yield from (part[:-3], "n't") if len(part) > 3 else (part,)
        elif part:
            yield part.partition("'")[0] or part


def lexeme(word: str) -> Lexeme:
    """Of a casefolded word. What is too long to be a word is not kept."""
    return _kept(word) if len(word) <= MAX_KEPT_LENGTH else _made(word)


def _made(written: str) -> Lexeme:
    word = SLIPS.get(written, written)
    root = stem(word)
    is_content = word not in _FUNCTION_WORDS and word not in _HARD_NEGATIONS and not word.isdigit()
    bare = _bare(root) if is_content else ""
    opposites = opposites_of(root) if is_content else OPPOSITES.get(root, _NONE)
    return Lexeme(
        word=word,
        stem=root,
        is_content=is_content,
        opposites=opposites,
        is_degree=root in OPPOSED_DEGREES,
        is_marked=bool(bare or opposites)
        or root in OPPOSED_DEGREES
        or root in PARTICLE_VERBS
        or word in _PARTICLES,
        bare=bare,
        negation=2 if word in _HARD_NEGATIONS else 1 if root in _SOFT_NEGATIONS else 0,
        role=_ROLES.get(word, ""),
        kinds=KINDS_OF.get(word) or KINDS_OF.get(root) or KINDS_OF.get(word.removesuffix("s"), ()),
        tongue=TONGUE_OF.get(word, ""),
        takes_particle=root in PARTICLE_VERBS,
        is_particle=word in _PARTICLES,
        is_symmetric=root in _SYMMETRIC or word in _SYMMETRIC,
        is_verb=word in _VERBS,
        is_title=word in _TITLES,
        is_gerund=len(word) > 4 and word.endswith(("ing", "ed")),
        opens=word in OPENING or word == "of",
        ends_pair=word in PAIR_ENDS,
        narrows=word in ENDINGS,
    )


_kept = lru_cache(KEPT_WORDS)(_made)


def opposites_of(root: str) -> frozenset[str]:
    """Of a stem, those that are listed, and what it is with its first or last part turned: harmful, harmless."""
    return _opposites_kept(root) if len(root) <= MAX_KEPT_LENGTH else _opposites(root)


def _opposites(root: str) -> frozenset[str]:
    turned = [
        other + root[len(part) :]
        for part, other in _FIRST_PARTS
        if root.startswith(part) and len(root) - len(part) > _MIN_REST
    ]
    turned += [
        root.removesuffix(part) + other
        for part, other in (("ful", "less"), ("less", "ful"))
        if root.endswith(part) and len(root) - len(part) > _MIN_REST
    ]
    listed = OPPOSITES.get(root, _NONE)
    return listed.union(turned) if turned else listed


_opposites_kept = lru_cache(KEPT_WORDS)(_opposites)


def _bare(root: str) -> str:
    for prefix, shortest in _PREFIXES:
        if root.startswith(prefix) and len(root) - len(prefix) >= shortest:
            return root[len(prefix) :]
    return ""
