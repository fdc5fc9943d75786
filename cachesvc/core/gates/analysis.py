"""What the gates know of a text, found out once."""

from dataclasses import dataclass, field

from cachesvc.core.gates.literals import Literals, literals
from cachesvc.core.gates.meaning import Meaning, meaning
from cachesvc.core.gates.profile import Profile, profile
from cachesvc.core.gates.words import words

MAX_LENGTH = 8192
"""Characters; no more of a text is analysed. That is how long the texts are that an embedder is shown where nothing else is set
(``embedder.max_text_length``): longer ones are exact-tier, and a window of 512 tokens ends far sooner."""


@dataclass(slots=True)
class Analysis:
    """The literals of a text (numbers, dates, names of things …), what carries its meaning, and its shape.

    Not to be changed: it is only not frozen because what stands under ``_meaning`` and ``_profile`` is made when it is first
    asked for. Two threads that ask at once make two that are equal, and one is kept.
    """

    text: str
    literals: Literals
    _meaning: Meaning | None = field(default=None, compare=False, repr=False)
    _profile: Profile | None = field(default=None, compare=False, repr=False)

    @property
    def meaning(self) -> Meaning:
        """What it says. Many a candidate differs in its literals, and then nobody asks."""
        made = self._meaning
        if made is None:
            made = self._meaning = meaning(self.text, words(self.text))
        return made

    @property
    def line(self) -> str:
        """Its words in a row, folded, without signs."""
        folded = " ".join(words(self.text)).casefold().replace("’", "'").split(" ")
        return " ".join([word for word in folded if word[:1].isalnum()])

    @property
    def profile(self) -> Profile:
        """Its shape. No gate asks for it, so that a lookup under rule 0 never pays for it."""
        made = self._profile
        if made is None:
            made = self._profile = profile(self.line, self.meaning)
        return made


def analyse(text: str) -> Analysis:
    """Analyse a text. Never raises; the same text gives an equal analysis."""
    seen = text[:MAX_LENGTH]
    return Analysis(seen, literals(seen))
