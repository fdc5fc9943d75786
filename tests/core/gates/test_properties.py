"""What holds of all gates, whatever the texts hold."""

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesvc.core.gates import DEFAULT_GATES, Gate, analyse, first_veto, verdicts
from cachesvc.core.gates.analysis import MAX_LENGTH
from cachesvc.core.gates.meaning import meaning_vetoes

quick = settings(deadline=None, derandomize=True, database=None, max_examples=300)

_ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=80)
_VOCABULARY = """
not no n't never without don't stop or and but from to between by than before after with Rome Paris the a
buy sell turn on off cheapest least expensive at most more 5 12.5 kg 2024-05-01 v1.2 10:30 a@b.c
I me she her boss sue did does was what which must can should only any all of for against that free rid remove bigger
smaller child US St remember forget avoid https://x.yz/q "quoted" `code` python rust who when why how many is are French in unsafe safe ? . , ( ) 北京 é
"""
_WORDS = st.lists(st.sampled_from(_VOCABULARY.split()), max_size=14).map(" ".join)
_SPOKEN = st.lists(st.sampled_from(_VOCABULARY.split()), min_size=2, max_size=10)
texts = st.one_of(_ANY, _WORDS)


@quick
@given(texts)
def test_a_text_never_vetoes_itself(text: str) -> None:
    """The same text is the same question, whatever is in it; lone surrogates too."""
    assert verdicts(analyse(text), analyse(text)) == ()


@quick
@given(texts, texts)
def test_gates_are_symmetric(ours: str, theirs: str) -> None:
    """Which of two texts was stored first decides nothing."""
    there = {veto.gate for veto in verdicts(analyse(ours), analyse(theirs))}
    back = {veto.gate for veto in verdicts(analyse(theirs), analyse(ours))}
    assert there == back


@quick
@given(_SPOKEN, st.randoms(use_true_random=False))
def test_gates_of_meaning_are_symmetric_for_what_is_nearly_the_same(
    spoken: list[str], random: Random
) -> None:
    """Two texts that are far apart reach few rules: here one is the other with a word replaced and two exchanged."""
    other = [*spoken]
    other[random.randrange(len(other))] = random.choice(_VOCABULARY.split())
    one, two = random.randrange(len(other)), random.randrange(len(other))
    other[one], other[two] = other[two], other[one]
    ours, theirs = (analyse(" ".join(words)).meaning for words in (spoken, other))
    assert {veto.gate for veto in meaning_vetoes(ours, theirs)} == {
        veto.gate for veto in meaning_vetoes(theirs, ours)
    }


@quick
@given(texts, texts)
def test_gates_are_deterministic(ours: str, theirs: str) -> None:
    """The same texts give the same verdicts with the same words in them; each gate speaks once."""
    found = verdicts(analyse(ours), analyse(theirs))
    assert found == verdicts(analyse(ours), analyse(theirs))
    assert len({veto.gate for veto in found}) == len(found)


@quick
@given(texts, texts, st.frozensets(st.sampled_from(Gate)))
def test_the_first_veto_is_one_of_those_that_are_on(ours: str, theirs: str, gates: frozenset[Gate]) -> None:
    """Stopping at the first veto misses none: there is one if and only if a gate that is on refuses."""
    one, other = analyse(ours), analyse(theirs)
    refusing = {veto.gate for veto in verdicts(one, other)} & gates
    veto = first_veto(one, other, gates)
    assert (veto is not None) == bool(refusing)
    assert veto is None or veto.gate in refusing


@quick
@given(_WORDS)
def test_case_and_outer_space_change_nothing(text: str) -> None:
    """What the exact tier folds is not refused by the gates of meaning."""
    assert not {veto.gate for veto in verdicts(analyse(text), analyse(f"  {text} "))}


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param("a", id="one word"),
        pytest.param("not ", id="negations"),
        pytest.param("from a to b ", id="roles"),
        pytest.param("buy A and sell B, ", id="joins"),
        pytest.param("1.", id="digits and dots"),
        pytest.param("a-", id="hyphens"),
        pytest.param('"', id="quotes"),
        pytest.param("`x", id="backticks"),
        pytest.param("at least 5 or more ", id="bounds"),
        pytest.param("nut free of more than less than before after ", id="comparisons"),
        pytest.param("stop him from asking me if any dog can sue all cats ", id="small words"),
        pytest.param("\ud800", id="lone surrogates"),
        pytest.param(" ", id="space"),
        pytest.param("https://a/", id="addresses"),
    ],
)
def test_time_is_linear(piece: str) -> None:
    """No text makes an analysis quadratic: four times the text takes about four times as long, and at most so much."""

    def cost_s(length: int) -> float:
        text = piece * (length // len(piece))
        began_s = time.process_time()
        found = analyse(text)
        first_veto(found, analyse(text[:-1]), DEFAULT_GATES)
        return time.process_time() - began_s

    short_s = min(cost_s(MAX_LENGTH // 4) for _ in range(3))
    assert min(cost_s(MAX_LENGTH) for _ in range(3)) < max(12 * short_s, 0.25)


def test_what_is_longer_is_not_read() -> None:
    """A megabyte costs what the longest text that an embedder is shown costs, and no memory of it stays."""
    text = "from a to b, 5 km " * 60_000
    assert analyse(text) == analyse(text[:MAX_LENGTH])
    assert len(analyse("a" * 1_000_000).line) == MAX_LENGTH
