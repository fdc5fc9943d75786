"""Edits that change the meaning of a prompt, by kind: the answer to one is none to the other.

An edit gives every way in which it fits a text, and none where it would fit badly: a paraphrase among them would make
a right hit look wrong. Pure; ``Pick`` chooses, so that the same seed gives the same edits.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias, TypeVar

from cachesvc.evaluation.traps import lists

_T = TypeVar("_T")


class Pick:
    """Choices that depend on a seed and on what is chosen for, on nothing else."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def number(self, key: str, below: int) -> int:
        """At least 0, below ``below``."""
        digest = blake2b(f"{self._seed}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % below

    def one(self, key: str, options: Sequence[_T]) -> _T:
        """One of them."""
        return options[self.number(key, len(options))]


Edit: TypeAlias = Callable[[str, Pick], Iterator[str]]

_DIGITS = re.compile(r"(?<![\w.,:/#$-])\d+(?:[.,]\d+)*(?![\w/:-]|[.,]\d)")
_UNIT_AMOUNT = re.compile(r"(?:\d|\b(?:a|one|two|three|in|per|which|how many)\b)[\s-]*$", re.IGNORECASE)
_DATE_NUMBER = re.compile(rf"\b(\d{{1,2}})(?= (?:{'|'.join(lists.MONTHS)})\b)")
_YEAR = re.compile(r"(?<![\w.,:/#-])(?:19|20)\d\d(?![\w/:-]|\.\d)")
_CLOCK = re.compile(r"\b(\d{1,2}):(\d\d)\b")
_HALF_DAY = re.compile(r"(?<=\d )(am|pm)\b")
_VERSION = re.compile(
    r"(?:\b[Vv]ersion |\bv|\b(?:Python|Windows|Ubuntu|Java|Node|Falcon|Postgres|numpy|Bluetooth|Kotlin) |\bGo (?=\d\.))"
    r"(\d+(?:\.\d+)*)"
)
_IDENTIFIER = re.compile(
    r"\b(?=[\w-]*\d)(?=[\w-]*[A-Z])[A-Z0-9][A-Z0-9-]{3,}\b|\b\d{3,}-[\d-]{2,}\d\b|\b[A-Z]{2} \d{3}\b"
)
_EMAIL = re.compile(r"[\w.]+@[\w.]+\w")
_URL = re.compile(r"https?://[\w./-]+\w|(?<= )/(?:\w+/)*\w+|\b\w+\.(?:xlsx|sh|py|csv)\b|\b\w+/ ")
_QUOTE = re.compile(r"\"([^\"]+)\"")
_CODE = re.compile(r"`([^`]+)`|\b(?:curl|grep|chmod|git) [^?]+")
_FROM_TO = re.compile(
    r"\bfrom (?P<a>(?:(?!from|to\b)[\w'.-]+ ){0,3}?(?!from|to\b)[\w'.-]+) to (?P<b>(?:[\w'.-]+ ){0,3}?[\w'.-]*[\w'-])"
    r"(?=$|[?.,;!]| (?:on|in|at|for|with|by|using|without|before|after|tomorrow|today|next|this|from|and|of|takes?|costs?|lasts?|faster|slower)\b)"
)
_THAN = re.compile(
    r"(?P<head>\bIs (?:the )?)(?P<a>[\w ]+?) (?P<middle>\w+er|longer|more \w+) (?P<than>than (?:in )?(?:the )?)(?P<b>(?!\d)[\w ]+?)(?=[?]| in )"
)
_SYMMETRIC = re.compile(r"\b(?:distance|difference|differ|between|compare|far)\b", re.IGNORECASE)
_IMPERATIVE = re.compile(
    r"^(?:Please )?(?P<verb>block|send|cancel|remove|restart|forward|move|change|book|share|invite|submit|add|open|turn|"
    r"sort|round|play|use|write|translate|convert|show|list|find|rent|set|schedule|remind|buy|ask|explain|summarize)\b",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"^(?P<head>(?:Which|What|Who|When|Why|How)\b[^?]*?\b(?:should|can|must|do|does|is|are)(?: (?:I|you|the \w+|my \w+|it))?)"
    r" (?P<tail>(?![\"`(]|not\b|longer|free\b|the\b|a\b|an\b|my\b|it\b|of\b|on\b|to\b|for\b|from\b|in\b|between\b|\w+ (?:of|on|to|for)\b)[^?]+\?)$"
)
_ZERO_WIDTH = ("\u200b", "\u200d", "\u2060", "\u00ad", "\ufeff", "\u202e", "\u2063", "\U000e0061")
_LOOK_ALIKE: Mapping[str, str] = {
    "a": "а",
    "e": "е",
    "o": "о",
    "p": "р",
    "c": "с",
    "x": "х",
    "y": "у",
    "i": "і",
}
_OPERATORS = (
    ("==", "!="), ("!=", "=="), (" > ", " >= "), (" < ", " <= "), (" > ", " < "), (" + ", " - "), ("-X POST", "-X GET"),
    (" = ", " != "), ("--hard", "--soft"), ("755", "644"), ("-n ", "-k "), ("range(1,", "range(0,"),
    ("HEAD~3", "HEAD~2"), (" -r ", " -l "), ("* ", "** "), ("fetch", "clone"),
)  # fmt: skip


def _replaced(text: str, match: re.Match[str], new: str, group: int = 0) -> str:
    return text[: match.start(group)] + new + text[match.end(group) :]


def instead(text: str, old: str, new: str) -> Iterator[str]:
    """Each place of a word or phrase by itself, with the case of its first letter."""
    for match in _word(old).finditer(text):
        fitted = new[0].upper() + new[1:] if match[0][0].isupper() and not old[0].isupper() else new
        yield _replaced(text, match, fitted)


@lru_cache(maxsize=2048)
def _word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(word)}(?![\w-])", re.IGNORECASE)


