"""What a literal stands beside."""

from itertools import pairwise

from cachesvc.core.gates.literals.found import FIRST, Found, Item

LIMIT = "limit "
LIMITS = {
    **dict.fromkeys(("after", "since", "past", "from"), "later"),
    **dict.fromkeys(("before", "until", "till", "by"), "sooner"),
    **dict.fromkeys(("at", "on", "in"), "then"),
}
_TOGETHER = frozenset(("and", "or", ",", "vs", "versus", "&", "with"))
_GOES_ON = frozenset(("and", "or", ","))
_PLACES = frozenset("from to for by into than then with at on in per as . ? ! : ;".split())
_LONGEST_NOUN = 5
_LONGEST_LIST = 8
_SAY_NOTHING = frozenset("the a an is are was were do does and or with - , . ? ! ' : ;".split()) | {'"'}


def slots(scan: Found) -> frozenset[tuple[str, str]]:
    """By each word beside a literal its value: what tells "from 5 to 10" from "from 10 to 5".

    Words that say earlier or later are kept apart, by LIMIT and what they say: they may be said of two values.

    Literals that are only listed ("5 and 10") stand beside the words around the list, all alike.
    """
    found: dict[str, str] = {}
    limits: list[tuple[str, str]] = []
    twice: set[str] = set()
    groups = _groups(scan)
    for place, group in enumerate(groups):
        values = group[0].value if len(group) == 1 else " ".join(sorted(item.value for item in group))
        start, end = group[0].start, group[-1].end
        words = (("before", scan.at(start - 1).text), ("after", scan.at(end).text))
        for side, word in words:
            if word and (word not in _SAY_NOTHING or (word == "-" and _is_between(groups, place, side))):
                if side == "before" and word in LIMITS:
                    limits.append((f"{LIMIT}{word}", values))
                key = f"{side} {word.rstrip('s')}"
                if key in found:
                    twice.add(key)
                heads = side == "before" and place + 1 < len(groups)
                found[key] = _listed(scan, groups, place) if heads else values
    return frozenset([(key, value) for key, value in found.items() if key not in twice] + limits)


def _listed(scan: Found, groups: list[list[Item]], place: int) -> str:
    """All that one word stands before: "I bought *2 shirts and 3 pairs of socks*"."""
    items = [*groups[place]]
    for last, following in pairwise(groups[place : place + _LONGEST_LIST]):
        end, start = last[-1].end, following[0].start
        if not 1 < start - end <= _LONGEST_NOUN or scan.at(start - 1).text not in _GOES_ON:
            break
        if any(scan.at(at).text in _PLACES for at in range(end, start - 1)):
            break
        items += following
    return " ".join(sorted(item.value for item in items))


def _is_between(groups: list[list[Item]], place: int, side: str) -> bool:
    """The sign on that side of the group stands between two literals: 9 - 2."""
    if side == "before":
        return place > 0 and groups[place - 1][-1].end == groups[place][0].start - 1
    return place + 1 < len(groups) and groups[place + 1][0].start == groups[place][-1].end + 1


def _groups(scan: Found) -> list[list[Item]]:
    groups: list[list[Item]] = []
    for item in scan.items:
        if item.value == FIRST:
            continue
        last = groups[-1][-1] if groups else None
        if last is not None and item.start == last.end + 1 and scan.at(last.end).text in _TOGETHER:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups
