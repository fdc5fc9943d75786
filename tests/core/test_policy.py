"""Which policy a namespace has, and how long an entry lives by it."""

import pytest

from cachesvc.core.policy import Policy, PolicyBook, lifetime_ms

_DEFAULT = Policy()
_PATTERNS = ("*", "support-*", "support-??", "support-de", "s*-de", "a?c", "ab*")
_BOOK = PolicyBook(_DEFAULT, {pattern: Policy(ttl_ms=n) for n, pattern in enumerate(_PATTERNS)})


@pytest.mark.parametrize(
    ("namespace", "pattern"),
    [
        pytest.param("support-de", "support-de", id="its own name"),
        pytest.param("support-fr", "support-*", id="the first of patterns as specific"),
        pytest.param("support-fra", "support-*", id="the longer one does not match"),
        pytest.param("sales-de", "s*-de", id="literals at both ends"),
        pytest.param("other", "*", id="everything"),
        pytest.param("Support-de", "*", id="case counts"),
        pytest.param("abc", "a?c", id="as specific: configured first"),
    ],
)
def test_the_most_specific_policy_is_used(namespace: str, pattern: str) -> None:
    """An exact name, then most literal characters, then the order of configuration."""
    assert _BOOK.of(namespace) is _BOOK.by_pattern[pattern]


def test_patterns_name_no_namespace() -> None:
    """The default and exact names do."""
    assert _BOOK.named == {"default", "support-de"}


@pytest.mark.parametrize(
    "book",
    [
        pytest.param(PolicyBook(_DEFAULT, {}), id="no patterns"),
        pytest.param(PolicyBook(_DEFAULT, {"support-*": Policy(ttl_ms=1)}), id="none matches"),
    ],
)
def test_a_namespace_without_a_policy_has_the_default(book: PolicyBook) -> None:
    """What no pattern names is served by the default."""
    assert book.of("other") is _DEFAULT


@pytest.mark.parametrize(
    ("asked_ms", "lives_ms"),
    [
        pytest.param(None, 100, id="the policy's"),
        pytest.param(50, 50, id="shorter"),
        pytest.param(200, 200, id="longer than the default"),
        pytest.param(1000, 1000, id="the maximum"),
        pytest.param(1001, 1000, id="capped"),
        pytest.param(0, 0, id="nothing"),
    ],
)
def test_lifetime(asked_ms: int | None, lives_ms: int) -> None:
    """An entry lives as long as was asked, never longer than the policy's maximum."""
    assert lifetime_ms(Policy(ttl_ms=100, max_ttl_ms=1000), asked_ms) == lives_ms


def test_the_maximum_caps_the_policys_own_lifetime() -> None:
    """A default lifetime above the maximum is cut too."""
    assert lifetime_ms(Policy(ttl_ms=5000, max_ttl_ms=1000), None) == 1000
