"""Two meanings compared, gate by gate. Each is symmetric, and cheapest where the texts do not differ in its matter."""

from collections.abc import Callable
from itertools import pairwise, product

from cachesvc.core.gates.gate import Gate, Veto
from cachesvc.core.gates.meaning.adding import LIGHT, added
from cachesvc.core.gates.meaning.kinds import SAME_NAMES
from cachesvc.core.gates.meaning.lexemes import opposites_of
from cachesvc.core.gates.meaning.naming import is_derived, same_name
from cachesvc.core.gates.meaning.opposites import OPPOSED_DEGREES
from cachesvc.core.gates.meaning.reading import Meaning, Question
from cachesvc.core.gates.meaning.roles import are_turned_about, role
from cachesvc.core.gates.meaning.small_words import small_words
from cachesvc.core.gates.meaning.stems import stem
from cachesvc.core.gates.words import NONE

_DEFINITE = frozenset(Question) - {
    Question.NONE,
    Question.WHAT,
    Question.WHICH,
    Question.LIST,
    Question.YES_NO,
    Question.HOW,
}
_LISTING = frozenset((Question.WHICH, Question.LIST))
_ALIKE = frozenset(
    frozenset(pair)
    for pair in (
        (Question.COUNT, Question.AMOUNT),
        (Question.AMOUNT, Question.DURATION),
        (Question.FREQUENCY, Question.WHEN),
        (Question.WHEN, Question.DURATION),
        (Question.FREQUENCY, Question.COUNT),
        (Question.DURATION, Question.COUNT),
        (Question.WHO, Question.WHERE),
    )
)
_WHO_OR_WHERE = frozenset("who whom where from with s is are was were".split())
"""Whom to ask is where to ask, but who one is is not where one is from."""
_DID = frozenset(("do", "does", "did"))
_HOW_OR_ELSE = frozenset((frozenset(("how", "why")), frozenset(("how", "when"))))
_SYNONYMS = {
    "earliest": frozenset(("first",)),
    "latest": frozenset(("last",)),
    "dearest": frozenset(("maximum", "max")),
    "cheapest": frozenset(("minimum", "min")),
}
_MAX_UNMATCHED = 8
"""Where both texts have more words of their own than that, they are worded anew: single words say nothing then."""

_NOT = frozenset(("not",))
_ONLY = frozenset(("only",))
_FREE = stem("free")
_RID = stem("rid")
_RIDDING = frozenset(
    map(stem, "eliminate remove kill delete clear clean cure erase lose reduce stop prevent treat".split())
)
_MAX_REPLACED = 2
_MAX_REWORDED = 8
"""With more words of their own together than that, a denial of one is likely part of what it says besides."""


def negation(ours: Meaning, theirs: Meaning) -> Veto | None:
    """One denies what the other says. Where both deny something, word order decides little, and no more is asked."""
    if "only" in ours.function and ours.function ^ theirs.function == _NOT:
        return Veto(
            Gate.NEGATION, *(("not only", "only") if "not" in ours.function else ("only", "not only"))
        )
    if ours.denied == theirs.denied:
        return None
    if ours.denied and theirs.denied and _deny_alike(ours, theirs):
        return None
    if len(ours.stems ^ theirs.stems) > _MAX_REWORDED:
        return None
    for denied, plain in ((ours, theirs), (theirs, ours)):
        contradicted = (denied.denied - plain.denied) & plain.stems
        if contradicted and not (
            _are_free_of(contradicted, denied, plain) or _rids_of(contradicted, denied, plain)
        ):
            word = min(contradicted)
            sides = (f"not {word}", word)
            return Veto(Gate.NEGATION, *(sides if denied is ours else reversed(sides)))
    return None


def _deny_alike(ours: Meaning, theirs: Meaning) -> bool:
    """Both deny, as often, and what either denies is denied by the other or they are worded anew.

    "Avoid" and "instead of" deny as well as "not", but "tea instead of milk" is not "milk and no tea".
    """
    if ours.denied <= theirs.denied or theirs.denied <= ours.denied:
        return ours.negations + ours.soft_negations == theirs.negations + theirs.soft_negations
    if ours.negations == theirs.negations:
        return ours.stems != theirs.stems or ours.places != theirs.places
    return ours.negations + ours.soft_negations == theirs.negations + theirs.soft_negations and (
        ours.stems.isdisjoint(theirs.denied - ours.denied)
        or theirs.stems.isdisjoint(ours.denied - theirs.denied)
    )


