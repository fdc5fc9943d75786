"""The regression gate: what decides, which way is worse, and how far a figure may move."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.compare import delta, deltas
from bench.prompts import ROOT
from bench.report import Figure, Record, write

TOLERANCE = 0.1


def at_most(*rounds: float, unit: str = "") -> Figure:
    return Figure("a ÷ b", unit, rounds, at_most=1.25)


def at_least(*rounds: float) -> Figure:
    return Figure("a ÷ b", "", rounds, at_least=0.7)


def run(*figures: Figure) -> Record:
    return Record("quick", "2026-01-01", figures, [])


@pytest.mark.parametrize(
    ("kept", "now", "worse"),
    [
        pytest.param(at_most(1.0), at_most(1.2), True, id="lower is better, and it rose"),
        pytest.param(at_most(1.0), at_most(0.8), False, id="lower is better, and it fell"),
        pytest.param(at_least(1.0), at_least(0.8), True, id="higher is better, and it fell"),
        pytest.param(at_least(1.0), at_least(1.2), False, id="higher is better, and it rose"),
        pytest.param(at_most(1.0), at_most(1.09), False, id="within the tolerance"),
        pytest.param(at_most(0.5), at_most(0.6), True, id="met all the same, and yet worse"),
        pytest.param(
            at_most(1.0, unit="µs"), at_most(9.0, unit="µs"), False, id="a time tells of the machine"
        ),
        pytest.param(Figure("m", "MiB", [100.0]), Figure("m", "MiB", [120.0]), True, id="memory rose"),
        pytest.param(Figure("r", "", [1.0]), Figure("r", "", [9.0]), False, id="no target, no worse side"),
    ],
)
def test_verdict(kept: Figure, now: Figure, *, worse: bool) -> None:
    """A ratio with a target, or memory, is worse when it moved the wrong way by more than its band, met or not."""
    assert delta(kept, now, TOLERANCE).worse is worse


@pytest.mark.parametrize(
    ("kept", "now"),
    [
        pytest.param([0.9, 1.0, 1.1], [1.2], id="of the kept run"),
        pytest.param([1.0], [1.1, 1.2, 1.3], id="of the new run"),
    ],
)
def test_band_grows_with_the_rounds(kept: Sequence[float], now: Sequence[float]) -> None:
    """Rounds that disagree, in either run, widen the band by half of what they span."""
    seen = delta(at_most(*kept), at_most(*now), TOLERANCE)
    assert seen.band == pytest.approx(TOLERANCE + 0.1)
    assert not seen.moved


@pytest.mark.parametrize(
    ("kept", "now", "verdict"),
    [
        pytest.param(at_most(1.0), at_most(1.3), "WORSE", id="worse"),
        pytest.param(at_most(1.0), at_most(0.7), "better", id="better"),
        pytest.param(at_most(1.0), at_most(1.0), "", id="the same"),
        pytest.param(at_most(1.2), at_most(1.3), "missed now", id="over the target, within the band"),
        pytest.param(at_most(1.0), at_most(0.6, 1.0, 1.6), "too noisy to tell", id="rounds that disagree"),
    ],
)
def test_words(kept: Figure, now: Figure, verdict: str) -> None:
    """Each line says in words what it comes to; one that can show nothing says so."""
    assert delta(kept, now, TOLERANCE).verdict == verdict


def test_what_one_run_lacks_is_left_out() -> None:
    """Figures are compared by name and unit; a quick run lacks some, a new version has others."""
    kept = run(at_most(1.0), Figure("gone", "", [1.0]), Figure("other unit", "ms", [1.0]))
    now = run(at_most(1.0), Figure("new", "", [1.0]), Figure("other unit", "µs", [1.0]))
    assert [one.kept.name for one in deltas(kept, now, TOLERANCE)] == ["a ÷ b"]


@pytest.mark.parametrize(
    ("now", "code", "said"),
    [
        pytest.param(at_most(1.0), 0, "", id="the same"),
        pytest.param(at_most(2.0), 1, "WORSE: a ÷ b: 1 was kept, 2 now (+100%, band ±10%)", id="worse"),
        pytest.param(Figure("else", "", [1.0]), 1, "nothing to compare", id="nothing in common"),
    ],
)
def test_the_command_tells(tmp_path: Path, now: Figure, code: int, said: str) -> None:
    """It ends with 1 and names what got worse; a comparison of nothing is no success."""
    write(run(at_most(1.0)), tmp_path / "kept.json")
    write(run(now), tmp_path / "now.json")
    command = [sys.executable, "-m", "bench.compare", str(tmp_path / "now.json")]
    ended = subprocess.run(
        [*command, "--kept", str(tmp_path / "kept.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code
    assert said in ended.stderr
