"""The client libraries against a real server, a dead one and a slow one."""

import asyncio
import functools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

import cachesvc
from cachesvc.breaker import PAUSE_S, TRIES, Breaker
from cachesvc.calls import BYTES, JSON, TEXT, CallError, Prompt, Usage
from cachesvc.throttle import Throttle
from tests.conftest import Running

PROMPT = "How do I reset my password?"
VARIANT = "How do I reset my password"


@pytest.fixture
def client(server: Running) -> Iterator[cachesvc.Client]:
    with cachesvc.Client(server.app.address, timeout_s=5.0) as client:
        yield client


@pytest.fixture
def hung_address() -> Iterator[str]:
    """A port that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def free_address() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_miss_store_hit(client: cachesvc.Client) -> None:
    """A miss gives a lookup_id; what is stored under it is found exactly and by meaning."""
    miss = client.lookup(PROMPT, model="m")
    assert (miss.outcome, miss.hit, miss.response) == ("MISS_EMPTY", False, None)

    stored = client.store(
        "Click *forgot*.",
        lookup_id=miss.lookup_id,
        tags=["help"],
        metadata={"a": "b"},
        sources=[("doc", "7")],
        input_tokens=12,
        output_tokens=34,
        cost_usd=0.5,
        ttl_s=60,
    )
    assert (stored.stored, stored.semantic, stored.reason) == (True, True, "")

    exact = client.lookup(PROMPT, model="m")
    assert (exact.outcome, exact.text, exact.score) == ("HIT_EXACT", "Click *forgot*.", 1.0)
    assert exact.entry is not None
    assert exact.entry.id == stored.entry_id
    assert (exact.entry.tags, exact.entry.metadata) == (("help",), {"a": "b"})
    assert exact.entry.sources == (("doc", "7"),)
    assert exact.entry.usage == Usage(12, 34, 0.5)
    assert (exact.entry.prompt, exact.entry.model) == (PROMPT, "m")
    assert exact.entry.expires == stored.expires

    similar = client.lookup(VARIANT, model="m")
    assert similar.outcome == "HIT_SEMANTIC"
    assert similar.score is not None
    assert similar.threshold is not None
    assert 1.0 > similar.score >= similar.threshold == 0.95


def test_get_and_delete(client: cachesvc.Client) -> None:
    """An entry can be read and removed by its id, once, and only in its namespace."""
    entry_id = client.store(b"\x00\xff", PROMPT).entry_id
    entry = client.get(entry_id)
    assert entry is not None
    assert entry.response == b"\x00\xff"
    assert client.get(entry_id, namespace="other") is None
    assert client.delete(entry_id, namespace="other") is False
    assert client.delete(entry_id) is True
    assert client.delete(entry_id) is False
    assert client.get(entry_id) is None
    assert client.lookup(PROMPT).outcome == "MISS_EMPTY"


def test_chat_and_vary(client: cachesvc.Client) -> None:
    """A conversation matches in its own context only; vary values match whatever their key order."""
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    client.store("brief", chat, vary={"tools": {"b": 1, "a": [2]}, "temperature": 0})
    assert client.lookup(chat, vary={"temperature": 0, "tools": {"a": [2], "b": 1}}).text == "brief"
    assert not client.lookup(chat, vary={"temperature": 1, "tools": {"a": [2], "b": 1}}).hit
    assert not client.lookup([{**chat[0], "content": "Be long."}, chat[1]], vary={"temperature": 0}).hit
    assert not client.lookup(PROMPT).hit


def tool_call(city: str) -> list[dict[str, Any]]:
    arguments = f'{{"city":"{city}"}}'
    return [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}]


def weather(**assistant: object) -> list[dict[str, Any]]:
    """A conversation in which all but the assistant's turn is always the same."""
    return [
        {"role": "user", "content": "What is the weather like?"},
        {"role": "assistant", **assistant},
        {"role": "user", "content": PROMPT},
    ]


