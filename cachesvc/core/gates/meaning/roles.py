"""Whether the same words stand in other roles: who does it and to whom, from where and to where."""

from collections.abc import Sequence
from itertools import chain, product

from cachesvc.core.gates.gate import Gate, Veto
from cachesvc.core.gates.meaning.opposites import OPPOSED_DEGREES, OPPOSED_WORDS, OPPOSITES
from cachesvc.core.gates.meaning.reading import Meaning, Question
from cachesvc.core.gates.meaning.stems import stem

_ASKED_FOR = frozenset((Question.WHO, Question.WHAT, Question.WHICH, Question.COUNT))
"""What is asked for may be who does it, or whom it is done to."""
_DID = frozenset(("do", "does", "did"))
_BE = frozenset("is are was were be been being am get gets got".split())
_OFFERING = frozenset(("tell", "show", "for"))
"""With these "me" is whom the answer is for."""
_JOURNEYS = frozenset(stem(word) for word in "flight fare ticket train bus ferry trip fly travel".split())
"""Between two places these go from the first to the second."""
_LONGEST_NAME = 3
_LONGEST_RUN = 24
_CLAUSE = 3
CONVERSE = {"before": "after", "after": "before"}
"""What stands between two when they have changed places and all is as it was."""
_WRITTEN = {stem(word): word for word in CONVERSE}
_BESIDE_THAN = 2
_TURNING = frozenset(chain.from_iterable(OPPOSED_WORDS)) | frozenset(
    "can could may might must shall should will would".split()
)
"""Small words that are not to differ besides."""
_MAX_REPLACED = 2
_PERSONS = (("i", "me"), ("we", "us"), ("he", "him"), ("she", "her"), ("they", "them"))
_YOU_OR_I = {frozenset(("i", "your")), frozenset(("you", "my"))}
_PERSON_PAIRS = frozenset(map(frozenset, _PERSONS))
_SUBJECTS = frozenset(doing for doing, _ in _PERSONS)
_OBJECTS = frozenset(done_to for _, done_to in _PERSONS)
_SPOKEN_OF = frozenset("i you he she it we they this that these those there".split())


def role(ours: Meaning, theirs: Meaning) -> Veto | None:
    """The same word stands in a contrary role, or two words have changed places."""
    if not ours.contrary.isdisjoint(theirs.roles):
        for _, word in sorted(ours.contrary & theirs.roles):
            mine = {kind for kind, held in ours.roles if held == word}
            yours = {kind for kind, held in theirs.roles if held == word}
            if mine.isdisjoint(yours):
                return Veto(Gate.ROLE, f"{min(mine)} {word}", f"{min(yours)} {word}")
    if ours.relations != theirs.relations:
        veto = _turned(ours, theirs)
        if veto is not None:
            return veto
    if ours.order == theirs.order:
        return _spoken_of(ours, theirs, 2) or _passive(ours, theirs) or _particles(ours, theirs)
    if len(ours.order) != len(theirs.order) or ours.stems != theirs.stems:
        return None
    return (
        _exchange(ours, theirs)
        or _exchange_of_lengths(ours, theirs)
        or _spoken_of(ours, theirs, 1)
        or _permuted(ours, theirs)
        or _equated(ours, theirs)
        or _replaced(ours, theirs)
        or _interchanged(ours, theirs)
    )


def are_turned_about(ours: Meaning, theirs: Meaning, word: str, other: str) -> bool:
    """These opposites say the same of two that have changed places: "A before B", "B after A"; and all else stands.

    So do two degrees, each the only one of its text and beside its "than": "A smaller than B", "B bigger than A".
    """
    word, other = _WRITTEN.get(word, word), _WRITTEN.get(other, other)
    kind = word if word in CONVERSE else "than"
    converse = CONVERSE.get(kind, kind)
    if (ours.negations, ours.soft_negations) != (theirs.negations, theirs.soft_negations):
        return False
    if not (ours.function ^ theirs.function) & _TURNING <= {word, other}:
        return False
    if not any(
        (after, converse, before) in theirs.relations for before, of, after in ours.relations if of == kind
    ):
        return False
    left, right = _beside(ours, kind), _beside(theirs, converse)
    if kind != "than":
        return left is not None and right is not None and ours.stems == theirs.stems
    return (
        left is not None
        and right is not None
        and len(ours.degrees) == len(theirs.degrees) == 1
        and left.issuperset(ours.stems - theirs.stems)
        and right.issuperset(theirs.stems - ours.stems)
    )


