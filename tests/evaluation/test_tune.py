"""Policies by labels: what is defended, what is said when there are too few, and a section that loads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cachesvc.core.gates import Gate
from cachesvc.core.policy import Policy
from cachesvc.core.trust.labels import Comparator, Label, LabelledCandidate, Origin, Tally
from cachesvc.evaluation.data import Paired, Pairs
from cachesvc.evaluation.labelled import judged
from cachesvc.evaluation.section import section
from cachesvc.evaluation.tune import Judged, Tuned, decide_threshold, least_labels, tune
from cachesvc.settings import load

POLICY = Policy(min_score=0.95)


def right_above(threshold: float, count: int, hits: int) -> Judged:
    """Requests of which the first few hit, rightly above a score and wrongly below."""
    values = np.linspace(0.99, 0.7, hits)
    return Judged(values, values >= threshold, count)


def test_the_threshold_is_where_the_bound_is() -> None:
    """All is right above .8 and nothing below, so that there is nothing to win there."""
    tuned = decide_threshold(right_above(0.8, 5000, 1000), POLICY, 0.01)
    assert tuned.threshold is not None
    assert tuned.evidence is not None
    assert tuned.threshold == pytest.approx(0.8, abs=1e-3)
    assert tuned.evidence.evidence.error_bound <= 0.01


def test_too_few_labels_are_told() -> None:
    """Without one wrong hit, 1 % takes 299; more are said to be needed, and nothing is defended."""
    assert least_labels(0.01) == 299
    tuned = decide_threshold(right_above(0.5, 200, 100), POLICY, 0.01)
    assert (tuned.threshold, tuned.more_needed) == (None, 99)


def test_labels_that_are_wrong_at_the_top_are_told() -> None:
    """More of the same would not help."""
    tuned = decide_threshold(Judged(np.array([0.99, 0.98]), np.array([False, False]), 50), POLICY, 0.01)
    assert (tuned.threshold, tuned.more_needed) == (None, None)
    assert "would not help" in section(tuned, "default", "two labels")


def test_labels_drawn_by_chance_are_told_apart() -> None:
    """Each stands for several requests, so that more are needed, and the evidence names the bound that counts them."""
    plain, shares = right_above(0.8, 2000, 400), np.full(400, 0.05)
    refused = decide_threshold(replace(plain, shares=shares), POLICY, 0.01)
    assert refused.threshold is None
    assert refused.more_needed is not None
    assert refused.more_needed > 1000
    assert "up to 20 requests" in section(refused, "default", "400 labels")
    more = replace(right_above(0.8, 20_000, 400), shares=shares)
    defended = section(decide_threshold(more, POLICY, 0.01), "default", "400 labels")
    assert "testing by betting" in defended.replace("\n# ", " ")
    assert "Clopper" not in defended


def test_a_useless_gate_is_dropped_and_a_useful_one_stays() -> None:
    """The number gate refuses only what is right, so half of the labels drop it; the other half choose the threshold."""
    rows = [
        Paired(f"order {n} of {n + 1}", f"order {n} of {n + 2}", True)
        if n % 2
        else Paired("it works", "it does not work", False)
        for n in range(3000)
    ]
    scores = np.where(np.arange(3000) % 2, 0.97, 0.99).astype(np.float32)
    pairs = Pairs("made", rows, scores, np.ones(3000, np.bool_))
    policy = replace(POLICY, gates=frozenset({Gate.NUMBER, Gate.NEGATION}))
    tuned = tune(pairs, policy, 0.01, choose_gates=True)
    assert tuned.dropped == [Gate.NUMBER]
    assert tuned.gates == {Gate.NEGATION}
    assert tuned.label_count == 1500
    assert tuned.after is not None
    assert tuned.after.wrong.count == 0


@pytest.mark.parametrize("namespace", ["default", "support-eu", "team.*"])
def test_the_section_loads(tmp_path: Path, namespace: str) -> None:
    """What is printed is a configuration that the loader takes, for that namespace."""
    tuned = decide_threshold(right_above(0.8, 5000, 1000), POLICY, 0.01)
    tuned = replace(tuned, dropped=[Gate.ENTITY], gates=POLICY.gates - {Gate.ENTITY})
    file = tmp_path / "config.toml"
    file.write_text(section(tuned, namespace, "labels of a test"))
    policy = load(file).policy_book().of(namespace.replace("*", "a"))
    assert policy.min_score == tuned.threshold
    assert policy.gates == tuned.gates


def test_a_refusal_is_comments_alone() -> None:
    """Nothing to paste, and how many labels more it takes."""
    tuned = Tuned(0.01, 100, None, None, POLICY.gates, (), 199, None, None)
    lines = section(tuned, "default", "100 labels").splitlines()
    assert all(line.startswith("# ") for line in lines)
    assert "needs about 199 more" in " ".join(lines)


def label(origin: Origin, *candidates: tuple[float, Gate | None, bool | None], share: float = 1.0) -> Label:
    none = np.zeros(0, np.float32)
    rows = tuple(LabelledCandidate(none, score, gate, same) for score, gate, same in candidates)
    return Label(b"", 0, origin, Comparator.TEXT, share, 0, 0, None, rows)


def test_labels_are_judged_by_what_would_be_served() -> None:
    """The first candidate that no gate refuses; those not drawn by chance, or not told, are left out."""
    labels = [
        label(Origin.MISS, (0.9, Gate.NUMBER, False), (0.8, None, True)),
        label(Origin.HELD_BACK, (0.97, None, False), share=0.05),
        label(Origin.MISS, (0.9, Gate.NUMBER, False)),
        label(Origin.MISS, (0.9, None, None)),
        label(Origin.FEEDBACK, (0.99, None, False)),
    ]
    found = judged(labels, Tally(searched=100, near=22))
    assert found.values.tolist() == [0.8, 0.97]
    assert found.right.tolist() == [True, False]
    assert found.shares is not None
    assert found.shares.tolist() == [1.0, 0.05]
    assert found.request_count == 100


def test_requests_that_never_came_back_are_not_counted_as_right() -> None:
    """Half of what was near has a label: the others stand for the whole, so half of the requests count."""
    labels = [label(Origin.MISS, (0.9, None, True))] * 10
    assert judged(labels, Tally(searched=100, near=20)).request_count == 50


def test_requests_that_are_never_searched_by_meaning_defend_nothing() -> None:
    """The rate is of those that are: identical requests, and what the embedder cannot see, can neither err nor count."""
    rows = [
        Paired(f"what is thing {n}", f"what is thing {n}" if n < 400 else f"what was it {n}", True)
        for n in range(1000)
    ]
    scores = np.where(np.arange(1000) % 2, 0.97, 0.7).astype(np.float32)
    seen = np.arange(1000) < 900
    tuned = tune(
        Pairs("made", rows, scores, seen), replace(POLICY, gates=frozenset()), 0.01, choose_gates=False
    )
    assert tuned.label_count == 500
