"""A disk that lies: whatever bits are flipped in a store's file, no wrong byte is served."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

_CHILD = Path(__file__).with_name("flip_child.py")


def test_no_flipped_bit_is_served(tmp_path: Path) -> None:
    """In 200 damaged copies each read is the entry that was stored, a loss, or a CacheError."""
    run = subprocess.run(
        [sys.executable, str(_CHILD), str(tmp_path), "7", "200"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    words = Counter(run.stdout.split())
    assert words.total() == 200
    assert not words["wrong"], words
    assert not words["raised"], f"{words}\n{run.stderr[-3000:]}"
    assert words["lost"] > 10, f"hardly anything was hit: {words}"
