"""Trust is one, however many workers there are: what one was told refuses at all, one leads, and a death takes nothing."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest

from cachesvc.v1 import admin_pb2
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.admin_pb2_grpc import AdminServiceStub
from tests.waiting import until

if TYPE_CHECKING:
    from tests.workers.conftest import Server

Launch: TypeAlias = "Callable[..., Server]"

CALL_S = 30.0
STORED = "how do I change the {} of my account"
ASKED = "how can I change my account's {}"
TOPICS = ("address", "password", "card", "limit", "name", "language")
POLICY = {"min_score": 0.75, "gates": [], "audit_share": 1.0, "max_audit_share": 1.0}


@pytest.fixture(scope="module")
def server(launch: Launch) -> "Iterator[Server]":
    """One that this module's tests share."""
    made = launch(**{"policy.default": POLICY, "trust": {"round_interval_s": 0.2}}).serving()
    yield made
    made.process.terminate()
    assert made.ended() == 0


def trust_of(server: "Server", namespace: str) -> admin_pb2.NamespaceTrust:
    with grpc.insecure_channel(server.admin_rpc) as channel:
        request = admin_pb2.GetTrustRequest(namespace=namespace)
        return AdminServiceStub(channel).GetTrust(request, timeout=CALL_S).namespaces[0]


def ask(server: "Server", by: int, namespace: str, topic: str) -> pb.LookupResponse:
    request = pb.LookupRequest(namespace=namespace, prompt=ASKED.format(topic))
    return server.stubs[by].Lookup(request, timeout=CALL_S)


def store(server: "Server", namespace: str, topic: str) -> None:
    request = pb.StoreRequest(namespace=namespace, prompt=STORED.format(topic), response=topic.encode())
    server.stubs[0].Store(request, timeout=CALL_S)


def test_a_veto_refuses_at_all_workers_at_once(server: "Server") -> None:
    """Whichever worker took it: once it is acknowledged no worker serves that reuse."""
    server.whole().dial()
    for by, topic in enumerate(TOPICS):
        store(server, "vetoed", topic)
        hit = ask(server, by, "vetoed", topic)
        assert hit.outcome == pb.OUTCOME_HIT_SEMANTIC
        feedback = pb.SubmitFeedbackRequest(
            namespace="vetoed", lookup_id=hit.lookup_id, verdict=pb.VERDICT_WRONG
        )
        assert server.stubs[by + 1].SubmitFeedback(feedback, timeout=CALL_S).vetoed
        outcomes = {ask(server, other, "vetoed", topic).outcome for other in range(len(server.stubs))}
        assert outcomes == {pb.OUTCOME_MISS_VETOED}
    assert trust_of(server, "vetoed").vetoes == len(TOPICS)


def test_a_rule_that_is_put_in_force_by_hand_is_so_at_all_workers(server: "Server") -> None:
    """One worker answers the operator, the others follow; a worker that is started later, too."""
    with grpc.insecure_channel(server.admin_rpc) as channel:
        admin = AdminServiceStub(channel)
        store(server, "pinned", TOPICS[0])
        admin.RevertRule(admin_pb2.RevertRuleRequest(namespace="pinned"), timeout=CALL_S)
        server.kill_worker()
        server.whole().dial()
        assert trust_of(server, "pinned").pinned
        listed = list(admin.ListLabels(admin_pb2.ListLabelsRequest(namespace="vetoed"), timeout=CALL_S))
    assert len([label for part in listed for label in part.labels]) == len(TOPICS)


def test_what_all_workers_learn_is_one(server: "Server") -> None:
    """Lookups of all are counted together, labels of all are folded by the one that leads, also when that has died."""
    server.whole().dial()
    for round_ in range(2):
        for by, topic in enumerate(TOPICS):
            if not round_:
                store(server, "audited", topic)
            hit = ask(server, by + round_, "audited", topic)
            assert (hit.outcome, hit.audit) == (pb.OUTCOME_HIT_SEMANTIC, True)
            fresh = pb.FreshAnswer(response=topic.upper().encode())
            feedback = pb.SubmitFeedbackRequest(namespace="audited", lookup_id=hit.lookup_id, fresh=fresh)
            server.stubs[by].SubmitFeedback(feedback, timeout=CALL_S)
        count = (round_ + 1) * len(TOPICS)
        until(partial(_has_audited, server, count), CALL_S)
        server.kill_worker()
        server.whole().dial()
    trust = trust_of(server, "audited")
    assert (trust.audited_wrong, trust.brake) == (0, "open")
    assert 'cachesvc_audited_hits{namespace="audited"}' in server.page("/metrics")


def _has_audited(server: "Server", count: int) -> bool:
    known = trust_of(server, "audited")
    return known.audited == known.tally.served == count
