"""Traps: prompts with an edit that turns the answer, to see which of them a policy would serve all the same."""

from cachesvc.evaluation.traps.changing import GUARDED
from cachesvc.evaluation.traps.make import Trap, bundled, make, prompts_of
from cachesvc.evaluation.traps.spring import KindResult, Sprang, Sprung, sprang, spring

__all__ = [
    "GUARDED",
    "KindResult",
    "Sprang",
    "Sprung",
    "Trap",
    "bundled",
    "make",
    "prompts_of",
    "sprang",
    "spring",
]
