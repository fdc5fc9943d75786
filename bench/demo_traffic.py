"""The traffic of the demo: labelled prompts drawn with a popularity, callers that replay them, and a tally.

The model is simulated: one answer for each label, so that every answer served can be checked.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.demo_server import DemoError
from bench.prompts import DEMO_PROMPTS, rows_of
from cachesvc import Client
from cachesvc.calls import CachedEntry, Usage

CALLERS = 4
CALL_S = 5.0
# Popularity of the k-th most popular prompt is 1/k^0.8: the middle of what web request streams show
# (0.64 to 0.83; Breslau et al., "Web Caching and Zipf-like Distributions", INFOCOM 1999).
ZIPF_EXPONENT = 0.8
INPUT_USD_PER_MILLION = 2.5  # assumed prices, in the range of a large hosted model
OUTPUT_USD_PER_MILLION = 10.0
CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for English


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """A real prompt, and which answer is right for it."""

    text: str
    answer_id: str
    source: str


@dataclass(frozen=True, slots=True)
class WrongHit:
    """An answer that was served and has another label than the prompt."""

    asked: LabelledPrompt
    served_prompt: str
    served_answer_id: str
    score: float


def load_prompts() -> list[LabelledPrompt]:
    """The extract that ships with the sources; see bench/data/README.md."""
    return [LabelledPrompt(row["prompt"], row["answer_id"], row["source"]) for row in rows_of(DEMO_PROMPTS)]


def draw_requests(prompts: Sequence[LabelledPrompt], count: int, seed: int) -> list[LabelledPrompt]:
    """A stream in which prompts repeat as in real traffic: Zipf-like popularity, which prompt has which by seed."""
    random = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, len(prompts) + 1) ** ZIPF_EXPONENT
    ranking = random.permutation(len(prompts))
    ranks = random.choice(len(prompts), size=count, p=weights / weights.sum())
    return [prompts[ranking[rank]] for rank in ranks]


@dataclass(slots=True)
class Tally:
    """What happened so far."""

    lookups_ms: dict[str, list[float]] = field(default_factory=dict)  # by outcome
    stores_ms: list[float] = field(default_factory=list)
    recent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=400))
    wrong: list[WrongHit] = field(default_factory=list)
    paid: Usage = field(default_factory=Usage)
    saved: Usage = field(default_factory=Usage)
    took_s: float = 0.0

    def tier_ms(self, prefix: str = "") -> list[float]:
        """Latencies of the lookups that came to an outcome whose name begins so."""
        return [
            ms for outcome, times in self.lookups_ms.items() if outcome.startswith(prefix) for ms in times
        ]


class SimulatedModel:
    """One answer for each label, so that an answer tells which label it belongs to. Takes no time."""

    def __init__(self, prompts: Sequence[LabelledPrompt]) -> None:
        self._answers = {prompt.answer_id: _answer(prompt.answer_id) for prompt in prompts}
        self._labels = {answer.encode(): answer_id for answer_id, answer in self._answers.items()}

    def call(self, prompt: LabelledPrompt) -> tuple[str, Usage]:
        """What a model that understood the prompt would say, and what it would take."""
        answer = self._answers[prompt.answer_id]
        tokens_in = _tokens(prompt.text)
        tokens_out = _tokens(answer)
        usd = (tokens_in * INPUT_USD_PER_MILLION + tokens_out * OUTPUT_USD_PER_MILLION) / 1e6
        return answer, Usage(tokens_in, tokens_out, usd)

    def label_of(self, response: bytes) -> str | None:
        """Which label these bytes answer; None when no call ever returned them."""
        return self._labels.get(response)


class Replay:
    """The callers, and what they saw."""

    def __init__(
        self, client: Client, prompts: Sequence[LabelledPrompt], requests: Sequence[LabelledPrompt]
    ) -> None:
        self.tally = Tally()
        self.request_count = len(requests)
        self._client = client
        self._requests = iter(requests)
        self._model = SimulatedModel(prompts)
        self._failure = ""
        self._lock = threading.Lock()  # the tally, the requests left, and the failure
        self._stop = threading.Event()
        self._callers = [threading.Thread(target=self._call, daemon=True) for _ in range(CALLERS)]

    def run(self, watch: Callable[[], None]) -> None:
        """Replay everything while ``watch`` shows it. Raises DemoError for the first request that failed."""
        began_s = time.perf_counter()
        for caller in self._callers:
            caller.start()
        try:
            watch()
        finally:
            self._stop.set()
            for caller in self._callers:
                caller.join(3 * CALL_S)
        self.tally.took_s = time.perf_counter() - began_s
        if self._failure:
            raise DemoError(self._failure)

    def wait(self, seconds: float) -> bool:
        """Pause for at most so long; false when all callers are done."""
        running = [caller for caller in self._callers if caller.is_alive()]
        if running:
            running[0].join(seconds)
        return bool(running)

    def progress(self) -> tuple[int, str]:
        """How many requests are done, and how it goes."""
        with self._lock:
            done = len(self.tally.tier_ms())
            hits = len(self.tally.tier_ms("HIT"))
            recent_ms = list(self.tally.recent_ms) or [0.0]
            wrong_count = len(self.tally.wrong)
        share = hits / max(done, 1)
        return done, f"hits {share:4.0%}   wrong {wrong_count:>3}   p50 {np.median(recent_ms):5.2f} ms"

    def _call(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                prompt = next(self._requests, None)
            if prompt is None:
                return
            try:
                self._answer(prompt)
            except Exception as error:  # noqa: BLE001 - the edge of the thread: told, and everything stops
                with self._lock:
                    self._failure = self._failure or f"{error}" or type(error).__name__
                self._stop.set()

    def _answer(self, prompt: LabelledPrompt) -> None:
        """What an application does: ask the cache; after a miss call the model and store what it said."""
        began_s = time.perf_counter()
        reply = self._client.lookup(prompt.text, namespace=prompt.source, journey="demo")
        lookup_ms = (time.perf_counter() - began_s) * 1000
        if reply.outcome in ("BYPASS_UNREACHABLE", "BYPASS_TIMEOUT", "BYPASS_ERROR"):
            raise DemoError(f"a lookup failed: {reply.outcome}: {reply.reason}")
        if reply.entry is not None:
            self._check(prompt, reply.entry, reply.score or 0.0)
            with self._lock:
                self.tally.saved = _sum(self.tally.saved, reply.entry.usage)
        else:
            self._call_model(prompt, reply.lookup_id)
        with self._lock:
            self.tally.lookups_ms.setdefault(reply.outcome, []).append(lookup_ms)
            self.tally.recent_ms.append(lookup_ms)

    def _check(self, prompt: LabelledPrompt, entry: CachedEntry, score: float) -> None:
        served = self._model.label_of(entry.response)
        if served is None:
            raise DemoError(f"entry {entry.id} was served with bytes that were never stored")
        if served != prompt.answer_id:
            with self._lock:
                self.tally.wrong.append(WrongHit(prompt, entry.prompt, served, score))

    def _call_model(self, prompt: LabelledPrompt, lookup_id: str) -> None:
        answer, usage = self._model.call(prompt)
        began_s = time.perf_counter()
        stored = self._client.store(
            answer,
            lookup_id=lookup_id,
            journey="demo",
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=usage.cost_usd,
        )
        store_ms = (time.perf_counter() - began_s) * 1000
        if not stored.stored:
            raise DemoError(f"a store failed: {stored.reason}")
        with self._lock:
            self.tally.stores_ms.append(store_ms)
            self.tally.paid = _sum(self.tally.paid, usage)


def _answer(answer_id: str) -> str:
    """A few hundred bytes about the label."""
    topic = answer_id.partition(":")[2].replace("_", " ")
    return (
        f"You asked about this: {topic}. Here is what applies in almost every case. First make sure that "
        "you are signed in with the account in question and that your details are up to date. Then open "
        f"the page called “{topic.capitalize()}” and follow the steps there; most people need two "
        "minutes. If something on that page does not match what you see, write to us with a short "
        "description and, if you have one, the reference number, and a person will look at it within one "
        f"working day. Everything else we know about {topic} is in the help section, under the same name."
    )


def _tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cost_usd + other.cost_usd,
    )