def _beside(text: Meaning, word: str) -> frozenset[str] | None:
    """What stands right before a small word that is there once, "more" with its adjective."""
    places = [place for place, (gap, _) in enumerate(text.places) if gap == word]
    return frozenset(text.order[max(0, places[0] - _BESIDE_THAN) : places[0]]) if len(places) == 1 else None


def _turned(ours: Meaning, theirs: Meaning) -> Veto | None:
    """What stands before a preposition in one stands after it in the other."""
    turned = ours.swapped & theirs.relations
    if not _JOURNEYS.isdisjoint(ours.stems):
        both = {(after, kind, before) for before, kind, after in ours.relations if kind == "between"}
        turned |= both & theirs.relations
    for relation in sorted(turned - ours.relations):
        if relation not in theirs.swapped and not (relation[1] == "than" and _are_opposed(ours, theirs)):
            return Veto(Gate.ROLE, " ".join(reversed(relation)), " ".join(relation))
    return None


def _are_opposed(ours: Meaning, theirs: Meaning) -> bool:
    left, right = ours.degrees - theirs.degrees, theirs.degrees - ours.degrees
    return any(not OPPOSED_DEGREES[word].isdisjoint(right) for word in left)


def _spoken_of(ours: Meaning, theirs: Meaning, count: int) -> Veto | None:
    """So many who do it in one have it done to them in the other: "can she sue me", "can I sue her".

    One is enough where no other word differs at all: "can I pay my tenant", "can my tenant pay me".
    """
    if ours.function == theirs.function:
        return None
    most = _MAX_REPLACED if count == 1 else _MAX_REPLACED + 1
    mine = ours.function - theirs.function
    yours = theirs.function - ours.function if len(mine) <= most else frozenset()
    if not 0 < len(yours) <= most:
        return None
    turned = [
        pair
        for pair in _PERSONS
        for one, other in (pair, pair[::-1])
        if (one in mine and other in (yours if count == 1 else theirs.function))
        or (count > 1 and one in ours.function and other in yours)
    ]
    if (
        {mine, yours} == _YOU_OR_I
        or len(turned) >= count
        or (len(mine) == len(yours) == 1 and mine | yours in _PERSON_PAIRS)
    ):
        return Veto(Gate.ROLE, " ".join(sorted(mine)), " ".join(sorted(yours)))
    return None


def _passive(ours: Meaning, theirs: Meaning) -> Veto | None:
    """What does it in one has it done by another in the other: "who taught her", "who was taught by her"."""
    if ours.places == theirs.places or ours.is_symmetric or theirs.is_symmetric:
        return None
    for place, ((gap, _), (other, _)) in enumerate(zip(ours.places, theirs.places, strict=True)):
        if place and {gap, other} == {"by", ""}:
            said, plain = (ours, theirs) if gap else (theirs, ours)
            if not _BE.isdisjoint(said.function - plain.function):
                word = ours.order[place]
                return Veto(Gate.ROLE, f"{gap} {word}".strip(), f"{other} {word}".strip())
    return None


def _particles(ours: Meaning, theirs: Meaning) -> Veto | None:
    """Opposite small words have changed places: "turn it on before I turn that off"."""
    if ours.places == theirs.places or ours.function != theirs.function:
        return None
    for (gap, _), (other, _) in zip(ours.places, theirs.places, strict=True):
        if frozenset((gap, other)) in OPPOSED_WORDS:
            return Veto(Gate.ROLE, gap, other)
    return None