def asked(content: object, **more: object) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content, **more}]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
OTHER_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AB"}}
SPELLED = '\x00{"content":"","tool_calls":[]}'  # what a folded turn looks like, typed as text


@pytest.mark.parametrize(
    ("stored", "other"),
    [
        pytest.param(weather(tool_calls=tool_call("Oslo")), weather(tool_calls=tool_call("Rome")), id="call"),
        pytest.param(weather(tool_calls=tool_call("Oslo")), weather(content=""), id="call or none"),
        pytest.param(
            weather(content="cold", tool_call_id="1"), weather(content="cold", tool_call_id="2"), id="call id"
        ),
        pytest.param(weather(content="x", name="ann"), weather(content="x", name="bob"), id="name"),
        pytest.param(weather(content="x", name="ann"), weather(content="x"), id="name or none"),
        pytest.param(weather(content=[IMAGE]), weather(content=[OTHER_IMAGE]), id="earlier image"),
        pytest.param(asked([IMAGE]), asked([OTHER_IMAGE]), id="image asked about"),
        pytest.param(asked(PROMPT, name="ann"), asked(PROMPT, name="bob"), id="who asks"),
        pytest.param(asked(PROMPT, name="ann"), PROMPT, id="who asks or nobody"),
        pytest.param(asked([{"type": "text", "text": PROMPT}, IMAGE]), PROMPT, id="image or none"),
        pytest.param(weather(tool_calls=[]), weather(content=SPELLED), id="spelled in an earlier turn"),
        pytest.param(asked("", tool_calls=[]), asked(SPELLED), id="spelled in the question"),
        pytest.param(asked("", tool_calls=[]), SPELLED, id="spelled in the prompt"),
    ],
)
def test_all_of_a_conversation_must_match(client: cachesvc.Client, stored: Prompt, other: Prompt) -> None:
    """Whatever a turn holds beside plain text must be the same for a conversation to be the same."""
    assert client.store("answer", stored).stored is True
    assert client.lookup(other).outcome.startswith("MISS")
    assert client.lookup(stored).outcome == "HIT_EXACT"


def test_key_order_and_missing_content_do_not_matter(client: cachesvc.Client) -> None:
    """Content that is None or missing is no text, and the order of a turn's keys says nothing."""
    client.store("answer", weather(content=None, tool_calls=tool_call("Oslo"), name="ann"))
    assert client.lookup(weather(name="ann", tool_calls=tool_call("Oslo"))).text == "answer"
    client.store("silence", weather(content=""))
    assert client.lookup(weather()).text == "silence"
    assert client.lookup(weather(content=None)).text == "silence"


