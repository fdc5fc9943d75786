"""Small words that turn the sense where hardly another word differs: can and must, any and all, is and was."""

from itertools import product

from cachesvc.core.gates.gate import Gate, Veto
from cachesvc.core.gates.meaning.opposites import OPPOSED_WORDS
from cachesvc.core.gates.meaning.reading import Meaning, Question
from cachesvc.core.gates.meaning.roles import CONVERSE, are_turned_about
from cachesvc.core.gates.meaning.stems import stem

_OPPOSED_MODALS = frozenset(
    frozenset((one, other))
    for left, right in (
        ("can could may", "should must"),
        ("should", "must"),
        ("will", "should"),
    )
    for one, other in product(left.split(), right.split())
)
"""The same in "how can I", "how should I", but not in "can I", "should I"."""
_ALL_OR_ANY = frozenset((frozenset(("any", "all")), frozenset(("any", "every"))))
_STANDS = frozenset(("for", "against"))
_STANCES = frozenset(map(stem, "argument argue case reason evidence vote speak plead side testify".split()))
"""A vaccine for flu is one against it, a vote is not."""
_OF_THEM = frozenset(("of", "if"))
"""With these, and where yes or no is asked, any is one and all is each: "any of them", "if all fail"."""
_TENSES = frozenset(
    frozenset(pair) for pair in (("is", "was"), ("are", "were"), ("is", "will"), ("was", "will"))
)
_OFFICES = frozenset(
    stem(word)
    for word in """
    president minister chancellor king queen emperor pope mayor governor senator secretary ambassador ceo cfo cto
    chairman chairwoman chair director head leader boss manager coach captain champion owner landlord principal dean
    """.split()
)
"""Who holds these now is another than who did."""
_MAX_REPLACED = 2


def small_words(ours: Meaning, theirs: Meaning) -> Veto | None:
    """Hardly a word differs, and one that does has its opposite in the other: "the left knee", "round it up"."""
    if ours.function == theirs.function:
        return None
    mine = ours.function - theirs.function
    if not 0 < len(mine) <= _MAX_REPLACED:
        return None
    yours = theirs.function - ours.function
    if not 0 < len(yours) <= _MAX_REPLACED:
        return None
    for word, other in product(sorted(mine), sorted(yours)):
        if _are_opposed(frozenset((word, other)), ours, theirs):
            is_same = CONVERSE.get(word) == other and are_turned_about(ours, theirs, word, other)
            if not is_same:
                return Veto(Gate.ANTONYM, word, other)
    return None


def _are_opposed(pair: frozenset[str], ours: Meaning, theirs: Meaning) -> bool:
    if pair in OPPOSED_WORDS:
        return True
    if pair in _ALL_OR_ANY:
        is_of_them = not _OF_THEM.isdisjoint(ours.function & theirs.function)
        return is_of_them or ours.question is theirs.question is Question.YES_NO
    if pair == _STANDS:
        return not _STANCES.isdisjoint(ours.stems & theirs.stems)
    if pair in _OPPOSED_MODALS:
        return ours.question is theirs.question is Question.YES_NO
    return (
        pair in _TENSES
        and ours.question is theirs.question is Question.WHO
        and not _OFFICES.isdisjoint(ours.stems & theirs.stems)
    )