def number(text: str, pick: Pick) -> Iterator[str]:
    """Another number of things: in digits, or in words."""
    for match in _DIGITS.finditer(text):
        if _is_date(text, match) or _is_version(text, match):
            continue
        digits = match[0]
        place = pick.number(f"{text}{match.start()}", len(digits))
        while not digits[place].isdigit():
            place = (place + 1) % len(digits)
        changed = (int(digits[place]) % 8) + 1 if digits[place] != "8" else 3
        if str(changed) == digits[place]:
            changed += 1
        yield _replaced(text, match, digits[:place] + str(changed) + digits[place + 1 :])
        if digits.isdigit():
            yield _replaced(text, match, f"{digits}0")
            yield _replaced(text, match, str(int(digits) + 1))
    for word in lists.NUMBER_WORDS:
        other = pick.one(text, [one for one in lists.NUMBER_WORDS if one != word])
        yield from instead(text, word, other)


def _is_date(text: str, match: re.Match[str]) -> bool:
    after = text[match.end() :].lstrip()
    return after.startswith((*lists.MONTHS, "am", "pm")) or _YEAR.fullmatch(match[0]) is not None


def _is_version(text: str, match: re.Match[str]) -> bool:
    return any(one.start() <= match.start() < one.end() for one in _VERSION.finditer(text))


def unit(text: str, pick: Pick) -> Iterator[str]:
    """The same number of something else."""
    for old, *others in lists.UNITS:
        for match in re.finditer(rf"(?<![\w-]){re.escape(old)}(?![\w-])", text):
            if _UNIT_AMOUNT.search(text[: match.start()]):
                yield from (_replaced(text, match, other) for other in others)