def test_text_parts_asked_are_plain_text(client: cachesvc.Client) -> None:
    """A question in text parts is its text, and is found by meaning; with an image it is found exactly only."""
    client.store("answer", "Hello.\n" + PROMPT)
    parts = [{"type": "text", "text": "Hello."}, {"type": "text", "text": PROMPT}]
    assert client.lookup(asked(parts)).outcome == "HIT_EXACT"
    assert client.lookup(asked([parts[0], {"type": "text", "text": VARIANT}])).outcome == "HIT_SEMANTIC"
    assert client.store("seen", asked([parts[1], IMAGE])).semantic is False
    assert client.lookup(asked([{"type": "text", "text": VARIANT}, IMAGE])).outcome.startswith("MISS")


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        pytest.param(None, "prompt", id="nothing"),
        pytest.param(7, "prompt", id="a number"),
        pytest.param(b"bytes", "prompt", id="bytes"),
        pytest.param({"role": "user", "content": PROMPT}, "prompt", id="a message alone"),
        pytest.param([PROMPT], "prompt[0] is not a mapping", id="a turn that is text"),
        pytest.param([{"content": PROMPT}], "prompt[0] has no role", id="no role"),
        pytest.param([{"role": 1, "content": PROMPT}], "prompt[0] has no role", id="a role that is not text"),
        pytest.param(asked(PROMPT, extra=object()), "prompt[0] is not JSON", id="not JSON"),
        pytest.param(asked(PROMPT, extra=float("nan")), "prompt[0] is not JSON", id="not a number"),
        pytest.param(asked(PROMPT, extra="\ud800"), "surrogate", id="not Unicode"),
        pytest.param([], "chat.messages", id="no turns"),
        pytest.param(asked(None), "blank", id="nothing asked"),
    ],
)
def test_wrong_prompts_fail_open(client: cachesvc.Client, prompt: Any, reason: str) -> None:
    """A prompt of the wrong shape raises nothing: it is a bypass, or not stored, for a reason that is told."""
    looked_up = client.lookup(prompt)
    assert (looked_up.outcome, looked_up.hit) == ("BYPASS_ERROR", False)
    assert reason in looked_up.reason
    if prompt is not None:  # to store, no prompt is a right one
        stored = client.store("answer", prompt)
        assert stored.stored is False
        assert reason in stored.reason
    assert client.lookup_many([prompt])[0].outcome == "BYPASS_ERROR"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"vary": {"a": object()}}, id="vary is not JSON"),
        pytest.param({"vary": None}, id="vary is nothing"),
        pytest.param({"model": 5}, id="model is a number"),
        pytest.param({"max_age_s": float("inf")}, id="for ever"),
        pytest.param({"timeout_s": "soon"}, id="timeout is text"),
    ],
)
def test_wrong_values_fail_open(client: cachesvc.Client, options: Any) -> None:
    """A value of the wrong type is a bypass with a reason; only an option that does not exist raises."""
    reply = client.lookup(PROMPT, **options)
    assert reply.outcome == "BYPASS_ERROR"
    assert reply.reason
    if "max_age_s" not in options:
        assert client.store("answer", PROMPT, **options).stored is False
    with pytest.raises(TypeError, match="modle"):
        client.lookup(PROMPT, **{"modle": "m", **options})
    with pytest.raises(TypeError, match="modle"):
        client.store("answer", PROMPT, modle="m")  # type: ignore[call-arg]  # the mistake under test


def test_store_under_a_lookup_sends_what_is_given(server: Running) -> None:
    """Beside a lookup_id alone, what the caller says must agree; the client's defaults are not said."""
    with cachesvc.Client(server.app.address, timeout_s=5.0, namespace="mine", model="m") as client:
        miss = client.lookup(PROMPT, namespace="theirs", model="n", vary={"a": 1})
        wrongs: list[dict[str, Any]] = [{"namespace": "mine"}, {"model": "m"}, {"vary": {"a": 2}}]
        for wrong in wrongs:
            refused = client.store("answer", lookup_id=miss.lookup_id, **wrong)
            assert refused.stored is False
            assert next(iter(wrong)) in refused.reason
        assert client.store("answer", lookup_id=miss.lookup_id).stored is True
        again = client.store("better", lookup_id=miss.lookup_id, namespace="theirs", model="n", vary={"a": 1})
        assert again.stored is True
        assert client.lookup(PROMPT, namespace="theirs", model="n", vary={"a": 1}).text == "better"


def test_lookup_options(client: cachesvc.Client) -> None:
    """min_score tightens and never loosens; max_age, exact_only and bypass do what they say."""
    client.store("answer", PROMPT)
    assert client.lookup(VARIANT, min_score=0.999).outcome == "MISS_BELOW_THRESHOLD"
    loose = client.lookup("How do I change my password?", min_score=0.1)
    assert (loose.outcome, loose.threshold) == ("MISS_BELOW_THRESHOLD", 0.95)
    assert loose.best_score is not None
    assert client.lookup(VARIANT, exact_only=True).outcome == "MISS_EXACT_ONLY"
    assert client.lookup(PROMPT, exact_only=True).outcome == "HIT_EXACT"
    assert client.lookup(PROMPT, bypass=True).outcome == "BYPASS_REQUESTED"
    assert client.lookup(PROMPT, max_age_s=3600).outcome == "HIT_EXACT"


