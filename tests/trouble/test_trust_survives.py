"""``kill -9``: feedback and audits that were acknowledged are there again, and so are labels that were written."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest

from cachesvc.v1 import admin_pb2
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.admin_pb2_grpc import AdminServiceStub
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub
from tests.waiting import until

if TYPE_CHECKING:
    from tests.trouble.conftest import Process

pytestmark = pytest.mark.slow

Launch: TypeAlias = "Callable[[Mapping[str, Mapping[str, Any]]], Process]"
Dial: TypeAlias = Callable[[str], grpc.Channel]

CALL_S = 20.0
ROUNDS = 4
POLICY = {"policy.default": {"min_score": 0.75, "gates": [], "audit_share": 1.0, "max_audit_share": 1.0}}
TOPICS = ("address", "password", "card", "limit")


class Server:
    """A server's two ports."""

    def __init__(self, process: "Process", dial: Dial) -> None:
        self.process = process.serving()
        said = next(json.loads(line) for line in process.lines if '"serving"' in line)
        self.cache = CacheServiceStub(dial(process.address))
        self.admin = AdminServiceStub(dial(said["admin_rpc"]))

    def ask(self, prompt: str) -> pb.LookupResponse:
        return self.cache.Lookup(pb.LookupRequest(prompt=prompt), timeout=CALL_S, wait_for_ready=True)

    def store(self, prompt: str, response: str) -> None:
        self.cache.Store(pb.StoreRequest(prompt=prompt, response=response.encode()), timeout=CALL_S)

    def labels(self) -> dict[str, int]:
        request = admin_pb2.GetTrustRequest(namespace="default")
        (trust,) = self.admin.GetTrust(request, timeout=CALL_S, wait_for_ready=True).namespaces
        return dict(trust.labels)


def test_what_was_acknowledged_survives(launch: Launch, dial: Dial) -> None:
    """A server is killed right after each acknowledgement, and started again: nothing that was said is forgotten, and it
    is known when it is said again.
    """
    said: list[pb.SubmitFeedbackRequest] = []
    audits, vetoed = 0, []
    for n in range(ROUNDS):
        server = Server(launch(POLICY), dial)
        topic = TOPICS[n]
        stored, asked = f"how do I change the {topic} of my account", f"how can I change my account's {topic}"
        server.store(stored, f"Open Settings and choose {topic}.")
        hit = server.ask(asked)
        assert (hit.outcome, hit.audit) == (pb.OUTCOME_HIT_SEMANTIC, True)
        audit = pb.SubmitFeedbackRequest(
            lookup_id=hit.lookup_id, fresh=pb.FreshAnswer(response=b"Nobody can do that, ever.")
        )
        server.cache.SubmitFeedback(audit, timeout=CALL_S)
        audits += 1
        said.append(
            pb.SubmitFeedbackRequest(
                entry_id=hit.entry.id, prompt=asked, verdict=pb.VERDICT_WRONG, source="me"
            )
        )
        heard = server.cache.SubmitFeedback(said[-1], timeout=CALL_S)
        server.process.kill()
        assert heard.vetoed
        vetoed.append(asked)
    server = Server(launch(POLICY), dial)
    assert server.labels() == {"audit": audits, "feedback": ROUNDS}
    assert all(server.ask(asked).outcome == pb.OUTCOME_MISS_VETOED for asked in vetoed)
    assert all(server.cache.SubmitFeedback(request, timeout=CALL_S).known for request in said)


def test_labels_survive_once_they_are_written(launch: Launch, dial: Dial) -> None:
    """Misses label themselves within about a second of the answer; then a kill takes none of them."""
    policy = {"policy.default": {"min_score": 0.99, "gates": []}}
    server = Server(launch(policy), dial)
    for topic in TOPICS:
        server.store(f"how do I change the {topic} of my account", topic)
        found = server.ask(f"how can I change my account's {topic}")
        answer = pb.StoreRequest(lookup_id=found.lookup_id, response=topic.encode())
        server.cache.Store(answer, timeout=CALL_S)
    written = {"miss": len(TOPICS)}
    until(lambda: server.labels() == written, told=server.labels)
    server.process.kill()
    assert Server(launch(policy), dial).labels() == written
