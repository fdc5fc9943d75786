"""The control of a namespace's threshold: what labels make it do, and what they cannot."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesvc.core.gates import Gate
from cachesvc.core.trust.control import (
    CHANCES,
    CLOSED,
    SCORES,
    UNTOLD,
    ControlState,
    ControlTerms,
    Ladder,
    Seen,
    curve,
    fold,
    hold_back_share,
    reckon,
    seen,
)
from cachesvc.core.trust.labels import Comparator, Label, LabelledCandidate, Origin, Tally
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.votes import voted

TERMS = ControlTerms(0.01)


def missed(value: float, *, wrong: bool = False) -> Seen:
    """A miss whose best candidate had this value."""
    return Seen(value, wrong, would_hit=False, stands_for=1.0)


def held_back(value: float, *, wrong: bool = False, share: float = 0.1) -> Seen:
    """A would-be hit that was answered anew by chance."""
    return Seen(value, wrong, would_hit=True, stands_for=1 / share)


SEEN = st.builds(
    Seen,
    value=st.floats(0.5, 1.25),
    wrong=st.booleans(),
    would_hit=st.booleans(),
    stands_for=st.floats(1.0, 20.0),
)


def test_begins_at_the_threshold_of_the_terms() -> None:
    """Before the first label the policy's threshold is in force, whatever it is."""
    assert UNTOLD.in_force(TERMS) == 0.95
    assert UNTOLD.in_force(replace(TERMS, start=0.9)) == 0.9


def test_opens_when_labels_defend_more() -> None:
    """Right candidates below the threshold, labelled at every miss, let it fall, by steps that say why."""
    folded = fold(UNTOLD, [missed(0.8) for _ in range(2_000)], TERMS)
    assert folded.state.in_force(TERMS) < 0.8
    assert folded.steps[0].startswith("opened from 0.950 to 0.930: labels defend")


def test_stays_where_labels_are_few() -> None:
    """Two hundred requests without an error cannot defend 1 %."""
    assert fold(UNTOLD, [missed(0.8) for _ in range(200)], TERMS).state.in_force(TERMS) == 0.95


def test_stops_above_what_is_wrong() -> None:
    """Where a tenth of the requests would be wrong is not opened."""
    news = [item for _ in range(300) for item in [*[missed(0.88)] * 9, missed(0.75, wrong=True)]]
    assert 0.75 < fold(UNTOLD, news, TERMS).state.in_force(TERMS) <= 0.88


def test_closes_where_errors_are_likely() -> None:
    """Wrong would-be hits just above the threshold, not all at once, raise it past them."""
    news = [item for _ in range(6) for item in [*[missed(0.7)] * 40, held_back(0.96, wrong=True, share=0.5), *[held_back(1.05)] * 20]]  # fmt: skip
    folded = fold(UNTOLD, news, TERMS)
    assert 0.96 < folded.state.in_force(TERMS) < CLOSED


def test_closes_at_once_when_hits_turn_wrong() -> None:
    """A handful of wrong ones in a row closes all, whatever was known before, and that is forgotten."""
    known = fold(UNTOLD, [missed(0.8)] * 2_000 + [held_back(0.97)] * 40, TERMS).state
    drifted = fold(known, [held_back(0.97, wrong=True)] * 4, TERMS)
    assert drifted.state.in_force(TERMS) == CLOSED
    assert drifted.state.alarms == 1
    assert sum(drifted.state.labelled) < 4
    assert drifted.steps[-1].startswith("closed: of the last ")


def test_opens_again_after_an_alarm() -> None:
    """Once closed, misses tell everything: right ones open it again, once what was overspent is saved."""
    known = fold(UNTOLD, [missed(0.97)] * 20 + [held_back(0.97, wrong=True)] * 5, TERMS).state
    assert known.in_force(TERMS) == CLOSED
    after = fold(known, [missed(1.0)] * 4_000, TERMS)
    assert after.state.in_force(TERMS) <= 1.0
    assert after.steps[0].startswith("opened from nothing is served to")


