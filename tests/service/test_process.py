"""The command line and the server process, as an operator uses them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import cachesvc
from cachesvc.adapters.engine_cache import find_engine
from cachesvc.cli_common import EXIT_CODES
from cachesvc.core.errors import Kind
from cachesvc.core.types import Outcome, Removal
from cachesvc.settings_sections import EmbedderSettings
from tests.conftest import Running
from tests.waiting import until

CLI = [sys.executable, "-m", "cachesvc.cli"]
PROMPT = "How do I reset my password?"


def run(
    *arguments: str | bytes, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration of a server process that runs while this module's tests do."""
    directory = tmp_path_factory.mktemp("server")
    config = directory / "config.toml"
    config.write_text(
        f'[server]\nlisten = "unix:{directory}/server.sock"\nreflection = true\n'
        f'[admin]\nlisten = "127.0.0.1:0"\nrpc_listen = "127.0.0.1:0"\n[store]\npath = "{directory}/store"\n'
    )
    with (directory / "log").open("w") as log:
        process = subprocess.Popen([*CLI, "serve", "--config", str(config)], stderr=log)
    admin = wait_for_serving(process, directory / "log")
    config.write_text(config.read_text().replace("127.0.0.1:0", admin))
    yield config
    process.terminate()
    assert process.wait(30) == 0


def wait_for_serving(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """The address of the admin port, once the log says that calls are answered."""

    def admin() -> str | None:
        assert process.poll() is None, log.read_text()
        events = map(json.loads, log.read_text().splitlines())
        return next((str(event["admin"]) for event in events if event["event"] == "serving"), None)

    return until(admin, 60, told=log.read_text)


def test_a_day_at_the_command_line(config: Path) -> None:
    """lookup, store, get, delete and stats do what they say, with the exit codes that are documented."""
    common = ["--config", str(config), "--namespace", "cli"]
    assert run("lookup", PROMPT, *common).returncode == 1
    stored = run("store", PROMPT, "Click *forgot*.", *common, "--tag", "help", "--vary", "t=0", "--json")
    assert stored.returncode == 0, stored.stderr
    entry_id = json.loads(stored.stdout)["entry_id"]

    hit = run("lookup", "-", *common, "--vary", "t=0", stdin=PROMPT)
    assert (hit.returncode, hit.stdout) == (0, "Click *forgot*.")
    shown = json.loads(run("lookup", PROMPT[:-1], *common, "--vary", "t=0", "--json").stdout)
    assert (shown["outcome"], shown["entry"]["tags"]) == ("HIT_SEMANTIC", ["help"])
    assert run("lookup", PROMPT, *common, "--vary", "t=1").returncode == 1
    assert run("get", entry_id, *common).stdout == "Click *forgot*."
    assert json.loads(run("get", entry_id, *common, "--json").stdout)["prompt"] == PROMPT

    stats = json.loads(run("metrics", "--config", str(config), "--json").stdout)
    assert stats["cachesvc_entries"] == 1
    assert stats["cachesvc_lookups_total{outcome=hit_exact}"] == 1

    assert run("delete", entry_id, *common).returncode == 0
    assert run("delete", entry_id, *common).returncode == 1
    assert run("get", entry_id, *common).returncode == 1


def test_response_from_a_file(config: Path, tmp_path: Path) -> None:
    """@FILE stores a file's bytes, and get gives them back."""
    file = tmp_path / "answer.bin"
    file.write_bytes(b"bytes of a file")
    stored = run("store", "What is in the file?", f"@{file}", "--config", str(config))
    assert run("get", stored.stdout.strip(), "--config", str(config)).stdout == "bytes of a file"
    missing = run("store", "What is in the file?", "@/does/not/exist", "--config", str(config))
    assert missing.returncode == 2
    assert "/does/not/exist" in missing.stderr


def test_an_answer_of_any_bytes(config: Path) -> None:
    """What is typed is stored as it is, and need not be text; a prompt from standard input must be."""
    stored = run("store", "What is no text?", b"a\xffb", "--config", str(config)).stdout.strip()
    got = subprocess.run(
        [*CLI, "get", stored, "--config", str(config)], capture_output=True, timeout=60, check=True
    )
    assert got.stdout == b"a\xffb"
    told = ["feedback", "wrong", "--entry", stored, "--prompt", "-", "--config", str(config)]
    refused = subprocess.run([*CLI, *told], input=b"\xff", capture_output=True, timeout=60, check=False)
    assert (refused.returncode, b"must be UTF-8" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["lookup", "hello", "--namespace", "No"], 2, "namespace", id="bad-namespace"),
        pytest.param(["lookup", ""], 2, "prompt", id="blank-prompt"),
        pytest.param(["lookup", "x", "--vary", "novalue"], 2, "KEY=VALUE", id="bad-vary"),
        pytest.param(["get", "zz"], 2, "id", id="bad-id"),
        pytest.param(["store", "x", ""], 2, "response", id="empty-response"),
        pytest.param(["explain", b"a\xff"], 2, "must be UTF-8", id="no-text"),
        pytest.param(
            ["feedback", "wrong", "--entry", "0" * 16, "--prompt", b"\xff"],
            2,
            "must be UTF-8",
            id="no-text-told",
        ),
        pytest.param(["nonsense"], 2, "No such command", id="no-such-command"),
    ],
)
def test_wrong_input(config: Path, arguments: list[str | bytes], code: int, message: str) -> None:
    """Wrong input exits 2 and says what is wrong, without a traceback."""
    options = [] if arguments == ["nonsense"] else ["--config", str(config)]
    result = run(*arguments, *options)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_that_refuses(refusing: str) -> None:
    """A server that is too busy, or whose disk is full, is not the caller's mistake: exit 4."""
    for arguments in (["lookup", "x"], ["store", "x", "y"], ["get", "0" * 16]):
        assert run(*arguments, "--server", refusing).returncode == 4


