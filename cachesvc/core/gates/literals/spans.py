"""What is found in a text as it is written: code, quotations, addresses, identifiers, operators.

Every expression here is linear in the text: no repetition within a repetition over the same characters.
"""

import re
import unicodedata
from typing import NamedTuple

from cachesvc.core.gates.literals.lexicon import MONEY_SIGNS, NUMBER_WORDS, TIME_DIMENSIONS, UNITS, Unit
from cachesvc.core.gates.words import NONE

_FOLDS = str.maketrans(
    {
        **dict.fromkeys("’ʼ＇", "'"),
        **dict.fromkeys("“”„‟«»〝〞＂「」『』", '"'),
        **dict.fromkeys("–—−‐‑‒﹣－", "-"),
        **dict.fromkeys(
            "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\u202a\u202b\u202c\u202d\u202e", None
        ),
        "×": "*",
        "÷": "/",
        "⁄": "/",
        "≤": "<=",
        "≥": ">=",
        "≠": "!=",
        "→": "->",
        "⇒": "=>",
        "²": "^2",
        "³": "^3",
        "¹": "^1",
        "½": " 1/2",
        "¼": " 1/4",
        "¾": " 3/4",
        "⅓": " 1/3",
        "⅔": " 2/3",
        "⅕": " 1/5",
        "⅖": " 2/5",
        "⅗": " 3/5",
        "⅘": " 4/5",
        "⅙": " 1/6",
        "⅚": " 5/6",
        "⅛": " 1/8",
        "⅜": " 3/8",
        "⅝": " 5/8",
        "⅞": " 7/8",
    }
)
_FOREIGN_DIGIT = re.compile(r"[^\x00-\x7f]")
_MARK = re.compile("\"+|'+|‘")
_OPENING_MARK = re.compile("[\"‘]|(?<![^\\W_])'")
_WORDS = re.compile(r"[^\W_]+")
_ODD = re.compile(r"[^A-Za-z0-9,?!;:()']")

_CODE = re.compile(r"```([^`]*)```|`([^`\n]+)`")
_EMAIL = re.compile(r"(?<![\w.+-])[\w+-]+(?:\.[\w+-]+)*@[\w-]+(?:\.[\w-]+)+")
_URL = re.compile(r"\b(?:https?|ftp|file|s3|gs|wss?)://[^\s<>\"'`]+|\bwww\.[^\s<>\"'`]+", re.IGNORECASE)
_HOST = re.compile(
    r"(?<![\w.@/-])(?:[a-z0-9-]{1,63}\.){1,5}(?:com|org|net|io|edu|gov|info|biz|dev|app|ai|co|uk|de|fr|es|it|nl|eu|us|ca|"
    r"in|au|jp|cn|ru|ch|me|tv|local|localhost)(?![\w-])(?::\d{1,5})?(?:/[^\s<>\"'`]*)?",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?<![\w/.:<])(?:~|\.{1,2}|[A-Za-z]:)?[/\\][\w.@-]+(?:[/\\][\w.@-]*)*")
_FILE = re.compile(
    r"(?<![\w.-])[\w-]{1,100}(?:\.[\w-]{1,40}){0,3}\.(?:pdf|docx?|xlsx?|pptx?|csv|tsv|jsonl?|xml|ya?ml|toml|ini|cfg|conf|txt|md|"
    r"html?|css|jsx?|tsx?|py|ipynb|rb|rs|go|java|kt|cc?|cpp|hh?|hpp|cs|php|sh|bat|ps1|sql|db|log|zip|gz|tar|tgz|rar|7z|"
    r"exe|dll|so|jar|war|png|jpe?g|gif|svg|webp|mp3|mp4|mov|avi|mkv|wav|psd|parquet|lock|env|bak|iso|apk)(?![\w-])",
    re.IGNORECASE,
)
_AMOUNT_LENGTH = 40
_FRAMEWORK = re.compile(
    r"(?:node|vue|react|next|nuxt|three|d3|express|angular|ember|backbone|p5)\.js", re.IGNORECASE
)
_DOTTED = re.compile(r"\.\w")
_HUMP = re.compile(r"[A-Z](?<=[a-z]{2}[A-Z])")
_NAME = re.compile(
    r"(?<![\w])(?:[A-Za-z0-9]+(?:_[A-Za-z0-9]+)+|_+[A-Za-z]\w*|[a-z]{2,}[A-Z][A-Za-z0-9]+)(?![\w])"
)
_SPOKEN_NAME = re.compile(r"(?<![\w+])(?:c\+\+|[cf]#|[a-z]\*)(?![A-Za-z_+#])", re.IGNORECASE)
_TAGGED = re.compile(r"(?<![\w&#@$])[@#$][A-Za-z_]\w{1,60}|(?<![\w%])%[A-Za-z](?!\w)")
_SIGNED_LETTER = re.compile(r"(?<![\w+-])(?:[A-HJ-Zb-hj-z]|a(?=\+)|AB|Rh)[+-](?![\w+(=>-]| \d)")
"""A grade, a blood group: "B+". Not what stands between two terms of a sum."""

