"""The files of a server's stores are removed while it runs: it says so, and acknowledges nothing that would be lost."""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest
from grpc import StatusCode

from cachesvc.admin_client import AdminClient
from cachesvc.v1 import cache_pb2 as pb
from tests.conftest import Running

PROMPT = "How do I reset my password?"


def test_trust_whose_files_were_removed_is_told(
    start: Callable[..., Running], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was learned goes on to count, nothing more is acknowledged, and log, metric and readyz say so, load or not."""
    server = start(policy={"default": {"min_score": 0.75, "gates": []}}, store={"tidy_interval_s": 0.1})
    asked, again = "how can I change my account's address", "can I change the address of my account?"
    stored = pb.StoreRequest(prompt="how do I change the address of my account", response=b"r")
    entry_id = server.stub.Store(stored, timeout=10).entry_id
    wrong = pb.SubmitFeedbackRequest(entry_id=entry_id, prompt=asked, verdict=pb.VERDICT_WRONG)
    server.stub.SubmitFeedback(wrong, timeout=10)
    shutil.rmtree(tmp_path / "store" / "trust")
    failed = 'cachesvc_task_errors_total{task="trust_in_place"}'
    assert soon(lambda: failed in page(server, "metrics"))
    state = json.loads(page(server, "readyz"))
    assert (state["ready"], state["components"]["trust"]) == (True, False)
    assert server.stub.Lookup(pb.LookupRequest(prompt=asked), timeout=10).outcome == pb.OUTCOME_MISS_VETOED
    wrong.prompt = again
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.SubmitFeedback(wrong, timeout=10)
    assert caught.value.code() is StatusCode.UNAVAILABLE
    assert "take a backup" in (caught.value.details() or "")
    lines = [line for line in capsys.readouterr().err.splitlines() if "trust_in_place" in line]
    assert "were removed" in json.loads(lines[0])["message"]


def test_a_store_whose_files_were_removed_is_told(start: Callable[..., Running], tmp_path: Path) -> None:
    """What is stored is served on, nothing more is acknowledged, and the server is not ready; nobody is to restart it
    before what it has was saved.
    """
    server = start()
    server.stub.Store(pb.StoreRequest(prompt=PROMPT, response=b"r"), timeout=10)
    (tmp_path / "store" / "data.mdb").unlink()
    with pytest.raises(HTTPError) as unready:
        page(server, "readyz")
    assert (unready.value.code, json.load(unready.value)["components"]["store"]) == (503, False)
    assert json.loads(page(server, "healthz"))["alive"]
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.Store(pb.StoreRequest(prompt="another", response=b"r"), timeout=10)
    assert caught.value.code() is StatusCode.UNAVAILABLE
    found = server.stub.Lookup(pb.LookupRequest(prompt=PROMPT), timeout=10)
    assert found.outcome == pb.OUTCOME_HIT_EXACT
    with closing(AdminClient(server.app.admin_rpc_address)) as admin:
        assert list(admin.backup("saved"))[-1].path
    assert (tmp_path / "backups" / "saved" / "data.mdb").exists()


def page(server: Running, name: str) -> str:
    with urlopen(f"http://{server.app.admin_address}/{name}", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def soon(holds: Callable[[], bool]) -> bool:
    for _ in range(200):
        if holds():
            return True
        time.sleep(0.05)
    return False
