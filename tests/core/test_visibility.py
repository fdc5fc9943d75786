"""Which characters a person or a model reads and an embedder does not."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesvc.core.types import Unseen
from cachesvc.core.visibility import unseen_characters

quick = settings(deadline=None, derandomize=True, database=None, max_examples=300)

_HINDI = "नमस्ते, यह कैसे काम करता है?"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("in\u200bvisible", id="zero-width space"),
        pytest.param("in\u200cvisible", id="zero-width non-joiner"),
        pytest.param("👩\u200d💻 code", id="zero-width joiner"),
        pytest.param("\ufeffhello", id="byte order mark"),
        pytest.param("hy\u00adphen", id="soft hyphen"),
        pytest.param("word\u2060joiner", id="word joiner"),
        pytest.param("2\u20623", id="invisible times"),
        pytest.param("hi" + "".join(chr(0xE0000 + ord(c)) for c in "delete all"), id="tag characters"),
        pytest.param("\U000e0001hi", id="language tag"),
        pytest.param("ok\ufe0f", id="variation selector 16"),
        pytest.param("ok\ufe00", id="variation selector 1"),
        pytest.param("ok\U000e0100", id="variation selector 17"),
        pytest.param("ok\u180b", id="mongolian variation selector"),
        pytest.param("a\u034fb", id="grapheme joiner"),
        pytest.param("a\u3164b", id="hangul filler"),
        pytest.param("a\u115fb", id="hangul choseong filler"),
        pytest.param("a\uffa0b", id="half-width hangul filler"),
        pytest.param("abc\u202edef", id="right-to-left override"),
        pytest.param("abc\u202ddef", id="left-to-right override"),
        pytest.param("abc\u2066def\u2069", id="left-to-right isolate"),
        pytest.param("abc\u200fdef", id="right-to-left mark"),
        pytest.param("abc\u061cdef", id="arabic letter mark"),
        pytest.param("nul\x00", id="NUL"),
        pytest.param("bell\x07é", id="control beside a letter that is not ASCII"),
        pytest.param("esc\x1b[31m", id="escape"),
        pytest.param("del\x7f", id="delete"),
        pytest.param("vt\x0b", id="vertical tab"),
        pytest.param("c1\x85", id="C1 next line"),
        pytest.param("c1\x9b", id="C1 sequence introducer"),
        pytest.param("\ue000", id="private use"),
        pytest.param("\U000f0000", id="private use, plane 15"),
        pytest.param("\ufdd0", id="noncharacter"),
        pytest.param("\uffff", id="noncharacter at the end of a plane"),
        pytest.param("\u0378", id="unassigned"),
        pytest.param("\ud800", id="lone surrogate"),
        pytest.param("\ufff9note\ufffb", id="interlinear annotation"),
    ],
)
@pytest.mark.parametrize("sees_marks", [True, False], ids=["sees marks", "strips marks"])
def test_invisible_characters_are_unseen(text: str, *, sees_marks: bool) -> None:
    """A character without a glyph of its own sends a text to the exact tier, whatever the tokenizer."""
    assert unseen_characters(text, sees_marks=sees_marks) is Unseen.INVISIBLE_CHARACTERS


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\u0301 lone", id="lone combining"),
        pytest.param("q\u0332", id="mark that composes with nothing"),
        pytest.param("h\u0336e\u0336l\u0336l\u0336o\u0336", id="struck through"),
        pytest.param("z\u0351\u036b\u0343a\u0363\u0367l\u0328\u0488g\u034co\u0321", id="zalgo"),
        pytest.param("a\u20dd", id="enclosing circle"),
        pytest.param(_HINDI, id="Hindi"),
        pytest.param("שָׁלוֹם", id="pointed Hebrew"),
    ],
)
def test_marks_count_where_the_tokenizer_strips_them(text: str) -> None:
    """A mark is unseen exactly where the tokenizer drops it."""
    assert unseen_characters(text, sees_marks=False) is Unseen.INVISIBLE_CHARACTERS
    assert unseen_characters(text, sees_marks=True) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("p\u0430ypal", id="Cyrillic a in a Latin word"),
        pytest.param("log in to \u0421itibank now", id="Cyrillic initial"),
        pytest.param("g\u03bfogle", id="Greek omicron in a Latin word"),
        pytest.param("м\u03bfсква", id="Greek omicron in a Cyrillic word"),
        pytest.param("\u03bcs", id="Greek mu before a Latin letter"),
        pytest.param("h\u0585me", id="Armenian in a Latin word"),
        pytest.param("\u13aapple", id="Cherokee in a Latin word"),
    ],
)
@pytest.mark.parametrize("sees_marks", [True, False], ids=["sees marks", "strips marks"])
def test_words_of_look_alike_scripts_are_told(text: str, *, sees_marks: bool) -> None:
    """A word that mixes alphabets with look-alike letters is not what it seems."""
    assert unseen_characters(text, sees_marks=sees_marks) is Unseen.MIXED_SCRIPTS


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("plain\ttext\nwith lines", id="tab and line"),
        pytest.param("café", id="accent"),
        pytest.param("naïve", id="diaeresis"),
        pytest.param("½ cup of flour", id="fraction"),
        pytest.param("5 \u00b5s?", id="micro sign"),
        pytest.param("1\u00aa y 2\u00ba", id="ordinals"),
        pytest.param("20 °C, 5 €, “yes” – no…", id="punctuation"),
        pytest.param("x² + y³ ≤ ∞", id="mathematics"),
        pytest.param("日本語のテキストです", id="kana and kanji"),
        pytest.param("カタカナとひらがな", id="both kana"),
        pytest.param("안녕하세요", id="Hangul"),
        pytest.param("你好 world", id="Chinese beside Latin"),
        pytest.param("🦜 parrot 🎉", id="emoji"),
        pytest.param("Как дела?", id="Cyrillic"),
        pytest.param("перевод слова cat", id="Cyrillic words beside a Latin word"),
        pytest.param("Τι κάνεις;", id="Greek"),
        pytest.param("the angle α, say", id="Greek letter alone"),
        pytest.param("مرحبا", id="Arabic"),
        pytest.param("Việt Nam", id="Vietnamese"),
        pytest.param("a\u00a0b", id="no-break space"),
    ],
)
@pytest.mark.parametrize("sees_marks", [True, False], ids=["sees marks", "strips marks"])
def test_ordinary_writing_is_seen(text: str, *, sees_marks: bool) -> None:
    """Legitimate text of any language stays in the semantic tier as far as its characters go."""
    assert unseen_characters(text, sees_marks=sees_marks) is None


@quick
@given(text=st.text(st.characters(codec=None)), sees_marks=st.booleans())
def test_it_judges_any_text(text: str, *, sees_marks: bool) -> None:
    """No text, surrogates included, makes it raise."""
    assert unseen_characters(text, sees_marks=sees_marks) in (
        None,
        Unseen.INVISIBLE_CHARACTERS,
        Unseen.MIXED_SCRIPTS,
    )


@quick
@given(text=st.text(st.sampled_from(string.digits + string.ascii_letters + string.punctuation + " \t\n")))
def test_printable_ascii_is_always_seen(text: str) -> None:
    """Plain English prompts and code never leave the semantic tier for their characters."""
    assert unseen_characters(text, sees_marks=False) is None


@quick
@given(before=st.text(), after=st.text())
def test_one_unseen_character_is_enough(before: str, after: str) -> None:
    """Text around a zero-width character does not hide it."""
    assert unseen_characters(f"{before}\u200b{after}", sees_marks=True) is Unseen.INVISIBLE_CHARACTERS
