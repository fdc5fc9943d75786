"""Misses label themselves: what was near is compared with what was answered after all, behind the requests."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from queue import Queue

import numpy as np
import pytest

from cachesvc.adapters.memory import ManualClock, MemoryStore
from cachesvc.adapters.memory_trust import MemoryTrust
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Event, Labelled, LabelsDropped, TaskFailed
from cachesvc.core.gates import Gate, analyse
from cachesvc.core.identity import identify
from cachesvc.core.policy import Policy, PolicyBook, TrustTerms
from cachesvc.core.trust import features as feature_set
from cachesvc.core.trust.labels import Comparator, Label, News, Origin, VetoPair
from cachesvc.core.types import (
    Candidate,
    Draft,
    Entry,
    Identity,
    Message,
    Payload,
    Request,
    Row,
    Unseen,
    Vector,
)
from cachesvc.engine.analyses import Analyses
from cachesvc.engine.comparing import Comparing
from cachesvc.engine.guard import Guard, GuardOptions
from cachesvc.engine.labelling import Case, Labeller, LabelOptions, label_key
from cachesvc.engine.trust_parts import TrustParts
from cachesvc.engine.vetoes import Vetoes
from tests.waiting import until

SOON_S = 10.0


class AnswerEmbedder:
    """Texts with the same first letter mean the same; those with ``?`` cannot be seen. Waits at its gate."""

    fingerprint = "letters"
    dimension = 4

    def __init__(self) -> None:
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()

    def embed(self, text: str, wait_s: float) -> Vector | Unseen:
        self.calls += 1
        assert self.gate.wait(SOON_S)
        if "?" in text:
            return Unseen.PAST_WINDOW
        vector = np.zeros(4, np.float32)
        vector[ord(text[0]) % 4] = 1
        return vector


class FailingTrust(MemoryTrust):
    """Keeps nothing while told so."""

    error: Exception | None = None

    def add_all(self, news: Sequence[News]) -> None:
        if self.error is not None:
            raise self.error
        super().add_all(news)


class FailingStore(MemoryStore):
    """Gives no rows while told so."""

    error: Exception | None = None

    def fetch(self, scope: bytes, entry_ids: Sequence[int]) -> list[Row]:
        if self.error is not None:
            raise self.error
        return super().fetch(scope, entry_ids)


def identity(text: str) -> Identity:
    return identify(Request("n", (Message("user", text),), "", {}), "letters")


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.trust = FailingTrust()
        self.store = FailingStore()
        self.embedder = AnswerEmbedder()
        self.seen: list[Event] = []
        self.policy = Policy()
        options = GuardOptions(1, 8, hang_s=60.0, max_stuck=1, long_length=10_000)
        self.guard = Guard(self.embedder, lambda: self.embedder, options, clock=self.clock, observer=self)
        self.parts = TrustParts(
            trust=self.trust,
            store=self.store,
            policies=lambda: PolicyBook(self.policy, {}),
            analyses=Analyses(100),
            clock=self.clock,
            observer=self,
        )
        self.labeller = self.make()

    def make(self, **options: object) -> Labeller:
        bounds = replace(LabelOptions(4, 1 << 20, SOON_S), **options)  # type: ignore[arg-type]  # by name
        vetoes = Vetoes(self.trust, self.store, 100, lambda error: None)
        return Labeller(self.parts, Comparing(self.guard, self.clock, 2), vetoes, bounds)

    def on(self, event: Event) -> None:
        self.seen.append(event)

    def keep(self, text: str, answer: str, lives_ms: int = 1_000_000) -> int:
        vector: Vector = np.full(4, 0.5, np.float32)
        now_ms = self.clock.now_ms()
        draft = Draft(identity(text), Payload(answer.encode()), text, vector, now_ms, now_ms + lives_ms)
        (receipt,) = self.store.put([draft], None)
        assert receipt is not None
        return receipt.entry_id

    def case(self, text: str, answer: "bytes | bool", *ids: int, **changes: object) -> Case:
        near = tuple(Candidate(entry_id, 0.9 - n / 10) for n, entry_id in enumerate(ids))
        made = Case(label_key(text, b"1"), identity(text), near, None, Origin.MISS, 1.0, 0, answer)
        return replace(made, **changes)  # type: ignore[arg-type]  # by name

    def labels(self) -> list[Label]:
        return [label for _, label in self.trust.labels("n", 0, 100)]

    def label(self, case: Case) -> Label:
        """What the case comes to, once it is kept."""
        self.labeller.offer(case)
        assert self.labeller.work()
        self.clock.advance(1000)
        assert not self.labeller.work()
        return self.labels()[-1]

    def dropped(self) -> list[tuple[str, int]]:
        return [(event.why, event.count) for event in self.seen if isinstance(event, LabelsDropped)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.embedder.gate.set()
    made.guard.stop()


def test_a_miss_labels_what_was_near(bench: Bench) -> None:
    """Each candidate gets its features, the gate that refuses it, and whether its answer is the one that was given."""
    ids = [
        bench.keep("weather in Rome", "Sunny."),
        bench.keep("weather in Oslo", "Rain."),
        bench.keep("weather at 9", "sunny"),
    ]
    label = bench.label(bench.case("weather of Rome", b"Sunny", *ids))
    assert [one.same for one in label.candidates] == [True, False, True]
    assert label.candidates[2].gate is Gate.NUMBER
    texts = ("weather in Rome", "weather in Oslo", "weather at 9")
    rows = feature_set.features(
        analyse("weather of Rome"),
        [analyse(t) for t in texts],
        [0.9, 0.8, 0.7],
        answers=[b"sun", b"rain", b"sun"],
    )
    assert all(np.array_equal(one.features, row) for one, row in zip(label.candidates, rows, strict=True))
    assert (label.origin, label.comparator, label.served, label.share) == (
        Origin.MISS, Comparator.TEXT, None, 1.0,
    )  # fmt: skip
    assert [event for event in bench.seen if isinstance(event, Labelled)] == [
        Labelled(Origin.MISS, Comparator.TEXT, same=True)
    ]


@dataclass(frozen=True)
class Prose:
    fresh: str
    stored: str
    same: bool | None


PROSE = {
    "near": Prose("as it is now said", "as others would put it", same=True),
    "far": Prose("as it is now said", "but others say this instead", same=False),
    "too long to see": Prose("as it is now said ?", "as others would put it", same=None),
    "equal though too long": Prose("As it is now said?", "as it is now said", same=True),
}


@pytest.mark.parametrize("case", PROSE.values(), ids=PROSE.keys())
def test_sentences_are_compared_by_their_embeddings(bench: Bench, case: Prose) -> None:
    """By the answers' nearness, where both can be seen whole."""
    entry_id = bench.keep("weather in Rome", case.stored)
    label = bench.label(bench.case("weather of Rome", case.fresh.encode(), entry_id))
    assert label.candidates[0].same is case.same


