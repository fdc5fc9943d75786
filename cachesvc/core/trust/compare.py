"""Whether two answers say the same: what turns a fresh answer beside a stored one into a label. Pure.

What cannot be told is told: ``same`` is None then. Each comparator has its own bias; docs/trust.md names it. Called by
``engine.labelling`` and ``engine.feedback``, never on the path of a lookup.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import TypeAlias

from cachesvc.core.gates import Gate, analyse, verdicts
from cachesvc.core.policy import Compare
from cachesvc.core.trust.labels import Comparator

MAX_BYTES = 1 << 18
"""Answers above are the same if their bytes are; else that cannot be told."""

BAND = 0.2
"""So far below the score from which answers count as the same they still may be: measured, see ADR 0033."""

_MAX_DEPTH = 64
_SHORT_WORDS = 3  # labels, names, yes and no: embeddings of so little say nothing
_PROSE_WORDS = 4  # strings of JSON from here on are sentences, which may be put otherwise
_POLAR = frozenset({"yes", "no", "true", "false"})
_WORD = re.compile(r"\w+")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ENDING = " \t\n.!?;:,…。！？"
# An answer with more detail has more names and numbers than a short one, and says the same all the same; what these
# refuse is another answer. Chosen by what they do to paraphrases: see ADR 0033.
_TURNING = frozenset(
    {Gate.NUMBER, Gate.QUANTITY, Gate.DATE, Gate.TIME, Gate.VERSION, Gate.ANTONYM, Gate.NEGATION, Gate.ROLE}
)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a comparison came to."""

    same: bool | None
    comparator: Comparator


@dataclass(frozen=True, slots=True)
class Prose:
    """Two texts that only their embeddings can tell apart, canonical."""

    fresh: str
    stored: str


Json: TypeAlias = "dict[str, Json] | list[Json] | str | Decimal | bool | None"


def compare(fresh: bytes, stored: bytes, how: Compare) -> Judged | Prose:
    """Compare two responses as the policy says (not ``off``): the cheap part, and what is left to embeddings."""
    if fresh == stored:
        return Judged(True, Comparator.JSON if how == "json" else Comparator.TEXT)
    texts = _text(fresh), _text(stored)
    if texts[0] is None or texts[1] is None:
        return Judged(None, Comparator.TEXT)
    ours, theirs = texts[0], texts[1]
    if how in ("auto", "json"):
        parsed = _parsed(ours), _parsed(theirs)
        if parsed[0] is not None and parsed[1] is not None:
            return _compare_json(*parsed[0], *parsed[1], is_strict=how == "json")
        if how == "json":
            return Judged(None, Comparator.JSON)
    return _compare_texts(ours, theirs, how)


def digest(response: bytes) -> bytes:
    """What counts in an answer, digested: equal for answers that ``compare`` calls the same without embeddings."""
    text = _text(response)
    if text is None:
        return _hashed(b"bytes", response)
    parsed = _parsed(text)
    if parsed is None:
        return _hashed(b"text", normal(text).encode())
    said = _spoken(parsed[0])
    if said is not None:
        return _hashed(b"text", normal(said).encode())
    try:
        plain = json.dumps(_plain(parsed[0]), sort_keys=True).encode()
    except (RecursionError, OverflowError):
        return _hashed(b"bytes", response)
    return _hashed(b"json", plain)


def by_nearness(prose: Prose, score: float, min_score: float) -> Judged:
    """What the cosine similarity of two texts' embeddings says of them, and what they say that it cannot see."""
    return Judged(_are_same(prose, score, min_score), Comparator.EMBEDDING)


def normal(text: str) -> str:
    """A text as it is compared: NFKC, case, white space and punctuation at the end aside. Idempotent."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split()).rstrip(_ENDING)


def _are_same(prose: Prose, score: float, min_score: float) -> bool | None:
    if score <= min_score - BAND:
        return False
    vetoes = {veto.gate for veto in verdicts(analyse(prose.fresh), analyse(prose.stored))}
    if vetoes & _TURNING or _first_word_turns(prose):
        return False
    return True if score >= min_score and not vetoes else None


def _first_word_turns(prose: Prose) -> bool:
    first = [_WORD.search(text.casefold()) for text in (prose.fresh, prose.stored)]
    said = [None if match is None else match[0] for match in first]
    return said[0] != said[1] and said[0] in _POLAR and said[1] in _POLAR


def _compare_texts(ours: str, theirs: str, how: Compare) -> Judged | Prose:
    folded = normal(ours), normal(theirs)
    if folded[0] == folded[1]:
        return Judged(True, Comparator.TEXT)
    if how == "text":
        return Judged(False, Comparator.TEXT)
    words = [_WORD.findall(text) for text in folded]
    if max(map(len, words)) <= _SHORT_WORDS:
        within = set(words[0]) <= set(words[1]) or set(words[1]) <= set(words[0])
        return Judged(None if within else False, Comparator.TEXT)
    return Prose(ours, theirs)


def _compare_json(ours: Json, theirs: Json, *, is_strict: bool) -> Judged | Prose:
    """Strict: equal or not. Else a model's reply is what it says, and sentences may be put otherwise."""
    said = _spoken(ours), _spoken(theirs)
    if said[0] is not None and said[1] is not None:
        how: Compare = "text" if is_strict else "auto"
        return _compare_texts(said[0], said[1], how)
    alike = _alike(ours, theirs, 0)
    if alike is None or (alike != _EQUAL and is_strict):
        return Judged(False, Comparator.JSON)
    return Judged(True, Comparator.JSON) if alike == _EQUAL else alike


