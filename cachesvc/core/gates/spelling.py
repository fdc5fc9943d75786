"""Slips of the pen in the words that the gates are strict about: "mornnig" is no other time than "morning"."""

from collections.abc import Iterator

_WORDS = """
january february august september october november december monday tuesday wednesday thursday saturday
tomorrow yesterday morning mornings afternoon afternoons evening evenings tonight overnight midnight
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty eighty ninety seventy
hundred thousand million billion minute minutes second seconds dollar dollars percent without
""".split()
"""Long enough, and unlike enough to other words, that what is a letter away is no word of its own. Not among them, for
instance: friday (fridays), fourth (forth), spring (sprig), pounds (ponds), inches (niches)."""
_KNOWN = frozenset((*_WORDS, "eight", "seven"))


def _slips(word: str) -> Iterator[str]:
    """Two neighbours exchanged, a letter left out or doubled; the first and the last stand."""
    for place in range(1, len(word) - 1):
        yield word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        yield word[:place] + word[place + 1 :]
        yield word[:place] + word[place] + word[place:]


_COMMON = {
    "tomorrow": "tommorow tommorrow tomorow tommorw",
    "wednesday": "wensday wednsday wendsday wensdays",
    "saturday": "saterday",
    "february": "febuary",
    "november": "novemeber",
    "ninety": "ninty",
    "twelfth": "twelth",
    "without": "witout withouth",
}
SLIPS = {slip: word for word in _WORDS for slip in _slips(word) if slip not in _KNOWN} | {
    slip: word for word, slips in _COMMON.items() for slip in slips.split()
}
"""By what was written: what was meant."""
