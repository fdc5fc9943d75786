"""What stands between two gaps of a text, looked up: most of it has stood in other texts before."""

from functools import lru_cache
from typing import NamedTuple

from cachesvc.core.gates.literals.atoms import Atom, cut
from cachesvc.core.gates.literals.spans import is_odd
from cachesvc.core.gates.words import KEPT_WORDS, MAX_KEPT_LENGTH


class Chunk(NamedTuple):  # looked up once a word: cheaper to read than a dataclass is to make
    """``is_odd``: spans are to be looked for; ``speaks``: literals are."""

    is_odd: bool
    speaks: bool
    atoms: tuple[Atom, ...]


def chunks(text: str) -> list[Chunk]:
    """Those of a text that is folded. What is too long to be a word is not kept."""
    return [_kept(chunk) if len(chunk) <= MAX_KEPT_LENGTH else _made(chunk) for chunk in text.split()]


def _made(chunk: str) -> Chunk:
    atoms = tuple(cut(chunk))
    return Chunk(is_odd(chunk), any(atom.speaks or atom.starts for atom in atoms), atoms)


_kept = lru_cache(KEPT_WORDS)(_made)