def test_an_answer_is_embedded_once(bench: Bench) -> None:
    """A stored answer that many misses come near to is embedded for the first."""
    entry_id = bench.keep("weather in Rome", "as others would put it")
    for n in range(3):
        bench.label(bench.case(f"weather of Rome {n}", b"as it is now said", entry_id))
    assert bench.embedder.calls == 2


def test_embedding_waits_for_inferences_that_no_request_wants(bench: Bench) -> None:
    """While requests take all, what cannot be embedded in time is not told, and no request waits for it."""
    bench.labeller = bench.make(compare_wait_s=0.0)
    entry_id = bench.keep("weather in Rome", "as others would put it")
    label = bench.label(bench.case("weather of Rome", b"as it is now said", entry_id))
    assert label.candidates[0].same is None
    assert bench.embedder.calls == 0


def test_few_calls_wait_for_inferences(bench: Bench) -> None:
    """Each keeps a thread that lookups need: beyond the bound they are refused at once, those that need no inference are
    not, and who works behind the requests waits as ever.
    """
    entry_id = bench.keep("weather in Rome", "as others would put it")
    case = bench.case("weather of Rome", b"as it is now said", entry_id)
    outcomes = Queue[object]()

    def ask() -> None:
        try:
            label = bench.labeller.judge(case, bench.policy, wait_s=SOON_S)
            outcomes.put(None if label is None else label.verdict)
        except CacheError as error:
            outcomes.put(error.kind)

    bench.embedder.gate.clear()
    request = threading.Thread(target=bench.guard.embed, args=("a", SOON_S, "n"))
    request.start()
    while not bench.embedder.calls:
        """Until it has the one thread that embeds."""
    asking = [threading.Thread(target=ask) for _ in range(5)]
    for one in asking:
        one.start()
    assert [outcomes.get(timeout=SOON_S) for _ in range(3)] == [Kind.OVERLOADED] * 3
    told = bench.labeller.judge(replace(case, answer=b"as others would put it"), bench.policy, wait_s=SOON_S)
    assert told is not None
    assert told.verdict
    behind = threading.Thread(target=bench.labeller.judge, args=(case, bench.policy))
    behind.start()
    bench.embedder.gate.set()
    assert [outcomes.get(timeout=SOON_S) for _ in range(2)] == [True] * 2
    for one in (request, behind, *asking):
        one.join(SOON_S)