def _are_free_of(words: frozenset[str], denying: Meaning, plain: Meaning) -> bool:
    """The plain text denies them too: "nut-free", "sugar free"; in the other nothing is free but of them."""
    if "free" not in plain.function:
        return False
    following = zip(denying.order, (*denying.places[1:], ("", False)), strict=False)
    if any(word == _FREE and gap != "of" for word, (gap, _) in following):
        return False
    return words <= {word for word, after in pairwise(plain.order) if after == _FREE}


def _rids_of(words: frozenset[str], denying: Meaning, plain: Meaning) -> bool:
    """All that one denies is what it gets rid of, and the other does away with the same: "get rid of ants", "kill ants"."""
    if "rid" not in denying.stems or denying.negations or denying.soft_negations != 1 or plain.denied:
        return False
    rid = {after for word, after in pairwise(denying.order) if word == _RID}
    gone = {after for word, after in pairwise(plain.order) if word in _RIDDING}
    return (
        words == rid <= gone
        and denying.stems - plain.stems - LIGHT == {_RID}
        and plain.stems - denying.stems - LIGHT <= _RIDDING
    )


def antonym(ours: Meaning, theirs: Meaning) -> Veto | None:
    """A word of one has its opposite in the other, and neither text has both. "Not right" is no opposite of "wrong"."""
    veto = small_words(ours, theirs)
    if veto is not None:
        return veto
    if (
        ours.opposites.isdisjoint(theirs.stems)
        and theirs.opposites.isdisjoint(ours.stems)
        and ours.bared.isdisjoint(theirs.stems)
        and theirs.bared.isdisjoint(ours.stems)
    ):
        return None
    left, right = ours.stems - theirs.stems, theirs.stems - ours.stems
    if len(left) > _MAX_UNMATCHED and len(right) > _MAX_UNMATCHED:
        return None
    for word in sorted(left):
        for other in sorted(right):
            if (
                (other in opposites_of(word) or _is_prefixed(word, other))
                and (word in ours.denied) == (other in theirs.denied)
                and ours.stems.isdisjoint(opposites_of(word))
                and theirs.stems.isdisjoint(opposites_of(other))
            ):
                return Veto(Gate.ANTONYM, word, other)
    return None


_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non", "mis")


def _is_prefixed(word: str, other: str) -> bool:
    longer, shorter = (word, other) if len(word) > len(other) else (other, word)
    return len(shorter) > 2 and longer.endswith(shorter) and longer[: -len(shorter)] in _PREFIXES


def comparison(ours: Meaning, theirs: Meaning) -> Veto | None:
    """A bound or a degree has its opposite in the other."""
    if ours.bounds != theirs.bounds and ours.bounds and theirs.bounds:
        return Veto(Gate.COMPARISON, " ".join(sorted(ours.bounds)), " ".join(sorted(theirs.bounds)))
    if ours.degrees != theirs.degrees:
        left, right = ours.degrees - theirs.degrees, theirs.degrees - ours.degrees
        for word, other in product(sorted(left), sorted(right)):
            if other in OPPOSED_DEGREES[word] and not are_turned_about(ours, theirs, word, other):
                return Veto(Gate.COMPARISON, word, other)
    return None


def connective(ours: Meaning, theirs: Meaning) -> Veto | None:
    """What one joins by *and* the other joins by *or*; or one of two names that are joined is all that the other names."""
    if ours.ands == theirs.ands and ours.ors == theirs.ors:
        return None
    for pair in sorted((ours.ands & theirs.ors) | (ours.ors & theirs.ands)):
        if pair not in ours.ands & theirs.ands and pair not in ours.ors & theirs.ors:
            joins = ("and", "or") if pair in ours.ands else ("or", "and")
            return Veto(Gate.CONNECTIVE, *(f"{pair[0]} {join} {pair[1]}" for join in joins))
    for joined, other in ((ours, theirs), (theirs, ours)):
        for pair in sorted((joined.ands | joined.ors) - other.ands - other.ors):
            lone = [name for name in pair if name not in other.stems]
            if len(lone) == 1 and joined.names.issuperset(pair) and not _is_meant(lone[0], other.stems):
                sides = (" ".join(pair), " ".join(name for name in pair if name not in lone))
                return Veto(Gate.CONNECTIVE, *(sides if joined is ours else reversed(sides)))
    return None


def _is_meant(name: str, stems: frozenset[str]) -> bool:
    return any(same_name(name, other) for other in stems)


