"""Figures and their targets, records on disk, and the plots."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.noise import told
from bench.plots import draw
from bench.publish import put_together, summary
from bench.report import Figure, Measured, Record, page, read, record, write

FIGURES = (
    Figure("a ÷ b", "", [1.0, 1.3, 1.2], at_most=1.25),
    Figure("rate", "/s", [3000.0], at_least=4000.0),
    Figure("echo, 1 caller", "/s", [1000.0]),
    Figure("echo, 16 callers", "/s", [3000.0]),
    Figure("semantic hits, 16 callers", "/s", [300.0]),
    Figure("10,000 entries: semantic p50", "ms", [4.0]),
    Figure("1,000,000: semantic p50", "ms", [5.0]),
)
STEADY = {
    "echo_us_least": 500.0,
    "echo_us_most": 550.0,
    "encode_us_least": 3000.0,
    "encode_us_most": 3100.0,
    "others_before": 0.01,
    "others_after": 0.02,
    "stolen": 0.0,
    "load_before": 0.1,
    "load_after": 2.0,
}


@pytest.mark.parametrize(
    ("figure", "target", "met"),
    [
        pytest.param(
            Figure("f", "", [1.0, 9.0, 1.2], at_most=1.2), "≤ 1.2", "yes", id="at most, by the median"
        ),
        pytest.param(Figure("f", "ms", [2.1], at_most=2.0), "≤ 2 ms", "no", id="at most, missed"),
        pytest.param(Figure("f", "/s", [4000.0], at_least=4000.0), "≥ 4,000 /s", "yes", id="at least, just"),
        pytest.param(Figure("f", "", [0.69], at_least=0.7), "≥ 0.7", "no", id="at least, missed"),
        pytest.param(Figure("f", "", [0.69]), "", "", id="no target"),
    ],
)
def test_target(figure: Figure, target: str, met: str) -> None:
    """A line of the table says its target, and whether the median of the rounds meets it."""
    assert figure.cells()[3:] == (target, met)


def test_a_record_survives_the_disk(tmp_path: Path) -> None:
    """What is written is what is read, targets and all."""
    run = record("full", [Measured(FIGURES, ["of a section"])], ["first"], STEADY)
    write(run, tmp_path / "run.json")
    again = read(tmp_path / "run.json")
    assert [figure.cells() for figure in again.figures] == [figure.cells() for figure in FIGURES]
    assert (again.mode, again.date, again.notes, again.noise) == (run.mode, run.date, run.notes, STEADY)
    assert (run.notes[0], run.notes[-1]) == ("first", "of a section")


def test_a_record_of_before_there_were_lower_bounds_is_read(tmp_path: Path) -> None:
    """Kept runs have no ``at_least`` and no noise; they can be compared all the same."""
    file = tmp_path / "old.json"
    figure = {"name": "f", "unit": "", "rounds": [1.0], "at_most": 1.4, "median": 1.0}
    file.write_text(json.dumps({"mode": "full", "date": "2026-01-01", "notes": [], "figures": [figure]}))
    assert read(file).figures == [Figure("f", "", [1.0], at_most=1.4)]


def test_the_page_has_every_figure_and_the_summary_the_targets() -> None:
    """The page is complete; the README's part has what has a target, the ratios and the plots."""
    run = Record("full", "2026-01-01", FIGURES, ["a note"])
    assert all(figure.name in page(run) for figure in FIGURES)
    short = summary(run, {"latency.svg": "latency"})
    assert "| rate | 3,000 /s |" in short
    assert "![latency](bench/results/latency.svg)" in short
    assert "echo, 16 callers" not in short


@pytest.mark.parametrize(
    ("changed", "busy"),
    [
        pytest.param({}, False, id="steady"),
        pytest.param({"encode_us_most": 3900.0}, True, id="a floor moved"),
        pytest.param({"others_before": 0.5}, True, id="others were at work"),
        pytest.param({"stolen": 0.1}, True, id="the host took its share"),
    ],
)
def test_a_busy_machine_is_told_of_first(changed: dict[str, float], *, busy: bool) -> None:
    """The warning comes before the figures of the noise."""
    lines = told(STEADY | changed)
    assert ("busy: absolute figures" in lines[0]) is busy
    assert lines[-1].startswith("noise: ")


def test_plots_are_the_same_for_the_same_figures(tmp_path: Path) -> None:
    """Two drawings of one run do not differ by a byte; text stays text; a line needs two points."""
    run = Record("full", "2026-01-01", FIGURES, [])
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        assert set(draw(run, directory)) == {"latency.svg", "throughput.svg"}
    for name in ("latency.svg", "throughput.svg"):
        drawn = (first / name).read_text()
        assert drawn == (second / name).read_text()
        ET.fromstring(drawn)
    assert ">1,000,000<" in (first / "latency.svg").read_text()
    assert "semantic hits" not in (first / "throughput.svg").read_text()


def test_later_runs_replace_what_they_measured_again() -> None:
    """Of several records a figure is the last one's, those of one alone stay, and the notes say what it is."""
    first = record(
        "full", [Measured([Figure("a", "", [1.0]), Figure("b", "", [2.0])], ["of the first"])], [], {}
    )
    again = record("full", [Measured([Figure("b", "", [3.0]), Figure("c", "", [4.0])])], [], {})
    whole = put_together([first, again])
    assert [(figure.name, figure.median) for figure in whole.figures] == [("a", 1.0), ("b", 3.0), ("c", 4.0)]
    assert whole.notes[0] == "put together of 2 runs"
    assert "of the first" in whole.notes
    assert put_together([first]) == first
