"""Feedback: vetoes, quarantine, labels; whose reuse it is; and saying it again."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cachesvc.adapters.memory_trust import MemoryTrust
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EntriesRemoved, FeedbackDone, Labelled
from cachesvc.core.identity import identify
from cachesvc.core.policy import TrustTerms
from cachesvc.core.tickets import Ticket
from cachesvc.core.trust.labels import NOTHING, Comparator, Origin, Tally
from cachesvc.core.types import Candidate, Message, Removal, Request, Unseen
from cachesvc.engine.comparing import Comparing
from cachesvc.engine.feedback import Feedback, Heard, Judgement
from cachesvc.engine.labelling import Labeller, LabelOptions
from cachesvc.engine.trust_parts import TrustParts
from cachesvc.engine.vetoes import Vetoes

if TYPE_CHECKING:
    from tests.engine.conftest import World

STORED = "how is the weather in rome today"
ASKED = "how is the weather of rome today"
NEAR = "how is the weather of rome today please"


class Bench:
    """Feedback over a world, with an entry and the hit that it was served to."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.trust = MemoryTrust()
        self.tallies = NOTHING
        parts = TrustParts(
            trust=self.trust,
            store=world.store,
            policies=lambda: world.book,
            analyses=world.analyses,
            clock=world.clock,
            observer=world.events,
        )
        self.vetoes = Vetoes(self.trust, world.store, 100, lambda error: None)
        labeller = Labeller(
            parts, Comparing(world.guard, world.clock, 4), self.vetoes, LabelOptions(10, 1 << 20, 5.0)
        )
        self.feedback = Feedback(parts, world.tickets, world.guard, labeller, self.vetoes, self.count)
        self.entry_id = world.keep(STORED, b"Sunny.").entry_id
        self.other_id = world.keep("how is the sea at rome today", b"Warm.").entry_id

    def count(self, namespace: str, tally: Tally) -> None:
        self.tallies = self.tallies.plus(tally)

    def hit(self, lookup_id: str, text: str = ASKED, **changes: object) -> None:
        """A semantic hit is remembered."""
        identity = identify(self.request(text), "words:1")
        embedded = self.world.embedder.embed(text, 1.0)
        near = (Candidate(self.other_id, 0.97), Candidate(self.entry_id, 0.95))
        ticket = Ticket(identity, {}, embedded, 0, near, self.entry_id, None, 0.01, 4)
        self.world.tickets.keep(lookup_id, replace(ticket, **changes))  # type: ignore[arg-type]  # by name

    def request(self, text: str = "", namespace: str = "default", model: str = "m") -> Request:
        return Request(namespace, (Message("user", text),) if text else (), model, {})

    def say(
        self, said: "bool | bytes", lookup_id: str = "", text: str = "", entry_id: int | None = None
    ) -> Heard:
        request = self.request(text) if text else Request("", (), "", {})
        return self.feedback(Judgement(request, lookup_id, entry_id, said, "user"))

    def refuses(self, text: str, entry_id: int | None = None) -> bool:
        identity = identify(self.request(text), "words:1")
        row = self.world.store.get(entry_id or self.entry_id)
        vector = self.world.embedder.embed(text, 1.0)
        assert not isinstance(vector, Unseen)
        return self.vetoes.refuses(identity.scope, identity.exact_key, vector, row)  # type: ignore[arg-type]

    def labels(self) -> list[tuple[Origin, Comparator, list[bool | None]]]:
        kept = (label for _, label in self.trust.labels("default", 0, 100))
        return [(one.origin, one.comparator, [each.same for each in one.candidates]) for one in kept]


@pytest.fixture
def bench(world: "World") -> Bench:
    return Bench(world)


def test_wrong_is_refused_from_then_on(bench: Bench) -> None:
    """That reuse, and one much like it; not another. It is a label, and it is told."""
    bench.hit("a1")
    assert bench.say(False, "a1") == Heard(same=False, known=False, vetoed=True, quarantined=False)
    assert bench.refuses(ASKED)
    assert bench.refuses(NEAR), "cosine above .95 of what was judged"
    assert not bench.refuses("where is the moon")
    assert not bench.refuses(ASKED, bench.other_id)
    assert bench.labels() == [(Origin.FEEDBACK, Comparator.VERDICT, [None, False])]
    assert bench.world.events.seen[-2:] == [
        Labelled(Origin.FEEDBACK, Comparator.VERDICT, same=False),
        FeedbackDone("default", "user", bench.entry_id, False, False, False, True, False),
    ]


def test_also_when_the_entry_is_stored_anew(bench: Bench) -> None:
    """A veto is of the prompts, not of the answer that the entry had."""
    bench.hit("a1")
    bench.say(False, "a1")
    anew = bench.world.keep(STORED, b"Rainy.").entry_id
    assert anew != bench.entry_id
    assert bench.refuses(ASKED, anew)


