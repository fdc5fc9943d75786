"""The bench of confidence: what it judges, and where there is nothing to judge."""

from bench.confidence import figures
from tests.bench.test_online import made_up


def test_figures_of_a_stream() -> None:
    """Each rule is judged on what came after 1,000 labels; all of it, and the hits alone."""
    found = figures([made_up("topics", 8, 1_600)], 1)
    assert [one.rule for one in found] == ["threshold, in shadow", "threshold, audited", "votes"]
    assert all(one.is_met for one in found)
    assert found[0].labels - found[0].judged == 1_000
    assert 0 < found[0].hits < found[0].judged


def test_without_labels_there_is_nothing_to_judge() -> None:
    """Absent is no error."""
    (first, *_) = found = figures([made_up("topics", 8, 300)], 1)
    assert (first.judged, first.error, first.foretold) == (0, [], [])
    assert all(one.is_met for one in found)