def test_unreachable_server(tmp_path: Path) -> None:
    """Without a server every command that needs one exits 4."""
    socket = f"unix:{tmp_path}/none.sock"
    for arguments in (["lookup", "x"], ["store", "x", "y"], ["get", "0" * 16], ["delete", "0" * 16]):
        assert run(*arguments, "--server", socket).returncode == 4
    assert run("metrics", "--admin", "127.0.0.1:1").returncode == 4
    assert run("metrics", "--admin", "nonsense").returncode == 2


def test_config_commands(tmp_path: Path) -> None:
    """init-config writes a file that check-config accepts, and does not overwrite one; mistakes exit 3."""
    file = tmp_path / "config.toml"
    assert run("init-config", str(file)).returncode == 0
    assert run("check-config", "--config", str(file)).returncode == 0
    assert run("init-config", str(file)).returncode == 2
    file.write_text("[server]\nthreads = 0")
    wrong = run("check-config", "--config", str(file))
    assert (wrong.returncode, "server.threads" in wrong.stderr) == (3, True)
    assert run("check-config", env={"CACHESVC_SERVER__THREADS": "x"}).returncode == 3
    assert run("serve", env={"CACHESVC_CONFIG": str(file)}).returncode == 3


def test_compile_model_finds_what_is_compiled() -> None:
    """compile-model prints the directory of the engine."""
    result = run("compile-model")
    assert result.returncode == 0, result.stderr
    assert (Path(result.stdout.strip()) / "model.onnx").is_file()


def test_model_that_cannot_be_had(tmp_path: Path) -> None:
    """A model that is nowhere exits 4 and says so; without compile_on_start it names the command."""
    environment = {"CACHESVC_EMBEDDER__MODEL": str(tmp_path / "none"), "HF_HUB_OFFLINE": "1"}
    result = run("compile-model", env=environment)
    assert (result.returncode, "Traceback" in result.stderr) == (4, False)
    environment["CACHESVC_EMBEDDER__COMPILE_ON_START"] = "false"
    result = run("serve", env=environment)
    assert result.returncode == 4
    assert "cachesvc compile-model" in result.stderr


def test_engine_cache_that_cannot_be_written() -> None:
    """An engine cache directory that cannot be made exits 4 and names the setting."""
    result = run("compile-model", env={"CACHESVC_EMBEDDER__CACHE_DIR": "/proc/nowhere"})
    assert (result.returncode, "embedder.cache_dir" in result.stderr) == (4, True)


