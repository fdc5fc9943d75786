"""A disk that lies: whatever bits or pages of a store's file are not what was written, no wrong byte is served."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

_CHILD = Path(__file__).with_name("flip_child.py")


def words(directory: Path, *arguments: str) -> Counter[str]:
    """What came of each damaged copy."""
    run = subprocess.run(
        [sys.executable, str(_CHILD), str(directory), "7", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    told = Counter(run.stdout.split())
    assert not told["raised"], f"{told}\n{run.stderr[-3000:]}"
    return told


@pytest.mark.slow
def test_no_flipped_bit_is_served(tmp_path: Path) -> None:
    """In 200 damaged copies each read is the entry that was stored, a loss, or a CacheError."""
    told = words(tmp_path, "bits", "200")
    assert told.total() == 200
    assert not told["wrong"], told
    assert told["lost"] > 10, f"hardly anything was hit: {told}"


@pytest.mark.slow
def test_no_lost_page_is_served(tmp_path: Path) -> None:
    """Each page in turn zeroed, garbage, or another one: nothing wrong is read, and most copies can be opened."""
    told = words(tmp_path, "pages")
    assert told.total() > 300
    assert not told["wrong"], told
    assert told["failed"] + told["lost"] + told["crashed"] > 50, f"hardly anything was hit: {told}"
    assert told["refused"] < told.total() // 20, told