def test_lookup_many_keeps_order(client: cachesvc.Client) -> None:
    """Each item of a batch has its own answer in its own place, wrong ones too."""
    client.store("answer", PROMPT)
    replies = client.lookup_many([PROMPT, "  ", VARIANT, "What is the weather like in Lima today?"])
    assert [reply.outcome for reply in replies] == [
        "HIT_EXACT",
        "BYPASS_ERROR",
        "HIT_SEMANTIC",
        "MISS_BELOW_THRESHOLD",
    ]
    assert "items[1].prompt" in replies[1].reason


def test_wrong_requests_name_the_field(client: cachesvc.Client) -> None:
    """What the server refuses is a bypass whose reason names the field; get and delete raise."""
    assert "namespace" in client.lookup(PROMPT, namespace="No Such").reason
    assert "response" in client.store(b"", PROMPT).reason
    assert "Unicode" in client.lookup("\ud800").reason or "surrogate" in client.lookup("\ud800").reason
    with pytest.raises(CallError, match="id:"):
        client.get("nonsense")
    with pytest.raises(TypeError, match="modle"):
        client.lookup(PROMPT, modle="m")  # type: ignore[call-arg]  # the mistake under test


def test_dead_server_is_a_miss() -> None:
    """A server that is not there costs no more than the refused connection and raises nothing."""
    with cachesvc.Client(free_address(), timeout_s=5.0) as client:
        reply = client.lookup(PROMPT)
        assert (reply.outcome, reply.hit) == ("BYPASS_UNREACHABLE", False)
        assert client.store("answer", PROMPT).stored is False
        with pytest.raises(CallError, match="UNAVAILABLE"):
            client.get("0" * 16)
        assert client.counts() == {"BYPASS_UNREACHABLE": 1, "NOT_STORED": 1}


def test_hung_server_costs_no_more_than_the_budget(hung_address: str) -> None:
    """A server that accepts and never answers is a miss once the caller's budget is spent."""
    with cachesvc.Client(hung_address, timeout_s=0.2) as client:
        began = time.monotonic()
        reply = client.lookup(PROMPT)
        assert reply.outcome in ("BYPASS_TIMEOUT", "BYPASS_UNREACHABLE")
        assert time.monotonic() - began < 2.0


def test_a_server_that_hangs_costs_a_few_budgets_and_no_more(hung_address: str) -> None:
    """After five lookups without an answer nothing is sent for a second: calls fail at once, and say so."""
    with cachesvc.Client(hung_address, timeout_s=0.1, store_timeout_s=30.0) as client:
        for _ in range(5):
            assert client.lookup(PROMPT, timeout_s=0.001).outcome == "BYPASS_TIMEOUT"
        for _ in range(5):
            assert "not asked" not in client.lookup(PROMPT).reason, (
                "less patience than the client's proves nothing"
            )
        began = time.monotonic()
        replies = [client.lookup(PROMPT), *client.lookup_many([PROMPT])]
        stored = client.store("answer", PROMPT)
        assert time.monotonic() - began < 0.05
    assert {reply.outcome for reply in replies} == {"BYPASS_TIMEOUT"}
    assert all("not asked" in reason for reason in (*(reply.reason for reply in replies), stored.reason))
    assert not stored.stored


class Crowded:
    """A server that is too busy for all but one lookup in ten, and counts what it is sent."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.throttle = Throttle(lambda: clock[0])
        self.sent = 0
        self.taken_on = 0

    def ask(self, count: int, *, per_s: float, every: int) -> None:
        """So many lookups at a rate; the server takes on each ``every``-th moment's one."""
        for _ in range(count):
            self.clock[0] += 1 / per_s
            if self.throttle.may_ask("kind"):
                self.sent += 1
                room = int(self.clock[0] * per_s / every) > self.taken_on
                self.taken_on += room
                self.throttle.note("kind", refused=not room)