_HANGING = re.compile(r"-(?!\w)")
_CALL = re.compile(r"(?<![\w.])[A-HJ-Zb-hj-z]\([^()\n]{1,40}\)")
_INSTANCE = re.compile(r"(?<![\w.-])[A-Za-z]+\d+[a-z]*(?:\.\d{0,2}[a-z]{2,40})+(?![\w-])")
_MIXED = re.compile(r"(?<![\w-])[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*(?![\w-])")
_DIGIT = re.compile(r"\d")
_HAS_MIX = re.compile(r"\d(?:(?<=[A-Za-z]\d)|(?<=[A-Za-z]-\d)|-?[A-Za-z]|\d\d-\d)")
_COUNTED = re.compile(
    r"\d+(?:-\d+)?-?[a-z]*(?:-[a-z]+)*|[a-z]+(?:-[a-z]+)*-?\d+s?|\d+x\d+(?:x\d+)?|[a-z]+-\d+-[a-z]+"
    r"|(?:\d+(?:h|hrs?|m|mins?|secs?|s|d|ft|in|lbs?|oz|cm|kg|km|mg|ml|g|k|am|pm)(?:-(?=\d))?)+",
    re.IGNORECASE,
)
_PHONE = re.compile(r"(?<![\w.,-])\+?\d{0,3}[ .-]?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?![\w-])")
_ISO_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}")

_METHOD = re.compile(r"\b(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)\b")
_FLAG = re.compile(r"(?<!\S)(?:--[A-Za-z][\w-]*|[-+][A-Za-z]{1,3})(?=[\s=?,)]|$)")
_OPERATOR = re.compile(
    r"(?=[-+*/%&|^~=<>! {}\[])(?:===?|!==?|<=>|<[=<]?(?=\s?[\w$(.-])|->|=>|>[=>]?(?=\s?[\w$(.-])|[-+*/%&|^~]=|=(?! ?\??$)|&&|\|\|?"
    r"|\*\*(?=[ \w(])|\*(?=[ \w(])(?!(?:(?<=\d\*)|(?<=\d \*)) ?\d)|(?:(?<=[\w)])|(?<=[\w)] ))\^|[~^](?=\d+\.\d+\.)|\+\+\w?"
    r"|(?:(?<=\b[b-hj-z])|(?<=\([a-z])|(?<=\d[a-z])|(?<=[\d)])) ?[-+/](?= (?:[b-hj-z]\b|[\d$(]))"
    r"|(?<=[\d)])\+(?=\d)|(?<=\b[b-hj-z])\+(?=\d|[a-z]\b)|(?<=\d[nqt-z])[-+](?=\d)"
    r"|[{}]|(?<=\w)\[|\[(?=[\d\"']))"
)
_AREA = re.compile(r"\b(?:[kcm]?m|ft|in|yd|mi)\^[23]\b")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]{0,20}(?: [^<>]{0,200})?/?>")
_SIGNED = frozenset("=<>!&|*^+/-{}[]~")


class Spans(
    NamedTuple
):  # one a text is made: set at once, in a third of the time that a frozen dataclass takes
    """What was found in a text, and ``rest``: the text without it, where numbers and words are read."""

    rest: str
    code: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    flags: frozenset[str] = NONE
    emails: frozenset[str] = NONE
    addresses: frozenset[str] = NONE
    names: frozenset[str] = NONE


