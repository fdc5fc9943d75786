"""Restarts of a real server: ready at once, indexes behind, in the order in which scopes were used before."""

import json
import signal
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.adapters.scope_notes import NoteFile
from cachesvc.core.identity import identify
from cachesvc.core.ports import Embedder
from cachesvc.core.types import Message, Request
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

if TYPE_CHECKING:
    from tests.trouble.conftest import Process

Launch: TypeAlias = "Callable[[Mapping[str, Mapping[str, Any]]], Process]"
Dial: TypeAlias = Callable[[str], grpc.Channel]
Page: TypeAlias = Callable[[str, str], str]

MODELS = [f"m{n}" for n in range(12)]
STORED, ALIKE = "How do I cancel my card payment?", "How do I cancel my card payment"
CALL_S = 20.0
SLOW = {"index": {"warm_share": 0.001}}  # a scope, and a rest of a quarter of a second


def test_a_restart_loads_what_was_used_last_and_a_kill_in_the_middle_loses_nothing(
    launch: Launch,
    dial: Dial,
    page: Page,
    open_store: Callable[[], LmdbStore],
    embedder: Embedder,
    tmp_path: Path,
) -> None:
    """While it warms the server is ready, serves exact hits, and says that the index is not all there yet; one that
    was killed then leaves the next everything to load; and the order of use comes through all of it.
    """
    used = [*MODELS[6:], *MODELS[:6]]
    first = launch({}).serving()
    stub = CacheServiceStub(dial(first.address))
    for model in MODELS:
        stub.Store(pb.StoreRequest(prompt=STORED, model=model, response=model.encode()), timeout=CALL_S)
    assert [answer(stub, ALIKE, model) for model in used] == used
    first.signal(signal.SIGTERM)
    assert first.ended() == 0

    second = launch(SLOW).serving()
    channel = dial(second.address)
    assert answer(CacheServiceStub(channel), STORED, "m0") == "m0"
    told = json.loads(page(second.admin, "/readyz"))
    assert told["ready"]
    assert not told["components"]["index"]
    assert not told["warming"]["is_done"]
    assert told["warming"]["scopes"] < told["warming"]["scopes_total"] == len(MODELS)
    health = HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=CALL_S)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert answer(CacheServiceStub(channel), ALIKE, used[0]) == used[0], (
        "last in the order, and asked for now"
    )
    second.kill()

    third = launch({}).serving()
    while not told["components"]["index"]:
        told = json.loads(page(third.admin, "/readyz"))
    assert told["warming"]["scopes"] == told["warming"]["rows"] == len(MODELS)
    gauges = page(third.admin, "/metrics").splitlines()
    assert f"cachesvc_index_scopes {len(MODELS)}.0" in gauges
    assert f"cachesvc_index_warmed_scopes {len(MODELS)}.0" in gauges
    assert "cachesvc_index_warming 0.0" in gauges
    third.signal(signal.SIGTERM)
    assert third.ended() == 0
    with closing(open_store()) as store:
        noted = NoteFile(tmp_path / "store" / "scopes.recent", store.key_for(b"scopes")).load()
    assert [note.scope for note in noted] == [scope_of(model, embedder) for model in reversed(used)]


def answer(stub: CacheServiceStub, prompt: str, model: str) -> str:
    found = stub.Lookup(pb.LookupRequest(prompt=prompt, model=model), timeout=CALL_S)
    return found.entry.response.decode()


def scope_of(model: str, embedder: Embedder) -> bytes:
    request = Request("default", (Message("user", STORED),), model, {})
    return identify(request, embedder.fingerprint).scope
