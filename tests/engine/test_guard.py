"""The guard before the embedder: slow, stuck, failing and healing, and turns by namespace."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from cachesvc.adapters.memory import ManualClock
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import EmbedderChanged, TaskFailed
from cachesvc.core.types import Unseen, Vector
from cachesvc.engine.guard import Guard, GuardOptions
from tests.doubles import Events
from tests.waiting import until

VECTOR: Vector = np.ones(2, np.float32)
SOON_S = 10.0
LONG = 64


class Gated:
    """An embedder that waits at a gate for texts that begin with ``wait``, and notes what it began."""

    fingerprint = "gated"
    dimension = 2

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.began: list[str] = []
        self.entered = threading.Semaphore(0)
        self.error: BaseException | None = None
        self.short_gate = threading.Event()  # that of the text "wait short"

    def embed(self, text: str, wait_s: float) -> Vector | Unseen:
        self.began.append(text)
        self.entered.release()
        if text.startswith("wait"):
            assert (self.short_gate if text == "wait short" else self.gate).wait(SOON_S)
        if self.error is not None:
            raise self.error
        return VECTOR


class Told(Events):
    def failed(self) -> list[TaskFailed]:
        return [one for one in self.seen if isinstance(one, TaskFailed)]

    def health(self) -> list[tuple[bool, int]]:
        return [(one.healthy, one.stuck) for one in self.seen if isinstance(one, EmbedderChanged)]


class Bench:
    """A guard over a gated embedder, on a clock that a test moves."""

    def __init__(self, threads: int = 1, max_waiting: int = 8, max_stuck: int = 1) -> None:
        self.clock = ManualClock()
        self.events = Told()
        self.first = Gated()
        self.remade: list[Gated] = []
        self.remake_errors: list[Exception] = []
        self.was_remade = threading.Semaphore(0)
        options = GuardOptions(threads, max_waiting, hang_s=5.0, max_stuck=max_stuck, long_length=LONG)
        self.guard = Guard(self.first, self._remake, options, clock=self.clock, observer=self.events)

    def _remake(self) -> Gated:
        if self.remake_errors:
            self.was_remade.release()
            raise self.remake_errors.pop()
        self.remade.append(Gated())
        self.was_remade.release()
        return self.remade[-1]

    def kind(self, text: str = "x", wait_s: float = 0.0, share: str = "") -> Kind | None:
        try:
            self.guard.embed(text, wait_s, share)
        except CacheError as error:
            return error.kind
        return None


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make_bench(**options: int) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield make_bench
    for bench in made:
        for gated in (bench.first, *bench.remade):
            gated.gate.set()
        bench.guard.stop()


def test_it_embeds(make: Callable[..., Bench]) -> None:
    """What the embedder gives comes back, and it counts as healthy."""
    bench = make()
    assert bench.guard.embed("x", SOON_S) is VECTOR
    assert bench.guard.healthy
    assert (bench.guard.fingerprint, bench.guard.dimension) == ("gated", 2)


def test_a_caller_leaves_when_its_time_is_up(make: Callable[..., Bench]) -> None:
    """An inference that goes on keeps nobody; what waited behind it and left is never begun."""
    bench = make()
    assert bench.kind("wait", 0.02) is Kind.OVERLOADED
    assert bench.kind("behind", 0.02) is Kind.OVERLOADED
    bench.first.gate.set()
    assert bench.guard.embed("after", SOON_S) is VECTOR
    assert bench.first.began == ["wait", "after"]


def test_a_stuck_thread_is_given_up_and_replaced(make: Callable[..., Bench]) -> None:
    """After hang_s a new embedder answers; the stuck thread coming back changes nothing any more."""
    bench = make()
    assert bench.kind("wait", 0.01) is Kind.OVERLOADED
    assert bench.guard.healthy, "not known to be stuck yet"
    bench.clock.advance(5001)
    assert bench.kind("x", 0.01) is Kind.OVERLOADED
    assert bench.was_remade.acquire(timeout=SOON_S)
    until(lambda: bench.kind("x", 1.0) is None)
    assert bench.remade[0].began
    assert (bench.guard.healthy, bench.guard.stuck_count) == (True, 1)
    bench.first.gate.set()
    until(lambda: bench.guard.stuck_count == 0)
    assert bench.events.health()[0] == (False, 1)
    assert bench.events.health()[-1] == (True, 0)


def test_when_too_many_are_stuck_it_fails_at_once_until_one_comes_back(make: Callable[..., Bench]) -> None:
    """Replacing has a bound; beyond it calls fail without waiting, and it heals by itself."""
    bench = make(max_stuck=0)
    assert bench.kind("wait", 0.01) is Kind.OVERLOADED
    bench.clock.advance(5001)
    assert bench.kind("x", 0.01) is Kind.OVERLOADED
    assert bench.kind("x", 60.0) is Kind.UNAVAILABLE
    assert not bench.guard.healthy
    assert not bench.remade
    bench.first.gate.set()
    until(lambda: bench.kind("x", 1.0) is None)
    assert bench.guard.healthy
    assert bench.guard.stuck_count == 0


@pytest.mark.parametrize(
    "error", [OSError("x"), CacheError(Kind.CORRUPT, "x")], ids=["a fault", "its own refusal"]
)
def test_an_embedder_that_cannot_be_made_anew_is_tried_again(
    make: Callable[..., Bench], error: Exception
) -> None:
    """Not at once, but after hang_s more; it is told each time, and heals though the stuck one never ends."""
    bench = make()
    bench.remake_errors.append(error)
    assert bench.kind("wait", 0.01) is Kind.OVERLOADED
    bench.clock.advance(5001)
    assert bench.kind("x", 0.01) is Kind.OVERLOADED
    assert bench.was_remade.acquire(timeout=SOON_S)
    until(lambda: [one.task for one in bench.events.failed()] == ["remake_embedder"])
    assert bench.kind("x", 60.0) is Kind.UNAVAILABLE
    assert not bench.remade
    bench.clock.advance(5001)
    until(lambda: bench.kind("x", 1.0) is None)
    assert len(bench.remade) == 1
    assert bench.guard.stuck_count == 1


@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), SystemExit(1), CacheError(Kind.UNAVAILABLE, "down")],
    ids=["fault", "a thread that would end", "its own refusal"],
)
def test_a_failing_embedder_is_told_and_heals(make: Callable[..., Bench], error: BaseException) -> None:
    """Whatever it raises is UNAVAILABLE to the caller; the same thread answers once it works again."""
    bench = make()
    bench.first.error = error
    assert bench.kind("x", SOON_S) is Kind.UNAVAILABLE
    assert not bench.guard.healthy
    bench.first.error = None
    assert bench.kind("x", SOON_S) is None
    assert bench.guard.healthy
    assert bench.events.health() == [(False, 0), (True, 0)]


def test_places_to_wait_are_bounded(make: Callable[..., Bench]) -> None:
    """Who finds no place is refused at once, whatever time it has."""
    bench = make(max_waiting=2)
    with ThreadPoolExecutor(4) as pool:
        busy = pool.submit(bench.guard.embed, "wait", SOON_S)
        assert bench.first.entered.acquire(timeout=SOON_S)
        waiting = [pool.submit(bench.guard.embed, f"{n}", SOON_S) for n in range(2)]
        until(lambda: bench.guard._waiting == 2)
        assert bench.kind("one too many", 60.0) is Kind.OVERLOADED
        bench.first.gate.set()
        assert all(one.result() is VECTOR for one in (busy, *waiting))


def test_no_namespace_takes_all_places(make: Callable[..., Bench]) -> None:
    """When all places are one namespace's, another gets one of them, and turns go round."""
    bench = make(max_waiting=4)
    with ThreadPoolExecutor(8) as pool:
        busy = pool.submit(bench.guard.embed, "wait", SOON_S, "flood")
        assert bench.first.entered.acquire(timeout=SOON_S)
        flood = [pool.submit(bench.kind, f"flood {n}", SOON_S, "flood") for n in range(4)]
        until(lambda: bench.guard._waiting == 4)
        modest = [pool.submit(bench.kind, f"modest {n}", SOON_S, "modest") for n in range(2)]
        until(lambda: len(bench.guard._queues.get("modest", ())) == 2)
        assert bench.kind("flood again", 60.0, "flood") is Kind.OVERLOADED
        bench.first.gate.set()
        assert busy.result() is VECTOR
        assert [one.result() for one in modest] == [None, None]
        assert sorted(str(one.result()) for one in flood) == ["Kind.OVERLOADED"] * 2 + ["None"] * 2
    order = [text.split()[0] for text in bench.first.began[1:]]
    assert order[:2] in (["flood", "modest"], ["modest", "flood"])
    assert order[2:4] == order[:2]


