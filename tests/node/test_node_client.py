"""A client in another language, made from the .proto alone, against a running server."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Running

_HERE = Path(__file__).parent
_PROTOS = _HERE.parent.parent / "protos"
_INSTALL_S = 180
_CLIENT_S = 60


@pytest.fixture(scope="module")
def node() -> str:
    """The node program, with the client's packages installed beside the client."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        if os.environ.get("CI"):  # where the tests count, nothing is skipped
            pytest.fail("node and npm are not installed, and CI is set")
        pytest.skip("node and npm are not installed")
    # npm writes this file last, so a broken installation is repeated.
    if not (_HERE / "node_modules" / ".package-lock.json").exists():
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], _INSTALL_S)
    return program


def test_a_node_client_made_from_the_proto_alone_gets_its_bytes_back(node: str, server: "Running") -> None:
    """Miss, store, exact hit, semantic hit, delete, miss and a refusal, all as the .proto promises."""
    line = _run([node, "client.js", server.app.address, str(_PROTOS)], _CLIENT_S)
    result = json.loads(line)
    assert result["outcomes"] == [
        "OUTCOME_MISS_EMPTY",
        "OUTCOME_HIT_EXACT",
        "OUTCOME_HIT_SEMANTIC",
        "OUTCOME_MISS_EMPTY",
        "OUTCOME_MISS_EMPTY",
    ]
    assert result["semantic_score"] >= 0.95
    assert result["refused"] == "INVALID_ARGUMENT"


def _run(command: list[str], limit_s: float) -> str:
    """What the command printed; fails with its complaint when it fails or takes too long."""
    try:
        done = subprocess.run(
            command, cwd=_HERE, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"{command[:2]} took more than {limit_s} s: {late.stderr!r}")
    assert done.returncode == 0, f"{command[:2]} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout
