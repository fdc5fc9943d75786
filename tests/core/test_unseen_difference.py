"""What two texts may differ in without the embedder seeing it, and what may differ in prose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesvc.core.visibility import unseen_difference

DIFFERENT = [
    pytest.param("What does curl -X do?", "What does curl -x do?", id="flag"),
    pytest.param("rm -r Foo", "rm -R foo", id="two-flags"),
    pytest.param("Is a.B == A.b?", "Is a.b == A.B?", id="order-of-names"),
    pytest.param("open README.md", "open readme.md", id="file"),
    pytest.param("cd /Home/me", "cd /home/me", id="path"),
    pytest.param("order aB3x please", "order ab3x please", id="mixed-case-id"),
    pytest.param("what does getTotal do", "what does GETtOTAL do", id="humps"),
    pytest.param("drücken", "drucken", id="umlaut"),
    pytest.param("Feliz 20 años", "Feliz 20 anos", id="tilde"),
    pytest.param("bán xe", "bạn xe", id="vietnamese"),
    pytest.param("the 20 años please", "20 anos", id="inside-other-words"),
    pytest.param("if a:\n    b()\nc()", "if a:\n    b()\n    c()", id="indentation"),
    pytest.param("for x in y:\n\tprint(x)", "for x in y:\nprint(x)", id="no-indentation"),
    pytest.param("$PATH or $path", "$path or $PATH", id="variables-swapped"),
]
SAME = [
    pytest.param("How do I reset my password?", "how do i reset my password", id="sentence-case"),
    pytest.param("WHAT IS THE LIMIT", "What is the limit?", id="shouting"),
    pytest.param("Is my PIN safe?", "is my pin safe?", id="acronym"),
    pytest.param("Is COVID-19 over?", "is covid-19 over?", id="uniform-case-with-digits"),
    pytest.param("Where is my iPhone?", "where is my iphone?", id="brand"),
    pytest.param("what does getTotal do", "what does gettotal do", id="humps-left-out"),
    pytest.param("a  b\nc", "a b c", id="white-space-in-prose"),
    pytest.param("café near me", "café near me please", id="same-accents"),
    pytest.param("Wo ist der Ausgang?", "Wo finde ich den Ausgang?", id="other-words"),
    pytest.param("one\n\n  two", "one\n  two", id="blank-lines"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_differs(one: str, other: str) -> None:
    """Texts that mean another thing only in what a model drops are told apart, either way round."""
    assert unseen_difference(one, other)
    assert unseen_difference(other, one)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_does_not_differ(one: str, other: str) -> None:
    """What people write either way in prose is no difference."""
    assert not unseen_difference(one, other)
    assert not unseen_difference(other, one)


@given(st.text(), st.text())
def test_any_texts(one: str, other: str) -> None:
    """It never raises, is symmetric, and a text does not differ from itself."""
    assert unseen_difference(one, other) == unseen_difference(other, one)
    assert not unseen_difference(one, one)