def date(text: str, pick: Pick) -> Iterator[str]:
    """Another day, weekday, month or year."""
    for match in _DATE_NUMBER.finditer(text):
        day = int(match[1])
        yield _replaced(text, match, str(day + 1 if day < 28 else day - 1))
        yield _replaced(text, match, str(day % 27 + 2 if day % 27 + 2 != day else day + 3))
    for names in (lists.MONTHS, lists.WEEKDAYS):
        for name in names:
            for other in (names[(names.index(name) + 1) % len(names)], pick.one(text + name, names)):
                if other != name:
                    yield from instead(text, name, other)
    for match in _YEAR.finditer(text):
        yield _replaced(text, match, str(int(match[0]) + 1))
        yield _replaced(text, match, str(int(match[0]) - 10))
    for old, *others in lists.NEAR_DAYS:
        for other in others:
            yield from instead(text, old, other)


def time(text: str, pick: Pick) -> Iterator[str]:
    """Another time of day."""
    for match in _CLOCK.finditer(text):
        hour, minute = int(match[1]), int(match[2])
        yield _replaced(text, match, f"{hour % 11 + 1}:{minute:02}")
        yield _replaced(text, match, f"{hour}:{(minute + 15) % 60:02}")
    for match in _HALF_DAY.finditer(text):
        yield _replaced(text, match, "am" if match[1] == "pm" else "pm")
    for old, new in (
        ("noon", "midnight"),
        ("morning", "evening"),
        ("evening", "morning"),
        ("afternoon", "morning"),
    ):
        if new not in text:
            yield from instead(text, old, new)


def name(text: str, pick: Pick) -> Iterator[str]:
    """Somebody, or somewhere, else."""
    for names in (*lists.CLASSES, lists.PROGRAMMING):
        others = [one for one in names if one not in text]
        for old in names if others else ():
            if re.search(rf"\b{re.escape(old)}\b", text) and (old != "Go" or "in Go" in text):
                for turn in range(2):
                    yield from instead(text, old, pick.one(f"{text}{old}{turn}", others))


def thing(text: str, pick: Pick) -> Iterator[str]:
    """Another thing of the kind, without a capital."""
    for group in lists.THINGS:
        for old in group:
            for other in group:
                if other != old and other not in text:
                    yield from instead(text, old, other)


def negation(text: str, pick: Pick) -> Iterator[str]:
    """The opposite is asked by a word that negates."""
    if " not " in text or "n't" in text:
        return
    match = _IMPERATIVE.match(text)
    if match:
        verb = match["verb"].lower()
        yield (
            ("Please do not " if text.startswith("Please") else "Do not ") + verb + text[match.end("verb") :]
        )
        yield ("Please never " if text.startswith("Please") else "Never ") + verb + text[match.end("verb") :]
    match = _ASKED.match(text)
    if match:
        yield f"{match['head']} not {match['tail']}"
    for old, new in (("with", "without"), ("without", "with"), ("is possible", "is impossible")):
        if old != "with" or re.search(r"\bwith (?:breakfast|free|a|my)\b", text):
            yield from instead(text, old, new)


def antonym(text: str, pick: Pick) -> Iterator[str]:
    """A word's opposite in its place."""
    lowered = text.lower()
    if any(phrase in lowered for phrase in lists.NOT_OPPOSITE):
        return
    for old, new in lists.OPPOSITES.items():
        if old in ("morning", "evening"):
            continue  # those are times
        yield from instead(text, old, new)
    for verb, (one, other) in lists.AFTER.items():
        yield from instead(text, f"{verb} {one}", f"{verb} {other}")
        yield from instead(text, f"{verb} {other}", f"{verb} {one}")


def role(text: str, pick: Pick) -> Iterator[str]:
    """The same words, each in the other's part."""
    for match in _FROM_TO.finditer(text):
        if match["a"] != match["b"] and not _SYMMETRIC.search(text):
            yield _replaced(text, match, f"from {match['b']} to {match['a']}")
    than = _THAN.search(text)
    if than:
        middle = f"{than['middle']} {than['than']}"
        yield _replaced(text, than, f"{than['head']}{than['b']} {middle}{than['a']}")
    if not _SYMMETRIC.search(text):
        yield from _names_swapped(text)
    instead = re.search(r"(?P<a>\w+ \w+) (?P<m>instead of by|instead of) (?P<b>\w+)(?=[?.])", text)
    if instead and instead["b"] != "me":
        a = instead["a"].split()
        yield _replaced(text, instead, f"{a[0]} {instead['b']} {instead['m']} {a[1]}")
    if " add " in f" {text.lower()}" and "remove" in text:
        yield text.replace("Add", "\0").replace("remove", "add").replace("\0", "Remove")


