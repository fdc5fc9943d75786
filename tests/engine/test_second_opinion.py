"""The grey band: who is asked, for how long, and what comes of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cachesvc.core.errors import Kind
from cachesvc.core.events import LookupDone
from cachesvc.core.policy import Mode, TrustTerms
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import Brake, Stance
from cachesvc.core.types import Outcome
from tests.engine.conftest import World

if TYPE_CHECKING:
    from collections.abc import Iterator

STORED = "please turn the kitchen light on now"
NEAR = "please turn the kitchen light on"
FAR = "what is the capital of France"


@pytest.fixture
def judged() -> Iterator[World]:
    """An engine whose threshold nothing reaches, with a grey band that NEAR is in."""
    made = World(verifies=True)
    made.policy(min_score=0.999, trust=TrustTerms(verify_min_score=0.8))
    yield made
    made.guard.stop()


def opinion(world: World) -> str:
    return [event for event in world.events.seen if isinstance(event, LookupDone)][-1].opinion


def test_a_yes_serves_it(judged: World) -> None:
    """The best candidate in the band is asked about once, with what is asked and what was."""
    entry_id = judged.keep(STORED).entry_id
    judged.keep(NEAR + " now please")
    result = judged.ask(NEAR)
    assert result.outcome is Outcome.HIT_SEMANTIC
    assert result.entry is not None
    assert result.entry.id == entry_id
    assert result.confidence is None
    assert judged.trust.verifier.asked == [(NEAR, STORED, 0.5)]
    assert opinion(judged) == "yes"
    assert judged.trust.tally.would_hit == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(False, "no", id="no"),
        pytest.param(Kind.DEADLINE, "late", id="late"),
        pytest.param(Kind.OVERLOADED, "busy", id="busy"),
        pytest.param(Kind.UNAVAILABLE, "failed", id="failed"),
        pytest.param(Kind.INTERNAL, "failed", id="failed in another way"),
    ],
)
def test_anything_else_is_a_miss(judged: World, answer: bool | Kind, said: str) -> None:  # noqa: FBT001 - a case
    """A no, a failure and no answer in time are the same to the caller, and told apart to the operator."""
    judged.keep(STORED)
    judged.trust.verifier.answer = answer
    result = judged.ask(NEAR)
    assert (result.outcome, result.entry) == (Outcome.MISS_NOT_VERIFIED, None)
    assert result.best_score is not None
    assert opinion(judged) == said


@pytest.mark.parametrize(
    ("left_s", "wait_s"),
    [pytest.param(None, 0.5, id="the setting"), pytest.param(0.2, 0.2, id="what is left of the deadline")],
)
def test_it_waits_no_longer_than_the_caller(judged: World, left_s: float | None, wait_s: float) -> None:
    """The caller's deadline counts where it is the nearer."""
    judged.keep(STORED)
    judged.ask(NEAR, deadline_s=None if left_s is None else judged.clock.monotonic_s() + left_s)
    assert judged.trust.verifier.asked[0][2] == pytest.approx(wait_s, abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        pytest.param(FAR, {}, id="below the band"),
        pytest.param(NEAR, {"min_score": 0.995}, id="the caller wants more"),
        pytest.param(STORED, {}, id="the identical request"),
        pytest.param(STORED.replace("now", "not now"), {}, id="what a gate refuses"),
    ],
)
def test_it_is_not_asked_about(judged: World, asked: str, options: dict[str, float]) -> None:
    """What would not be served whatever it said, or is served without it."""
    judged.keep(STORED)
    judged.ask(asked, **options)
    assert judged.trust.verifier.asked == []
    assert opinion(judged) == ""


def test_a_yes_is_disposed_of_as_any_hit(judged: World) -> None:
    """In shadow it is recorded and not served."""
    judged.policy(mode=Mode.SHADOW)
    judged.keep(STORED)
    assert judged.ask(NEAR).outcome is Outcome.MISS_SHADOW


@pytest.mark.parametrize("brake", [Brake.TIGHT, Brake.EXACT_ONLY])
def test_it_opens_nothing_that_the_brake_has_closed(judged: World, brake: Brake) -> None:
    """While hits are too often wrong nothing below the threshold is served."""
    judged.keep(STORED)
    judged.trust.stance = Stance(Rule(0, 0.999), brake)
    assert not judged.ask(NEAR).outcome.is_hit
    assert judged.trust.verifier.asked == []
