"""The audited false-hit rate and its confidence sequence."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesvc.core.policy import TrustTerms
from cachesvc.core.trust import audit
from cachesvc.core.trust.audit import NO_AUDITS, Audits
from cachesvc.core.trust.labels import Origin, Tally
from tests.labels import make_label

_SHARES = st.sampled_from([0.01, 0.05, 0.1, 0.2])
_AUDITS = st.lists(st.tuples(st.booleans(), _SHARES), max_size=60)


def _folded(*told: tuple[bool, float]) -> Audits:
    audits = NO_AUDITS
    for same, share in told:
        audits = audit.fold(audits, make_label(same=same, share=share))
    return audits


def test_before_the_first_audit_nothing_is_known() -> None:
    """No audit, no rate; the interval is everything."""
    assert audit.rate(NO_AUDITS, Tally()) is None
    assert audit.interval(NO_AUDITS) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("wrong", "seen", "at_most"),
    [(0, 30, 0.16), (0, 100, 0.05), (0, 300, 0.016), (3, 300, 0.045), (10, 1000, 0.025)],
    ids=["30 clean", "100 clean", "300 clean", "300 with 1 %", "1000 with 1 %"],
)
def test_the_interval_is_of_use_with_few_audits(wrong: int, seen: int, at_most: float) -> None:
    """The upper end is within a factor of two or so of what one look at a fixed number would give (Clopper-Pearson)."""
    low, high = audit.interval_of(wrong, seen)
    assert low <= wrong / seen <= high <= at_most


def test_a_rate_far_above_nothing_is_seen_from_below() -> None:
    """Half wrong in thirty is credibly more than a sixth."""
    low, _ = audit.interval_of(15, 30)
    assert low > 1 / 6


def test_counts_and_labels_of_equal_share_say_the_same() -> None:
    """``interval_of`` is the sequence for weights that are all the same."""
    audits = _folded(*[(place % 20 != 0, 0.1) for place in range(200)])
    assert audit.interval(audits) == pytest.approx(audit.interval_of(10, 200), abs=1e-6)


def test_an_audit_stands_for_the_hits_it_was_drawn_from() -> None:
    """One wrong of ten at a hundredth of the hits outweighs a clean ten at a fifth."""
    audits = _folded(*[(True, 0.2)] * 10, *[(place > 0, 0.01) for place in range(10)])
    known = audit.rate(audits, Tally(audits_asked=20))
    assert known is not None
    assert known.rate == pytest.approx(100 / (10 * 5 + 10 * 100))


@pytest.mark.parametrize("origin", [origin for origin in Origin if origin is not Origin.AUDIT])
def test_only_audits_count(origin: Origin) -> None:
    """Complaints, misses and imports are no sample of what was served."""
    assert audit.fold(NO_AUDITS, make_label(origin=origin, same=False)) is NO_AUDITS


def test_what_could_not_be_told_does_not_count() -> None:
    """Answers that no comparator can compare are neither right nor wrong."""
    assert audit.fold(NO_AUDITS, make_label(same=None)) is NO_AUDITS


def test_silence_is_told() -> None:
    """Of audits that were not answered the share is given, and the upper end if all of them stood for wrong hits."""
    audits = _folded(*[(True, 0.2)] * 60)
    known = audit.rate(audits, Tally(audits_asked=80))
    assert known is not None
    assert known.answered_share == 0.75
    assert known.silent_high == pytest.approx(known.high * 0.75 + 0.25)


@given(_AUDITS)
def test_the_interval_holds_the_estimate(told: list[tuple[bool, float]]) -> None:
    """Ends are in order, within 0 and 1, around the estimate; what is inside is covered."""
    audits = _folded(*told)
    low, high = audit.interval(audits)
    known = audit.rate(audits, Tally())
    assert 0.0 <= low <= high <= 1.0
    if known is not None:
        assert low <= known.rate <= high
        assert audit.covers(audits, (low + high) / 2)


@given(_AUDITS)
def test_records_are_plain_and_come_back(told: list[tuple[bool, float]]) -> None:
    """A state survives JSON, to the bit."""
    audits = _folded(*told)
    assert audit.from_record(json.loads(json.dumps(audit.to_record(audits)))) == audits


@pytest.mark.parametrize("record", [{}, {"low_logs": [], "high_logs": []}, {"answered": 1}], ids=str)
def test_other_records_are_refused(record: dict[str, object]) -> None:
    """A record that is none is an error, not a guess."""
    with pytest.raises(ValueError, match="a record"):
        audit.from_record(record)


@given(_AUDITS, st.integers(0, 10**7))
def test_the_share_keeps_to_the_policy(told: list[tuple[bool, float]], traffic: int) -> None:
    """Never under the least, never over the most, and the most while the brake is worried."""
    terms = TrustTerms()
    audits = _folded(*told)
    assert terms.audit_share <= audit.audit_share(audits, terms, traffic) <= terms.max_audit_share
    assert audit.audit_share(audits, terms, traffic, worried=True) == terms.max_audit_share


def test_the_share_is_high_while_little_is_known_and_cheap_at_high_traffic() -> None:
    """The most at first, however much traffic there is; the least once there were many audits and millions of hits."""
    terms = TrustTerms()
    known = _folded(*[(True, 0.2)] * 2000)
    assert audit.audit_share(NO_AUDITS, terms, 10**7) == terms.max_audit_share
    assert audit.audit_share(known, terms, 10**7) == terms.audit_share
    shares = [audit.audit_share(known, terms, traffic) for traffic in (0, 1_000, 10_000, 100_000)]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("drifts", [False, True], ids=["the same all along", "ten times as much in the end"])
def test_the_interval_covers_at_every_look_with_an_adaptive_share(*, drifts: bool) -> None:
    """Of 150 runs with a share that follows what was seen, looked at after every audit, at most 5 % ever miss."""
    rng = np.random.default_rng(7)
    terms, hits = TrustTerms(), 1_500
    rates = np.where(np.arange(hits) < hits / 2, 0.01, 0.1 if drifts else 0.01)
    so_far = np.cumsum(rates) / np.arange(1, hits + 1)
    missed = 0
    for _ in range(150):
        audits, share, covered = NO_AUDITS, terms.max_audit_share, True
        wrong, coins = rng.random(hits) < rates, rng.random(hits)
        for place in range(hits):
            if coins[place] < share:
                audits = audit.fold(audits, make_label(same=not wrong[place], share=share))
                covered = covered and audit.covers(audits, float(so_far[place]))
            if place % 250 == 249:
                share = audit.audit_share(audits, terms, place)
        missed += not covered
    assert missed <= 7


def test_stakes_that_are_gone_stay_gone() -> None:
    """However much one audit weighs: all that the others told is nothing beside it."""
    low, high = audit.interval(_folded(*[(True, 0.2)] * 100, (True, 1e-12)))
    assert low == 0.0
    assert high == pytest.approx(1.0)