def _names_swapped(text: str) -> Iterator[str]:
    """Two names of a class, but not of a mere list."""
    for names in (*lists.CLASSES, lists.LANGUAGES):
        found = sorted(
            (match for one in names for match in re.finditer(rf"\b{re.escape(one)}\b", text)),
            key=lambda match: match.start(),
        )
        if len(found) == 2 and found[0][0] != found[1][0]:
            first, second = found
            between = text[first.end() : second.start()]
            if between.strip() not in ("and", "or", ",", "to"):
                yield text[: first.start()] + second[0] + between + first[0] + text[second.end() :]


def version(text: str, pick: Pick) -> Iterator[str]:
    """Another version."""
    for match in _VERSION.finditer(text):
        *head, last = match[1].split(".")
        yield _replaced(text, match, ".".join([*head, str(int(last) + 1)]), 1)
        if head:
            yield _replaced(text, match, ".".join([str(int(head[0]) + 1), *head[1:], last]), 1)


def identifier(text: str, pick: Pick) -> Iterator[str]:
    """Another order, ticket, flight, account …"""
    for match in _IDENTIFIER.finditer(text):
        places = [n for n, character in enumerate(match[0]) if character.isdigit()]
        for turn in range(2):
            place = pick.one(f"{text}{turn}", places)
            digit = str((int(match[0][place]) + 1 + turn * 3) % 10)
            yield _replaced(text, match, match[0][:place] + digit + match[0][place + 1 :])
        if len(places) > 1 and match[0][places[-1]] != match[0][places[-2]]:
            letters = list(match[0])
            letters[places[-1]], letters[places[-2]] = letters[places[-2]], letters[places[-1]]
            yield _replaced(text, match, "".join(letters))


def language(text: str, pick: Pick) -> Iterator[str]:
    """Another language is asked for."""
    for old in lists.LANGUAGES:
        if re.search(rf"\b{old}\b", text):
            others = [one for one in lists.LANGUAGES if one not in text]
            for turn in range(3):
                yield from instead(text, old, pick.one(f"{text}{turn}", others))
    if (
        re.match(r"(?:Explain|Write|Summarize|Show how|What does|What is|How do I|Remind)\b", text)
        and " in " not in text
    ):
        yield f"{text[:-1]} in {pick.one(text, lists.LANGUAGES[1:])}{text[-1]}"


def comparison(text: str, pick: Pick) -> Iterator[str]:
    """Another bound, or the bound from the other side."""
    for old, new in lists.COMPARISONS:
        for match in re.finditer(rf"\b{old}\b", text):
            if not text[: match.start()].endswith(("no ", "not ")) or old.startswith("no"):
                yield _replaced(text, match, new)


def quantifier(text: str, pick: Pick) -> Iterator[str]:
    """All, some or none; one and the other, or one of them."""
    for old, new in lists.QUANTIFIERS:
        yield from instead(text, old, new)
    for match in () if _SYMMETRIC.search(text) else re.finditer(r" and ", text):
        yield _replaced(text, match, " or ")


def quote(text: str, pick: Pick) -> Iterator[str]:
    """Other words between the quotation marks."""
    for match in _QUOTE.finditer(text):
        for other in (
            "good evening",
            "access denied",
            "Consent C4",
            "Budget",
            "git merge",
            "request timed out",
        ):
            if other != match[1]:
                yield _replaced(text, match, f'"{other}"')