def fold(text: str) -> str:
    """The text with one kind of quotation mark, dash and digit, and without what cannot be seen."""
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKC", text.translate(_FOLDS)).translate(_FOLDS)
    return _FOREIGN_DIGIT.sub(_ascii_digit, folded)


def inches(text: str) -> str:
    """The text with its signs of inches spelt: marks behind a digit that end no quotation."""
    if '"' not in text:
        return text
    first, *rest = text.split('"')
    pieces = [first]
    is_open = False
    for piece in rest:
        is_second = pieces[-2:] == [_INCHES, ""]
        is_inch = is_second or (not is_open and pieces[-1][-1:].isdigit())
        is_open = is_open if is_inch else not is_open
        pieces += ["" if is_second else _INCHES if is_inch else '"', piece]
    return "".join(pieces)


_INCHES = " inches "


def said(text: str) -> str:
    """The words of a text, a blank between two."""
    return " ".join(_WORDS.findall(text.casefold()))


def is_odd(chunk: str) -> bool:
    """Whether what stands between two gaps may be a span or a part of one. Prose, and a number, is not."""
    return (
        _ODD.search(chunk.rstrip(".?!")) is not None
        or _HUMP.search(chunk) is not None
        or _HAS_MIX.search(chunk) is not None
        or _METHOD.search(chunk) is not None
        or "(" in chunk[1:]
    )


def quotes(text: str) -> tuple[str, ...]:
    """What a text that is folded quotes: words between blanks, with a blank at either end."""
    has_marks = '"' in text or "'" in text or "‘" in text
    return _quotes(text) if has_marks and _OPENING_MARK.search(text) else ()


def spans(text: str) -> Spans:
    """Find them in a text that is folded."""
    code: tuple[str, ...] = ()
    emails: list[str] = []
    addresses: list[str] = []
    names: list[str] = []
    rest = text
    if "`" in rest:
        code = tuple(" ".join((match[1] or match[2] or "").split()) for match in _CODE.finditer(rest))
        rest = _CODE.sub(r" \2 ", rest)  # a line of it may stand in the other text without backticks
    if "@" in rest:
        rest = _take(_EMAIL, rest, emails)
    if "/" in rest or "\\" in rest or _DOTTED.search(rest):
        rest = _take_addresses(rest, addresses, names)
    rest = _take_names(rest, names)
    if not text.isupper():
        names += _METHOD.findall(rest)
    operators: list[str] = []
    flags: list[str] = []
    if not _SIGNED.isdisjoint(rest):
        rest = _take(_TAG, rest, operators) if "<" in rest else rest
        flags = _FLAG.findall(rest) if " -" in rest or " +" in rest or rest.startswith("-") else []
        signed = _AREA.sub(" ", rest) if "^" in rest else rest
        operators += [sign.strip() for sign in _OPERATOR.findall(signed)]
    return Spans(
        rest,
        code,
        tuple(operators),
        frozenset(flags) if flags else NONE,
        frozenset([email.casefold() for email in emails]) if emails else NONE,
        frozenset(addresses) if addresses else NONE,
        frozenset([_identifier(name) for name in names]) if names else NONE,
    )


def _ascii_digit(match: re.Match[str]) -> str:
    digit = unicodedata.digit(match[0], None)
    return match[0] if digit is None else str(digit)


def _identifier(name: str) -> str:
    """Hyphens are left out where people write the same without them."""
    name = name.casefold()
    return name.replace("-", "") if "_" not in name and name[-1].isalnum() else "".join(name.split())


def _quotes(text: str) -> tuple[str, ...]:
    """Between marks that belong together. An apostrophe and the sign of an inch are none."""
    found = []
    opened: dict[str, int] = {}
    for mark in _MARK.finditer(text):
        place = mark.start()
        char = mark[0][0]
        kind = '"' if char == '"' else "'"
        before = text[place - 1] if place else " "
        after = text[mark.end() : mark.end() + 1] or " "
        start = opened.get(kind)
        if start is not None and char != "‘" and (kind == '"' or not (after.isalnum() or before.isspace())):
            found.append(said(text[start + 1 : place]))
            del opened[kind]
        elif kind == '"':
            if not before.isdigit():
                opened[kind] = place
        elif not (before.isalnum() or after.isspace() or after.isdigit()):
            opened[kind] = place
    return tuple([f" {quote} " for quote in found if quote])


