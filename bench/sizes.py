"""How much is measured: all of it, or enough for a first look. Every section of the bench is given one of these."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of each of the ``scales``: starts, rounds of so many calls, and lookups before memory is looked at."""

    starts: int
    rounds: int
    calls: int
    traffic: int


@dataclass(frozen=True, slots=True)
class Size:
    """A peer takes ten times as long per call as cachesvc and gets fewer calls.

    ``entries`` are those of the store that the sections share; ``callers`` are the counts at which throughput
    is measured. ``scales`` are the entries of the stores and indexes that show growth, ``moved`` those of the store
    whose index is seen moving. ``most_s`` bounds the run: sections that would begin later are left out.
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
    scales: tuple[int, ...]
    scale: Extent
    moved: int
    starve_s: float
    most_s: float


FULL = Size(
    name="full",
    entries=10_000,
    rounds=7,
    calls=120,
    peer_calls=40,
    load_rounds=3,
    load_s=2.0,
    callers=(1, 2, 4, 8, 16, 32),
    stores=600,
    starts=3,
    scales=(10_000, 100_000, 1_000_000),
    scale=Extent(starts=3, rounds=7, calls=120, traffic=3_000),
    moved=100_000,
    starve_s=5.0,
    most_s=3_000.0,
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
    scales=(10_000, 100_000),
    scale=Extent(starts=2, rounds=3, calls=60, traffic=500),
    moved=100_000,
    starve_s=2.5,
    most_s=900.0,
)
