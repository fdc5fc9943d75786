"""What a literal stands beside."""

from cachesvc.core.gates.literals.found import FIRST, Found, Item

_TOGETHER = frozenset(("and", "or", ",", "vs", "versus", "&", "with"))
_SAY_NOTHING = frozenset("the a an is are was were do does and or with - , . ? ! ' : ;".split()) | {'"'}


def slots(scan: Found) -> frozenset[tuple[str, str]]:
    """By each word beside a literal its value: what tells "from 5 to 10" from "from 10 to 5".

    Literals that are only listed ("5 and 10") stand beside the words around the list, all alike.
    """
    found: dict[str, str] = {}
    twice: set[str] = set()
    groups = _groups(scan)
    starts = {group[0].start for group in groups}
    ends = {group[-1].end for group in groups}
    for group in groups:
        values = " ".join(sorted(item.value for item in group))
        start, end = group[0].start, group[-1].end
        words = (
            ("before", scan.at(start - 1).text, start - 1 in ends),
            ("after", scan.at(end).text, end + 1 in starts),
        )
        for side, word, is_between in words:
            if word and (word not in _SAY_NOTHING or (word == "-" and is_between)):
                key = f"{side} {word.rstrip('s')}"
                if key in found:
                    twice.add(key)
                found[key] = values
    return frozenset((key, value) for key, value in found.items() if key not in twice)


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
