"""What stands between two gaps of a text, looked up: most of it has stood in other texts before."""

from functools import lru_cache
from typing import NamedTuple

from cachesvc.core.gates.literals.atoms import Atom, cut
from cachesvc.core.gates.literals.spans import is_odd
from cachesvc.core.gates.words import KEPT_WORDS, MAX_KEPT_LENGTH

_LETTERS = frozenset("bcefghjklopqvwxyz")
"""Those that stand for something. Others are words, or typed for some: "u", "r", "n"; "s", "t", "d" and "m" after apostrophes."""

_ABBREVIATES = frozenset((".", "'"))

ODD, SPEAKS, LETTERS = 1, 2, 4


class Chunk(NamedTuple):  # looked up once a word: cheaper to read than a dataclass is to make
    """``marks``: of ODD (spans are to be looked for), SPEAKS (literals are), LETTERS. ``letters``: those that are no part of a word."""

    marks: int
    atoms: tuple[Atom, ...]
    letters: tuple[str, ...]


def chunks(text: str) -> list[Chunk]:
    """Those of a text that is folded. What is too long to be a word is not kept."""
    return [_kept(chunk) if len(chunk) <= MAX_KEPT_LENGTH else _made(chunk) for chunk in text.split()]


def marks(parts: list[Chunk]) -> int:
    """Of all of them."""
    found = 0
    for part in parts:
        found |= part.marks
    return found


def _made(chunk: str) -> Chunk:
    atoms = tuple(cut(chunk))
    speaks = any(atom.speaks or atom.starts for atom in atoms)
    letters = _letters(atoms)
    return Chunk(is_odd(chunk) * ODD | speaks * SPEAKS | bool(letters) * LETTERS, atoms, letters)


def _letters(atoms: tuple[Atom, ...]) -> tuple[str, ...]:
    """Not initials, units right behind a number, or what is left of "don't"."""
    found = []
    for place, atom in enumerate(atoms):
        if len(atom.text) != 1 or atom.text not in _LETTERS:
            continue
        before = atoms[place - 1].text if place and atom.glued else ""
        after = atoms[place + 1].text if place + 1 < len(atoms) and atoms[place + 1].glued else ""
        if not (
            before[:1].isdigit()
            or before in _ABBREVIATES
            or (after in _ABBREVIATES and place + 2 < len(atoms))
        ):
            found.append(atom.text)
    return tuple(found)


_kept = lru_cache(KEPT_WORDS)(_made)
