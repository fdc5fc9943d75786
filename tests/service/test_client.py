"""The client libraries against a real server, a dead one and a slow one."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

import cachesvc
from cachesvc.calls import CallError, Usage
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


def test_aio_client(server: Running) -> None:
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

        async with cachesvc.aio.Client(free_address()) as client:
            assert (await client.lookup(PROMPT)).outcome == "BYPASS_UNREACHABLE"
            assert not (await client.store("answer", PROMPT)).stored
            with pytest.raises(CallError):
                await client.delete("0" * 16)

    asyncio.run(run())
