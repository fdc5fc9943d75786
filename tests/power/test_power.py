"""Power loss at any moment: what was acknowledged is there, what is there is right, and the rig can tell.

A few dozen images by default; ``POWER_IMAGES`` asks for more (``make test-power``). The disk assumed
keeps what it acknowledged to a sync and writes 512-byte sectors whole; the directory's entries are taken
to be durable once the store is open, which it sees to by itself, and are not replayed.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_IMAGES = int(os.environ.get("POWER_IMAGES", "36"))
_RIGHT = {"good", "fresh"}


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorder, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("the recorder needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("power") / "record.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_HERE / "record.c"), "-ldl"]
    subprocess.run([*command, "-lpthread"], check=True, timeout=60)
    return library


def child(*arguments: object, **variables: str) -> str:
    run = subprocess.run(
        [sys.executable, str(_HERE / "power_child.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, **variables},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def words(recorder: Path, directory: Path, durability: str, count: int, late: int = 0) -> Counter[str]:
    """What came of the images of one recorded run."""
    preload = {"LD_PRELOAD": str(recorder), "POWER_LOG": str(directory / "log")}
    child("write", directory, durability, 1, **preload)
    lines = child("judge", directory, durability, 2, count, late).splitlines()
    assert len(lines) == count
    return Counter(line.split()[1] for line in lines)


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_power_loss_takes_nothing_that_was_promised(recorder: Path, tmp_path: Path, durability: str) -> None:
    """No image is corrupt or wrong; sync loses nothing acknowledged, async nothing but the last commit."""
    found = words(recorder, tmp_path, durability, _IMAGES)
    assert not found.keys() - _RIGHT, found


def test_a_disk_that_syncs_late_is_found_out(recorder: Path, tmp_path: Path) -> None:
    """The rig discriminates: where syncs do not hold, as in LMDB's nosync mode, images are lost."""
    found = words(recorder, tmp_path, "sync", 36, late=1)
    assert sum(found[word] for word in found.keys() - _RIGHT) > 5, found