def _one_takes(bench: Bench, pool: ThreadPoolExecutor, milliseconds: int) -> None:
    """Have an inference take so long, by the guard's clock."""
    bench.first.gate.clear()
    call = pool.submit(bench.guard.embed, "wait", 60.0)
    assert bench.first.entered.acquire(timeout=SOON_S)
    bench.clock.advance(milliseconds)
    bench.first.gate.set()
    assert call.result() is VECTOR


def _hold(bench: Bench, pool: ThreadPoolExecutor, *shares: str) -> "list[Future[Vector | Unseen]]":
    """One inference at the gate, and those behind it."""
    bench.first.gate.clear()
    calls = [pool.submit(bench.guard.embed, "wait", SOON_S, "")]
    assert bench.first.entered.acquire(timeout=SOON_S)
    calls += [pool.submit(bench.guard.embed, f"{n}", SOON_S, share) for n, share in enumerate(shares)]
    until(lambda: bench.guard._waiting == len(shares))
    return calls


def test_who_would_wait_too_long_is_sent_away_at_once(make: Callable[..., Bench]) -> None:
    """With 100 ms an inference and two before it, 0.25 s are not enough and 0.35 s are."""
    bench = make()
    with ThreadPoolExecutor(8) as pool:
        _one_takes(bench, pool, 100)
        calls = _hold(bench, pool, "", "")
        assert bench.kind("hopeless", 0.25) is Kind.OVERLOADED
        assert bench.guard._waiting == 2, "it was given a place"
        calls.append(pool.submit(bench.guard.embed, "just", 0.35))
        until(lambda: bench.guard._waiting == 3)
        bench.first.gate.set()
        assert all(call.result() is VECTOR for call in calls)
    assert "hopeless" not in bench.first.began


