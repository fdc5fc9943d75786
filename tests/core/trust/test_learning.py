"""Features, models, calibration, records and adoption."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesvc.core.gates import analyse
from cachesvc.core.trust.adoption import Terms, challenge
from cachesvc.core.trust.calibration import calibrate, expected_calibration_error
from cachesvc.core.trust.features import MEASURES, NAMES, VERSION, features
from cachesvc.core.trust.labels import Comparator, Label, LabelledCandidate, Origin
from cachesvc.core.trust.learn import cross_fitted, examples, picks, train
from cachesvc.core.trust.models import Additive
from cachesvc.core.trust.records import from_record, to_record
from cachesvc.core.trust.rules import Rule

quick = settings(deadline=None, derandomize=True, database=None, max_examples=30)
_COSINE = Rule(version=0, threshold=0.9)
_CODE = NAMES.index("differing_0")


def _labels(count: int, seed: int = 0, *, learnable: bool = True) -> list[Label]:
    """Requests whose candidates are right where a word of code 7 does not differ, whatever their scores."""
    random = np.random.default_rng(seed)
    made = []
    for place in range(count):
        candidates = []
        for score in sorted(random.uniform(0.7, 1.0, 2), reverse=True):
            row = np.zeros(len(NAMES), np.float32)
            row[0] = score
            row[_CODE] = random.choice([0, 7, 9])
            same = bool(row[_CODE] != 7 if learnable else random.random() < 0.5)
            candidates.append(LabelledCandidate(row, float(score), None, same))
        key = (place * 2_654_435_761 % 2**32).to_bytes(4, "big") + bytes(12)
        made.append(
            Label(key, place, Origin.SHADOW, Comparator.TEXT, 1.0, 0, VERSION, None, tuple(candidates))
        )
    return made


@pytest.fixture(scope="module")
def adopted() -> Rule:
    rule = challenge(_labels(1_200), _COSINE, _terms(1_200))
    assert isinstance(rule, Rule)
    return rule


def _terms(requests: int) -> Terms:
    return Terms(max_error_rate=0.01, floor_score=0.6, requests=requests, now_ms=5, version=1)


@quick
@given(st.text(max_size=80), st.lists(st.text(max_size=80), max_size=5))
def test_features_are_finite_for_any_text(query: str, texts: list[str]) -> None:
    """Whatever the texts hold, each candidate has a row of finite numbers; the same texts, the same rows."""
    scores = [0.9 - 0.01 * place for place in range(len(texts))]
    ours, theirs = analyse(query), [analyse(text) for text in texts]
    found = features(ours, theirs, scores)
    assert found.shape == (len(texts), len(NAMES))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert (found == features(ours, theirs, scores)).all()


@pytest.mark.parametrize(
    ("name", "query", "text", "value"),
    [
        pytest.param("words_alike", "open the door", "open the door", 1.0, id="the same words"),
        pytest.param("stems_ours", "cheap red shoes", "red shoes", 1.0, id="a word of ours alone"),
        pytest.param("stems_theirs", "red shoes", "cheap red shoes", 1.0, id="a word of theirs alone"),
        pytest.param("digits_apart", "gate 12", "gate 13", 2.0, id="numbers on both sides"),
        pytest.param("opening_alike", "how do i pay", "how do i fly", 3.0, id="the same opening"),
        pytest.param("count_ratio", "pay", "pay it now please", 0.25, id="a quarter as long"),
    ],
)
def test_a_feature_is_what_its_name_says(name: str, query: str, text: str, value: float) -> None:
    """One candidate, one measure."""
    row = features(analyse(query), [analyse(text)], [0.9])[0]
    assert row[NAMES.index(name)] == pytest.approx(value)


@pytest.mark.parametrize(
    ("answers", "agreeing", "over_dissent"),
    [
        pytest.param(None, [0, 0, 0], [0.1, -0.1, -0.2], id="answers that are not known agree with none"),
        pytest.param(
            [b"a", b"a", b"b"], [1, 1, 0], [0.2, 0.1, -0.2], id="the nearest dissents from the last"
        ),
        pytest.param([b"a", b"b", b"a"], [1, 0, 1], [0.1, -0.1, -0.1], id="the second dissents"),
        pytest.param([b"a", b"a", b"a"], [2, 2, 2], [0.9, 0.8, 0.7], id="nobody dissents"),
    ],
)
def test_answers_vote(answers: list[bytes] | None, agreeing: list[int], over_dissent: list[float]) -> None:
    """How many others have the same answer, and how far the nearest with another one is behind."""
    text = analyse("red shoes")
    found = features(text, [text] * 3, [0.9, 0.8, 0.7], answers=answers)
    assert found[:, NAMES.index("agreeing")].tolist() == agreeing
    assert found[:, NAMES.index("over_dissent")] == pytest.approx(over_dissent, abs=1e-6)


def test_training_finds_the_word_that_matters_and_is_deterministic() -> None:
    """The word counts, cosine does not, and the same labels give the same model."""
    labels = _labels(400)
    model, again = train(labels), train(labels)
    assert model is not None
    assert again is not None
    assert model.to_record() == again.to_record()
    assert max(model.importance, key=lambda name: model.importance[name]) == "differing"
    assert sum(model.importance.values()) == pytest.approx(1)
    row = np.zeros((2, len(NAMES)), np.float32)
    row[:, 0], row[1, _CODE] = 0.85, 7
    good, bad = model.values(row)
    assert good > 0.9
    assert bad < 0.1


def test_labels_that_are_alike_teach_nothing() -> None:
    """No model comes of labels that are all right, nor of those of other features, nor of complaints."""
    labels = _labels(50)
    alike = [replace(o, candidates=tuple(replace(c, same=True) for c in o.candidates)) for o in labels]
    assert train(alike) is None
    assert train([replace(one, features_version=VERSION - 1) for one in labels]) is None
    assert train([replace(one, origin=Origin.FEEDBACK) for one in labels]) is None


def test_a_request_is_picked_for_once_and_what_is_unknown_counts_as_wrong() -> None:
    """The open candidate of highest value; never a refused one."""
    label = _labels(1)[0]
    first, second = label.candidates
    unknown = replace(label, candidates=(replace(first, same=None), replace(second, same=True)))
    given_labels = examples([unknown, unknown], 0.0)
    best = picks(given_labels, np.array([0.9, 0.1, 0.2, 0.8]))
    assert best.values.tolist() == [0.9, 0.8]
    assert best.right.tolist() == [False, True]
    assert len(picks(examples([label], 1.1), np.zeros(2)).values) == 0


def test_cross_fitted_values_are_those_of_others() -> None:
    """What is made of noise alone shows no skill on values that were cross-fitted."""
    given_labels = examples(_labels(600, learnable=False), 0.0)
    values = cross_fitted(given_labels)
    assert values is not None
    # A little below nothing is as it should be: a fold with more right ones leaves fewer to the others.
    assert np.corrcoef(values, given_labels.same)[0, 1] < 0.1


@quick
@given(st.integers(0, 1_000))
def test_calibration_rises_and_is_honest(seed: int) -> None:
    """Confidence grows with value, and comes within 0.05 of the truth with a thousand labels."""
    random = np.random.default_rng(seed)
    values = random.random(1_000)
    made = calibrate(values, random.random(1_000) < values**2)
    assert made is not None
    assert list(made.confidences) == sorted(made.confidences)
    fresh = random.random(4_000)
    confidences = np.array([made.confidence(value) for value in fresh])
    assert (np.diff(confidences[np.argsort(fresh)]) >= 0).all()
    assert expected_calibration_error(confidences, random.random(4_000) < fresh**2) < 0.05


def test_calibration_is_of_the_traffic_and_not_of_the_labels() -> None:
    """Labels that were drawn by chance count for the requests they stand for: what was drawn less often when it was right
    is as likely to be right as it is in traffic, and not as it is among the labels.
    """
    random = np.random.default_rng(3)
    values = random.random(20_000)
    right = random.random(20_000) < values
    shares = np.where(right, 0.1, 0.8)
    drawn = random.random(20_000) < shares
    weighed = calibrate(values[drawn], right[drawn], 1 / shares[drawn])
    plain = calibrate(values[drawn], right[drawn])
    assert weighed is not None
    assert plain is not None
    assert weighed.confidence(0.5) == pytest.approx(0.5, abs=0.07)
    assert plain.confidence(0.5) < 0.25
    assert weighed.error < 0.05
    confidences = np.array([weighed.confidence(value) for value in values])
    assert expected_calibration_error(confidences, right) < 0.05


def test_without_a_thousand_labels_there_is_no_confidence() -> None:
    """Absent, not invented."""
    assert calibrate(np.ones(999), np.ones(999, bool)) is None
    assert _COSINE.confidence(0.95) is None


def test_a_rule_survives_being_written_down(adopted: Rule) -> None:
    """As JSON and back it says the same of every candidate."""
    back = from_record(json.loads(json.dumps(to_record(adopted))))
    rows = examples(_labels(100), 0.0).features
    assert (back.values(rows) == adopted.values(rows)).all()
    assert (back.threshold, back.evidence, back.calibration) == (
        adopted.threshold,
        adopted.evidence,
        adopted.calibration,
    )
    assert from_record(to_record(_COSINE)) == _COSINE


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"threshold": "high"}, id="a threshold in words"),
        pytest.param({"threshold": float("nan")}, id="a threshold that is no number"),
        pytest.param({"version": 1.5}, id="half a version"),
        pytest.param({"features_version": VERSION + 1}, id="features of tomorrow"),
        pytest.param({"model": "sum"}, id="a model in words"),
        pytest.param({"calibration": {"values": [1, 0], "confidences": [0, 1]}}, id="values that fall"),
        pytest.param({"calibration": {"values": [0], "confidences": [2]}}, id="a confidence of two"),
        pytest.param({"evidence": {"requests": 1, "served": 2, "wrong": 0}}, id="more served than asked"),
    ],
)
def test_a_broken_rule_is_refused(broken: dict[str, object]) -> None:
    """What a store gives back is believed only when it makes sense."""
    model = train(_labels(100))
    record = to_record(Rule(1, 0.5, model=model, features_version=VERSION))
    with pytest.raises(ValueError, match=r"[a-z]"):
        from_record({**record, **broken})


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"kind": "pickle"}, id="another kind"),
        pytest.param({"features": list(NAMES[1:])}, id="other features"),
        pytest.param({"slopes": [0.0]}, id="too few slopes"),
        pytest.param({"bias": "no"}, id="a bias in words"),
        pytest.param({"differing": [[0], [1.0]]}, id="a weight of no word"),
        pytest.param({"shared": [[5], []]}, id="a word without a weight"),
        pytest.param({"edges": [[1.0, *[0.0] * 6]] * len(MEASURES)}, id="edges that fall"),
        pytest.param({"importance": None}, id="no importance"),
    ],
)
def test_a_broken_model_is_refused(broken: dict[str, object]) -> None:
    """The same of a model."""
    model = train(_labels(100))
    assert model is not None
    with pytest.raises(ValueError, match=r"[a-z]"):
        Additive.from_record({**model.to_record(), **broken})


def test_a_challenger_that_wins_is_adopted(adopted: Rule) -> None:
    """Cosine cannot tell here and the words can: the learned rule wins on labels that it has not seen."""
    assert (adopted.version, adopted.kind, adopted.made_ms) == (1, "learned", 5)
    assert adopted.evidence is not None
    assert adopted.evidence.error_bound <= 0.01
    assert adopted.calibration is not None


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        pytest.param(_labels(100), "100 labels of 600", id="too few"),
        pytest.param(_labels(900, learnable=False), "on the fresh labels", id="nothing to learn"),
    ],
)
def test_a_challenger_that_does_not_win_is_not(labels: list[Label], says: str) -> None:
    """The reason is given."""
    answer = challenge(labels, _COSINE, _terms(len(labels)))
    assert isinstance(answer, str)
    assert says in answer


def test_the_rule_in_force_stays_unless_it_is_beaten(adopted: Rule) -> None:
    """A second challenger as good as the first is not adopted."""
    answer = challenge(_labels(800, seed=1), adopted, replace(_terms(20_000), version=2))
    assert "wins 0 hits" in str(answer)
