"""What an operator changes by hand: which rule decides, and what it is held to from then on."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from cachesvc.adapters.memory import ManualClock, MemoryStore
from cachesvc.adapters.memory_trust import MemoryTrust
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Event
from cachesvc.core.identity import identify
from cachesvc.core.policy import Policy, PolicyBook, TrustTerms
from cachesvc.core.trust import life
from cachesvc.core.trust.control import ControlState
from cachesvc.core.trust.labels import Tally
from cachesvc.core.trust.life import kept_rules
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import TrustState
from cachesvc.core.trust.votes import Voting
from cachesvc.core.types import Draft, Message, Payload, Request
from cachesvc.engine.analyses import Analyses
from cachesvc.engine.trust import Changed, Trust, TrustOptions
from cachesvc.engine.trust_desk import TrustDesk
from cachesvc.engine.trust_parts import TrustParts

POLICY = Policy(min_score=0.95, trust=TrustTerms(max_error_rate=0.01))


class Bench:
    """A desk over a namespace whose third rule is in force, opened by control to .6 in its own terms."""

    def __init__(self, policy: Policy = POLICY, by_pattern: Mapping[str, Policy] = {}) -> None:
        trust = MemoryTrust()
        rules = (Rule(2, 0.8, note="older"), Rule(3, 0.9, note="newer"))
        control = ControlState(threshold=0.6, labels=900)
        trust.put_state(TrustState("n", generation=1, rules=rules, active=3, control=control))
        self.parts = TrustParts(
            trust=trust,
            store=MemoryStore(),
            policies=lambda: PolicyBook(policy, by_pattern),
            analyses=Analyses(10),
            clock=ManualClock(),
            observer=self,
        )
        self.trust = Trust(self.parts, life, TrustOptions(5.0, 100, 10), lambda: True)
        self.desk = TrustDesk(self.parts, self.trust, life)

    def on(self, event: Event) -> None:
        """Nothing."""

    def threshold(self) -> float:
        return self.desk.report("n").stance.rule.threshold


def test_what_one_rule_earned_opens_no_other() -> None:
    """Thresholds are in terms of a rule's own score: unpinned, a rule that was put in force begins at its own."""
    for version, threshold in ((0, 0.95), (1, 0.95), (2, 0.8)):
        bench = Bench()
        assert bench.threshold() == 0.6
        bench.desk.revert("n", version)
        assert bench.threshold() == threshold
        bench.desk.unpin("n")
        assert bench.threshold() == threshold


def test_pinning_what_is_in_force_forgets_nothing() -> None:
    """A rule that stays keeps what it earned."""
    bench = Bench()
    bench.desk.revert("n", 3)
    bench.desk.unpin("n")
    assert bench.threshold() == 0.6


def versions(bench: Bench) -> list[int]:
    report = bench.desk.report("n")
    return [rule.version for rule in kept_rules(report.state, report.policy)]


def test_the_rule_that_a_namespace_began_with_can_be_gone_back_to() -> None:
    """It votes, and is kept by no state: it is there wherever the policy states a rate."""
    bench = Bench()
    assert versions(bench) == [1, 2, 3]
    assert isinstance(bench.desk.revert("n", 1).model, Voting)
    rule = bench.desk.report("n").stance.rule
    assert (rule.version, isinstance(rule.model, Voting), rule.threshold) == (1, True, 0.95)
    assert bench.desk.report("n").state.pinned


def test_votes_go_on_where_they_were() -> None:
    """What a namespace decides by before it adopts a rule is that same rule: pinning it forgets nothing."""
    bench = Bench()
    bench.desk.revert("n", 0)
    bench.desk.unpin("n")
    state = bench.desk.report("n").state
    bench.trust.change(
        "n", lambda _: Changed(replace(state, control=ControlState(threshold=0.7, labels=900)))
    )
    for version in (1, 0):
        bench.desk.revert("n", version)
        bench.desk.unpin("n")
        assert (bench.threshold(), bench.desk.report("n").stance.rule.version) == (0.7, 1)


def test_votes_need_a_policy_with_a_rate() -> None:
    """Else the policy's threshold decides, whatever is pinned; the message says so."""
    bench = Bench(replace(POLICY, trust=TrustTerms()))
    assert versions(bench) == [2, 3]
    with pytest.raises(CacheError, match="max_error_rate") as raised:
        bench.desk.revert("n", 1)
    assert raised.value.kind is Kind.NOT_FOUND


Asked = Callable[[TrustDesk], object]
ASKED: dict[str, Asked] = {
    "report": lambda desk: desk.report("supprot"),
    "revert": lambda desk: desk.revert("supprot", 0),
    "unpin": lambda desk: desk.unpin("supprot"),
    "labels": lambda desk: desk.tally("supprot"),
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
def test_a_mistyped_namespace_is_refused(asked: Asked) -> None:
    """With the name that may be meant, and nothing is kept of it."""
    bench = Bench(by_pattern={"support": POLICY, "*prot": POLICY})
    with pytest.raises(
        CacheError, match=r"^namespace: there is no supprot: .*: is support meant\?$"
    ) as raised:
        asked(bench.desk)
    assert raised.value.kind is Kind.NOT_FOUND
    assert bench.parts.trust.namespaces() == ["n"]
    assert bench.parts.trust.state("supprot") is None


def test_a_namespace_is_there_by_name_or_entries_or_what_is_known_of_it() -> None:
    """Each suffices; a pattern that it fits does not."""
    bench = Bench(by_pattern={"configured": POLICY, "un*": POLICY})
    of = identify(Request("stored", (Message("user", "q"),), "m", {}), "e")
    bench.parts.store.put([Draft(of, Payload(b"r"), of.text, None, 0, 1 << 40)], None)
    bench.parts.trust.add("known", [], Tally(searched=1))
    for namespace in ("default", "configured", "stored", "known"):
        bench.desk.revert(namespace, 0)
        assert bench.desk.report(namespace).state.pinned
    with pytest.raises(
        CacheError, match=r"there is no unknown: [^:]*known of it, and no policy has its name: is known meant"
    ):
        bench.desk.revert("unknown", 0)