def test_a_namespace_with_few_places_waits_less(make: Callable[..., Bench]) -> None:
    """What counts is who is before it, and turns go round: beside a flood there is time for another."""
    bench = make()
    with ThreadPoolExecutor(8) as pool:
        _one_takes(bench, pool, 100)
        calls = _hold(bench, pool, "flood", "flood", "flood")
        assert bench.kind("more", 0.25, "flood") is Kind.OVERLOADED
        calls.append(pool.submit(bench.guard.embed, "modest", 0.25, "modest"))
        until(lambda: bench.guard._waiting == 4)
        bench.first.gate.set()
        assert calls[-1].result() is VECTOR
        assert all(call.result() is VECTOR for call in calls)


def test_no_inference_is_begun_that_would_end_too_late(make: Callable[..., Bench]) -> None:
    """A job that waited until less time is left than one takes is passed over for the next."""
    bench = make()
    with ThreadPoolExecutor(8) as pool:
        _one_takes(bench, pool, 100)
        calls = _hold(bench, pool)
        late = pool.submit(bench.kind, "late", 2.0)
        until(lambda: bench.guard._waiting == 1)
        calls.append(pool.submit(bench.guard.embed, "in time", SOON_S))
        until(lambda: bench.guard._waiting == 2)
        bench.clock.advance(1950)
        bench.first.gate.set()
        assert all(call.result() is VECTOR for call in calls)
        assert late.result() is Kind.OVERLOADED
    assert "late" not in bench.first.began