def question(ours: Meaning, theirs: Meaning) -> Veto | None:
    """Both ask for one kind of thing, and the kinds exclude each other."""
    mine, yours = ours.questions & _DEFINITE, theirs.questions & _DEFINITE
    if not mine or not yours or not mine.isdisjoint(yours):
        counted = Question.COUNT in ours.questions, Question.COUNT in theirs.questions
        if counted[0] != counted[1] and not (theirs if counted[0] else ours).questions.isdisjoint(_LISTING):
            return Veto(Gate.QUESTION, ours.question.value, theirs.question.value)
        return _how(ours, theirs)
    if any(frozenset(pair) in _ALIKE for pair in product(mine, yours)):
        is_of_one = ours.order == theirs.order and ours.function ^ theirs.function <= _WHO_OR_WHERE
        if not is_of_one:
            return None
    return Veto(
        Gate.QUESTION,
        ", ".join(sorted(kind.value for kind in mine)),
        ", ".join(sorted(kind.value for kind in yours)),
    )


def _how(ours: Meaning, theirs: Meaning) -> Veto | None:
    """Nothing differs but that one asks how, and the other why or when."""
    if ours.order == theirs.order and ours.questions != theirs.questions:
        asked = ours.questions ^ theirs.questions
        words = (ours.function ^ theirs.function) - _DID
        if Question.HOW in asked and words in _HOW_OR_ELSE:
            return Veto(Gate.QUESTION, ours.question.value, theirs.question.value)
    return None


def entity(ours: Meaning, theirs: Meaning) -> Veto | None:
    """Each has a name that the other has not."""
    if ours.names or theirs.names:
        left, right = ours.names - theirs.stems, theirs.names - ours.stems
        if left and right:
            lone = [name for name in left if not any(same_name(name, other) for other in right)]
            others = [name for name in right if not any(same_name(name, other) for other in left)]
            if lone and others:
                return Veto(Gate.ENTITY, min(lone), min(others))
    if ours.kinds != theirs.kinds:
        mine, yours = ours.kinds - theirs.kinds, theirs.kinds - ours.kinds
        if mine and yours:
            clashes = [
                (name, other)
                for kind, name in mine
                for other_kind, other in yours
                if kind == other_kind
                and frozenset((name, other)) not in SAME_NAMES
                and not is_derived(name, other)
            ]
            if clashes:
                return Veto(Gate.ENTITY, *min(clashes))
    return None


def qualifier(ours: Meaning, theirs: Meaning) -> Veto | None:
    """A word that narrows stands in one alone, or one says all that the other says and a clause more.

    What comes first is the earliest, and what comes last the latest; the maximum is the highest.
    """
    if ("only" in ours.function) != ("only" in theirs.function) and ours.function ^ theirs.function == _ONLY:
        return Veto(Gate.QUALIFIER, *(("only", "") if "only" in ours.function else ("", "only")))
    if ours.qualifiers == theirs.qualifiers:
        more = added(ours, theirs) if len(ours.order) != len(theirs.order) else ()
        if more:
            sides = (" ".join(more), "")
            return Veto(Gate.QUALIFIER, *(sides if len(ours.order) > len(theirs.order) else reversed(sides)))
        return None
    mine, yours = ours.qualifiers - theirs.qualifiers, theirs.qualifiers - ours.qualifiers
    for name in sorted(mine | yours):
        if _SYNONYMS.get(name, NONE).isdisjoint((theirs if name in mine else ours).function):
            return Veto(Gate.QUALIFIER, " ".join(sorted(mine)), " ".join(sorted(yours)))
    return None


def language(ours: Meaning, theirs: Meaning) -> Veto | None:
    """They are in two languages, or want their answers in two."""
    if ours.language != theirs.language and ours.language and theirs.language:
        return Veto(Gate.LANGUAGE, ours.language, theirs.language)
    if ours.asked != theirs.asked and ours.asked and theirs.asked:
        return Veto(Gate.LANGUAGE, " ".join(sorted(ours.asked)), " ".join(sorted(theirs.asked)))
    return None


REFUSALS: tuple[tuple[Gate, Callable[[Meaning, Meaning], Veto | None]], ...] = (
    (Gate.LANGUAGE, language),
    (Gate.NEGATION, negation),
    (Gate.QUALIFIER, qualifier),
    (Gate.COMPARISON, comparison),
    (Gate.CONNECTIVE, connective),
    (Gate.QUESTION, question),
    (Gate.ANTONYM, antonym),
    (Gate.ENTITY, entity),
    (Gate.ROLE, role),
)
"""The gates with what asks them, cheap ones first."""


def meaning_vetoes(ours: Meaning, theirs: Meaning) -> list[Veto]:
    """What differs, by gate; each gate once at most."""
    return [veto for _, refuses in REFUSALS if (veto := refuses(ours, theirs)) is not None]
