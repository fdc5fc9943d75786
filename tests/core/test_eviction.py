"""Ranks: what an entry is worth keeping."""

import pytest

from cachesvc.core.eviction import rank


def test_a_hit_is_worth_more_than_being_stored() -> None:
    """An entry that was used once stays before a new one that would save up to five times as much money for its size."""
    used = rank("gdsf", 0.01, 4096, hits=1, inflation=0.0)
    assert rank("gdsf", 0.049, 4096, hits=0, inflation=0.0) < used
    assert rank("gdsf", 0.051, 4096, hits=0, inflation=0.0) > used


def test_money_counts_before_the_first_hit() -> None:
    """Of two new entries of equal size the dearer stays, of two of equal cost the smaller."""
    rank_of_new = rank("gdsf", 0.01, 4096, hits=0, inflation=0.0)
    assert rank("gdsf", 0.02, 4096, hits=0, inflation=0.0) > rank_of_new
    assert rank("gdsf", 0.01, 8192, hits=0, inflation=0.0) < rank_of_new


@pytest.mark.parametrize("hits", [0, 1, 1000])
def test_what_is_used_now_outranks_what_was_evicted_last(hits: int) -> None:
    """A rank is above the inflation it was made with, however little the entry saves."""
    assert rank("gdsf", 1e-6, 1 << 20, hits, inflation=0.5) > 0.5
