"""Confidence over gRPC: in replies, Explain, GetTrust and the metrics, whatever rule is in force, once labels are enough."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import numpy as np
import pytest

from cachesvc.adapters.lmdb_trust import LmdbTrust, TrustBounds
from cachesvc.core.ports import Embedder
from cachesvc.core.trust.features import NAMES, VERSION
from cachesvc.core.trust.labels import NOTHING, Comparator, Label, LabelledCandidate, Origin
from cachesvc.v1 import admin_pb2
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.admin_pb2_grpc import AdminServiceStub
from tests.conftest import Running
from tests.waiting import until

STORED = "How do I reset the password of my account?"
NEAR = "How can I reset the password of my account?"
SHARE_RIGHT = 0.9
GAUGE = 'cachesvc_calibration_error{namespace="default"}'


@pytest.fixture
def learned(start: Callable[..., Running], embedder: Embedder, tmp_path: Path) -> Callable[..., Running]:
    """Starts a server that has learned so many labels before."""

    def make(count: int, **policy: Any) -> Running:
        (tmp_path / "store").mkdir(mode=0o700)
        bounds = TrustBounds(20_000, 1_000, 256 << 20, max_namespaces=100)
        with closing(LmdbTrust(tmp_path / "store" / "trust", embedder.fingerprint, bounds)) as store:
            store.add("default", [label(number) for number in range(count)], NOTHING)
        return start(
            policy={"default": {"min_score": 0.85, "gates": [], "audit_share": 0.0, "max_audit_share": 0.0, **policy}},
            trust={"round_interval_s": 0.1},
        )  # fmt: skip

    return make


def label(number: int) -> Label:
    """A miss, near by .6 to 1, at every score as often right."""
    score = 0.6 + 0.4 * (number % 97) / 96
    row = np.zeros(len(NAMES), np.float32)
    row[NAMES.index("score")] = row[NAMES.index("over_dissent")] = score
    candidate = LabelledCandidate(row, score, None, number % 10 != 0)
    return Label(
        number.to_bytes(16, "big"), 1, Origin.MISS, Comparator.TEXT, 1.0, 0, VERSION, None, (candidate,)
    )


def until_folded(server: Running, holds: Callable[[admin_pb2.NamespaceTrust], bool]) -> admin_pb2.NamespaceTrust:  # fmt: skip
    with grpc.insecure_channel(server.app.admin_rpc_address) as channel:
        admin = AdminServiceStub(channel)

        def trust() -> admin_pb2.NamespaceTrust:
            return admin.GetTrust(admin_pb2.GetTrustRequest(namespace="default")).namespaces[0]

        until(lambda: holds(trust()), told=trust)
        return trust()


def hit(server: Running) -> pb.LookupResponse:
    """A hit by meaning; where hits are held back by chance, some time."""
    for _ in range(50):
        found = server.stub.Lookup(pb.LookupRequest(prompt=NEAR), timeout=10)
        if found.outcome == pb.OUTCOME_HIT_SEMANTIC:
            return found
    raise AssertionError(f"no hit: {found}")


def metrics(server: Running) -> str:
    with urlopen(f"http://{server.app.admin_address}/metrics", timeout=10) as page:
        return str(page.read().decode())


@pytest.mark.parametrize(
    ("policy", "version"),
    [
        pytest.param({}, 0, id="the policy's threshold"),
        pytest.param({"max_error_rate": 0.2}, 1, id="votes"),
    ],
)
def test_with_labels_enough_replies_have_confidence(
    learned: Callable[..., Running], policy: dict[str, Any], version: int
) -> None:
    """The share of right ones among the labels, in the reply and in Explain; its error is told beside."""
    server = learned(1_200, **policy)
    server.stub.Store(pb.StoreRequest(prompt=STORED, response=b"r"), timeout=10)
    trust = until_folded(server, lambda trust: trust.HasField("calibration_error"))
    assert 0 <= trust.calibration_error < 0.1
    found = hit(server)
    assert found.rule_version == version
    assert found.confidence == pytest.approx(SHARE_RIGHT, abs=0.05)
    explained = server.stub.Explain(pb.ExplainRequest(lookup=pb.LookupRequest(prompt=NEAR)), timeout=10)
    assert explained.candidates[0].confidence == found.confidence
    line = next(line for line in metrics(server).splitlines() if line.startswith(GAUGE))
    assert float(line.rpartition(" ")[2]) == pytest.approx(trust.calibration_error)


def test_with_too_few_labels_there_is_none(learned: Callable[..., Running]) -> None:
    """Nowhere: absent, not invented."""
    server = learned(999, max_error_rate=0.2)
    server.stub.Store(pb.StoreRequest(prompt=STORED, response=b"r"), timeout=10)
    trust = until_folded(server, lambda trust: bool(trust.steps))  # made of all of them
    assert not trust.HasField("calibration_error")
    assert not hit(server).HasField("confidence")
    explained = server.stub.Explain(pb.ExplainRequest(lookup=pb.LookupRequest(prompt=NEAR)), timeout=10)
    assert not explained.candidates[0].HasField("confidence")
    assert GAUGE not in metrics(server)