def test_an_estimate_that_keeps_all_out_mends_itself(make: Callable[..., Bench]) -> None:
    """After one inference of a minute a lone caller with a second is answered all the same."""
    bench = make()
    with ThreadPoolExecutor(1) as pool:
        _one_takes(bench, pool, 60_000)
    assert [bench.kind("x", 1.0) for _ in range(20)] == [None] * 20


def test_what_waited_in_vain_says_nothing_of_inferences(make: Callable[..., Bench]) -> None:
    """Jobs that are passed over are told so at once, and leave the estimate as it is: else, with more asked than can
    be done, it sinks until half of all inferences are begun too late.
    """
    bench = make()
    with ThreadPoolExecutor(8) as pool:
        _one_takes(bench, pool, 100)
        calls = _hold(bench, pool)
        late = [pool.submit(bench.kind, f"late {n}", 60.0) for n in range(5)]
        until(lambda: bench.guard._waiting == 5)
        calls.append(pool.submit(bench.guard.embed, "in time", 1000.0))
        until(lambda: bench.guard._waiting == 6)
        bench.clock.advance(59_950)
        bench.guard._workers[0].since_s = (
            bench.clock.monotonic_s() - 0.1
        )  # the one at the gate took no longer
        bench.first.gate.set()
        assert [one.result(SOON_S) for one in late] == [Kind.OVERLOADED] * 5
        assert all(call.result() is VECTOR for call in calls)
    assert bench.guard._took_s == pytest.approx(0.1, rel=0.1)


def test_working_threads_find_the_stuck_one(make: Callable[..., Bench]) -> None:
    """Though no caller waits in vain, a thread that hangs is given up when another ends an inference."""
    bench = make(threads=2)
    assert bench.kind("wait", 0.02) is Kind.OVERLOADED
    bench.clock.advance(5001)
    assert bench.guard.embed("x", SOON_S) is VECTOR
    until(lambda: bench.guard.stuck_count == 1)


def test_made_up_names_are_let_in_within_bounds(make: Callable[..., Bench]) -> None:
    """Whoever names another namespace with every call is let in a bounded number of times."""
    bench = make()
    with ThreadPoolExecutor(8) as pool:
        _one_takes(bench, pool, 100)
        calls = _hold(bench, pool, "flood", "flood", "flood")
        assert 0 < sum(bench.guard.lets_in(0.25, f"name {n}") for n in range(1000)) < 100
        bench.first.gate.set()
        assert all(call.result() is VECTOR for call in calls)


def test_when_it_is_crowded_it_lets_in_who_asks_little_and_one_for_two_inferences(
    make: Callable[..., Bench],
) -> None:
    """A namespace with few places is let in, known to flood it is not; one call goes for every other inference."""
    bench = make()
    with ThreadPoolExecutor(8) as pool:
        assert not bench.guard.is_crowded(0.0)
        _one_takes(bench, pool, 100)
        _one_takes(bench, pool, 100)
        calls = _hold(bench, pool, "flood", "flood", "flood")
        assert bench.guard.is_crowded(0.25)
        assert not bench.guard.is_crowded(0.45)
        assert bench.guard.lets_in(0.25, "modest")
        assert bench.guard.lets_in(0.25, "flood"), "two inferences were made"
        assert not bench.guard.lets_in(0.25, "flood")
        assert not bench.guard.lets_in(0.25, None)
        assert bench.guard.lets_in(0.25, "modest")
        bench.first.gate.set()
        assert all(call.result() is VECTOR for call in calls)