def test_a_server_that_is_too_busy_is_sent_twice_what_it_takes_on() -> None:
    """Of ten times as many lookups as it takes on it is sent two or three times as many."""
    crowded = Crowded([0.0])
    crowded.ask(2000, per_s=100, every=10)
    before = crowded.sent
    crowded.ask(2000, per_s=100, every=10)
    assert 1.5 * 200 <= crowded.sent - before <= 3 * 200


def test_a_server_that_has_room_again_is_sent_everything_soon() -> None:
    """Five seconds after an overload nothing is held back; and one call in ten never was."""
    crowded = Crowded([0.0])
    crowded.throttle.note("kind", refused=True)
    sent = 0
    for _ in range(1000):
        crowded.clock[0] += 0.01
        if crowded.throttle.may_ask("kind"):
            sent += 1
            crowded.throttle.note("kind", refused=True)
    assert 90 <= sent <= 130, "all were refused"
    for _ in range(500):
        crowded.clock[0] += 0.01
        if crowded.throttle.may_ask("kind"):
            crowded.throttle.note("kind", refused=False)
    for _ in range(100):
        assert crowded.throttle.may_ask("kind")
        crowded.throttle.note("kind", refused=False)
    assert crowded.throttle.may_ask("another kind")


@pytest.mark.parametrize("gap_s", [1.0, 2.0, 10.0, 50.0, 100.0])
def test_who_asks_seldom_is_never_held_back(gap_s: float) -> None:
    """A client that asks once a second or less, as RetryInfo says, asks whatever was refused."""
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    throttle.note("kind", refused=True)
    for _ in range(20):
        now[0] += gap_s
        assert throttle.may_ask("kind")
        throttle.note("kind", refused=True)


def test_the_asyncio_client_is_throttled_too(refusing: str) -> None:
    """As the other: it soon asks one in ten."""

    async def asked() -> int:
        async with cachesvc.aio.Client(refusing) as client:
            replies = [await client.lookup(f"prompt {n}") for n in range(100)]
        assert {reply.outcome for reply in replies} == {"BYPASS_OVERLOADED"}
        return sum("not asked" not in reply.reason for reply in replies)

    assert 5 <= asyncio.run(asked()) <= 30


def test_a_name_that_is_too_long_is_refused_by_name(client: cachesvc.Client) -> None:
    """It does not go into metadata, whose size gRPC refuses as if the server were too busy."""
    reply = client.lookup("prompt", namespace="a" * 20_000)
    assert reply.outcome == "BYPASS_ERROR"
    assert "namespace" in reply.reason


def test_refused_lookups_throttle_their_namespace_alone(refusing: str) -> None:
    """A client of a server that refuses all soon asks one in ten, of the namespaces that were refused."""
    with cachesvc.Client(refusing, namespace="flood") as client:
        replies = [client.lookup(f"prompt {n}") for n in range(200)]
        assert {reply.outcome for reply in replies} == {"BYPASS_OVERLOADED"}
        asked = sum("not asked" not in reply.reason for reply in replies)
        assert 15 <= asked <= 40
        many = [client.lookup_many(["prompt", "another"]) for _ in range(100)]
        assert {reply.outcome for replies in many for reply in replies} == {"BYPASS_OVERLOADED"}
        assert sum("not asked" not in replies[0].reason for replies in many) <= 20
        assert "not asked" not in client.lookup("prompt", namespace="other").reason
        assert "not asked" not in client.lookup("prompt", exact_only=True).reason


