"""Comparing answers: what is the same, what is not, and what cannot be told."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesvc.core.policy import Compare
from cachesvc.core.trust.compare import MAX_BYTES, Judged, Prose, by_nearness, compare, digest, normal
from cachesvc.core.trust.labels import Comparator

TEXT, JSON = Comparator.TEXT, Comparator.JSON

CASES: dict[str, tuple[Compare, str, str, bool | None, Comparator]] = {
    "identical": ("auto", "It is so.", "It is so.", True, TEXT),
    "white space and case": ("auto", "It  is\nSO", "it is so.", True, TEXT),
    "punctuation at the end": ("text", "It is so", "It is so!…", True, TEXT),
    "full-width letters": ("text", "ＡＢＣ", "abc", True, TEXT),
    "text only: other words": ("text", "It is so, surely.", "It is not so at all.", False, TEXT),
    "two labels": ("auto", "billing", "refunds", False, TEXT),
    "yes and no": ("auto", "Yes.", "No.", False, TEXT),
    "one says more": ("auto", "Paris", "Paris, France", None, TEXT),
    "key order": ("auto", '{"a":1,"b":[2]}', '{"b":[2.0],"a":1e0}', True, JSON),
    "another number": ("auto", '{"a":1}', '{"a":2}', False, JSON),
    "another key": ("auto", '{"a":1}', '{"b":1}', False, JSON),
    "more elements": ("auto", "[1,2]", "[1,2,3]", False, JSON),
    "order of a list": ("json", "[1,2]", "[2,1]", False, JSON),
    "true is not one": ("auto", '{"a":true}', '{"a":1}', False, JSON),
    "null is a value": ("json", "null", "null ", True, JSON),
    "strings by what they say": ("auto", '{"a":"Yes"}', '{"a":"yes."}', True, JSON),
    "short strings that differ": ("auto", '{"a":"red"}', '{"a":"blue"}', False, JSON),
    "numbers alone": ("auto", "42", "43", False, JSON),
    "the same number": ("auto", "42", "42.0", True, JSON),
    "huge numbers": ("auto", "1e999999999999999999999", "1e999999999999999999998", False, TEXT),
    "json asked, none given": ("json", "{", "}", None, JSON),
    "sentences differ, strictly": ("json", '{"a":"one two three four"}', '{"a":"five six seven eight"}', False, JSON),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_can_be_told_without_embeddings(case: tuple[Compare, str, str, bool | None, Comparator]) -> None:
    """Texts by what they say, JSON by its structure; both ways round the same."""
    how, fresh, stored, same, comparator = case
    assert compare(fresh.encode(), stored.encode(), how) == Judged(same, comparator)
    assert compare(stored.encode(), fresh.encode(), how) == Judged(same, comparator)


def test_what_is_left_to_embeddings() -> None:
    """Sentences, and JSON that differs in sentences alone, which are gathered."""
    assert compare(b"The sky is blue today.", b"Today the sky has a blue colour.", "auto") == Prose(
        "The sky is blue today.", "Today the sky has a blue colour."
    )
    ours = {"n": 1, "why": "because it is so", "list": ["same", "and this is a sentence"]}
    theirs = {"n": 1.0, "why": "for it is so indeed", "list": ["Same.", "and that is a sentence"]}
    assert compare(json.dumps(ours).encode(), json.dumps(theirs).encode(), "auto") == Prose(
        "because it is so\nand this is a sentence\n\n", "for it is so indeed\nand that is a sentence\n\n"
    )


OPENAI = {
    "id": "1",
    "created": 5,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}}],
}
ANTHROPIC = {"id": "2", "type": "message", "content": [{"type": "text", "text": "yes"}], "usage": {"n": 7}}


def test_the_reply_of_a_model_is_what_it_says() -> None:
    """Ids, times and usage of a reply always differ; a call of a tool is compared as it is."""
    other = {**OPENAI, "id": "9", "created": 6}
    for how in ("auto", "json"):
        assert compare(json.dumps(OPENAI).encode(), json.dumps(other).encode(), how) == Judged(
            same=True, comparator=TEXT
        )
    assert compare(json.dumps(OPENAI).encode(), json.dumps(ANTHROPIC).encode(), "auto") == Judged(True, TEXT)
    call = {**OPENAI, "choices": [{"message": {"content": None, "tool_calls": [{"id": "x"}]}}]}
    called = {**OPENAI, "choices": [{"message": {"content": None, "tool_calls": [{"id": "y"}]}}]}
    assert compare(json.dumps(call).encode(), json.dumps(called).encode(), "auto") == Judged(False, JSON)


def test_what_is_no_text_or_very_long_is_the_same_or_cannot_be_told() -> None:
    """Nothing is guessed of bytes."""
    assert compare(b"\xff\x00", b"\xff\x00", "auto") == Judged(True, TEXT)
    assert compare(b"\xff\x00", b"\xff\x01", "auto") == Judged(None, TEXT)
    long = b"a" * (MAX_BYTES + 1)
    assert compare(long, long + b"a", "text") == Judged(None, TEXT)


NEARNESS = {
    "near": ("Items may be sent back later.", "You may return items later.", 0.95, True),
    "in the band": ("Items may be sent back later.", "You may return items later.", 0.8, None),
    "far": ("Items may be sent back later.", "The moon is far away from us.", 0.6, False),
    "near, another number": ("Return it within 30 days.", "Return it within 60 days.", 0.99, False),
    "near, negated": ("You can return it at any time.", "You can not return it at any time.", 0.97, False),
    "near, yes and no": ("Yes, that is in the plan.", "No, that is in the plan.", 0.97, False),
}


@pytest.mark.parametrize("case", NEARNESS.values(), ids=NEARNESS.keys())
def test_nearness_and_what_it_cannot_see(case: tuple[str, str, float, bool | None]) -> None:
    """Clearly near is the same unless something in it turns; clearly far is not; in between nobody can tell."""
    fresh, stored, score, same = case
    assert by_nearness(Prose(fresh, stored), score, 0.9) == Judged(same, Comparator.EMBEDDING)


@given(
    st.binary(max_size=200), st.binary(max_size=200), st.sampled_from(["auto", "text", "json", "embedding"])
)
def test_it_never_fails(fresh: bytes, stored: bytes, how: Compare) -> None:
    """Whatever the bytes: a verdict, or texts; an answer is the same as itself; order does not matter."""
    one, other = compare(fresh, stored, how), compare(stored, fresh, how)
    assert isinstance(one, Prose) == isinstance(other, Prose)
    if isinstance(one, Judged):
        assert one == other
    assert compare(fresh, fresh, how) in (Judged(True, TEXT), Judged(True, JSON))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_json_is_the_same_however_it_is_written(value: object) -> None:
    """White space, order of keys and escapes do not count."""
    loose = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).encode()
    tight = json.dumps(value, separators=(",", ":")).encode()
    judged = compare(loose, tight, "json")
    assert isinstance(judged, Judged)
    assert judged.same is True


def test_deep_json_is_no_trap() -> None:
    """What is nested beyond reason is compared as text, or is not the same; nothing overflows."""
    deep = b"[" * 5000 + b"]" * 5000
    assert isinstance(compare(deep, deep + b" ", "auto"), Judged)
    ours, theirs = (b"[" * 200 + n + b"]" * 200 for n in (b"1", b"1.0"))
    assert compare(ours, theirs, "auto") == Judged(False, JSON)


@given(st.text(max_size=60))
def test_the_normal_form_is_stable(text: str) -> None:
    """Normalising again changes nothing."""
    assert normal(normal(text)) == normal(text)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_digests_are_equal_for_what_is_the_same(
    case: tuple[Compare, str, str, bool | None, Comparator],
) -> None:
    """As far as it can be told without embeddings; where the comparison was lax the digests may differ."""
    _, fresh, stored, same, _ = case
    assert (digest(fresh.encode()) == digest(stored.encode())) is (same is True)


@settings(deadline=None)
@given(JSON_VALUES, JSON_VALUES)
def test_digests_tell_json_apart_as_comparing_does(ours: object, theirs: object) -> None:
    """Whatever the values."""
    one, other = (json.dumps(value).encode() for value in (ours, theirs))
    judged = compare(one, other, "json")
    assert isinstance(judged, Judged)
    assert (digest(one) == digest(other)) is judged.same


@given(st.binary(max_size=100))
def test_everything_has_a_digest(response: bytes) -> None:
    """Bytes, too."""
    assert len(digest(response)) == 16


HALVES = {
    "in a model's reply": rb'{"choices": [{"message": {"content": "of four words, this \ud800"}}]}',
    "in a message": rb'{"type": "message", "content": [{"type": "text", "text": "of four words, \uDFFF this"}]}',
    "in a sentence": rb'{"why": "it is \udc00 so, and no other way"}',
    "in a key": rb'{"\ud83d": 1}',
    "the wrong way round": rb'["a sentence of words \ude00\ud83d"]',
}


@pytest.mark.parametrize("how", ["auto", "json"])
@pytest.mark.parametrize("answer", HALVES.values(), ids=HALVES.keys())
def test_half_a_surrogate_pair_is_no_json(answer: bytes, how: Compare) -> None:
    """It is no text that could be embedded or digested: the answer is compared as it is written."""
    assert len(digest(answer)) == 16
    for other in (
        b'{"choices": [{"message": {"content": "of four words, or more"}}]}',
        b"Words, and more of them.",
    ):
        found = compare(answer, other, how)
        assert found == (Judged(None, JSON) if how == "json" else Prose(answer.decode(), other.decode()))


def test_a_whole_surrogate_pair_is_a_character() -> None:
    """However it is written."""
    escaped, plain = rb'{"why": "\ud83d\ude00 it is so"}', '{"why": "😀 it is so"}'.encode()
    assert digest(escaped) == digest(plain)
    assert compare(escaped, plain, "json") == Judged(True, JSON)
