"""Two meanings compared, gate by gate."""

from collections.abc import Callable
from itertools import product

from cachesvc.core.gates.gate import Gate, Veto
from cachesvc.core.gates.meaning.kinds import SAME_NAMES
from cachesvc.core.gates.meaning.opposites import OPPOSITES
from cachesvc.core.gates.meaning.reading import Meaning, Question

_Parts = tuple[str, str]

_ALIKE = (
    frozenset((Question.COUNT, Question.AMOUNT)),
    frozenset((Question.AMOUNT, Question.DURATION)),
    frozenset((Question.FREQUENCY, Question.WHEN)),
    frozenset((Question.WHEN, Question.DURATION)),
    frozenset((Question.FREQUENCY, Question.COUNT)),
)
_DEFINITE = frozenset(Question) - {Question.NONE, Question.WHAT, Question.YES_NO, Question.HOW}
_OPPOSED_BOUNDS = {"ge": {"le", "lt"}, "gt": {"le", "lt"}, "le": {"ge", "gt"}, "lt": {"ge", "gt"}}


def negation(ours: Meaning, theirs: Meaning) -> Veto | None:
    """One denies and the other does not."""
    if (ours.negations + ours.soft_negations > 0) != (theirs.negations + theirs.soft_negations > 0):
        return Veto(Gate.NEGATION)
    return None


def antonym(ours: Meaning, theirs: Meaning) -> Veto | None:
    """A word of one has its opposite in the other, and neither has both."""
    if ours.opposites.isdisjoint(theirs.stems):
        return None
    left, right = ours.stems - theirs.stems, theirs.stems - ours.stems
    for word in left:
        for other in OPPOSITES.get(word, ()):
            if other in right:
                return Veto(Gate.ANTONYM, word, other)
    return None


def role(ours: Meaning, theirs: Meaning) -> Veto | None:
    """The same word stands in a contrary role, or two words have changed places."""
    if not ours.contrary.isdisjoint(theirs.roles):
        for part in ours.contrary & theirs.roles:
            if part not in ours.roles and not {(r, w) for r, w in ours.roles if w == part[1]} & theirs.roles:
                return Veto(Gate.ROLE, part[1], " ".join(part))
    if not ours.swapped.isdisjoint(theirs.relations):
        for relation in ours.swapped & theirs.relations:
            if relation not in ours.relations:
                return Veto(Gate.ROLE, " ".join(reversed(relation)), " ".join(relation))
    if len(ours.order) == len(theirs.order) and ours.stems == theirs.stems and ours.order != theirs.order:
        return _exchange(ours, theirs)
    return None


def _exchange(ours: Meaning, theirs: Meaning) -> Veto | None:
    a = [stem for stem, _ in ours.order]
    b = [stem for stem, _ in theirs.order]
    if a == b or sorted(a) != sorted(b):
        return None
    differing = [place for place, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
    first, last = differing[0], differing[-1]
    if len(differing) != 2 or last == first + 1 or a[first] != b[last]:
        return None
    if ours.is_symmetric or theirs.is_symmetric or all(ours.joined[first + 1 : last + 1]):
        return None
    if ours.gaps[first : last + 1] != theirs.gaps[first : last + 1]:
        return None
    return Veto(Gate.ROLE, " ".join(a[first : last + 1]), " ".join(b[first : last + 1]))


def comparison(ours: Meaning, theirs: Meaning) -> Veto | None:
    """The bounds differ."""
    if ours.bounds != theirs.bounds and ours.bounds and theirs.bounds:
        return Veto(Gate.COMPARISON, " ".join(sorted(ours.bounds)), " ".join(sorted(theirs.bounds)))
    return None


def connective(ours: Meaning, theirs: Meaning) -> Veto | None:
    """What one joins by *and* the other joins by *or*."""
    for pair in (ours.ands & theirs.ors) | (ours.ors & theirs.ands):
        return Veto(Gate.CONNECTIVE, " ".join(pair), " ".join(pair))
    return None


def question(ours: Meaning, theirs: Meaning) -> Veto | None:
    """Both ask for one kind of thing, and the kinds exclude each other."""
    if (
        ours.question is not theirs.question
        and ours.question in _DEFINITE
        and theirs.question in _DEFINITE
        and frozenset((ours.question, theirs.question)) not in _ALIKE
    ):
        return Veto(Gate.QUESTION, ours.question.value, theirs.question.value)
    return None


def entity(ours: Meaning, theirs: Meaning) -> Veto | None:
    """Each has a name that the other has not."""
    if ours.names or theirs.names:
        left, right = ours.names - theirs.stems, theirs.names - ours.stems
        if left and right:
            return Veto(Gate.ENTITY, min(left), min(right))
    if ours.kinds != theirs.kinds:
        for (kind, name), (other_kind, other) in product(
            ours.kinds - theirs.kinds, theirs.kinds - ours.kinds
        ):
            if kind == other_kind and frozenset((name, other)) not in SAME_NAMES:
                return Veto(Gate.ENTITY, name, other)
    return None


def qualifier(ours: Meaning, theirs: Meaning) -> Veto | None:
    """A word that narrows stands in one alone."""
    if ours.qualifiers != theirs.qualifiers:
        return Veto(Gate.QUALIFIER, " ".join(sorted(ours.qualifiers)), " ".join(sorted(theirs.qualifiers)))
    return None


def language(ours: Meaning, theirs: Meaning) -> Veto | None:
    """They are in two languages, or want their answers in two."""
    if ours.language != theirs.language and ours.language and theirs.language:
        return Veto(Gate.LANGUAGE, ours.language, theirs.language)
    if ours.asked != theirs.asked and ours.asked and theirs.asked:
        return Veto(Gate.LANGUAGE, min(ours.asked), min(theirs.asked))
    return None


REFUSALS: tuple[tuple[Gate, Callable[[Meaning, Meaning], Veto | None]], ...] = (
    (Gate.NEGATION, negation),
    (Gate.LANGUAGE, language),
    (Gate.QUESTION, question),
    (Gate.QUALIFIER, qualifier),
    (Gate.COMPARISON, comparison),
    (Gate.CONNECTIVE, connective),
    (Gate.ANTONYM, antonym),
    (Gate.ROLE, role),
    (Gate.ENTITY, entity),
)


def meaning_vetoes(ours: Meaning, theirs: Meaning) -> list[Veto]:
    """What differs, by gate; each gate once at most."""
    return [veto for _, refuses in REFUSALS if (veto := refuses(ours, theirs)) is not None]