_EQUAL = Prose("", "")


def _alike(ours: Json, theirs: Json, depth: int) -> Prose | None:
    """The sentences in which two values differ, one a line; None where they differ in more."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        pairs = [(value, theirs[key]) for key, value in ours.items() if key in theirs]
        return _all_alike(pairs, depth) if len(pairs) == len(ours) == len(theirs) else None
    if isinstance(ours, list) and isinstance(theirs, list):
        pairs = list(zip(ours, theirs, strict=False))
        return _all_alike(pairs, depth) if len(ours) == len(theirs) else None
    if isinstance(ours, str) and isinstance(theirs, str):
        return _alike_strings(ours, theirs)
    return _EQUAL if type(ours) is type(theirs) and ours == theirs else None


def _all_alike(pairs: list[tuple[Json, Json]], depth: int) -> Prose | None:
    if depth == _MAX_DEPTH:
        return None
    found = _EQUAL
    for ours, theirs in pairs:
        alike = _alike(ours, theirs, depth + 1)
        if alike is None:
            return None
        if alike != _EQUAL:
            found = Prose(found.fresh + alike.fresh + "\n", found.stored + alike.stored + "\n")
    return found


def _alike_strings(ours: str, theirs: str) -> Prose | None:
    if normal(ours) == normal(theirs):
        return _EQUAL
    fewest = min(len(_WORD.findall(text)) for text in (ours, theirs))
    return Prose(ours, theirs) if fewest >= _PROSE_WORDS else None


def _spoken(value: Json) -> str | None:
    """What a model's reply says, in the forms of OpenAI's and Anthropic's APIs: their ids and times always differ."""
    if not isinstance(value, dict):
        return None
    said: list[Json] = []
    choices, content = value.get("choices"), value.get("content")
    if isinstance(choices, list):
        said = [_content(choice) for choice in choices]
    elif value.get("type") == "message" and isinstance(content, list):
        said = [part.get("text") if isinstance(part, dict) else None for part in content]
    texts = [text for text in said if isinstance(text, str)]
    return "\n".join(texts) if texts and len(texts) == len(said) else None


def _content(choice: Json) -> Json:
    message = choice.get("message") if isinstance(choice, dict) else None
    return message.get("content") if isinstance(message, dict) and not message.get("tool_calls") else None


def _text(response: bytes) -> str | None:
    if len(response) > MAX_BYTES:
        return None
    try:
        return response.decode()
    except UnicodeDecodeError:
        return None


def _parsed(text: str) -> "tuple[Json] | None":
    """In a tuple of its own, for null is a value; None for what is no JSON, or spells half of a surrogate pair, which is
    no text (RFC 8259, section 8.2).
    """
    try:
        value = json.loads(text, parse_float=_number, parse_int=_number, parse_constant=_refused)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except (ValueError, RecursionError):
        return None
    return (value,)


def _plain(value: Json) -> object:
    """Equal for values that are the same: numbers by what they are, strings by what they say."""
    if isinstance(value, dict):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_plain(held) for held in value]
    if isinstance(value, str):
        return normal(value)
    if isinstance(value, Decimal):
        sign, digits, exponent = value.as_tuple()
        written = "".join(map(str, digits)).lstrip("0")
        bare = written.rstrip("0")
        return {"number": [sign, bare, int(exponent) + len(written) - len(bare)] if bare else 0}
    return value


def _hashed(kind: bytes, content: bytes) -> bytes:
    return blake2b(content, digest_size=16, person=kind).digest()


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("a number beyond all bounds") from None


def _refused(name: str) -> Decimal:
    raise ValueError(f"{name} is not JSON")
