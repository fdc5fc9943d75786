"""The life of a namespace's trust, label by label."""

from dataclasses import replace

import numpy as np
import pytest

from cachesvc.core.policy import Policy, TrustTerms
from cachesvc.core.trust.control import ControlState
from cachesvc.core.trust.features import NAMES, VERSION
from cachesvc.core.trust.labels import Comparator, Label, LabelledCandidate, Origin, Tally
from cachesvc.core.trust.life import VOTING, advance, challenged, is_challenge_due, pinned, stance
from cachesvc.core.trust.records import state_of, state_record
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import Step, TrustState
from cachesvc.core.trust.votes import Voting

CONTROLLED = Policy(trust=TrustTerms(max_error_rate=0.01))
NEW = TrustState("shop")


def labels(count: int, score: float, *, same: bool = True, first: int = 1) -> list[tuple[int, Label]]:
    """Misses whose one near candidate had this score."""
    row = np.zeros(len(NAMES), np.float32)
    row[NAMES.index("score")] = row[NAMES.index("over_dissent")] = score
    candidates = (LabelledCandidate(row, score, None, same),)
    return [
        (number, Label(number.to_bytes(16, "big"), number, Origin.MISS, Comparator.TEXT, 1.0, VOTING, VERSION, None, candidates))
        for number in range(first, first + count)
    ]  # fmt: skip


def test_a_policy_without_a_rate_keeps_its_threshold() -> None:
    """Labels are counted past and change nothing; scores decide alone."""
    after = advance(NEW, labels(2_000, 0.8), Tally(2_000, 2_000), Policy(), 5).state
    assert after.applied == 2_000
    assert stance(after, Policy()).rule == Rule(0, 0.95)


def test_a_rate_opens_by_labels() -> None:
    """From the policy's threshold on votes to one that labels defend, and every step is told with its time."""
    assert stance(NEW, CONTROLLED).rule.threshold == 0.95
    assert isinstance(stance(NEW, CONTROLLED).rule.model, Voting)
    advanced = advance(NEW, labels(2_000, 0.8), Tally(2_000, 2_000), CONTROLLED, 5)
    assert stance(advanced.state, CONTROLLED).rule.threshold < 0.8
    assert advanced.steps[0].at_ms == 5
    assert advanced.state.steps == advanced.steps[-50:]


def test_hold_back_follows_what_is_known() -> None:
    """Half at first."""
    assert stance(NEW, CONTROLLED).hold_back_share == 0.5


def test_what_an_operator_pinned_stands() -> None:
    """Control learns on, and the pinned rule keeps its own threshold."""
    pinned = replace(NEW, rules=(Rule(3, 0.7),), active=3, pinned=True)
    after = advance(pinned, labels(50, 0.9, same=False), Tally(50, 50), CONTROLLED, 5).state
    assert stance(after, CONTROLLED).rule == Rule(3, 0.7)
    assert not is_challenge_due(after, CONTROLLED)


def test_challenges_come_at_growing_distances() -> None:
    """The first once 500 labels are there, the next after half as many again."""
    few = advance(NEW, labels(499, 0.8), Tally(499, 499), CONTROLLED, 1).state
    enough = advance(few, labels(1, 0.8, first=500), Tally(500, 500), CONTROLLED, 1).state
    assert (is_challenge_due(few, CONTROLLED), is_challenge_due(enough, CONTROLLED)) == (False, True)
    stayed = challenged(enough, None, "it wins no hits", CONTROLLED, 2).state
    assert stayed.challenger == "it wins no hits"
    assert not is_challenge_due(stayed, CONTROLLED)
    later = advance(stayed, labels(250, 0.8, first=501), Tally(750, 750), CONTROLLED, 3).state
    assert is_challenge_due(later, CONTROLLED)
    assert not is_challenge_due(later, Policy())


def test_a_winner_is_in_force_at_its_own_threshold() -> None:
    """What labels said of the rule before it says nothing of it."""
    known = advance(NEW, labels(2_000, 0.8), Tally(2_000, 2_000), CONTROLLED, 5).state
    adopted = challenged(known, Rule(2, 0.875), "won 9 hits", CONTROLLED, 6)
    assert stance(adopted.state, CONTROLLED).rule == Rule(2, 0.875)
    assert adopted.steps[0].what == "rule 2 is in force in place of 0: won 9 hits"
    assert adopted.state.control.labelled == ()
    assert adopted.state.control.labels == 2_000


def test_a_winner_that_comes_too_late_is_not_taken() -> None:
    """Where the policy states no rate any more, or an operator decided."""
    assert challenged(NEW, Rule(2, 0.8), "won", Policy(), 1).state.active == 0
    assert challenged(replace(NEW, pinned=True), Rule(2, 0.8), "won", CONTROLLED, 1).state.active == 0