def _exchange(ours: Meaning, theirs: Meaning) -> Veto | None:
    """Two words, or names of as many words, have changed places and all else stands: "did A beat B".

    Not so in "A or B", nor for the parts of a phrase: "the price of gold", "the gold price".
    """
    first, second, size = _exchanged(ours.order, theirs.order)
    if not size or ours.is_symmetric or theirs.is_symmetric:
        return None
    inside = slice(first, second + size)
    veto = Veto(Gate.ROLE, " ".join(ours.order[inside]), " ".join(theirs.order[inside]))
    gap, is_joined = ours.places[second]
    is_adjacent = second == first + size
    if is_adjacent and not is_joined and _is_done_to(ours, theirs, second):
        return veto
    if (
        is_adjacent
        and "that" in ours.function & theirs.function
        and (ours.names | theirs.names).issuperset(ours.order[inside])
    ):
        return veto  # "tell A that B is late"
    is_list = all(joined for _, joined in ours.places[first + 1 : second + size])
    if ours.places[inside] != theirs.places[inside] or is_list or (is_adjacent and not gap):
        return None
    shared = ours.order[first + size : second]
    has_one_head = is_joined and ours.order[second + size : second + size + len(shared)] == shared
    return None if has_one_head else veto  # one head: "red meat or white meat"


def _exchanged(a: Sequence[str], b: Sequence[str]) -> tuple[int, int, int]:
    """Where two runs of words stand that have changed places, and how many words each has; 0 when that is not all."""
    differing = _differing(a, b)
    size = len(differing) // 2
    if len(differing) % 2 or not 0 < size <= _LONGEST_NAME:
        return 0, 0, 0
    first, second = differing[0], differing[size]
    one, other = slice(first, first + size), slice(second, second + size)
    is_whole = differing == [*range(first, first + size), *range(second, second + size)]
    return (first, second, size) if is_whole and a[one] == b[other] and b[one] == a[other] else (0, 0, 0)


def _differing(a: Sequence[str], b: Sequence[str]) -> list[int]:
    """The places at which two rows of as many words have not the same one."""
    return [place for place, (one, other) in enumerate(zip(a, b, strict=True)) if one != other]


def _is_done_to(ours: Meaning, theirs: Meaning, second: int) -> bool:
    """What does it has it done to it: "who did A call", "who called A"; "my boss called me", "I called my boss".

    "Did I hear her", "did she hear" too.
    """
    unlike = ours.function ^ theirs.function
    (gap, _), (other, is_joined) = ours.places[second], theirs.places[second]
    if is_joined:
        return False
    if ours.question is theirs.question and ours.question in _ASKED_FOR and not _DID.isdisjoint(unlike):
        return (_BE | {"of"}).isdisjoint((gap, other)) and (_BE | {gap, other}).isdisjoint(unlike)
    if gap or other or not _BE.isdisjoint(unlike):
        return False
    (before, _), (after, _) = ours.places[second - 1], theirs.places[second - 1]
    if before != after and not (before in _DID and after in _DID):
        return False
    if ours.question is theirs.question is Question.YES_NO and not _SUBJECTS.isdisjoint(unlike):
        return True
    return not _OBJECTS.isdisjoint(unlike) and _OFFERING.isdisjoint(unlike)


def _exchange_of_lengths(ours: Meaning, theirs: Meaning) -> Veto | None:
    """Two phrases of several lengths have changed places: "a photo to a text file", "a text file to a photo".

    The small words before them and between them have stayed.
    """
    a, b = ours.order, theirs.order
    differing = _differing(a, b)
    first, end = differing[0], differing[-1] + 1
    if end - first > _LONGEST_RUN or ours.is_symmetric or theirs.is_symmetric:
        return None
    mine, yours = ours.places[first:end], theirs.places[first:end]
    a, b = a[first:end], b[first:end]
    for size, other in product(range(1, _LONGEST_NAME + 1), repeat=2):
        begins, moved = len(a) - other, len(a) - size
        if (
            size <= begins
            and a[:size] == b[moved:]
            and a[begins:] == b[:other]
            and a[size:begins] == b[other:moved]
            and not any(joined for _, joined in (*mine[1:size], *mine[begins:], *mine[size + 1 : begins]))
            and (size < begins or (mine[begins][0] and size + other <= _LONGEST_NAME))
            and mine[0] == yours[0]
            and mine[begins] == yours[moved]
            and mine[1:size] == yours[moved + 1 :]
            and mine[begins + 1 :] == yours[1:other]
            and mine[size:begins] == yours[other:moved]
        ):
            return Veto(Gate.ROLE, " ".join(a), " ".join(b))
    return None