def test_holds_back_more_while_little_is_known() -> None:
    """Half of the hits at first, never less than the terms ask for."""
    assert hold_back_share(UNTOLD, TERMS) == 0.5
    shares = [hold_back_share(replace(UNTOLD, hit_labels=count), TERMS) for count in range(0, 2_000, 50)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == TERMS.hold_back_share


@given(st.lists(SEEN, max_size=120), st.integers(0, 120))
@settings(max_examples=60, deadline=None)
def test_in_one_go_or_in_pieces(news: list[Seen], cut: int) -> None:
    """The same labels in the same order give the same state and steps, however they are cut up."""
    whole = fold(UNTOLD, news, TERMS)
    first = fold(UNTOLD, news[:cut], TERMS)
    second = fold(first.state, news[cut:], TERMS)
    assert second.state == whole.state
    assert (*first.steps, *second.steps) == whole.steps


@given(st.lists(SEEN, max_size=120))
@settings(max_examples=60, deadline=None)
def test_state_goes_through_a_record(news: list[Seen]) -> None:
    """What was written as JSON and read is what was there."""
    state = fold(UNTOLD, news, TERMS).state
    assert ControlState.from_record(json.loads(json.dumps(state.to_record()))) == state


@given(st.lists(SEEN, max_size=200))
@settings(max_examples=60, deadline=None)
def test_never_opens_without_evidence(news: list[Seen]) -> None:
    """Below the start is only where the labels defend the rate: nothing wrong among fewer than 3 ÷ rate requests, as
    many as an exact bound asks for, never is.
    """
    state = UNTOLD
    stood = 0.0
    for item in news:
        state = fold(state, [item], TERMS).state
        stood += item.stands_for
        if stood < 2.9 / TERMS.max_error_rate:
            assert state.in_force(TERMS) >= TERMS.start


@given(st.lists(SEEN, min_size=1, max_size=80), st.data())
@settings(max_examples=60, deadline=None)
def test_wrong_labels_never_look_better(news: list[Seen], data: st.DataObject) -> None:
    """One right label turned wrong raises what is likely, and what is defended, or leaves them, at every rung."""
    quiet = [replace(item, would_hit=False) for item in news]
    turned = data.draw(st.integers(0, len(quiet) - 1))
    worse = [replace(item, wrong=item.wrong or place == turned) for place, item in enumerate(quiet)]
    before, after = (curve(fold(UNTOLD, items, TERMS).state, TERMS) for items in (quiet, worse))
    assert all(now >= then - 1e-12 for then, now in zip(before.likely, after.likely, strict=True))
    assert all(now >= then - 1e-12 for then, now in zip(before.bound, after.bound, strict=True))


@given(st.lists(SEEN, max_size=80))
@settings(max_examples=30, deadline=None)
def test_lower_thresholds_err_more(news: list[Seen]) -> None:
    """The bound is never below what is likely."""
    drawn = curve(fold(UNTOLD, news, TERMS).state, TERMS)
    assert all(bound > likely for likely, bound in zip(drawn.likely, drawn.bound, strict=True))


def test_misses_that_nobody_answered_are_reckoned_with() -> None:
    """Where half of the misses brought no answer, labels of hits stand for half as many beside them."""
    state = fold(UNTOLD, [missed(0.8)] * 100 + [held_back(0.97, share=0.5)] * 20, TERMS).state
    counted = reckon(state, Tally(searched=480, near=240, would_hit=40, held_back=20))
    assert counted.requests_per_near == 2.0
    assert counted.hit_factor == pytest.approx(0.5)


def test_nothing_counted_changes_nothing() -> None:
    """Before the first lookup there is nothing to take over."""
    assert reckon(UNTOLD, Tally()) == UNTOLD


@pytest.mark.parametrize("ladder", [SCORES, CHANCES], ids=["scores", "chances"])
def test_rungs(ladder: Ladder) -> None:
    """Each rung is reached by its own value, and by nothing below it."""
    for place, rung in enumerate(ladder.rungs):
        assert ladder.rung(rung) == place
        assert ladder.rung(rung - 1e-5) == max(place - 1, 0)


def label(origin: Origin, served: int | None, *candidates: LabelledCandidate, share: float = 1.0) -> Label:
    """One with these candidates."""
    return Label(b"k" * 16, 0, origin, Comparator.TEXT, share, 0, 1, served, candidates)


def candidate(score: float, *, same: bool | None = True, gate: Gate | None = None) -> LabelledCandidate:
    """One with this score and no features."""
    return LabelledCandidate(np.zeros(1, np.float32), score, gate, same)


LABELS: dict[str, tuple[Label, Seen | None]] = {
    "a miss": (label(Origin.MISS, None, candidate(0.9)), Seen(0.9, False, False, 1.0)),
    "a hit held back": (label(Origin.HELD_BACK, 0, candidate(0.97, same=False), share=0.05), Seen(0.97, True, True, 20.0)),
    "what was served, though not the nearest": (label(Origin.AUDIT, 1, candidate(0.99), candidate(0.97, same=False)), Seen(0.97, True, True, 1.0)),
    "behind a gate": (label(Origin.MISS, None, candidate(0.9, gate=Gate.NUMBER), candidate(0.8, same=False)), Seen(0.8, True, False, 1.0)),
    "below the floor": (label(Origin.MISS, None, candidate(0.5)), Seen(0.0, False, False, 1.0)),
    "all refused": (label(Origin.MISS, None, candidate(0.9, same=False, gate=Gate.DATE)), Seen(0.0, False, False, 1.0)),
    "cannot be told": (label(Origin.MISS, None, candidate(0.9, same=None)), None),
    "a verdict is no sample": (label(Origin.FEEDBACK, 0, candidate(0.97, same=False)), None),
    "a share of nothing": (label(Origin.AUDIT, 0, candidate(0.97), share=0.0), None),
    "nothing near": (label(Origin.MISS, None), None),
}  # fmt: skip


@pytest.mark.parametrize("case", LABELS.values(), ids=LABELS.keys())
def test_what_a_label_says(case: tuple[Label, Seen | None]) -> None:
    """The candidate that the rule would serve first, and how many requests it stands for."""
    told, expected = case
    assert seen(told, Rule(0, 0.95), 0.6) == expected


@pytest.mark.parametrize("slope", [4.0, 12.0, 40.0], ids=["hard", "middling", "lenient"])
def test_the_rate_is_held(slope: float) -> None:
    """Made-up traffic, hard and lenient: wrong hits per request end near the rate that is borne or below it."""
    for seed in range(3):
        assert made_up_error(slope, seed, 3_000) <= 0.014


def made_up_error(slope: float, seed: int, requests: int) -> float:
    """Wrong hits ÷ requests of traffic in which a candidate of value v is wrong with chance exp(-slope * (v - .6))."""
    draw = np.random.default_rng(seed)
    values = 0.6 + 0.4 * draw.beta(2, 3, requests)
    wrongs = draw.random(requests) < np.exp(-slope * (values - 0.6))
    coins = draw.random(requests)
    state, threshold, share, served_wrong = UNTOLD, TERMS.start, hold_back_share(UNTOLD, TERMS), 0
    news: list[Seen] = []
    for value, wrong, coin in zip(values.tolist(), wrongs.tolist(), coins.tolist(), strict=True):
        if value < threshold:
            news.append(missed(value, wrong=wrong))
        elif coin < share:
            news.append(held_back(value, wrong=wrong, share=share))
        else:
            served_wrong += wrong
        if len(news) == 20:
            state = fold(state, news, TERMS).state
            threshold, share = state.in_force(TERMS), hold_back_share(state, TERMS)
            news = []
    return served_wrong / requests


def labelled(*verdicts: tuple[float, Gate | None, bool | None], served: int | None = None) -> Label:
    """A label whose candidates have these scores, gates and verdicts."""
    row = np.zeros(1, np.float32)
    candidates = tuple(LabelledCandidate(row, score, gate, same) for score, gate, same in verdicts)
    origin = Origin.MISS if served is None else Origin.HELD_BACK
    share = 1.0 if served is None else 0.5
    return Label(b"k" * 16, 1, origin, Comparator.TEXT, share, 0, 0, served, candidates)


def test_what_was_served_and_cannot_be_told_says_nothing() -> None:
    """The verdict on another candidate is not that on the hit."""
    label = labelled((0.98, None, None), (0.7, None, False), served=0)
    assert seen(label, Rule(0, 0.95), 0.6) is None


def test_requests_of_which_gates_refuse_all_are_requests() -> None:
    """They can never err, and count among the misses that were answered, as they do in the tally."""
    label = labelled((0.98, Gate.NUMBER, False), (0.9, Gate.DATE, True))
    told = seen(label, Rule(0, 0.95), 0.6)
    assert told is not None
    assert not told.wrong
    assert not told.would_hit
    half_gated = [missed(0.8), told] * 500
    state = fold(UNTOLD, [*half_gated, *[held_back(0.97, share=0.5)] * 100], TERMS).state
    after = reckon(state, Tally(searched=1_200, near=1_200, would_hit=200, served=100, held_back=100))
    assert after.hit_factor == pytest.approx(1.0)


def test_closed_is_out_of_reach_of_all_votes() -> None:
    """However many candidates agree."""
    assert voted([1.0] * 100, [b"same"] * 100).max() < CLOSED