def test_what_was_served_is_what_a_label_is_about(bench: Bench) -> None:
    """A hit that was held back, or asked anew, says of the candidate it would have had; places go by what is left."""
    gone, near, other = (
        bench.keep("x", "r"),
        bench.keep("weather in Rome", "a"),
        bench.keep("sun in Rome", "b"),
    )
    bench.store.remove([gone])
    label = bench.label(
        bench.case(
            "weather of Rome", b"a", gone, near, other, served=other, origin=Origin.HELD_BACK, share=0.05
        )
    )
    assert (label.served, label.share, len(label.candidates)) == (1, 0.05, 2)
    assert bench.seen[-1] == Labelled(Origin.HELD_BACK, Comparator.TEXT, same=False)


def test_a_verdict_is_of_what_was_served(bench: Bench) -> None:
    """Of the others it says nothing."""
    near, other = bench.keep("weather in Rome", "a"), bench.keep("sun in Rome", "b")
    case = bench.case("weather of Rome", False, near, other, served=other, origin=Origin.FEEDBACK)
    label = bench.labeller.judge(case, bench.policy)
    assert label is not None
    assert [one.same for one in label.candidates] == [None, False]
    assert label.comparator is Comparator.VERDICT


def test_nothing_is_learned_from_what_no_rule_could_serve(bench: Bench) -> None:
    """A vetoed reuse, and a prompt that differs in what the embedder cannot see, say nothing of a threshold."""
    vetoed = bench.keep("weather in Rome", "a")
    unseen = bench.keep("weather of Rôme", "a")
    row = bench.store.get(vetoed)
    assert isinstance(row, Entry)
    ours, vector = identity("weather of Rome"), np.ones(4, np.float32)
    bench.trust.add_veto("n", VetoPair(ours.scope, ours.exact_key, row.exact_key, vector, vector, 1), None)
    label = bench.label(bench.case("weather of Rome", b"a", vetoed, unseen, vector=vector))
    assert [one.same for one in label.candidates] == [None, None]


def identical(bench: Bench) -> Case:
    return bench.case("weather in Rome", b"a", bench.keep("weather in Rome", "a"))


def expired(bench: Bench) -> Case:
    entry_id = bench.keep("weather in Rome", "a", lives_ms=10)
    bench.clock.advance(20)
    return bench.case("weather of Rome", b"a", entry_id)