def email(text: str, pick: Pick) -> Iterator[str]:
    """Another address."""
    for match in _EMAIL.finditer(text):
        local, _, host = match[0].partition("@")
        yield _replaced(text, match, f"{local}2@{host}")
        yield _replaced(text, match, f"{local}@mail.{host}")
        yield _replaced(text, match, f"{pick.one(text, ('k', 'm', 'p'))}.{local}@{host}")
        if "." in local:
            yield _replaced(text, match, f"{local.replace('.', '_')}@{host}")


def url(text: str, pick: Pick) -> Iterator[str]:
    """Another address of the web, path or file."""
    for match in _URL.finditer(text):
        if match[0].endswith("/ "):
            yield _replaced(text, match, f"{match[0][:-2]}2/ ")
            continue
        stem, dot, ending = match[0].rpartition(".")
        yield _replaced(text, match, f"{match[0]}2" if "/" in ending or not dot else f"{stem}2.{ending}")
        if "://" in match[0]:
            yield _replaced(text, match, match[0].replace("example.com", "example.org"))
            yield _replaced(text, match, match[0].rpartition("/")[0] + "/archive")


def operator(text: str, pick: Pick) -> Iterator[str]:
    """Another operator, flag or argument in code."""
    code = _CODE.search(text) or re.search(r"\b\w+ (?:==|!=|[<>=+]) [^?]+", text)
    if code:
        for old, new in _OPERATORS:
            if old in code[0]:
                yield text[: code.start()] + code[0].replace(old, new, 1) + text[code.end() :]


def case_in_code(text: str, pick: Pick) -> Iterator[str]:
    """Another letter case where case counts."""
    for match in re.finditer(
        r"(?<= )-[a-zA-Z]\b|\b[a-z]{2,}[A-Z]\w+\b|(?<=class )[A-Z]\w+\b|\bHEAD\b|/[a-z]+/[a-z]+\b", text
    ):
        yield _replaced(text, match, match[0].swapcase())


def invisible(text: str, pick: Pick) -> Iterator[str]:
    """A character that nobody sees."""
    words = list(re.finditer(r"[a-zA-Z]{5,}", text))
    for turn in range(2 if words else 0):
        match = pick.one(f"{text}{turn}", words)
        place = match.start() + 2
        yield text[:place] + pick.one(f"{turn}{text}", _ZERO_WIDTH) + text[place:]


def look_alike(text: str, pick: Pick) -> Iterator[str]:
    """A letter of another alphabet that looks the same."""
    places = [n for n, letter in enumerate(text) if letter in _LOOK_ALIKE and text[max(n - 1, 0)].isalpha()]
    for turn in range(2 if places else 0):
        place = pick.one(f"{text}{turn}", places)
        yield text[:place] + _LOOK_ALIKE[text[place]] + text[place + 1 :]


def question(text: str, pick: Pick) -> Iterator[str]:
    """Another kind of thing is asked."""
    for old, new in lists.QUESTIONS:
        if text.startswith(f"{old} "):
            yield new + text[len(old) :]


def qualifier(text: str, pick: Pick) -> Iterator[str]:
    """A word more that makes it narrower."""
    for noun, narrower in lists.NARROWER:
        match = re.search(rf"(?<![\w-]){noun}\b", text)
        if match and narrower not in text:
            yield _replaced(text, match, f"{narrower} {noun}")


EDITS: Mapping[str, Edit] = {
    "number": number,
    "unit": unit,
    "date": date,
    "time": time,
    "version": version,
    "identifier": identifier,
    "email": email,
    "url": url,
    "operator": operator,
    "case in code": case_in_code,
    "quote": quote,
    "negation": negation,
    "antonym": antonym,
    "role": role,
    "comparison": comparison,
    "quantifier": quantifier,
    "question": question,
    "name": name,
    "thing": thing,
    "qualifier": qualifier,
    "language": language,
    "invisible character": invisible,
    "look-alike letter": look_alike,
}
"""By kind."""

GUARDED = ("number", "unit", "date", "identifier", "role", "antonym", "negation")
"""The kinds of which none may be served by the default policy."""