def _take(pattern: re.Pattern[str], text: str, found: list[str]) -> str:
    """The text without what the pattern finds, which goes to ``found``."""
    matches = pattern.findall(text)
    if not matches:
        return text
    found += matches
    return pattern.sub(" ", text)


def _take_addresses(text: str, addresses: list[str], names: list[str]) -> str:
    def address(match: re.Match[str]) -> str:
        addresses.append(_address(match[0]))
        return " "

    def file(match: re.Match[str]) -> str:
        stem, _, ending = match[0].rpartition(".")
        if not any(char.isalpha() for char in stem) or len(stem) == len(ending) == 1:
            return match[0]  # a decimal, or initials: "D.C."
        names.append(match[0].replace(".js", "js") if _FRAMEWORK.fullmatch(match[0]) else match[0])
        return " "

    def path(match: re.Match[str]) -> str:
        unit = UNITS.get(match[0][1:])
        is_rate = unit is not None and _is_amount(
            match.string[max(0, match.start() - _AMOUNT_LENGTH) : match.start()], unit
        )
        return match[0] if is_rate else address(match)

    if "://" in text or "www." in text.casefold():
        text = _URL.sub(address, text)
    if "." in text:
        text = _HOST.sub(address, text)
        text = _FILE.sub(file, text)
        text = _take(_INSTANCE, text, names) if _DIGIT.search(text) else text
    if "/" in text or "\\" in text:
        text = _PATH.sub(path, text)
    return text


def _is_amount(before: str, period: Unit) -> bool:
    """What a rate begins with stands right before a period: "$30 /hour". Else it is a path, or the switch of a command."""
    words = before.casefold().split()[-2:]
    if period.dimension not in TIME_DIMENSIONS or not words:
        return False
    word = words[-1]
    unit = word.lstrip("0123456789.,")
    if unit != word:
        return unit in UNITS if unit else period.stands_alone
    if word[0] in MONEY_SIGNS:
        return word[1:2].isdigit()
    return word in UNITS and len(words) > 1 and (words[0][0].isdigit() or words[0] in NUMBER_WORDS)


def _address(written: str) -> str:
    """Without scheme, ``www``, the full stop of the sentence; hosts ignore case, paths do not."""
    address = written.rstrip(".,;:!?)]}'\"")
    scheme, marked, rest = address.partition("://")
    if marked:
        address = rest if scheme.casefold() in {"http", "https"} else f"{scheme.casefold()}://{rest}"
    if address[:4].casefold() == "www.":
        address = address[4:]
    host, slash, path = address.partition("/")
    return f"{host.casefold()}{slash}{path}".rstrip("/")


def _take_names(text: str, names: list[str]) -> str:
    if "_" in text or _HUMP.search(text):
        text = _take(_NAME, text, names)
    if "(" in text:
        text = _take(_CALL, text, names)
    if "#" in text or "@" in text or "$" in text or "%" in text or "+" in text or "*" in text:
        text = _take(_SPOKEN_NAME, _take(_TAGGED, text, names), names)
    if "+" in text or _HANGING.search(text):
        text = _take(_SIGNED_LETTER, text, names)
    if _DIGIT.search(text) and _HAS_MIX.search(text):
        text = _take_mixed(text, names)
    return text


def _take_mixed(text: str, names: list[str]) -> str:
    """Identifiers of letters and digits, and telephone numbers. What counts or measures stays."""

    def phone(match: re.Match[str]) -> str:
        names.append("".join(char for char in match[0] if char.isdigit()))
        return " "

    def mixed(match: re.Match[str]) -> str:
        chunk = match[0]
        if chunk.isalpha() or chunk.isdigit() or _COUNTED.fullmatch(chunk) or _ISO_DATE.fullmatch(chunk):
            return chunk
        if not any(char.isdigit() for char in chunk):
            return chunk
        names.append(chunk)
        return " "

    return _MIXED.sub(mixed, _PHONE.sub(phone, text))