def _permuted(ours: Meaning, theirs: Meaning) -> Veto | None:
    """The same small words at the same places, and the others have changed theirs: "can A sue the friend of B".

    Not so in a list, nor where one part has moved past the other ("delete it permanently", "permanently delete it"),
    nor where there are catchwords alone ("sort list python").
    """
    if ours.places != theirs.places or ours.is_symmetric or theirs.is_symmetric:
        return None
    if _are_catchwords(ours) and _are_catchwords(theirs):
        return None
    differing = _differing(ours.order, theirs.order)
    first, end = differing[0], differing[-1] + 1
    mine, yours = ours.order[first:end], theirs.order[first:end]
    if len(mine) > _LONGEST_RUN or sorted(mine) != sorted(yours):
        return None
    is_list = any(joined for _, joined in ours.places[first + 1 : end])
    has_moved_past = any(
        mine[place:] + mine[:place] == yours
        for place in range(1, len(mine))
        if min(place, len(mine) - place) < _CLAUSE
    )
    return None if is_list or has_moved_past else Veto(Gate.ROLE, " ".join(mine), " ".join(yours))


def _are_catchwords(text: Meaning) -> bool:
    """No small word says how they belong together, and no two of them are names, whose order may."""
    return len(text.function) == len(text.stems) == len(text.order) and (
        len(text.names.union(name for _, name in text.kinds)) <= 1
    )


def _equated(ours: Meaning, theirs: Meaning) -> Veto | None:
    """One is said to be the other: "is a square a rectangle", "is a rectangle a square"."""
    if len(ours.order) == 2 and ours.questions == theirs.questions and ours.places == theirs.places:
        (gap, _), second = ours.places
        if (
            gap in _BE
            and second == ("", False)
            and ours.question is Question.YES_NO
            and _SPOKEN_OF.isdisjoint(ours.function | theirs.function)
            and not _is_quality(ours)
        ):
            return Veto(Gate.ROLE, " ".join(ours.order), " ".join(theirs.order))
    return None


def _is_quality(text: Meaning) -> bool:
    """One of two words is what the other is like, since it has an opposite and no article: "is tea healthy"."""
    return (
        "is" in text.function
        and len(text.function) == 1 + len(text.order)
        and (len([word for word in text.order if word in OPPOSITES]) == 1)
    )


def _replaced(ours: Meaning, theirs: Meaning) -> Veto | None:
    """One word differs, and is elsewhere in the other: "Ajax plays Porto, does Ajax win", "…, does Porto win"."""
    if ours.places == theirs.places:
        differing = _differing(ours.order, theirs.order)
        if len(differing) == 1:
            return Veto(Gate.ROLE, ours.order[differing[0]], theirs.order[differing[0]])
    return None


def _interchanged(ours: Meaning, theirs: Meaning) -> Veto | None:
    """Two words stand for each other throughout: "A sued B as B did not pay"."""
    if ours.places != theirs.places or ours.is_symmetric or theirs.is_symmetric:
        return None
    differing = _differing(ours.order, theirs.order)
    pairs = {(ours.order[place], theirs.order[place]) for place in differing}
    if len(differing) > len(pairs) == 2 and pairs == {(other, one) for one, other in pairs}:
        return Veto(Gate.ROLE, *max(pairs))
    return None
