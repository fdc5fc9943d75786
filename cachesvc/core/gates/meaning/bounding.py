"""Bounds ("at least", "under 5"), and what narrows a request down in a word or two ("nonstop", "least expensive")."""

import re

_NUMBER = (
    r"(?= \W?\d| [b-hj-z]\b| (?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|(?:a |one )?(?:hundred|thousand|million))\b)"
)
_BOUND = re.compile(
    r"\b(?:(?P<ge>at least|(?:more|greater|higher|larger|longer|bigger|older) than or equal to|no (?:less|fewer) than|minimum of|not less than|or (?:more|greater|later|above|over)\b"
    r"|from(?= \W?\d[\d.,]*(?: (?!to\b|until\b|till\b)\w+)?(?! (?:to|until|till)\b)(?![\d.,\w-])))"
    r"|(?P<le>at most|(?:less|fewer|lower|smaller|shorter|younger) than or equal to|(?:no|not) more than|maximum of|up to"
    + _NUMBER
    + r"|or (?:less|fewer|under|below|earlier)\b)"
    r"|(?P<gt>(?:more|greater|higher|larger|longer|bigger|older|over) than"
    + _NUMBER
    + r"|(?:over|above)"
    + _NUMBER
    + r")"
    r"|(?P<lt>(?:less|fewer|lower|smaller|shorter|cheaper|younger) than"
    + _NUMBER
    + r"|(?:under|below)"
    + _NUMBER
    + r")"
    r"|(?P<eq>exactly" + _NUMBER + r"))"
)
_BOUND_WORDS = frozenset(
    """
    least most than minimum maximum up over above under below more less fewer later earlier greater exactly
    """.split()
)
_FROM = re.compile(r"\bfrom \W?\d", re.IGNORECASE)
_NONE: frozenset[str] = frozenset()

_NARROWING = {
    word: name
    for name, words in {
        "nonstop": "nonstop",
        "round trip": "roundtrip",
        "cheapest": "cheapest lowest",
        "dearest": "priciest costliest dearest highest",
        "earliest": "earliest soonest",
        "latest": "latest newest",
        "oldest": "oldest",
        "shortest": "shortest",
        "longest": "longest",
        "smallest": "smallest",
        "daily": "daily",
        "weekly": "weekly",
    }.items()
    for word in words.split()
}
_NARROWING_PAIRS = {
    ("non", "stop"): "nonstop",
    ("round", "trip"): "round trip",
    ("one", "way"): "one way",
    ("first", "class"): "first class",
    ("business", "class"): "business class",
    ("least", "expensive"): "cheapest",
    ("least", "costly"): "cheapest",
    ("most", "expensive"): "dearest",
    ("most", "costly"): "dearest",
    ("most", "recent"): "latest",
}
ENDINGS = frozenset(second for _, second in _NARROWING_PAIRS) | _NARROWING.keys()
"""The words that ``narrowing`` is to be asked of."""


def bounds(text: str, words: frozenset[str]) -> frozenset[str]:
    """Which bounds a text sets: ge, gt, le, lt, eq. ``words`` are its words, folded."""
    if _BOUND_WORDS.isdisjoint(words) and not ("from" in words and _FROM.search(text)):
        return _NONE
    return frozenset(match.lastgroup or "" for match in _BOUND.finditer(text.casefold()))


def narrowing(previous: str, word: str) -> str:
    """What a word narrows to, by itself or with the word before it; or empty."""
    return _NARROWING.get(word) or _NARROWING_PAIRS.get((previous, word), "")
