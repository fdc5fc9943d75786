"""The tables between core and wire are total, and the documents are what the code gives."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.types import Outcome, Unseen
from cachesvc.serve.errors import CODES, status
from cachesvc.v1 import cache_pb2 as pb
from tests.conftest import Running

CLIENT_OUTCOMES = {"BYPASS_UNREACHABLE", "BYPASS_TIMEOUT", "BYPASS_OVERLOADED", "BYPASS_ERROR"}
ROOT = Path(__file__).parents[2]


def test_every_kind_has_a_code() -> None:
    """No kind of error is without a status, and none is OK or UNKNOWN."""
    assert set(CODES) == set(Kind)
    assert not {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN} & set(CODES.values())


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_every_kind_makes_a_status(kind: Kind) -> None:
    """A status has the kind's code and its message."""
    made = status(CacheError(kind, "what to do"))
    assert (made.code, made.message) == (CODES[kind].value[0], "what to do")


def test_outcomes_are_the_same_on_both_sides() -> None:
    """The API has our outcomes, those that only clients give, and UNSPECIFIED; no others."""
    wire = {name.removeprefix("OUTCOME_") for name in pb.Outcome.keys()}  # noqa: SIM118 - not a dict
    assert wire == {outcome.name for outcome in Outcome} | CLIENT_OUTCOMES | {"UNSPECIFIED"}
    assert {f"MISS_{reason.name}" for reason in Unseen} <= wire


def test_reflection_is_a_setting(start: Callable[..., Running]) -> None:
    """With server.reflection the API can be asked for."""
    with_it = start(server={"reflection": True})
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(with_it.channel))
    assert pool.FindServiceByName("cachesvc.v1.CacheService").methods_by_name["Lookup"] is not None
    assert "cachesvc.v1.CacheService" in ProtoReflectionDescriptorDatabase(with_it.channel).get_services()


def test_no_reflection_by_default(server: Running) -> None:
    """Reflection is off unless it is set."""
    with pytest.raises(grpc.RpcError):
        ProtoReflectionDescriptorDatabase(server.channel).get_services()


def test_store_by_lookup_id_checks_what_else_is_said(server: Running) -> None:
    """Beside a lookup_id, namespace, model and vary need not be given; what is given must be the lookup's."""
    asked = pb.LookupRequest(prompt="What is the limit?", namespace="n", model="m", vary={"a": "b"})
    miss = server.stub.Lookup(asked)
    for wrong in ({"namespace": "default"}, {"model": "x"}, {"vary": {"a": "c"}}):
        with pytest.raises(grpc.RpcError) as caught:
            server.stub.Store(pb.StoreRequest(lookup_id=miss.lookup_id, response=b"r", **wrong))
        assert next(iter(wrong)) in str(caught.value)
    for right in ({}, {"namespace": "n"}, {"namespace": "n", "model": "m", "vary": {"a": "b"}}):
        server.stub.Store(pb.StoreRequest(lookup_id=miss.lookup_id, response=b"r", **right))
    assert server.stub.Lookup(asked).outcome == pb.OUTCOME_HIT_EXACT


def test_readme_tables_are_what_the_code_gives() -> None:
    """The README's tables of settings, metrics and measurements are up to date."""
    check = [sys.executable, "docs/tables.py", "--check", "README.md"]
    result = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
