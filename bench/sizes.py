"""How much is measured: all of it, or enough for a first look. Every section of the bench is given one of these."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """A peer takes ten times as long per call as cachesvc and gets fewer calls.

    ``entries`` are those of the store that the sections share; ``callers`` are the counts at which throughput
    is measured.
    """

    name: str
    entries: int
    rounds: int
    calls: int
    peer_calls: int
    load_rounds: int
    load_s: float
    callers: tuple[int, ...]
    stores: int
    starts: int


FULL = Size(
    name="full",
    entries=10_000,
    rounds=9,
    calls=120,
    peer_calls=40,
    load_rounds=5,
    load_s=2.0,
    callers=(1, 2, 4, 8, 16, 32),
    stores=600,
    starts=5,
)
QUICK = Size(
    name="quick",
    entries=10_000,
    rounds=3,
    calls=60,
    peer_calls=20,
    load_rounds=3,
    load_s=1.0,
    callers=(1, 16, 32),
    stores=200,
    starts=2,
)
