"""What is known of scopes that were in memory before the process ended, and how far loading them anew is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScopeNote:
    """A scope that was in memory: its rows, and the memory that they took."""

    scope: bytes
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class WarmStep:
    """A step of loading a scope: the rows that are in so far, whether those are all, and whether there was no
    room to go on.
    """

    rows: int
    is_loaded: bool = False
    is_without_room: bool = False


@dataclass(frozen=True, slots=True)
class Warming:
    """How far the start is. Totals are of the scopes that were in memory last time, as they were noted then."""

    is_done: bool
    scopes: int
    scopes_total: int
    rows: int
    rows_total: int
    elapsed_s: float
