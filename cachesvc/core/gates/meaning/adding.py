"""What one of two texts says beyond the other, which says nothing of its own: a word that narrows, or a clause more."""

from collections import Counter

from cachesvc.core.gates.meaning.reading import Meaning
from cachesvc.core.gates.meaning.stems import stem

_CLAUSE = 3
"""So many words of weight make a statement; one or two are mostly how a thing is called."""
LIGHT = frozenset(
    stem(word)
    for word in """
    like want wish wanna gonna gotta need help assist assistance know tell say explain inform information mean meaning possible
    possibly way step best good try look think feel believe seem appear suppose wonder happen go get come make use show give
    provide take ask request obtain find figure current currently now actually exactly already still yet just really
    kind type sort thing anything something everything someone anyone people guide walk available exist reason purpose please
    list thanks instruct instruction process procedure name idea mind remind question number certain various different other much many
    more lot able allow require own again regard concern right sure guess quick quickly soon okay today detail
    """.split()
)
"""Words of asking, and such as say little: they may stand or be left out."""
_NARROWING = frozenset(
    """
    used secondhand hidden lost recent refurbished damaged expired cancelled canceled partial incomplete overdue unpaid paid stolen archived draft unhealthy
    private public personal business corporate commercial residential domestic international regional joint shared family
    individual student senior junior child adult teenage pediatric
    night overnight urgent emergency annual yearly quarterly monthly weekly daily hourly temporary permanent seasonal nightly
    express priority early late maximum minimum
    vegan vegetarian organic gluten kosher halal raw frozen canned dried spicy decaf homemade
    electric hybrid diesel manual automatic wireless wired portable waterproof foldable digital virtual printed handwritten
    reusable disposable rechargeable furnished unfurnished refundable nonrefundable prepaid
    direct accessible wheelchair
    notarised notarized certified verbal written signed unsigned voluntary involuntary mandatory criminal civil federal
    acute chronic severe mild prenatal malignant benign
    static asynchronous synchronous nested recursive anonymous encrypted unencrypted
    remote adjacent consecutive linked rural urban coastal expected estimated projected median gross net
    trial unused worn faulty closed former retired disabled wholesale residual chemical
    """.split()
)
"""Before a noun these pick some of its kind. Those that are said as often without meaning it (new, foreign, whole, extra,
free, online) are not among them."""
_LIMITING = frozenset(("without", "unless", "except", "despite"))
_GROUPS = frozenset(
    stem(word)
    for word in """
    child kid baby infant newborn toddler teenager teen adult senior elderly man woman boy girl male female
    dog cat
    """.split()
)
_NARROWING_STEMS = frozenset(map(stem, _NARROWING))
_USA = stem("usa")


def added(ours: Meaning, theirs: Meaning) -> tuple[str, ...]:
    """The words of the longer text that the shorter has not, if they narrow it or state something more; else none."""
    longer, shorter = (ours, theirs) if len(ours.order) > len(theirs.order) else (theirs, ours)
    if not shorter.stems <= longer.stems or _is_country_alone(longer, shorter):
        return ()
    left = Counter(shorter.order)
    places = []
    for place, word in enumerate(longer.order):
        if left[word] > 0:
            left[word] -= 1
        else:
            places.append(place)
    words = tuple(longer.order[place] for place in places)
    if any(left.values()):
        return ()
    if len([word for word in words if word not in LIGHT]) >= _CLAUSE:
        return words
    more = longer.function - shorter.function
    if any(_limits(longer, place, shorter.function) for place in places):
        return words
    if _NARROWING.isdisjoint(more) and longer.names <= shorter.stems:
        return ()
    return words if any(_narrows(longer, place) or _names(longer, place) for place in places) else ()


def _is_country_alone(longer: Meaning, shorter: Meaning) -> bool:
    """The longer text writes "US citizens" where the shorter has "us citizens": that is no word more."""
    if (
        len(longer.order) != len(shorter.order) + 1
        or "us" not in shorter.function
        or _USA not in longer.order
    ):
        return False
    place = longer.order.index(_USA)
    return (
        longer.order[:place] + longer.order[place + 1 :] == shorter.order
        and place < len(shorter.order)
        and shorter.places[place][0] == "us"
    )


def _limits(text: Meaning, place: int, said: frozenset[str]) -> bool:
    """It stands after what excepts, or is whom all is for: "without a card", "for children"."""
    gap, _ = text.places[place]
    return (gap in _LIMITING and gap not in said) or (gap == "for" and text.order[place] in _GROUPS)


def _narrows(text: Meaning, place: int) -> bool:
    """It stands right before the word that it is said of."""
    following = text.places[place + 1] if place + 1 < len(text.places) else None
    return text.order[place] in _NARROWING_STEMS and following == ("", False)


def _names(text: Meaning, place: int) -> bool:
    """It is a name by itself, not a part of a longer one: the Galaxy is Samsung's whether that is said or not."""
    if text.order[place] not in text.names:
        return False
    around = [other for other in (place - 1, place + 1) if 0 <= other < len(text.order)]
    return not any(
        text.order[other] in text.names and not text.places[max(place, other)][0] for other in around
    )