def test_saying_it_again_changes_nothing(bench: Bench) -> None:
    """Known is told, and nothing is counted twice, whichever way it is said."""
    bench.hit("a1")
    bench.hit("a2")
    bench.hit("a3")
    assert [bench.say(False, lookup_id).known for lookup_id in ("a1", "a1", "a2")] == [False, True, True]
    assert bench.say(False, text=ASKED, entry_id=bench.entry_id).known
    assert [bench.say(True, "a3").known for _ in range(2)] == [False, True]
    assert len(bench.labels()) == 2


def test_right_is_a_label(bench: Bench) -> None:
    """It vetoes nothing."""
    bench.hit("a1")
    assert bench.say(True, "a1") == Heard(same=True, known=False, vetoed=False, quarantined=False)
    assert bench.labels() == [(Origin.FEEDBACK, Comparator.VERDICT, [None, True])]
    assert not bench.refuses(ASKED)


AUDITS: dict[str, tuple[bytes, bool | None]] = {
    "the same": (b"sunny", True),
    "another": (b"Rain.", False),
    "cannot be told": (b"Sunny. Warm", None),
}


@pytest.mark.parametrize(("fresh", "same"), AUDITS.values(), ids=AUDITS.keys())
def test_a_fresh_answer_is_compared(bench: Bench, fresh: bytes, *, same: bool | None) -> None:
    """An audit labels all that was near, and is counted; it is never a veto, for answers are put in many ways."""
    bench.hit("a1", audit=True)
    assert bench.say(fresh, "a1") == Heard(same, known=False, vetoed=False, quarantined=False)
    assert bench.say(fresh, "a1").known
    ((origin, comparator, verdicts),) = bench.labels()
    assert (origin, comparator, verdicts[1]) == (Origin.AUDIT, Comparator.TEXT, same)
    assert bench.tallies == Tally(audits_answered=0 if same is None else 1)
    assert not bench.refuses(ASKED)
    ((_, label),) = bench.trust.labels("default", 0, 9)
    assert (label.share, label.rule_version, label.served) == (0.01, 4, 1)


def test_what_could_not_be_told_may_be_told_later(bench: Bench) -> None:
    """An answer that could not be compared is kept, but does not keep a later one from being heard; it counts once."""
    bench.hit("a1", audit=True)
    assert bench.say(b"Sunny. Warm", "a1") == Heard(None, known=False, vetoed=False, quarantined=False)
    assert bench.say(b"Sunny. Cold", "a1").known
    assert bench.say(b"Sunny.", "a1") == Heard(same=True, known=False, vetoed=False, quarantined=False)
    assert bench.say(b"Sunny. Warm", "a1").known
    assert [verdicts[1] for _, _, verdicts in bench.labels()] == [True]
    assert bench.tallies == Tally(audits_answered=1)


def test_a_fresh_answer_that_was_not_asked_is_feedback(bench: Bench) -> None:
    """Rates are reckoned from audits alone, which come by a chance that is known."""
    bench.hit("a1")
    bench.say(b"Rain.", "a1")
    assert bench.labels()[0][0] is Origin.FEEDBACK
    assert bench.tallies == NOTHING


def test_an_entry_that_is_wrong_again_and_again_goes(bench: Bench) -> None:
    """After so many requests, each another one; the identical request counts, and refuses no reuse."""
    bench.world.policy(trust=TrustTerms(quarantine_after=3))
    texts = (ASKED, STORED, "will it rain in rome today")
    heard = [bench.say(False, text=text, entry_id=bench.entry_id) for text in texts]
    assert [(one.vetoed, one.quarantined) for one in heard] == [(True, False), (False, False), (True, True)]
    assert bench.world.store.get(bench.entry_id) is None
    assert EntriesRemoved(Removal.JUDGED_WRONG, 1) in bench.world.events.seen
    bench.world.clock.advance(10)
    anew = bench.world.keep(STORED, b"Rainy.").entry_id
    assert not bench.say(False, text="is rome hot today", entry_id=anew).quarantined, "it was another answer"


def test_an_entry_that_is_wrong_each_time_it_is_stored_goes_each_time(bench: Bench) -> None:
    """The same request says so of each answer: what it said of the one before does not silence it."""
    bench.world.policy(trust=TrustTerms(quarantine_after=1))
    for _ in range(3):
        bench.world.clock.advance(10)
        entry_id = bench.world.keep(STORED, b"Rainy.").entry_id
        heard = bench.say(False, text=STORED, entry_id=entry_id)
        assert (heard.known, heard.quarantined) == (False, True)


def test_a_quarantine_that_was_cut_off_is_made_good(bench: Bench) -> None:
    """The service may die between the veto and the removal: saying it again removes."""
    bench.world.policy(trust=TrustTerms(quarantine_after=1))
    bench.world.store.failing = {"remove"}
    with pytest.raises(CacheError):
        bench.say(False, text=ASKED, entry_id=bench.entry_id)
    bench.world.store.failing = set()
    heard = bench.say(False, text=ASKED, entry_id=bench.entry_id)
    assert (heard.known, heard.quarantined) == (True, True)