@pytest.mark.slow
def test_help_is_worth_reading() -> None:
    """Every command has a help text, and the top one lists the exit codes."""
    top = run("--help").stdout
    assert "Exit codes" in top
    for command in re.findall(r"^│ ([a-z-]+)  ", top, re.MULTILINE):
        assert len(run(command, "--help").stdout) > 300, command
    assert run("version").stdout.strip() == cachesvc.__version__
    assert set(EXIT_CODES) == set(Kind)


def test_imports_stay_light() -> None:
    """Importing the package imports nothing heavy, and serving needs neither torch nor transformers."""
    code = "import sys, cachesvc; print(sorted(m for m in sys.modules if m.partition('.')[0] in %r))"
    heavy = {"grpc", "numpy", "faiss", "onnxruntime", "lmdb", "pydantic", "typer"}
    result = subprocess.run(
        [sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
    code = code.replace("cachesvc;", "cachesvc.app; from cachesvc.settings import Settings as S;") + (
        "\nfrom cachesvc.making import make_embedder; e = make_embedder(S().embedder, print); e.embed('hi', 1)"
        "\nprint(sorted(m for m in sys.modules if m.partition('.')[0] in %r))"
    )
    torch = {"torch", "transformers", "sentence_transformers"}
    result = subprocess.run(
        [sys.executable, "-c", code % (torch, torch)], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.split() == ["[]", "[]"]


def test_the_engine_reports_to_nobody(tmp_path: Path) -> None:
    """onnxruntime's telemetry is off: it leaves no device id and no queue of events in the home directory."""
    suppressed = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY")  # else there is nothing to see
    environment = {name: value for name, value in os.environ.items() if name not in suppressed}
    engine = engine_directory()
    code = (
        "from cachesvc.making import make_embedder; from cachesvc.settings_sections import EmbedderSettings as S;"
        f"make_embedder(S(model={str(engine)!r}), print).embed('hello', 5.0)"
    )
    subprocess.run(
        [sys.executable, "-c", code], env={**environment, "HOME": str(tmp_path)}, check=True, timeout=60
    )
    assert list(tmp_path.rglob("*")) == []
    # one door: whoever imports it elsewhere could be first
    package = Path(cachesvc.__file__).parent
    imports = re.compile(r"^\s*import onnxruntime\b", re.MULTILINE)
    assert [file.name for file in package.rglob("*.py") if imports.search(file.read_text())] == [
        "onnx_runtime.py"
    ]


def engine_directory() -> Path:
    """Where the default model's engine is."""
    settings = EmbedderSettings()
    engine = find_engine(settings.model, settings.precision, settings.cache_dir.expanduser())
    assert engine is not None
    return engine.path


def test_admin_pages(server: Running) -> None:
    """/healthz and /readyz say yes while serving, /config shows settings, labels exist at 0 from the start."""

    def page(path: str) -> str:
        with urlopen(f"http://{server.app.admin_address}{path}", timeout=10) as response:
            return str(response.read().decode())

    assert json.loads(page("/healthz")) == {"alive": True}
    assert json.loads(page("/readyz"))["ready"] is True
    assert list(json.loads(page("/config"))["policy"]) == ["default"]
    metrics = page("/metrics")
    for outcome in Outcome:
        assert f'cachesvc_lookups_total{{outcome="{outcome.label}"}} 0.0' in metrics
    for why in Removal:
        assert f'cachesvc_entries_removed_total{{reason="{why.value}"}} 0.0' in metrics
    with pytest.raises(HTTPError, match="404"):
        page("/secrets")


def test_a_store_that_takes_no_writes_is_told_everywhere(server: Running) -> None:
    """gRPC health, which probes ask, /readyz and /healthz say no; who watched gRPC health is told at the next probe."""
    health = health_pb2_grpc.HealthStub(server.channel)
    asked = health_pb2.HealthCheckRequest(service="cachesvc.v1.CacheService")
    watch = health.Watch(asked, timeout=30.0)
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert next(watch).status == serving
    assert health.Check(asked, timeout=10.0).status == serving

    server.app._store._writer.close()  # as after a disk that failed

    assert health.Check(asked, timeout=10.0).status == not_serving
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=10.0).status == not_serving
    assert next(watch).status == not_serving
    watch.cancel()
    for page in ("/healthz", "/readyz"):
        with pytest.raises(HTTPError, match="503"):
            urlopen(f"http://{server.app.admin_address}{page}", timeout=10)


def test_journeys_are_counted_and_bounded(start: Callable[..., Running]) -> None:
    """Hits are counted by journey; journeys beyond the bound are one."""
    server = start(metrics={"max_journeys": 2})
    with cachesvc.Client(server.app.address, timeout_s=5.0) as client:
        client.store("answer", PROMPT, input_tokens=10, output_tokens=20, cost_usd=0.5)
        for journey in ("a", "a", "b", "c", "d"):
            client.lookup(PROMPT, journey=journey)
    with urlopen(f"http://{server.app.admin_address}/metrics", timeout=10) as response:
        metrics = response.read().decode()
    for journey, count in (("a", 2.0), ("b", 1.0), ("other", 2.0)):
        assert f'cachesvc_journey_lookups_total{{journey="{journey}",result="hit"}} {count}' in metrics
    assert 'cachesvc_saved_tokens_total{type="output"} 100.0' in metrics
    assert "cachesvc_saved_cost_usd_total 2.5" in metrics


def test_signal_during_start_up(tmp_path: Path) -> None:
    """SIGTERM between taking the store and answering calls ends the server with 0, too."""
    environment = {
        **os.environ,
        "CACHESVC_STORE__PATH": str(tmp_path / "store"),
        "CACHESVC_SERVER__LISTEN": f"unix:{tmp_path}/s.sock",
        "CACHESVC_ADMIN__LISTEN": "127.0.0.1:0",
        "CACHESVC_ADMIN__RPC_LISTEN": "127.0.0.1:0",
    }
    process = subprocess.Popen([*CLI, "serve"], env=environment, stderr=subprocess.DEVNULL)
    until((tmp_path / "store" / "server.lock").exists, 60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_log_that_cannot_be_written(tmp_path: Path) -> None:
    """With the log's disk full the server serves, and SIGTERM still ends it with 0."""
    config = tmp_path / "config.toml"
    config.write_text(
        f'[server]\nlisten = "unix:{tmp_path}/s.sock"\n[admin]\nlisten = "127.0.0.1:0"\nrpc_listen = "127.0.0.1:0"\n'
        f'[store]\npath = "{tmp_path}/store"\n'
    )
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen([*CLI, "serve", "--config", str(config)], stderr=full)
    with cachesvc.Client(f"unix:{tmp_path}/s.sock", timeout_s=5.0) as client:
        until(lambda: client.lookup(PROMPT).outcome == "MISS_EMPTY", 60)
    process.terminate()
    assert process.wait(30) == 0


def test_a_store_moved_aside_is_told(
    start: Callable[..., Running], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With store.on_corruption = quarantine the server serves; its log and a metric say what it began with."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(b"garbage " * 2048)
    server = start(store={"on_corruption": "quarantine"})
    with urlopen(f"http://{server.app.admin_address}/metrics") as page:
        assert "cachesvc_store_moved_aside 1.0" in page.read().decode()
    lines = [line for line in capsys.readouterr().err.splitlines() if "store_moved_aside" in line]
    assert [json.loads(line)["path"] for line in lines] == [str(tmp_path / "store" / "data.mdb.corrupt")]


def test_trust_moved_aside_is_told(
    start: Callable[..., Running], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damaged labels and vetoes do not keep the server from starting; its log and a metric say that they are gone."""
    start().app.stop()
    (data,) = (tmp_path / "store" / "trust").glob("*/data.mdb")
    data.write_bytes(b"garbage " * 2048)
    server = start()
    with urlopen(f"http://{server.app.admin_address}/metrics") as page:
        assert "cachesvc_trust_moved_aside 1.0" in page.read().decode()
    lines = [line for line in capsys.readouterr().err.splitlines() if "trust_moved_aside" in line]
    assert [json.loads(line)["path"] for line in lines] == [f"{data}.corrupt"]
