"""What carries the meaning of a text, made once so that comparing two is cheap."""

from enum import Enum, unique
from typing import NamedTuple


@unique
class Question(Enum):
    """What kind of thing is asked for."""

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
    WHAT = "what"
    WHICH = "which"
    LIST = "to list what there is"
    YES_NO = "yes or no"

    __hash__ = object.__hash__  # as that of Gate


class Meaning(
    NamedTuple
):  # its many fields are set at once, in a third of the time that a frozen dataclass takes
    """What carries the meaning of a text. Words are stems, unless it says otherwise.

    ``stems``: the words that carry content (no function words, no numbers), and verbs with a particle (``turn+on``).
    ``order``: the former in order; of each, in ``places``: the function word before it, and whether it is joined
    to the one before by a comma, *and* or *or*. ``opposites``: what the stems are the opposites of. ``bared``: they
    without a negating prefix. ``denied``: those that a negation reaches. ``degrees``: words of comparison. ``roles``:
    (role, stem), and those that would contradict them in ``contrary``. ``relations``: (before, preposition,
    after), and how the other way round would look in ``swapped``. ``names``: capitalised words. ``kinds``:
    (kind, name) of the names that are known. ``asked``: the languages that answers are wanted in. ``function``: all
    words as written, folded.
    """

    stems: frozenset[str]
    order: tuple[str, ...]
    places: tuple[tuple[str, bool], ...]
    function: frozenset[str]
    opposites: frozenset[str]
    bared: frozenset[str]
    degrees: frozenset[str]
    denied: frozenset[str]
    negations: int
    soft_negations: int
    roles: frozenset[tuple[str, str]]
    contrary: frozenset[tuple[str, str]]
    relations: frozenset[tuple[str, str, str]]
    swapped: frozenset[tuple[str, str, str]]
    is_symmetric: bool
    ands: frozenset[tuple[str, str]]
    ors: frozenset[tuple[str, str]]
    bounds: frozenset[str]
    question: Question
    questions: frozenset[Question]
    names: frozenset[str]
    kinds: frozenset[tuple[str, str]]
    qualifiers: frozenset[str]
    language: str
    asked: frozenset[str]
