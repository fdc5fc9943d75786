"""Client libraries asked for a fresh answer: made behind the caller's back, reported, and of no consequence."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import grpc
import pytest

import cachesvc
from cachesvc.audits import MAX_WAITING
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceServicer, add_CacheServiceServicer_to_server
from tests.waiting import until

CACHED = "the cached answer"


class _Service(CacheServiceServicer):
    """Every lookup hits, and asks for an audit."""

    def __init__(self) -> None:
        self.reports: list[pb.SubmitFeedbackRequest] = []
        self.reported = threading.Event()
        self.fails = False

    def Lookup(self, request: pb.LookupRequest, context: grpc.ServicerContext) -> pb.LookupResponse:  # noqa: N802 - gRPC's
        reply = pb.LookupResponse(outcome=pb.OUTCOME_HIT_SEMANTIC, lookup_id="l-1", audit=True, score=0.97)
        reply.entry.id, reply.entry.response = "7", CACHED.encode()
        reply.entry.content_type = "text/plain; charset=utf-8"
        return reply

    def SubmitFeedback(  # noqa: N802 - gRPC's
        self, request: pb.SubmitFeedbackRequest, context: grpc.ServicerContext
    ) -> pb.SubmitFeedbackResponse:
        self.reports.append(request)
        self.reported.set()
        if self.fails:
            context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        return pb.SubmitFeedbackResponse(verdict=pb.VERDICT_WRONG)


@pytest.fixture
def service() -> _Service:
    return _Service()  # type: ignore[abstract]  # its other methods are UNIMPLEMENTED


@pytest.fixture
def address(service: _Service) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    add_CacheServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def until_counted(client: Any, **counts: int) -> None:
    """What is done behind the caller's back is done when the client has counted it."""
    until(lambda: {name: client.counts().get(name) for name in counts} == counts, told=client.counts)


def test_a_fresh_answer_is_reported(service: _Service, address: str) -> None:
    """The caller gets the cached answer; the function is called behind it, in the caller's context, and its answer
    goes to the service under the lookup's id.
    """
    tenant: ContextVar[str] = ContextVar("tenant")
    calls: list[str] = []

    with cachesvc.Client(address, namespace="n", timeout_s=5.0) as client:

        @client.cached(model="m")
        def ask(prompt: str) -> str:
            calls.append(f"{threading.current_thread().name} {tenant.get()}")
            return f"fresh: {prompt}"

        tenant.set("t-1")
        assert ask("a question") == CACHED
        assert service.reported.wait(5)
        until_counted(client, AUDITED=1)
    (report,) = service.reports
    assert (report.namespace, report.lookup_id, report.source) == ("n", "l-1", "audit")
    assert (report.fresh.response, report.WhichOneof("judgement")) == (b"fresh: a question", "fresh")
    assert calls == ["cachesvc-audits t-1"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: 1 / 0, id="the function raises"),
        pytest.param(object, id="an answer that cannot be told"),
    ],
)
def test_what_goes_wrong_there_is_only_counted(
    service: _Service, address: str, answer: Callable[[], Any]
) -> None:
    """An audit that fails is nothing to the application."""
    with cachesvc.Client(address, timeout_s=5.0) as client:
        ask = client.cached(prompt="q", name="ask")(lambda q: answer())
        assert ask("a question") == CACHED
        until_counted(client, NOT_AUDITED=1)
    assert service.reports == []


def test_a_function_that_ends_the_program_ends_no_audits(service: _Service, address: str) -> None:
    """SystemExit behind the caller's back is counted as any failure, and the next audit is made."""
    answers: list[Callable[[], Any]] = [sys.exit, lambda: "fresh"]
    with cachesvc.Client(address, timeout_s=5.0) as client:
        ask = client.cached(prompt="q", name="ask")(lambda q: answers.pop(0)())
        assert ask("a question") == CACHED
        until_counted(client, NOT_AUDITED=1)
        assert ask("another") == CACHED
        until_counted(client, NOT_AUDITED=1, AUDITED=1)


def test_a_service_that_takes_no_report_is_only_counted(service: _Service, address: str) -> None:
    """Nor is a report that does not arrive."""
    service.fails = True
    with cachesvc.Client(address, timeout_s=5.0) as client:
        ask = client.cached(prompt="q", name="ask")(lambda q: "fresh")
        assert ask("a question") == CACHED
        until_counted(client, NOT_AUDITED=1)


def test_audits_can_be_left_out(service: _Service, address: str) -> None:
    """A function that does more than answer is not called behind anybody's back."""
    calls: list[str] = []
    with cachesvc.Client(address, timeout_s=5.0) as client:

        @client.cached(audits=False)
        def ask(prompt: str) -> str:
            calls.append(prompt)
            return "fresh"

        assert ask("a question") == CACHED
    assert calls == []


def test_few_wait_and_the_rest_is_not_made(address: str) -> None:
    """However slow the function, callers wait for nothing, and a bounded number of audits is behind them."""
    leave = threading.Event()
    client = cachesvc.Client(address, timeout_s=5.0)
    ask = client.cached(prompt="q", name="ask")(lambda q: leave.wait(10) and "fresh")
    for n in range(MAX_WAITING + 10):
        assert ask(f"question {n}") == CACHED
    assert client.counts()["NOT_AUDITED"] in {9, 10}  # one is under way, or about to be
    client.close()
    leave.set()


def test_asyncio_reports_too(service: _Service, address: str) -> None:
    """The same for ``cachesvc.aio``, whose function is awaited meanwhile."""

    async def run() -> dict[str, int]:
        async with cachesvc.aio.Client(address, namespace="n", timeout_s=5.0) as client:

            @client.cached()
            async def ask(prompt: str) -> str:
                await asyncio.sleep(0)
                return f"fresh: {prompt}"

            @client.cached()
            async def fail(prompt: str) -> str:
                raise ValueError(prompt)

            assert await ask("a question") == CACHED
            assert await fail("a question") == CACHED
            await asyncio.to_thread(until_counted, client, AUDITED=1, NOT_AUDITED=1)
            return client.counts()

    counts = asyncio.run(run())
    assert (counts["AUDITED"], counts["NOT_AUDITED"]) == (1, 1)
    (report,) = service.reports
    assert (report.namespace, report.lookup_id, report.fresh.response) == ("n", "l-1", b"fresh: a question")


def test_asyncio_gives_up_what_is_under_way(address: str) -> None:
    """Closing the client waits for no audit."""
    begun = asyncio.Event()

    async def run() -> dict[str, int]:
        async with cachesvc.aio.Client(address, timeout_s=5.0) as client:

            @client.cached()
            async def ask(prompt: str) -> str:
                begun.set()
                await asyncio.Event().wait()
                return prompt

            assert await ask("a question") == CACHED
            await begun.wait()
        return client.counts()

    assert asyncio.run(run())["NOT_AUDITED"] == 1
