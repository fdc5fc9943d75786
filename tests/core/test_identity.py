"""What makes two requests the same, and what keeps them apart."""

import unicodedata
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.identity import canonical_text, identify
from cachesvc.core.types import Identity, Message, Request

PRINT = "engine:0123"
quick = settings(deadline=None, derandomize=True, database=None, max_examples=150)

# Characters that decompose, compose, fold or break lines, beside ordinary ones.
_ODD = st.sampled_from("éÅ\u212b\u0301\u0327ñ½µΩ\u2126кK\u212a가\u1100\u1161日🦜\r\n\t \u00a0aAb1")
texts = st.text(st.one_of(_ODD, st.characters(exclude_categories=["Cs"])), min_size=1, max_size=30).filter(
    lambda text: bool(text.strip())
)
varies = st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=4).filter(
    lambda vary: len({canonical_text(key) for key in vary}) == len(vary)
)
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])
turns = st.lists(st.builds(Message, roles, st.text(max_size=12)), max_size=4)


def request(
    text: str = "How do I reset my card PIN?",
    before: tuple[Message, ...] = (),
    after: tuple[Message, ...] = (),
    vary: Mapping[str, str] | None = None,
) -> Request:
    return Request("bank", (*before, Message("user", text), *after), "gpt-x", vary or {})


def key(of: Request, fingerprint: str = PRINT) -> bytes:
    return identify(of, fingerprint).exact_key


@quick
@given(text=texts, vary=varies, before=turns)
def test_key_order_of_vary_changes_nothing(text: str, vary: dict[str, str], before: list[Message]) -> None:
    """The order in which a caller filled ``vary`` is no part of the identity."""
    one = request(text, tuple(before), vary=vary)
    other = request(text, tuple(before), vary=dict(reversed(vary.items())))
    assert identify(one, PRINT) == identify(other, PRINT)


@quick
@given(text=texts, value=st.text(max_size=12), earlier=st.text(max_size=12))
@example(text="naïve café", value="Å", earlier="한국")
def test_unicode_form_changes_nothing(text: str, value: str, earlier: str) -> None:
    """The NFC and the NFD form of a request are one request, in query, turns and vary alike."""
    forms = []
    for form in ("NFC", "NFD"):
        turn = Message("system", unicodedata.normalize(form, earlier))
        vary = {"locale": unicodedata.normalize(form, value)}
        forms.append(identify(request(unicodedata.normalize(form, text), (turn,), vary=vary), PRINT))
    assert forms[0] == forms[1]


@quick
@given(lines=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))))
def test_line_endings_change_nothing(lines: list[str]) -> None:
    r"""Text with \n, \r\n or \r between its lines is one text."""
    forms = [
        identify(request("q" + end.join(lines), (Message("system", end.join(lines)),)), PRINT)
        for end in ("\n", "\r\n", "\r")
    ]
    assert forms[0] == forms[1] == forms[2]


@quick
@given(text=st.text())
def test_canonical_text_is_idempotent(text: str) -> None:
    """Canonicalising twice is canonicalising once."""
    assert canonical_text(canonical_text(text)) == canonical_text(text)


@quick
@given(text=texts, place=st.integers(min_value=0), character=st.characters(exclude_categories=["Cs"]))
def test_any_changed_character_changes_the_key(text: str, place: int, character: str) -> None:
    """Replacing, inserting or dropping one character that canonicalisation keeps makes another request."""
    at = place % len(text)
    for changed in (
        text[:at] + character + text[at + 1 :],
        text[:at] + character + text[at:],
        text[:at] + text[at + 1 :],
    ):
        if changed.strip() and canonical_text(changed) != canonical_text(text):
            assert key(request(changed)) != key(request(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("Send 100 euros", "send 100 euros", id="case"),
        pytest.param("Send 100 euros", "Send 101 euros", id="digit"),
        pytest.param("Send 1 euro", "Send １ euro", id="full-width digit"),
        pytest.param("Send 1.0", "Send 1,0", id="decimal sign"),
        pytest.param("if (a == b)", "if (a = b)", id="code"),
        pytest.param("x\n y", "x\ny", id="indentation"),
        pytest.param("a b", "a  b", id="inner white space"),
        pytest.param("a b", "a b ", id="trailing white space"),
        pytest.param("a b", "a\u00a0b", id="no-break space"),
        pytest.param("a b", "a\tb", id="tab"),
        pytest.param("ab", "a\u200bb", id="zero-width space"),
        pytest.param("½", "1/2", id="compatibility form is kept apart"),
        pytest.param("x²", "x2", id="superscript"),
        pytest.param("ﬁne", "fine", id="ligature"),
        pytest.param("straße", "strasse", id="sharp s"),
        pytest.param("paypal", "p\u0430ypal", id="look-alike letter"),
        pytest.param("resume", "résumé", id="accent"),
    ],
)
def test_what_may_change_the_meaning_changes_the_key(one: str, other: str) -> None:
    """Case, digits, code, white space and every compatibility form count."""
    assert key(request(one)) != key(request(other))


