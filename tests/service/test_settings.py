"""Settings: one wrong file per mistake with its message, inheritance, environment, and the written file."""

import re
from pathlib import Path

import pytest

from cachesvc.core.errors import CacheError, Kind
from cachesvc.settings import Settings, keys, load
from cachesvc.settings_policy import PolicySettings
from cachesvc.settings_text import config_file

WRONG_FILES = [
    pytest.param("[server]\nlisten = 'x'", "server.listen: must be host:port", id="address-without-port"),
    pytest.param(
        "[server]\nlisten = '127.0.0.1:70000'", "server.listen: must be host:port", id="port-too-large"
    ),
    pytest.param("[server]\nlisten = 'unix:'", "server.listen: must name a socket", id="socket-without-name"),
    pytest.param("[admin]\nlisten = 'unix:/x'", "admin.listen: must be host:port", id="admin-on-a-socket"),
    pytest.param(
        "[server]\nlisten = '0.0.0.0:1'",
        "server.listen 0.0.0.0:1 can be reached from other machines",
        id="open-bind",
    ),
    pytest.param(
        "[admin]\nlisten = '10.0.0.1:1'",
        "admin.listen 10.0.0.1:1 can be reached from other machines",
        id="open-admin",
    ),
    pytest.param(
        "[server]\nlissten = 'a:1'", "server.lissten: is not a setting; did you mean server.listen?", id="key"
    ),
    pytest.param(
        "[trust]\nmax_error_rate = 0.01",
        "trust.max_error_rate: is not a setting; did you mean policy.default.max_error_rate?",
        id="of another section",
    ),
    pytest.param(
        "[policy.shop.trust]\nmax_queue = 10",
        "policy.shop.trust: is not a setting; did you mean trust?",
        id="nested",
    ),
    pytest.param("[sever]\n", "sever: is not a setting; did you mean server?", id="section"),
    pytest.param("x = 1", "x: is not a setting", id="key-outside-a-section"),
    pytest.param("[server]\nthreads = 'many'", "server.threads: input should be a valid integer", id="type"),
    pytest.param(
        "[server]\nthreads = 0", "server.threads: input should be greater than or equal to 1, got 0", id="low"
    ),
    pytest.param(
        "[server]\nthreads = 100000", "server.threads: input should be less than or equal to", id="high"
    ),
    pytest.param(
        "[server]\nreflection = 'perhaps'", "server.reflection: input should be a valid boolean", id="bool"
    ),
    pytest.param(
        "[store]\ndurability = 'none'", "store.durability: input should be 'sync' or 'async'", id="choice"
    ),
    pytest.param(
        "[store]\nmax_bytes = 10_000_000\nmap_size_bytes = 12_000_000",
        "store: map_size_bytes must be at least twice max_bytes (20000000)",
        id="map-smaller-than-content",
    ),
    pytest.param(
        "[store]\nlow_watermark = 0.96",
        "store: low_watermark must not be above high_watermark",
        id="watermarks-crossed",
    ),
    pytest.param(
        "[embedder]\nmodel = ''", "embedder.model: string should have at least 1 character", id="empty"
    ),
    pytest.param(
        "[policy.default]\nmin_score = 1.5", "policy.default.min_score: input should be less", id="score-high"
    ),
    pytest.param(
        "[policy.default]\nmin_score = nan", "policy.default.min_score: input should be a finite", id="nan"
    ),
    pytest.param(
        "[policy.default]\nttl_s = 0", "policy.default.ttl_s: input should be greater than 0", id="ttl-zero"
    ),
    pytest.param(
        "[policy.'a-*']\nmin_scor = 0.9",
        "policy.a-*.min_scor: is not a setting; did you mean policy.a-*.min_score?",
        id="key-in-a-pattern",
    ),
    pytest.param("[policy.'Ab']\n", "policy.'Ab' is not a namespace or pattern", id="pattern"),
    pytest.param(
        "[policy]\ndefault = 3", "policy.default: input should be a valid dictionary", id="policy-a-number"
    ),
    pytest.param("[limits]\nbatch_items = -1", "limits.batch_items: input should be greater", id="negative"),
    pytest.param("[log]\nlevel = 'loud'", "log.level: input should be 'debug', 'info'", id="log-level"),
    pytest.param(
        "[policy.default]\nmax_ttl_s = 60", "policy.default.ttl_s 86400.0 is above", id="ttl-above-maximum"
    ),
    pytest.param(
        "[policy.default]\nmax_audit_share = 0",
        "policy.default.audit_share 0.01 is above its max_audit_share 0",
        id="audits-above-maximum",
    ),
    pytest.param(
        "[policy.default]\nverify_min_score = 0.8",
        "policy.default.verify_min_score 0.8 asks for a second opinion, and there is nobody to give it: set verifier.kind",
        id="second-opinion-of-nobody",
    ),
    pytest.param(
        "[verifier]\nkind = 'http'\nurl = 'http://judge:80'\n[policy.default]\nmin_score = 0.9\nverify_min_score = 0.9",
        "policy.default.verify_min_score 0.9 leaves no score for a second opinion: it must be below its min_score 0.9",
        id="second-opinion-of-nothing",
    ),
    pytest.param(
        "[limits]\nresponse_bytes = 60_000_000",
        "does not fit server.max_message_bytes",
        id="response-above-message",
    ),
    pytest.param(
        "[server]\nthreads = true", "server.threads: must not be true or false", id="true-as-number"
    ),
    pytest.param(
        "[server]\nworkers = 2\nlisten = 'unix:/x'",
        "server: workers 2 cannot share the socket unix:/x",
        id="workers-on-a-socket",
    ),
    pytest.param(
        "[server]\nworkers = 2\n[embedder]\nengine = 'sentence-transformers'",
        "server.workers 2 takes embedder.engine = 'onnx'",
        id="workers-with-torch",
    ),
    pytest.param("[store]\npath = ''", "store.path: must name a directory", id="empty-path"),
    pytest.param('[store]\npath = "a\\u0000b"', "store.path: must name a directory", id="nul-in-a-path"),
    pytest.param("_env_file = '/etc/hosts'", "_env_file: is not a setting", id="option-of-the-reader"),
    pytest.param("[server\n", "is not TOML", id="not-toml"),
    pytest.param("x = " + "[" * 10_000, "is not TOML: maximum recursion depth", id="endless-brackets"),
    pytest.param("[server]\nthreads = " + "9" * 5000, "is not TOML: Exceeds the limit", id="endless-number"),
    pytest.param("[server]\nthreads = 1\nthreads = 2", "is not TOML", id="key-twice"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_FILES)
def test_wrong_file(tmp_path: Path, text: str, message: str) -> None:
    """A mistake is refused with the path of the setting and what would be right."""
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(CacheError) as caught:
        load(file)
    assert caught.value.kind is Kind.INVALID
    assert message in caught.value.message


def test_every_mistake_is_named(tmp_path: Path) -> None:
    """Several mistakes come in one message, each with its path."""
    file = tmp_path / "config.toml"
    file.write_text("[server]\nthreads = 0\nlissten = 1\n[index]\nmax_bytes = 'x'")
    with pytest.raises(CacheError) as caught:
        load(file)
    assert {violation.field for violation in caught.value.violations} == {
        "server.threads",
        "server.lissten",
        "index.max_bytes",
    }


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "not-utf8"])
def test_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    """A file that cannot be read is named."""
    file = tmp_path / "config.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CacheError, match=r"config\.toml"):
        load(file)


