"""What a single word brings to a text's meaning, found out once per word."""

from dataclasses import dataclass
from functools import lru_cache

from cachesvc.core.gates.meaning.kinds import KINDS_OF
from cachesvc.core.gates.meaning.opposites import OPPOSITES, PARTICLE_VERBS, PARTICLES
from cachesvc.core.gates.meaning.stems import stem

_MAX_LENGTH = 40
_KEPT_WORDS = 50_000

_FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any all each every both either only also just even very really quite too so
    i me my mine myself we us our ours you your yours he him his she her hers it its they them their theirs one ones
    who whom whose what which when where why how whether if
    be am is are was were been being do does did done doing have has had having can could will would shall should may might must
    of at on in to from by with for about into onto over under than as between among through via per during within upon toward
    towards after before since until against along across around near off up down out without except like
    and or but nor not no never n't cannot yes ok okay then else because while though although however
    there here please kindly hi hello hey thanks thank sir madam dear
    s d m t ll re ve im ive id dont doesnt didnt cant wont isnt arent
    let tell give show list find get want need know see me able
    """.split()
)
_HARD_NEGATIONS = frozenset(
    """
    not no never without n't cannot none nobody nothing neither nor dont doesnt didnt cant wont isnt arent wasnt couldnt
    shouldnt wouldnt hasnt havent unable nicht kein keine keinen ohne nie niemals pas jamais sans nunca jamás sin
    """.split()
)
_SOFT_NEGATIONS = frozenset(
    stem(word) for word in "avoid prevent fail refuse lack except excluding instead".split()
)
_ROLES = {
    **{
        word: word
        for word in "from to by than before after with for via through in on at as of about".split()
    },
    **dict.fromkeys("into onto toward towards".split(), "to"),
    "through": "via",
    "between": "between",
    "against": "against",
    "over": "over",
    "under": "under",
    "since": "after",
    "until": "before",
}
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
_PREFIXES = ("non", "dis", "un", "in", "im", "ir", "il", "mis")
_TONGUES = {
    "en": "the how what is are do does my i you can where why which when please with and this that it to of for",
    "de": """
    der die das ein eine einen wie ich mein meine nicht und ist sind kann wo warum wann mit für auf bitte zu von welche
    """,
    "fr": "le les un une des comment je mon ma mes ne et est sont peut où pourquoi quand avec pour sur quel quelle du qui que",
    "es": """
    el la los las un una cómo como mi mis no y es son puedo dónde donde por qué cuál cuándo con para sobre del qué
    """,
    "it": "il lo gli un una come mio mia non e è sono posso dove perché quando con per che di della",
    "pt": "o os um uma como meu minha não e é são posso onde porque quando com para que do da qual",
    "nl": "de het een hoe ik mijn niet en is zijn kan waar waarom wanneer met voor op welke van",
}


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A word's stem and what the word can do. ``bare``: the stem without a negating prefix, or empty."""

    stem: str
    is_content: bool
    opposites: frozenset[str]
    bare: str
    negation: int
    role: str
    kinds: tuple[str, ...]
    tongues: tuple[str, ...]
    takes_particle: bool
    is_particle: bool
    is_symmetric: bool
    is_verb: bool
    is_gerund: bool


@lru_cache(_KEPT_WORDS)
def _known(word: str) -> Lexeme:
    return _made(word)


def lexeme(word: str) -> Lexeme:
    """Of a casefolded word. Words too long to be one are not kept."""
    return _known(word) if len(word) <= _MAX_LENGTH else _made(word)


def _made(word: str) -> Lexeme:
    root = stem(word)
    is_content = word not in _FUNCTION_WORDS and word not in _HARD_NEGATIONS and not word.isdigit()
    return Lexeme(
        stem=root,
        is_content=is_content,
        opposites=OPPOSITES.get(root, frozenset()),
        bare=_bare(root) if is_content else "",
        negation=2 if word in _HARD_NEGATIONS else 1 if root in _SOFT_NEGATIONS else 0,
        role=_ROLES.get(word, ""),
        kinds=KINDS_OF.get(word) or KINDS_OF.get(root) or KINDS_OF.get(word.removesuffix("s"), ()),
        tongues=_SPOKEN.get(word, ()),
        takes_particle=root in PARTICLE_VERBS,
        is_particle=word in PARTICLES,
        is_symmetric=root in _SYMMETRIC or word in _SYMMETRIC,
        is_verb=word in _VERBS,
        is_gerund=len(word) > 4 and word.endswith(("ing", "ed")),
    )


def _bare(root: str) -> str:
    for prefix in _PREFIXES:
        if root.startswith(prefix) and len(root) - len(prefix) > 3:
            return root[len(prefix) :]
    return ""


def _spoken() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for tongue, line in _TONGUES.items():
        for word in line.split():
            found[word] = (*found.get(word, ()), tongue)
    return {word: tongues for word, tongues in found.items() if len(tongues) == 1}


_SPOKEN = _spoken()