_BASE = request(
    "and in euros?",
    (Message("system", "be brief"), Message("user", "price?"), Message("assistant", "5 dollars")),
    vary={"temperature": "0", "locale": "en"},
)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(_BASE, namespace="bank2"), id="namespace"),
        pytest.param(replace(_BASE, model="gpt-y"), id="model"),
        pytest.param(replace(_BASE, model="GPT-X"), id="model case"),
        pytest.param(replace(_BASE, vary={"temperature": "1", "locale": "en"}), id="vary value"),
        pytest.param(replace(_BASE, vary={"temperature": "en", "locale": "0"}), id="vary values swapped"),
        pytest.param(replace(_BASE, vary={"Temperature": "0", "locale": "en"}), id="vary key"),
        pytest.param(replace(_BASE, vary={"temperature": "0"}), id="vary entry gone"),
        pytest.param(replace(_BASE, vary={**_BASE.vary, "seed": ""}), id="vary entry more, empty"),
        pytest.param(
            replace(_BASE, messages=(Message("developer", "be brief"), *_BASE.messages[1:])), id="role"
        ),
        pytest.param(replace(_BASE, messages=_BASE.messages[1:]), id="system prompt gone"),
        pytest.param(
            replace(_BASE, messages=(_BASE.messages[1], _BASE.messages[0], *_BASE.messages[2:])),
            id="order of turns",
        ),
        pytest.param(
            replace(_BASE, messages=(*_BASE.messages, Message("assistant", ""))), id="trailing assistant turn"
        ),
        pytest.param(
            replace(_BASE, messages=(*_BASE.messages, Message("tool", "5"))), id="trailing tool turn"
        ),
    ],
)
def test_what_must_match_exactly_makes_another_scope(other: Request) -> None:
    """Everything but the query text is behind the wall that no search crosses."""
    assert identify(other, PRINT).scope != identify(_BASE, PRINT).scope
    assert identify(other, PRINT).context != identify(_BASE, PRINT).context
    assert key(other) != key(_BASE)


def test_a_follow_up_in_another_conversation_has_another_scope() -> None:
    """The same last words after other turns never meet."""
    follow_up = "and in euros?"
    rent = identify(request(follow_up, (Message("user", "the rent?"), Message("assistant", "9"))), PRINT)
    fare = identify(request(follow_up, (Message("user", "the fare?"), Message("assistant", "9"))), PRINT)
    assert rent.text == fare.text
    assert rent.scope != fare.scope


def test_the_query_alone_changes_the_exact_key_only() -> None:
    """Two questions of one conversation share context and scope."""
    one, other = identify(request("one?"), PRINT), identify(request("two?"), PRINT)
    assert (one.context, one.scope) == (other.context, other.scope)
    assert one.exact_key != other.exact_key


def test_another_embedder_has_another_scope_in_the_same_context() -> None:
    """The fingerprint is part of the scope, and the context outlives it."""
    one, other = identify(_BASE, "engine:a"), identify(_BASE, "engine:b")
    assert one.context == other.context
    assert one.scope != other.scope
    assert one.exact_key != other.exact_key


@quick
@given(text=texts, after=turns)
def test_the_last_user_message_is_what_is_asked(text: str, after: list[Message]) -> None:
    """What follows the last user message counts, whatever its role, and is not the query."""
    trailing = tuple(turn for turn in after if turn.role != "user")
    found = identify(request(text, (Message("user", "earlier"),), trailing), PRINT)
    assert found.text == canonical_text(text)
    plain = identify(request(text, (Message("user", "earlier"),)), PRINT)
    assert (found.scope == plain.scope) == (not trailing)


def _spellings(of: Request) -> tuple[object, ...]:
    """What ``identify`` promises to tell apart, without its digests."""
    place = max(n for n, message in enumerate(of.messages) if message.role == "user")
    spelled = tuple((message.role, canonical_text(message.content)) for message in of.messages)
    vary = {canonical_text(name): canonical_text(value) for name, value in of.vary.items()}
    return (of.namespace, of.model, tuple(sorted(vary.items())), spelled, place)