def test_an_embedder_that_hangs_crowds_nobody_out(make: Callable[..., Bench]) -> None:
    """Inferences that end no more take no time from others: calls are begun, and get the exact tier."""
    bench = make()
    with ThreadPoolExecutor(8) as pool:
        _one_takes(bench, pool, 100)
        calls = _hold(bench, pool, "flood", "flood", "flood")
        assert bench.guard.is_crowded(0.25)
        bench.clock.advance(101)
        assert not bench.guard.is_crowded(0.25)
        bench.first.gate.set()
        assert all(call.result() is VECTOR for call in calls)


def test_all_threads_work_at_once(make: Callable[..., Bench]) -> None:
    """There are as many inferences at once as threads."""
    bench = make(threads=3)
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(bench.guard.embed, f"wait {n}", SOON_S) for n in range(3)]
        for _ in range(3):
            assert bench.first.entered.acquire(timeout=SOON_S)
        bench.first.gate.set()
        assert all(call.result() is VECTOR for call in calls)


def test_long_texts_leave_a_thread_to_short_ones(make: Callable[..., Bench]) -> None:
    """While a long text is embedded the other thread goes to a short one that came later, and then to a long one."""
    bench = make(threads=2)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(bench.guard.embed, "wait" + "x" * LONG, SOON_S)]
        assert bench.first.entered.acquire(timeout=SOON_S)
        calls.append(pool.submit(bench.guard.embed, "wait short", SOON_S))
        assert bench.first.entered.acquire(timeout=SOON_S)
        calls.append(pool.submit(bench.guard.embed, "wait" + "y" * LONG, SOON_S, "b"))
        until(lambda: bench.guard._waiting == 1)
        calls.append(pool.submit(bench.guard.embed, "wait later", SOON_S, "b"))
        until(lambda: bench.guard._waiting == 2)
        bench.first.short_gate.set()
        assert bench.first.entered.acquire(timeout=SOON_S)
        assert bench.first.began[-1] == "wait later"
        bench.first.gate.set()
        assert all(call.result() is VECTOR for call in calls)


def test_a_long_text_takes_the_last_thread_when_no_short_one_waits(make: Callable[..., Bench]) -> None:
    """No thread stands idle for short texts that may come: two long ones are embedded at once."""
    bench = make(threads=2)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(bench.guard.embed, "wait" + letter * LONG, SOON_S) for letter in "xy"]
        for _ in calls:
            assert bench.first.entered.acquire(timeout=SOON_S)
        bench.first.gate.set()
        assert all(call.result() is VECTOR for call in calls)


def test_what_nobody_waits_for_takes_only_what_nobody_wants(make: Callable[..., Bench]) -> None:
    """Embedding behind the requests is refused at once while all inferences are taken or wanted, and does not count
    for how long one takes.
    """
    bench = make()
    assert bench.guard.embed_behind("x", SOON_S) is VECTOR
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(bench.kind, "wait", SOON_S)
        assert bench.first.entered.acquire(timeout=SOON_S)
        assert bench.first.entered.acquire(timeout=SOON_S)
        with pytest.raises(CacheError) as caught:
            bench.guard.embed_behind("y", SOON_S)
        assert caught.value.kind is Kind.OVERLOADED
        bench.first.gate.set()
        assert busy.result(SOON_S) is None
    assert "y" not in bench.first.began


def test_an_inference_behind_the_requests_says_nothing_of_theirs(make: Callable[..., Bench]) -> None:
    """Answers are longer than prompts: had theirs counted, prompts would be turned away as if they took as long."""
    bench = make()
    with ThreadPoolExecutor(1) as pool:
        behind = pool.submit(bench.guard.embed_behind, "wait", SOON_S)
        assert bench.first.entered.acquire(timeout=SOON_S)
        bench.clock.advance(4000)
        bench.first.gate.set()
        assert behind.result(SOON_S) is VECTOR
    assert bench.kind("x", 0.5) is None
