"""Lookups by meaning over gRPC, with the real model: gates, modes, what the replies say, and Explain."""

from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from grpc import StatusCode

from cachesvc.core.gates import Gate
from cachesvc.core.trust.features import NAMES
from cachesvc.v1 import cache_pb2 as pb
from tests.conftest import Running

STORED = "How do I reset the password of my account?"
NEAR = "How can I reset the password of my account?"
ORDER = "Where is my order with the number 5000?"
OTHER_ORDER = "Where is my order with the number 500?"


def keep(server: Running, prompt: str, **fields: Any) -> str:
    request = pb.StoreRequest(prompt=prompt, response=prompt.encode(), **fields)
    return server.stub.Store(request, timeout=10).entry_id


def ask(server: Running, prompt: str, **fields: Any) -> pb.LookupResponse:
    return server.stub.Lookup(pb.LookupRequest(prompt=prompt, **fields), timeout=10)


def explain(server: Running, prompt: str, entry_id: str = "", **fields: Any) -> pb.ExplainResponse:
    request = pb.ExplainRequest(lookup=pb.LookupRequest(prompt=prompt, **fields), entry_id=entry_id)
    return server.stub.Explain(request, timeout=10)


def metric(server: Running, name: str) -> float:
    with urlopen(f"http://{server.app.admin_address}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])


def test_the_wire_has_our_gates() -> None:
    """The API has the gates that there are, and one for none."""
    wire = {name.removeprefix("GATE_") for name in pb.Gate.keys()}  # noqa: SIM118 - not a dict
    assert wire == {gate.name for gate in Gate} | {"UNSPECIFIED"}


def test_another_number_is_refused_and_said_so(start: Callable[..., Running]) -> None:
    """By the gate, in the reply and in the metrics; the identical request is served all the same."""
    server = start(policy={"default": {"min_score": 0.8}})
    keep(server, ORDER)
    refused = ask(server, OTHER_ORDER)
    assert refused.outcome == pb.OUTCOME_MISS_GATED
    assert refused.gate in (pb.GATE_NUMBER, pb.GATE_IDENTIFIER, pb.GATE_QUANTITY)
    assert refused.best_score > 0.8
    assert not refused.HasField("confidence")
    label = pb.Gate.Name(refused.gate).removeprefix("GATE_").lower()
    assert metric(server, f'cachesvc_gate_vetoes_total{{gate="{label}"}}') == 1
    assert metric(server, 'cachesvc_gate_vetoes_total{gate="language"}') == 0
    assert ask(server, ORDER).outcome == pb.OUTCOME_HIT_EXACT


def test_gates_are_a_setting(start: Callable[..., Running]) -> None:
    """With none, the threshold alone decides."""
    server = start(policy={"default": {"min_score": 0.8, "gates": []}})
    keep(server, ORDER)
    hit = ask(server, OTHER_ORDER)
    assert (hit.outcome, hit.gate) == (pb.OUTCOME_HIT_SEMANTIC, pb.GATE_UNSPECIFIED)
    assert (hit.rule_version, hit.audit, hit.HasField("rule_score")) == (0, False, False)


def test_a_namespace_in_shadow(start: Callable[..., Running]) -> None:
    """Neither tier serves; what would have been saved is counted apart; the answer that follows is stored."""
    server = start(policy={"default": {"min_score": 0.8, "mode": "shadow"}})
    request = pb.StoreRequest(prompt=STORED, response=b"r", cost_usd=0.5)
    server.stub.Store(request, timeout=10)
    for prompt in (STORED, NEAR):
        reply = ask(server, prompt)
        assert (reply.outcome, reply.HasField("entry")) == (pb.OUTCOME_MISS_SHADOW, False)
        assert explain(server, prompt).outcome == pb.OUTCOME_MISS_SHADOW
        server.stub.Store(pb.StoreRequest(lookup_id=reply.lookup_id, response=b"fresh", cost_usd=0.5))
    assert metric(server, "cachesvc_withheld_cost_usd_total") == 1.0
    assert metric(server, "cachesvc_saved_cost_usd_total") == 0.0
    assert metric(server, 'cachesvc_lookups_total{outcome="miss_shadow"}') == 2


def test_explain_shows_every_step(start: Callable[..., Running]) -> None:
    """Identity, candidates, scores, the gate with what differs, threshold, mode and brake; nothing is counted."""
    server = start(policy={"default": {"min_score": 0.8}})
    same, other = keep(server, STORED), keep(server, ORDER)
    shown = explain(server, OTHER_ORDER, same)
    assert (shown.outcome, shown.reason != "") == (pb.OUTCOME_MISS_GATED, True)
    assert (shown.threshold, shown.rule_version, shown.mode, shown.brake) == (0.8, 0, "on", "open")
    assert (len(shown.context), len(shown.scope), len(shown.exact_key)) == (64, 64, 64)
    assert shown.text == OTHER_ORDER
    best, far = shown.candidates
    assert (best.entry_id, best.prompt, best.outcome) == (other, ORDER, pb.OUTCOME_MISS_GATED)
    assert any(gate.enforced and "5000" in gate.theirs and gate.reason for gate in best.gates)
    assert set(best.features) == set(NAMES)
    assert (far.entry_id, far.outcome) == (same, pb.OUTCOME_MISS_BELOW_THRESHOLD)
    assert far.score < best.score
    assert metric(server, 'cachesvc_lookups_total{outcome="miss_gated"}') == 0


def test_explain_and_what_cannot_be_seen(server: Running) -> None:
    """A text past the model's window is exact-only, and said so."""
    shown = explain(server, "word " * 2000)
    assert shown.outcome == pb.OUTCOME_MISS_PAST_WINDOW
    assert shown.unseen
    assert not shown.candidates


def test_explain_keeps_to_its_namespace(server: Running) -> None:
    """An entry of another scope says in what it differs; one of another namespace is not there."""
    theirs = keep(server, STORED, namespace="elsewhere")
    other_model = keep(server, STORED, model="large")
    (candidate,) = explain(server, NEAR, other_model).candidates
    assert (list(candidate.differs_in), candidate.outcome) == (["model"], pb.OUTCOME_MISS_EMPTY)
    with pytest.raises(grpc.RpcError) as caught:
        explain(server, NEAR, theirs)
    assert caught.value.code() is StatusCode.NOT_FOUND
    assert "elsewhere" not in (caught.value.details() or "")
    assert explain(server, NEAR, theirs, namespace="elsewhere").candidates
