"""The image, the unit, and what is made by a program: linted, verified, up to date."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cachesvc.cli_common import EXIT_CODES
from cachesvc.core.errors import Kind
from tests.deploy.places import DEPLOY

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed (Debian's package systemd)",
)


def test_the_dockerfile_is_clean() -> None:
    """hadolint finds nothing; the last stage has neither torch nor root."""
    file = DEPLOY / "docker" / "Dockerfile"
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run([hadolint, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout
    last = file.read_text().rpartition("\nFROM ")[2]
    assert "torch" not in last
    assert "/opt/cachesvc/bin/pip install '.[otel]'" in file.read_text()  # telemetry.otlp_endpoint needs it
    assert "USER 10001:10001" in last


@needs_systemd
def test_the_unit_is_what_systemd_takes(tmp_path: Path) -> None:
    """It verifies but for the program, which is not here, and its exposure is low."""
    unit = DEPLOY / "systemd" / "cachesvc.service"
    text = unit.read_text().replace("/opt/cachesvc/bin/cachesvc", shutil.which("true") or "/bin/true")
    copy = tmp_path / "cachesvc.service"
    copy.write_text(text)
    run = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert security.returncode == 0, security.stdout[-500:]
    prevented = re.search(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)
    assert prevented is not None
    # what the metrics of the process, and the engine's choice of instructions, are read from
    assert "ProcSubset" not in text
    hopeless = {EXIT_CODES[kind] for kind in (Kind.INVALID, Kind.LOCKED, Kind.CORRUPT, Kind.REFUSED)}
    assert {int(code) for code in prevented[1].split()} == hopeless


@pytest.mark.parametrize("maker", ["grafana/make_dashboard.py", "helm/make_schema.py"])
def test_what_is_made_is_what_its_maker_makes(maker: str) -> None:
    """Edited by hand it would be lost; make fix makes it anew."""
    command = [sys.executable, str(DEPLOY / maker), "--check"]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
