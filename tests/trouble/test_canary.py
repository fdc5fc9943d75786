"""A canary in everything that is private never sings in logs, metrics, pages or errors."""

import io
import logging
import signal
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from itertools import count
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc_status import rpc_status

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.types import Unseen, Vector
from cachesvc.observe.log import Logger
from cachesvc.v1 import cache_pb2 as pb

if TYPE_CHECKING:
    from tests.trouble.conftest import Process, Service

Launch: TypeAlias = "Callable[[Mapping[str, Mapping[str, Any]]], Process]"
Dial: TypeAlias = Callable[[str], grpc.Channel]
Page: TypeAlias = Callable[[str, str], str]

CANARY = "Kanarienvogel-7f3a9c"
KEY = "Schluessel-51be02"  # for keys, which name a field in the error that their own caller gets
PAGES = ("/metrics", "/config", "/readyz", "/healthz", f"/{CANARY}", f"/metrics?{CANARY}")
CALL_S = 20.0
MIB = 1 << 20


def test_nothing_private_is_heard_of_a_real_server(launch: Launch, dial: Dial, page: Page) -> None:
    """Hits, misses, stores, deletes and bad requests, at log level debug: not a word of what they held."""
    process = launch({"log": {"level": "debug"}}).serving()
    errors = []
    for method, request in (*_good_requests(), *_bad_requests()):
        errors += _call(dial(process.address), method, request)
    pages = [page(process.admin, path) for path in PAGES]
    process.signal(signal.SIGTERM)
    assert process.ended() == 0

    for event in ("lookup", "store", "entries_removed", "call_failed"):
        assert f'"event": "{event}"' in process.log, f"no {event} was logged: nothing is proved"
    assert len(errors) >= len(list(_bad_requests()))
    _assert_silent(process.log, CANARY, KEY)
    _assert_silent("\n".join(pages), CANARY, KEY)
    _assert_silent("\n".join(errors), CANARY)


def test_the_canary_is_alive(service: "Service") -> None:
    """What must be heard nowhere else is served to the caller: the requests above do carry it."""
    served = b""
    for method, request in _good_requests():
        assert isinstance(request, Message)
        served += service.call(method, request.SerializeToString())
    assert served.count(CANARY.encode()) > 10


def _chained(text: str) -> Exception:
    error = RuntimeError(text)
    error.__cause__ = ValueError(text)
    error.add_note(text)
    return error


RAISED: dict[str, Callable[[str], Exception]] = {
    "runtime-error": RuntimeError,
    "key-error": KeyError,
    "value-error": ValueError,
    "os-error": lambda text: OSError(5, text, text),
    "chained": _chained,
    "unicode-error": lambda text: UnicodeEncodeError("utf-8", text, 0, 1, text),
    "assertion-error": AssertionError,
    "cache-error": lambda _: CacheError(Kind.UNAVAILABLE, "inference failed: RuntimeError"),
}


@pytest.mark.parametrize("id_", RAISED)
def test_a_fault_of_the_embedder_tells_nothing(
    service: "Service", failing: "Failing", log: io.StringIO, caplog: pytest.LogCaptureFixture, id_: str
) -> None:
    """An exception whose text is the prompt is an outcome to the caller, and in the log the name of its type."""
    caplog.set_level(logging.DEBUG)
    failing.error = RAISED[id_](f"cannot embed {CANARY}")
    failed = []
    try:
        for method, request in _good_requests():
            failed += _call(service.channel, method, request)
    finally:
        failing.error = None
    pages = "\n".join(service.page(path) for path in PAGES)

    if id_ != "cache-error":  # which is an outcome, not a fault
        assert '"task": "embed"' in log.getvalue()
        assert f'"message": "{type(RAISED[id_](CANARY)).__name__}"' in log.getvalue()
    for heard in ("\n".join(failed), log.getvalue(), caplog.text, pages):
        _assert_silent(heard, CANARY)


class Failing:
    """``Embedder`` that raises what it is told to, else embeds everything alike."""

    fingerprint = "failing"
    dimension = 4

    def __init__(self) -> None:
        self.error: Exception | None = None

    def embed(self, text: str, wait_s: float) -> Vector | Unseen:
        """See ``Embedder.embed``."""
        if self.error is not None:
            raise self.error
        return _ALIKE


_ALIKE: Vector = np.eye(1, 4, dtype=np.float32)[0]


@pytest.fixture(scope="module")
def failing() -> Failing:
    return Failing()


@pytest.fixture(scope="module")
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def service(host: "Callable[..., Service]", failing: Failing, log: io.StringIO) -> "Service":
    with redirect_stderr(log):  # a logger keeps the standard error that it was made with
        logger = Logger("debug", "json")
    return host(failing, logger)


# ------------------------------------------------------------------ requests

_fresh = count()


def _good_requests() -> Iterator[tuple[str, Message]]:
    """Misses, stores, exact and semantic hits, batches, expiry, replacement, all full of the canary."""
    n = next(_fresh)
    lookup, store = _lookup(n), _store(n)
    yield "Lookup", lookup
    yield "Store", store
    yield "Lookup", lookup
    yield "Store", store
    yield "Lookup", _lookup(n, "?")
    yield "BatchStore", pb.BatchStoreRequest(items=[store, _store(n, "!"), _store(n, "\u200b")])
    yield "BatchLookup", pb.BatchLookupRequest(items=[lookup, _lookup(n, "!"), _lookup(n, "\u200b")])
    yield "Store", _store(n, " soon gone", ttl=Duration(nanos=1_000_000))
    yield "Lookup", _lookup(n, " soon gone")
    yield "Lookup", pb.LookupRequest(prompt=f"{CANARY} {n}", bypass=True)
    yield "Lookup", pb.LookupRequest(prompt=f"{CANARY} {'long ' * 600}")


def _chat(n: int, ending: str) -> pb.Chat:
    turns = (
        ("system", f"You are {CANARY}."),
        ("user", f"Who is {CANARY}?"),
        ("assistant", f"I am {CANARY}."),
        ("user", f"Tell me of {CANARY} {n}{ending}"),
    )
    return pb.Chat(messages=[pb.Message(role=role, content=content) for role, content in turns])


def _lookup(n: int, ending: str = "") -> pb.LookupRequest:
    return pb.LookupRequest(chat=_chat(n, ending), vary={KEY: CANARY})


def _store(n: int, ending: str = "", **fields: Any) -> pb.StoreRequest:
    return pb.StoreRequest(
        chat=_chat(n, ending),
        vary={KEY: CANARY},
        response=f"The answer is {CANARY}".encode(),
        metadata={KEY: CANARY},
        tags=[CANARY],
        sources=[pb.Source(id=CANARY, version=CANARY)],
        **fields,
    )


def _bad_requests() -> Iterator[tuple[str, Message | bytes]]:
    """Each wrong in a way of its own, with the canary where it is wrong or beside it."""
    long, wrong = CANARY * 1000, CANARY + "\0"
    yield "Lookup", pb.LookupRequest(prompt=CANARY * 20_000)
    yield "Lookup", pb.LookupRequest(prompt=CANARY, vary={KEY: long})
    yield "Lookup", pb.LookupRequest(prompt=CANARY, model=wrong)
    yield "Lookup", pb.LookupRequest(prompt=CANARY, namespace=CANARY)
    yield "Lookup", pb.LookupRequest(prompt=CANARY, journey=wrong, request_id=wrong)
    yield "Lookup", pb.LookupRequest(prompt=CANARY, min_score=2)
    yield "Lookup", pb.LookupRequest(prompt=CANARY, max_age=Duration(seconds=-1))
    yield "Lookup", pb.LookupRequest(chat=pb.Chat(messages=[pb.Message(role=CANARY, content=CANARY)]))
    yield "Lookup", pb.LookupRequest(chat=pb.Chat(messages=[pb.Message(role="system", content=CANARY)]))
    yield "Store", pb.StoreRequest(prompt=CANARY, response=CANARY.encode() * MIB)
    yield "Store", pb.StoreRequest(prompt=CANARY)
    for wrongly in (
        pb.StoreRequest(tags=[wrong]),
        pb.StoreRequest(tags=[long]),
        pb.StoreRequest(metadata={KEY: long}),
        pb.StoreRequest(content_type=f"{CANARY}\n"),
        pb.StoreRequest(sources=[pb.Source(id=long)]),
        pb.StoreRequest(sources=[pb.Source(id=CANARY, version=wrong)]),
        pb.StoreRequest(lookup_id=CANARY),
        pb.StoreRequest(ttl=Duration(seconds=-1)),
        pb.StoreRequest(cost_usd=-1.0),
    ):
        wrongly.MergeFrom(pb.StoreRequest(prompt=CANARY, response=CANARY.encode()))
        yield "Store", wrongly
    yield "Store", pb.StoreRequest(lookup_id="00", response=CANARY.encode())
    yield "Get", pb.GetRequest(id=CANARY)
    yield "Delete", pb.DeleteRequest(id=CANARY)
    yield "Get", pb.GetRequest(id="f" * 16)
    for field_number in (1, 2, 4, 6, 7):
        text = CANARY.encode() + b"\xff"
        yield "Lookup", bytes((field_number << 3 | 2, len(text))) + text
    yield "Lookup", CANARY.encode()
    yield "Lookup", b"\x12\x7f" + CANARY.encode()
    yield "Lookup", CANARY.encode() * MIB
    yield "NoMethod", CANARY.encode()
    bad = pb.StoreRequest(prompt=CANARY, tags=[wrong], metadata={KEY: long})
    yield "BatchStore", pb.BatchStoreRequest(items=[bad] * 257)


def test_a_wrong_item_of_a_batch_tells_nothing(service: "Service", log: io.StringIO) -> None:
    """Errors of items name fields, and hold nothing of what was in them."""
    stores = [request for method, request in _bad_requests() if isinstance(request, pb.StoreRequest)]
    small = [request for request in stores if len(request.response) < MIB]
    batch = pb.BatchStoreRequest(items=small).SerializeToString()
    reply = pb.BatchStoreResponse.FromString(service.call("BatchStore", batch))
    assert all(result.HasField("error") for result in reply.results)
    _assert_silent(str(reply), CANARY)
    _assert_silent(log.getvalue(), CANARY, KEY)


# ------------------------------------------------------------------- helpers


def _call(channel: grpc.Channel, method: str, request: Message | bytes) -> list[str]:
    """Everything that an error says, its details and trailers included; empty when there was none."""
    data = request if isinstance(request, bytes) else request.SerializeToString()
    send = channel.unary_unary(
        f"/cachesvc.v1.CacheService/{method}", request_serializer=bytes, response_deserializer=bytes
    )
    try:
        send(data, timeout=CALL_S)
    except grpc.RpcError as error:
        return _said(error)
    return []


def _said(error: grpc.RpcError) -> list[str]:
    assert isinstance(error, grpc.Call)
    return [str(error.details()), repr(error.trailing_metadata()), str(rpc_status.from_call(error))]


def _assert_silent(text: str, *birds: str) -> None:
    folded = text.casefold()
    for bird in birds:
        for form in (bird, bird.encode().hex(), b64encode(bird.encode()).decode().rstrip("=")):
            at = folded.find(form.casefold())
            assert at < 0, f"heard: …{text[max(at - 200, 0) : at + 100]}…"