_few = st.sampled_from(["", "a", "b", "ab", '"', ",", '","', "\\", "\n", "[", "\u0000query", "user"])
_tight = st.builds(
    Request,
    namespace=_few,
    messages=st.lists(st.builds(Message, roles, _few), max_size=2).map(
        lambda before: (*before, Message("user", "a"))
    ),
    model=_few,
    vary=st.dictionaries(_few, _few, max_size=2),
)


@settings(quick, max_examples=400)
@given(one=_tight, other=_tight)
def test_no_two_requests_share_a_key(one: Request, other: Request) -> None:
    """Where a value ends and the next begins is told, whatever characters they hold."""
    assume(_spellings(one) != _spellings(other))
    assert key(one) != key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"a": "bc"}, {"ab": "c"}, id="vary key and value"),
        pytest.param({"a": "b", "c": "d"}, {"a": 'b","c":"d'}, id="vary spells JSON"),
        pytest.param({"a": ""}, {"": "a"}, id="vary sides"),
    ],
)
def test_concatenations_of_vary_do_not_collide(one: dict[str, str], other: dict[str, str]) -> None:
    """("a", "bc") is not ("ab", "c")."""
    assert key(request(vary=one)) != key(request(vary=other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("a", "bc"), ("ab", "c"), id="namespace and model"),
        pytest.param(("a", ""), ("", "a"), id="empty side"),
    ],
)
def test_concatenations_of_names_do_not_collide(one: tuple[str, str], other: tuple[str, str]) -> None:
    """The border between namespace and model is part of the identity."""
    asked = (Message("user", "q"),)
    assert key(Request(one[0], asked, one[1], {})) != key(Request(other[0], asked, other[1], {}))


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        pytest.param((Message("user", " \n\t"),), "prompt", id="blank"),
        pytest.param((Message("user", ""),), "prompt", id="empty"),
        pytest.param((Message("system", "x"),), "chat.messages", id="no user message"),
        pytest.param((), "chat.messages", id="no message"),
    ],
)
def test_a_request_without_a_question_is_refused(messages: tuple[Message, ...], field: str) -> None:
    """The error names the field that has to change."""
    with pytest.raises(CacheError) as caught:
        identify(Request("bank", messages, "m", {}), PRINT)
    assert caught.value.kind is Kind.INVALID
    assert [violation.field for violation in caught.value.violations] == [field]


def test_vary_keys_that_are_one_after_normalisation_are_refused() -> None:
    """Which of the two values counts is not for the cache to guess."""
    with pytest.raises(CacheError) as caught:
        identify(request(vary={"caf\u00e9": "1", "cafe\u0301": "2"}), PRINT)
    assert caught.value.violations[0].field == "vary"


@pytest.mark.parametrize("part", ["context", "scope", "exact_key"])
def test_digests_have_32_bytes(part: str) -> None:
    """The store's keys are made of them."""
    assert len(getattr(identify(_BASE, PRINT), part)) == 32


def _hex(identity: Identity) -> tuple[str, str]:
    return identity.scope.hex(), identity.exact_key.hex()


@pytest.mark.parametrize(
    ("of", "scope", "exact_key"),
    [
        pytest.param(
            request(),
            "0cb8cb79c81841048be2191081e1aa9494b4e99611e8b76b35161743179e8910",
            "6b7e96d8c2eb74d30d6f1f05f9c5348474a2c131ccf845e7d38fbc211f9b38a9",
            id="prompt",
        ),
        pytest.param(
            _BASE,
            "599fef49be1a0e52311ee00f28093501ec0c685332509c6c16066ce1b65c94df",
            "8b927e4db7470dac33fb6d922b4e4a123f79df505eb76b433fb168684be2cdb9",
            id="chat with vary",
        ),
        pytest.param(
            Request("default", (Message("user", "Cafe\u0301\r\n½ 日本 🦜"),), "", {"\u00e9": '\\"\u0001'}),
            "1f839bdc68380cb2a47070c596dbd7934db9b57e5e6c0e78af3cebcf6c093e5b",
            "a12d9f6672988ce9a1114fba5b601908ca7ef786b7a17a4e84ad5187b0895659",
            id="unicode",
        ),
    ],
)
def test_the_canonical_form_is_pinned(of: Request, scope: str, exact_key: str) -> None:
    """A change of the canonical form makes every stored entry unreachable, so it must be noticed."""
    assert _hex(identify(of, PRINT)) == (scope, exact_key)
