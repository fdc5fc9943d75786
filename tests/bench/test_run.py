"""The bench as a whole: one section cannot take the others with it."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.report import Figure, Measured
from bench.run import Section, tried
from bench.sizes import QUICK
from bench.stage import Stage
from tests.engine.conftest import WordEmbedder

FOUND = Measured([Figure("f", "", [1.0])])


def hang(_stage: Stage) -> Measured:
    threading.Event().wait()
    return FOUND


def fail(_stage: Stage) -> Measured:
    raise SystemExit("a server ended")


@pytest.mark.parametrize(
    ("measure", "left_s"),
    [
        pytest.param(hang, 60.0, id="it hangs"),
        pytest.param(fail, 60.0, id="it fails"),
        pytest.param(lambda _stage: FOUND, 0.0, id="the run's time is over"),
    ],
)
def test_a_section_that_does_not_work_is_told_of(
    measure: Callable[[Stage], Measured], left_s: float, tmp_path: Path
) -> None:
    """It is ended and named, it has no figures, and the next one is measured all the same."""
    stage = Stage(tmp_path, QUICK, ([], "none"), WordEmbedder(), with_peers=False)
    failed: list[str] = []
    assert tried(Section("bad", measure, most_s=0.05), stage, failed, left_s=left_s) == []
    assert tried(Section("good", lambda _stage: FOUND), stage, failed, left_s=60.0) == [FOUND]
    assert failed == ["bad"]