def test_of_an_identical_request_nothing_is_learned(bench: Bench) -> None:
    """The exact tier needs no learning: right, and a fresh answer, change nothing."""
    assert bench.say(True, text=STORED, entry_id=bench.entry_id) == Heard(True, False, False, False)
    assert bench.say(b"x", text=STORED, entry_id=bench.entry_id).same is None
    assert bench.labels() == []


def unknown(bench: Bench) -> Heard:
    return bench.say(False, "a1")


def unknown_with_entry_only(bench: Bench) -> Heard:
    return bench.say(False, "a1", entry_id=bench.entry_id)


def miss(bench: Bench) -> Heard:
    bench.hit("a1", served=None, origin=Origin.MISS)
    return bench.say(False, "a1")


def held_back(bench: Bench) -> Heard:
    bench.hit("a1", origin=Origin.HELD_BACK)
    return bench.say(False, "a1")


def other_entry(bench: Bench) -> Heard:
    bench.hit("a1")
    return bench.say(False, "a1", entry_id=bench.other_id)


def other_request(bench: Bench) -> Heard:
    bench.hit("a1")
    return bench.say(False, "a1", text="something else")


def other_model(bench: Bench) -> Heard:
    bench.hit("a1")
    return bench.feedback(Judgement(Request("", (), "m2", {}), "a1", None, False, ""))


def entry_of_another_namespace(bench: Bench) -> Heard:
    request = bench.request(ASKED, namespace="other")
    return bench.feedback(Judgement(request, "", bench.entry_id, False, ""))


def entry_gone(bench: Bench) -> Heard:
    bench.hit("a1")
    bench.world.store.remove([bench.entry_id])
    return bench.say(False, "a1")


def other_scope(bench: Bench) -> Heard:
    request = bench.request(ASKED, model="m2")
    return bench.feedback(Judgement(request, "", bench.entry_id, False, ""))


def unseen(bench: Bench) -> Heard:
    bench.world.embedder.unseen = Unseen.PAST_WINDOW
    return bench.say(False, text=ASKED, entry_id=bench.entry_id)


def exact_only(bench: Bench) -> Heard:
    bench.world.policy(semantic=False)
    entry_id = bench.world.keep("where is the sun", b"Up there.").entry_id
    return bench.say(False, text=ASKED, entry_id=entry_id)


def embedder_down(bench: Bench) -> Heard:
    bench.world.embedder.error = Kind.UNAVAILABLE
    return bench.say(False, text=ASKED, entry_id=bench.entry_id)


REFUSALS: dict[Callable[[Bench], Heard], tuple[Kind, str]] = {
    unknown: (Kind.REFUSED, "send entry_id and the request"),
    unknown_with_entry_only: (Kind.REFUSED, "send entry_id and the request"),
    miss: (Kind.INVALID, "lookup_id: is of a miss"),
    held_back: (Kind.INVALID, "lookup_id: is of a miss"),
    other_entry: (Kind.INVALID, "entry_id: "),
    other_request: (Kind.INVALID, "lookup_id: is of another request"),
    other_model: (Kind.INVALID, "model: "),
    entry_of_another_namespace: (Kind.NOT_FOUND, "in namespace other"),
    entry_gone: (Kind.NOT_FOUND, "entry_id: no entry"),
    other_scope: (Kind.INVALID, "prompt: is of a request that this entry cannot be served for"),
    unseen: (Kind.INVALID, "prompt: is a request that no entry is served for by meaning: the text is longer"),
    exact_only: (Kind.INVALID, "entry_id: is of an entry that is served for its identical request only"),
    embedder_down: (Kind.UNAVAILABLE, "fails as told"),
}


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case.__name__)
def test_what_cannot_be_taken_is_refused(bench: Bench, case: Callable[[Bench], Heard]) -> None:
    """With what to do about it; nothing is kept."""
    kind, message = REFUSALS[case]
    with pytest.raises(CacheError, match=message) as caught:
        case(bench)
    assert caught.value.kind is kind
    assert bench.trust.sequence() == 0


def test_vectors_of_a_veto_are_those_of_the_prompts(bench: Bench) -> None:
    """What is kept is what is compared later."""
    bench.hit("a1")
    bench.say(False, "a1")
    (veto,) = bench.trust.vetoes(identify(bench.request(ASKED), "words:1").scope)
    ours, theirs = (bench.world.embedder.embed(text, 1.0) for text in (ASKED, STORED))
    assert np.allclose(veto.ours, ours)  # type: ignore[arg-type]  # it sees all words
    assert np.allclose(veto.theirs, theirs)  # type: ignore[arg-type]  # as above