def test_a_paused_client_asks_once_a_second_until_it_is_answered() -> None:
    """One caller of many tries; an answer ends the pause, no answer prolongs it."""
    now = [100.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(TRIES):
        assert breaker.may_look_up()
        breaker.note(in_time=False)
    assert (breaker.may_look_up(), breaker.paused) == (False, True)
    now[0] += PAUSE_S
    assert [breaker.may_look_up() for _ in range(3)] == [True, False, False]
    breaker.note(in_time=False)
    now[0] += 0.9 * PAUSE_S
    assert not breaker.may_look_up()
    now[0] += 0.1 * PAUSE_S
    assert breaker.may_look_up()
    breaker.note(in_time=True)
    assert [breaker.may_look_up() for _ in range(3)] == [True] * 3
    assert not breaker.paused


def test_server_that_comes_back_is_used(start: Callable[..., Running]) -> None:
    """A client made before its server, or across a restart, finds it without being made anew."""
    address = free_address()
    with cachesvc.Client(address, timeout_s=5.0) as client:
        assert client.lookup(PROMPT).outcome == "BYPASS_UNREACHABLE"
        start(server={"listen": address})
        deadline = time.monotonic() + 20
        while client.lookup(PROMPT).outcome != "MISS_EMPTY":
            assert time.monotonic() < deadline


def test_cached_calls_once(client: cachesvc.Client) -> None:
    """A decorated function runs once for what is the same, and again when any other argument differs."""
    calls: list[tuple[str, float]] = []

    @client.cached(model="m", journey="test", usage=lambda answer: Usage(1, len(answer), 0.25))
    def ask(prompt: str, temperature: float = 0.0) -> str:
        calls.append((prompt, temperature))
        return f"answer {len(calls)}"

    assert ask(PROMPT) == "answer 1"
    assert ask(PROMPT) == "answer 1"
    assert ask(prompt=VARIANT, temperature=0.0) == "answer 1"
    assert ask(PROMPT, temperature=0.5) == "answer 2"
    assert len(calls) == 2
    assert client.counts()["STORED"] == 2


def test_cached_answers_keep_their_type(client: cachesvc.Client) -> None:
    """Text, bytes and JSON come back as what they were; anything else is returned and not stored."""
    for answer in ("text", b"\x00bytes", {"json": [1, 2.5, None]}, ["list"]):

        @client.cached(vary={"kind": type(answer).__name__})
        def ask(prompt: str, answer: object = answer) -> object:
            return answer

        if isinstance(answer, bytes):
            with pytest.raises(TypeError, match="ignore"):
                ask(PROMPT)
            continue
        assert ask(PROMPT) == answer
        assert ask(PROMPT) == answer

    @client.cached(ignore=("answer",))
    def opaque(prompt: str, answer: object) -> object:
        return answer

    thing = object()
    assert opaque("What is in the box?", thing) is thing
    assert client.counts()["NOT_STORED"] == 1


def test_cached_functions_have_their_own_answers(client: cachesvc.Client) -> None:
    """Two functions asked the same have two answers; under one name, or one vary, they have one."""

    def summarise(prompt: str) -> str:
        return "summary"

    def translate(prompt: str) -> str:
        return "translation"

    assert client.cached()(summarise)(PROMPT) == "summary"
    assert client.cached()(translate)(PROMPT) == "translation"
    assert client.cached()(translate)(VARIANT) == "translation"
    assert client.cached(name="ask")(summarise)(PROMPT) == "summary"
    assert client.cached(name="ask")(translate)(PROMPT) == "summary"
    told = {"cachesvc.function": "told"}
    assert client.cached(vary=told)(translate)(PROMPT) == "translation"
    assert client.cached(vary=told, name="ask")(summarise)(PROMPT) == "translation"


def test_cached_needs_a_name(client: cachesvc.Client) -> None:
    """A callable that has no name of its own is refused when it is decorated, unless it is given one."""

    def ask(topic: str, prompt: str) -> str:
        return f"{topic}: {prompt}"

    with pytest.raises(TypeError, match="name="):
        client.cached()(functools.partial(ask, "birds"))
    assert client.cached(name="birds")(functools.partial(ask, "birds"))(prompt=PROMPT) == f"birds: {PROMPT}"


@pytest.mark.parametrize(
    ("budget_s", "options", "outcome"),
    [
        pytest.param(-1.0, {}, "BYPASS_TIMEOUT", id="no time left"),
        pytest.param(5.0, {"min_score": 2.0}, "BYPASS_ERROR", id="refused"),
    ],
)
def test_cached_does_not_store_after_no_answer(
    server: Running, budget_s: float, options: Any, outcome: str
) -> None:
    """When the cache did not answer the lookup it is not asked to store either."""
    with cachesvc.Client(server.app.address, timeout_s=budget_s) as client:
        ask = client.cached(**options)(shout)
        assert ask(PROMPT) == PROMPT.upper()
        assert client.counts() == {outcome: 1, "NOT_STORED": 1}


def shout(prompt: str) -> str:
    return prompt.upper()


@pytest.mark.parametrize(
    ("response", "content_type"),
    [
        pytest.param(b"\xff", TEXT, id="text"),
        pytest.param(b"\xff", JSON, id="JSON that is not Unicode"),
        pytest.param(b"{", JSON, id="JSON cut short"),
        pytest.param(b"[" * 100_000, JSON, id="JSON too deep"),
    ],
)
def test_cached_replaces_what_it_cannot_read(
    client: cachesvc.Client, response: bytes, content_type: str
) -> None:
    """An entry that is not what it says it is counts as no answer, and is stored over."""
    client.store(response, PROMPT, content_type=content_type, vary={"cachesvc.function": "shout"})
    ask = client.cached(name="shout")(shout)
    assert [ask(PROMPT), ask(PROMPT)] == [PROMPT.upper()] * 2
    assert client.counts() == {"BYPASS_ERROR": 1, "HIT_EXACT": 1, "STORED": 2}


def test_cached_serves_what_others_stored(client: cachesvc.Client) -> None:
    """A hit of another type than the function's is returned as what it is."""
    client.store(b"\xff", PROMPT, content_type=BYTES, vary={"cachesvc.function": "shout"})
    assert client.cached(name="shout")(shout)(PROMPT) == b"\xff"  # type: ignore[comparison-overlap]  # the promise


def test_cached_does_not_store_text_that_is_not_unicode(client: cachesvc.Client) -> None:
    """An answer that cannot be encoded is returned and not stored."""

    @client.cached()
    def ask(prompt: str) -> str:
        return "\ud800"

    assert ask(PROMPT) == "\ud800"
    assert client.counts()["NOT_STORED"] == 1


def test_cached_does_not_store_failures(client: cachesvc.Client) -> None:
    """What the function raises is raised, and the next call calls it again."""
    attempts: list[int] = []

    @client.cached()
    def ask(prompt: str) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("the model is down")
        return "fine"

    with pytest.raises(RuntimeError, match="the model is down"):
        ask(PROMPT)
    assert ask(PROMPT) == "fine"
    assert ask(PROMPT) == "fine"
    assert len(attempts) == 2


def test_cached_works_without_a_server() -> None:
    """With the cache down a decorated function is the function."""
    with cachesvc.Client(free_address()) as client:

        @client.cached()
        def ask(prompt: str) -> str:
            return prompt.upper()

        assert ask("hello there") == "HELLO THERE"


def test_threads_share_a_client(client: cachesvc.Client) -> None:
    """Many threads get their own answers from one client."""
    wrong: list[str] = []

    def work(n: int) -> None:
        for i in range(20):
            prompt, answer = f"Question {n} number {i} of the exam", f"{n}/{i}"
            client.store(answer, prompt, vary={"thread": n})
            if client.lookup(prompt, vary={"thread": n}).text != answer:
                wrong.append(answer)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_aio_client(server: Running, hung_address: str) -> None:
    """The asyncio client does all of it, and its decorated calls run once."""

    async def run() -> None:
        async with cachesvc.aio.Client(server.app.address, timeout_s=5.0) as client:
            miss = await client.lookup(PROMPT)
            assert miss.outcome == "MISS_EMPTY"
            stored = await client.store("answer", lookup_id=miss.lookup_id)
            assert (await client.lookup(PROMPT)).text == "answer"
            assert [reply.hit for reply in await client.lookup_many([PROMPT, VARIANT])] == [True, True]
            entry = await client.get(stored.entry_id)
            assert entry is not None
            assert await client.delete(stored.entry_id)
            assert await client.get(stored.entry_id) is None
            calls: list[str] = []

            @client.cached(model="m")
            async def ask(prompt: str) -> str:
                calls.append(prompt)
                return "async answer"

            assert [await ask(PROMPT), await ask(VARIANT)] == ["async answer"] * 2
            assert calls == [PROMPT]

        async with cachesvc.aio.Client(hung_address, timeout_s=0.1) as client:
            reasons = [(await client.lookup(PROMPT)).reason for _ in range(6)]
            reasons.append((await client.lookup_many([PROMPT]))[0].reason)
            reasons.append((await client.store("answer", PROMPT)).reason)
            assert ["not asked" in reason for reason in reasons] == [False] * 5 + [True] * 3

        async with cachesvc.aio.Client(free_address()) as client:
            assert (await client.lookup(PROMPT)).outcome == "BYPASS_UNREACHABLE"
            assert not (await client.store("answer", PROMPT)).stored
            with pytest.raises(CallError):
                await client.delete("0" * 16)

    asyncio.run(run())


def test_aio_client_does_the_same(server: Running) -> None:
    """The asyncio client's identities, budgets and readings are those of the other client."""

    async def whisper(prompt: str) -> str:
        return prompt.lower()

    async def run() -> None:
        async with cachesvc.aio.Client(server.app.address, timeout_s=5.0, model="m") as client:
            await client.store("answer", weather(tool_calls=tool_call("Oslo")))
            assert (await client.lookup(weather(tool_calls=tool_call("Oslo")))).hit
            assert not (await client.lookup(weather(tool_calls=tool_call("Rome")))).hit
            wrong: Any = [PROMPT]
            assert (await client.lookup(wrong)).outcome == "BYPASS_ERROR"
            assert [reply.outcome for reply in await client.lookup_many([wrong])] == ["BYPASS_ERROR"]
            assert not (await client.store("answer", wrong)).stored
            with pytest.raises(TypeError, match="modle"):
                await client.lookup(wrong, modle="m")  # type: ignore[call-arg]  # the mistake under test
            miss = await client.lookup(PROMPT, model="n")
            assert not (await client.store("answer", lookup_id=miss.lookup_id, model="m")).stored
            assert (await client.store("answer", lookup_id=miss.lookup_id)).stored

        async with cachesvc.aio.Client(server.app.address, timeout_s=5.0) as client:
            assert await client.cached(name="loud")(whisper)(PROMPT) == PROMPT.lower()
            assert await client.cached()(whisper)(PROMPT) == PROMPT.lower()
            assert client.counts() == {"MISS_EMPTY": 2, "STORED": 2}
            await client.store(b"\xff", PROMPT, content_type=TEXT, vary={"cachesvc.function": "loud"})
            assert await client.cached(name="loud")(whisper)(PROMPT) == PROMPT.lower()
            assert client.counts() == {"MISS_EMPTY": 2, "STORED": 4, "BYPASS_ERROR": 1}

        async with cachesvc.aio.Client(server.app.address, timeout_s=-1.0) as client:
            assert await client.cached()(whisper)(VARIANT) == VARIANT.lower()
            assert client.counts() == {"BYPASS_TIMEOUT": 1, "NOT_STORED": 1}

    asyncio.run(run())