def test_environment_goes_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable changes one setting and leaves its neighbours to the file."""
    file = tmp_path / "config.toml"
    file.write_text("[server]\nthreads = 3\ndrain_s = 2.0\n[policy.default]\nttl_s = 5.0")
    monkeypatch.setenv("CACHESVC_SERVER__THREADS", "4")
    monkeypatch.setenv("CACHESVC_POLICY__DEFAULT__MIN_SCORE", "0.99")
    settings = load(file)
    assert (settings.server.threads, settings.server.drain_s) == (4, 2.0)
    default = settings.policy_book().of("any")
    assert (default.min_score, default.ttl_ms) == (0.99, 5000)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("CACHESVC_SERVER__LISTN", "did you mean CACHESVC_SERVER__LISTEN?", id="misspelt"),
        pytest.param("CACHESVC_NONSENSE", "is not a setting", id="unknown"),
        pytest.param("CACHESVC_SERVER", 'parsing value for field "server"', id="no-json"),
        pytest.param("CACHESVC_PORT", "is not a setting", id="a port that is no service link"),
        pytest.param("CACHESVC_SERVER__PORT_1_TCP", "is not a setting", id="nested, so no service link"),
    ],
)
def test_wrong_variable(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    """A variable with our prefix that sets nothing, or a section to what is no JSON, is refused."""
    monkeypatch.setenv(name, "{1")
    with pytest.raises(CacheError) as caught:
        load(None)
    assert message in caught.value.message


@pytest.mark.parametrize("service", ["CACHESVC", "CACHESVC_EU"])
def test_kubernetes_service_links_are_not_taken_for_settings(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """For a Service named cachesvc Kubernetes sets variables that begin as ours do: the server starts."""
    links = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "50051",
        "SERVICE_PORT_GRPC": "50051",
        "PORT": "tcp://10.0.0.1:50051",
        "PORT_50051_TCP": "tcp://10.0.0.1:50051",
        "PORT_50051_TCP_PROTO": "tcp",
        "PORT_50051_TCP_PORT": "50051",
        "PORT_50051_TCP_ADDR": "10.0.0.1",
    }
    for name, value in links.items():
        monkeypatch.setenv(f"{service}_{name}", value)
    assert load(None) == Settings()


def test_policies_inherit_and_the_most_specific_counts(tmp_path: Path) -> None:
    """What a policy leaves out comes from default; a name goes before a pattern, a longer pattern before a shorter."""
    file = tmp_path / "config.toml"
    file.write_text(
        "[policy.default]\nmin_score = 0.9\nttl_s = 60.0\n"
        "[policy.'support-*']\nmin_score = 0.97\n"
        "[policy.'support-eu-*']\nsemantic = false\n"
        "[policy.'support-eu-1']\nmode = 'off'\n"
    )
    book = load(file).policy_book()
    assert (book.of("other").min_score, book.of("other").ttl_ms) == (0.9, 60_000)
    assert (book.of("support-us").min_score, book.of("support-us").ttl_ms) == (0.97, 60_000)
    assert (book.of("support-eu-2").semantic, book.of("support-eu-2").min_score) == (False, 0.9)
    assert (book.of("support-eu-1").enabled, book.of("support-eu-1").semantic) == (False, True)


@pytest.mark.parametrize(
    ("policy", "target"),
    [
        pytest.param({}, 0.05, id="nothing said"),
        pytest.param({"max_error_rate": 0.001}, 0.05, id="few errors"),
        pytest.param({"max_error_rate": 0.01}, 0.1, id="more of few hits"),
        pytest.param({"max_error_rate": 0.2}, 0.5, id="never most of them"),
        pytest.param({"max_error_rate": 0.01, "max_false_hit_rate": 0.02}, 0.02, id="as said"),
    ],
)
def test_the_brake_does_not_work_against_the_error_rate(policy: dict[str, float], target: float) -> None:
    """Few hits may be wrong more often than many, for as many errors per request; what is said counts."""
    assert PolicySettings(**policy).policy().trust.max_false_hit_rate == pytest.approx(target)


def test_written_file_is_the_defaults(tmp_path: Path) -> None:
    """What init-config writes loads as the defaults and shows every setting."""
    file = tmp_path / "config.toml"
    file.write_text(config_file())
    loaded, default = load(file), Settings()
    assert loaded.policy_book() == default.policy_book()
    assert loaded.model_dump(exclude={"policy"}) == default.model_dump(exclude={"policy"})
    assert all(re.search(rf"^(# )?{key.rpartition('.')[2]} =", config_file(), re.MULTILINE) for key in keys())


def test_settings_are_frozen() -> None:
    """Nobody changes settings once they are loaded."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().server.threads = 5  # type: ignore[misc]  # the mistake under test