def served_one_gone(bench: Bench) -> Case:
    near, served = bench.keep("weather in Rome", "a"), bench.keep("sun in Rome", "a")
    bench.store.remove([served])
    return bench.case("weather of Rome", b"a", near, served, served=served, origin=Origin.HELD_BACK)


@pytest.mark.parametrize("case", [identical, expired, served_one_gone], ids=lambda case: case.__name__)
def test_what_no_lookup_could_be_served_is_not_learned_from(
    bench: Bench, case: Callable[[Bench], Case]
) -> None:
    """What is gone or has expired, and the entry of the very request, which the exact tier would serve."""
    bench.labeller.offer(case(bench))
    assert bench.labeller.work()
    bench.clock.advance(1000)
    bench.labeller.work()
    assert bench.labels() == []
    assert bench.dropped() == [("entries_gone", 1)]


def test_the_queue_is_bounded(bench: Bench) -> None:
    """In number and in bytes: what does not fit is dropped and counted, and nobody waits."""
    entry_id = bench.keep("weather in Rome", "a")
    for n in range(6):
        bench.labeller.offer(bench.case(f"weather of Rome {n}", b"a", entry_id))
    assert bench.dropped() == [("queue_full", 1)] * 2
    small = bench.make(max_queue_bytes=4096)
    small.offer(bench.case("weather of Rome", b"a" * 3000, entry_id))
    assert bench.dropped()[2:] == [("queue_full", 1)]
    bench.labeller.stop()
    assert bench.dropped()[3:] == [("stopped", 4)]


def test_a_policy_that_compares_nothing_learns_nothing(bench: Bench) -> None:
    """compare = off: cases are not even queued."""
    bench.policy = Policy(trust=TrustTerms(compare="off"))
    bench.labeller.offer(bench.case("weather of Rome", b"a", bench.keep("weather in Rome", "a")))
    assert not bench.labeller.work()
    assert bench.dropped() == []


def test_failures_cost_labels_only(bench: Bench) -> None:
    """A store that fails, and one of trust that does, cost what was to be learned, which is counted; then it goes on."""
    entry_id = bench.keep("weather in Rome", "a")
    for error in (CacheError(Kind.UNAVAILABLE, "as told"), ValueError()):
        bench.store.error = error
        bench.labeller.offer(bench.case("weather of Rome", b"a", entry_id))
        assert bench.labeller.work()
    bench.store.error = None
    for failure in (CacheError(Kind.FULL, "as told"), ValueError()):
        bench.trust.error = failure
        bench.labeller.offer(bench.case("weather of Rome", b"a", entry_id))
        assert bench.labeller.work()
        bench.clock.advance(1000)
        bench.labeller.work()
    assert bench.dropped() == [*[("failed", 1)] * 2, *[("store_failed", 1)] * 2]
    assert sum(isinstance(event, TaskFailed) for event in bench.seen) == 4
    bench.trust.error = None
    assert bench.label(bench.case("weather of Rome", b"a", entry_id)).candidates[0].same is True


def test_who_has_no_time_waits_for_no_inference(bench: Bench) -> None:
    """A caller's deadline bounds a comparison, too: what needs longer is not told."""
    case = bench.case("weather of Rome", b"it rains a lot", bench.keep("weather in Rome", "much rain falls"))
    bench.embedder.gate.clear()
    label = bench.labeller.judge(case, bench.policy, wait_s=0.0)
    assert label is not None
    assert (label.candidates[0].same, bench.embedder.calls) == (None, 0)


def test_its_thread_labels_and_stops(bench: Bench) -> None:
    """Started it labels by itself; what was made is kept at the end."""
    bench.labeller.start()
    bench.labeller.offer(bench.case("weather of Rome", b"a", bench.keep("weather in Rome", "a")))
    until(lambda: bench.labeller.queued == 0)
    bench.labeller.stop()
    assert len(bench.labels()) == 1
    assert not any(thread.name == "cachesvc-label" for thread in threading.enumerate())