@pytest.mark.parametrize("cut", [1, 700, 1_999])
def test_goes_on_from_a_record(cut: int) -> None:
    """A state that was stored and read between two rounds comes to the same."""
    told, tally = labels(2_000, 0.8), Tally(2_000, 2_000)
    first = advance(NEW, told[:cut], tally, CONTROLLED, 5).state
    stored = state_of(state_record(first))
    assert stored == first
    whole = advance(NEW, told, tally, CONTROLLED, 5).state
    after = advance(stored, told[cut:], tally, CONTROLLED, 5).state
    assert after == whole


def learned(state: TrustState) -> TrustState:
    """The same under a learned rule, with labels that were folded in since."""
    state = challenged(state, Rule(2, 0.6, model=Voting()), "won", CONTROLLED, 6).state
    return advance(state, labels(100, 0.97, first=state.applied + 1), state.tally, CONTROLLED, 7).state


def test_a_rule_that_cannot_be_read_any_more_takes_its_control_with_it() -> None:
    """After an update of the features the namespace begins anew at the policy's threshold: that of a learned rule is a
    chance, and would be far too low for a score.
    """
    known = learned(advance(NEW, labels(2_000, 0.8), Tally(2_000, 2_000), CONTROLLED, 5).state)
    assert known.control.labelled
    record = state_record(known)
    record["rules"] = [
        {**rule, "model": {"kind": "of old"}, "features_version": 0} for rule in record["rules"]
    ]
    record["control"]["threshold"] = 0.6
    read = state_of(record)
    assert read.active == 0
    assert stance(read, CONTROLLED).rule.threshold == CONTROLLED.min_score
    told = labels(50, 1.19, first=read.applied + 1)
    assert advance(read, told, read.tally, CONTROLLED, 8).state.applied == told[-1][0]


def test_labels_of_other_features_say_nothing_of_a_rule_by_features() -> None:
    """Columns that are counted otherwise would be taken for others; brake and control pass them over."""
    row = np.full(3, 0.99, np.float32)
    old = [
        (
            number,
            replace(
                label,
                features_version=VERSION - 1,
                served=0,
                origin=Origin.HELD_BACK,
                candidates=(LabelledCandidate(row, 0.99, None, False),),
            ),
        )
        for number, label in labels(20, 0.99)
    ]
    after = advance(NEW, old, Tally(20, 20), CONTROLLED, 5).state
    assert after.applied == 20
    assert after.control.labels == 0
    assert after.braking.worse.seen == 0


def test_a_ladder_of_another_length_is_begun_anew() -> None:
    """What was counted by other rungs is not taken for a count by these."""
    known = advance(NEW, labels(100, 0.8), Tally(100, 100), CONTROLLED, 5).state
    other = replace(known, control=replace(known.control, labelled=(1.0,) * 97, wrong=(1.0,) * 97, misses=(1.0,) * 97, hits=(1.0,) * 97))  # fmt: skip
    after = advance(other, labels(10, 1.19, first=101), Tally(110, 110), CONTROLLED, 6).state
    assert sum(after.control.labelled) == pytest.approx(10, abs=0.1)


def test_going_back_to_another_rule_begins_its_control_anew() -> None:
    """What was counted by chances is not taken for scores once the rule is unpinned; the same rule keeps its own."""
    known = learned(advance(NEW, labels(2_000, 0.8), Tally(2_000, 2_000), CONTROLLED, 5).state)
    step = Step(9, "by hand")
    again = replace(pinned(known, 2, step).state, pinned=False)
    assert again.control == known.control
    back = replace(pinned(known, 0, step).state, pinned=False)
    assert back.steps[-1] == step
    assert stance(back, CONTROLLED).rule.threshold == CONTROLLED.min_score
    told = labels(50, 1.19, first=back.applied + 1)
    assert advance(back, told, back.tally, CONTROLLED, 10).state.applied == told[-1][0]


def test_without_its_rule_nothing_is_open() -> None:
    """A rule of other features than today's is not read back; what it earned, in its own terms, opens no other."""
    earned = TrustState("n", rules=(Rule(2, 0.9),), active=2, control=ControlState(threshold=0.6, labels=700))
    record = state_record(earned)
    assert stance(state_of(record), CONTROLLED).rule.threshold == 0.6
    record["rules"][0] |= {"model": {}, "features_version": VERSION + 1}
    after = state_of(record)
    assert (after.active, after.control.labels) == (0, 700)
    assert stance(after, CONTROLLED).rule.threshold == CONTROLLED.min_score
