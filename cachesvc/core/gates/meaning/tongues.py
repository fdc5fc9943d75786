"""Which language a text is in, as far as its script and its function words show. Said only when they leave no doubt."""

from collections import Counter
from collections.abc import Sequence

_WORDS = {
    "en": "the how what is are do does my i you can where why which when please with and this that it to of for from",
    "de": """
    der die das den dem ein eine einen wie ich mein meine meinen nicht und ist sind kann wo warum wann mit für auf bitte zu
    von welche welcher
    """,
    "fr": """
    le les un une des comment je mon ma mes ne et est sont peut où pourquoi quand avec pour sur quel quelle du qui que
    """,
    "es": """
    el la los las un una cómo como mi mis no y es son puedo dónde donde por qué cuál cuándo con para sobre del
    """,
    "it": "il lo gli un una come mio mia non e è sono posso dove perché quando con per che di della",
    "pt": "o os um uma como meu minha não e é são posso onde porque quando com para que do da qual",
    "nl": "de het een hoe ik mijn niet en is zijn kan waar waarom wanneer met voor op welke van",
}
_SCRIPTS = (
    ("greek", 0x370, 0x3FF),
    ("cyrillic", 0x400, 0x52F),
    ("hebrew", 0x590, 0x5FF),
    ("arabic", 0x600, 0x6FF),
    ("devanagari", 0x900, 0x97F),
    ("thai", 0xE00, 0xE7F),
    ("kana", 0x3040, 0x30FF),
    ("han", 0x4E00, 0x9FFF),
    ("hangul", 0xAC00, 0xD7AF),
)
_LAST_LATIN = 0x24F
_MIN_VOTES = 2


def _speakers() -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for tongue, line in _WORDS.items():
        for word in line.split():
            found.setdefault(word, []).append(tongue)
    return {word: tongues[0] for word, tongues in found.items() if len(tongues) == 1}


TONGUE_OF = _speakers()
"""By function word: the one language of ours that it belongs to."""


def language(votes: Sequence[str], text: str) -> str:
    """A code, the name of a script, or empty. ``votes``: the languages of its function words, each as often as it is there."""
    script = "" if text.isascii() else _script(text)
    if script or len(votes) < _MIN_VOTES:
        return script
    if votes.count(votes[0]) == len(votes):
        return votes[0]
    best, count = max(Counter(votes).items(), key=lambda vote: (vote[1], vote[0]))
    return best if count >= _MIN_VOTES and count > 2 * (len(votes) - count) else ""


def _script(text: str) -> str:
    """The script of most letters where that is not Latin. Kana tells Japanese from Chinese."""
    counts: dict[str, int] = {}
    latin = 0
    for character in text:
        code = ord(character)
        if code <= _LAST_LATIN:
            latin += character.isalpha()
        else:
            name = next((name for name, first, last in _SCRIPTS if first <= code <= last), "")
            counts[name] = counts.get(name, 0) + 1
    counts.pop("", None)
    if sum(counts.values()) <= latin:
        return ""
    return "kana" if "kana" in counts else max(counts, key=lambda name: (counts[name], name))
