"""What deploy/ ships: rendered, validated, and its metrics, settings and exit codes held against the code."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from prometheus_client import CollectorRegistry

import cachesvc
from cachesvc import cli
from cachesvc.cli_common import EXIT_CODES, MISS, UNREACHABLE, WRONG_INPUT
from cachesvc.core.errors import Kind
from cachesvc.observe.metrics import MetricsObserver, catalogue
from cachesvc.serve.errors import CODES
from cachesvc.settings import Settings, is_live, keys, load
from cachesvc.v1 import cache_pb2
from tests.conftest import Running

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "cachesvc"
KUBERNETES = "1.37"
PROCESS = {"process_start_time_seconds", "process_resident_memory_bytes", "up"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus)"
)
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed (Debian's package systemd)",
)


def manifests(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


def render(**values: Any) -> list[dict[str, Any]]:
    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(values=values, name="demo")
    return [one for path, text in rendered.items() if path.endswith(".yaml") for one in manifests(text)]


def validate(document: dict[str, Any]) -> None:
    if document["apiVersion"].startswith("monitoring.coreos.com"):
        return  # custom resources: their schemas are not Kubernetes's
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


VALUES = [
    pytest.param({}, id="defaults"),
    pytest.param({"persistence": {"enabled": False}}, id="emptyDir"),
    pytest.param({"persistence": {"existingClaim": "mine"}}, id="existing claim"),
    pytest.param({"networkPolicy": {"enabled": False}}, id="no policy"),
    pytest.param(
        {
            "serviceMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "podAnnotations": {"a": "b"},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "k", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "imagePullSecrets": [{"name": "s"}],
            "image": {"digest": "sha256:" + 64 * "0"},
            "networkPolicy": {"egress": [{"ports": [{"port": 4317}]}]},
            "config": {"telemetry": {"otlp_endpoint": "http://otel:4317"}},
            "terminationGracePeriodSeconds": 3_000_000,
        },
        id="everything",
    ),
]


@pytest.mark.parametrize("values", VALUES)
def test_the_chart_renders_to_what_kubernetes_takes(values: dict[str, Any]) -> None:
    """Strictly validated, every manifest; the pod is as locked down as it can be."""
    documents = render(**values)
    for document in documents:
        validate(document)
    (deployment,) = (one for one in documents if one["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert_locked_down(pod)
    assert_runs_ours(pod["containers"][0])
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("name", ["sidecar.yaml", "shared.yaml", "maintenance.yaml"])
def test_the_manifests_are_what_kubernetes_takes(name: str) -> None:
    """Strictly validated, each container locked down, and of this version."""
    documents = manifests((DEPLOY / "kubernetes" / name).read_text())
    for document in documents:
        validate(document)
    (main,) = (one for one in documents if one["kind"] in ("Deployment", "Pod"))
    pod = main["spec"]["template"]["spec"] if main["kind"] == "Deployment" else main["spec"]
    assert_locked_down(pod)
    assert_runs_ours(pod["initContainers" if name == "sidecar.yaml" else "containers"][0])


def assert_locked_down(pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def assert_runs_ours(container: dict[str, Any]) -> None:
    """The image of this version as the user it has, and every command in it goes by the mounted file."""
    assert container["image"].partition("@")[0] == f"cachesvc:{cachesvc.__version__}"
    assert container["securityContext"]["runAsUser"] == container["securityContext"]["runAsGroup"] == 10001
    assert {"name": "CACHESVC_CONFIG", "value": "/etc/cachesvc/cachesvc.toml"} in container["env"]
    assert "/etc/cachesvc" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_pods_wait_longer_than_the_server_drains() -> None:
    """Its two gRPC ports drain one after the other, and then the store is closed."""
    drained_s = 2 * load(None).server.drain_s
    assert deployment_of(render())["terminationGracePeriodSeconds"] >= drained_s + 10
    for name in ("sidecar.yaml", "shared.yaml"):
        pod = deployment_of(manifests((DEPLOY / "kubernetes" / name).read_text()))
        assert pod["terminationGracePeriodSeconds"] >= drained_s + 10
    unit = (DEPLOY / "systemd" / "cachesvc.service").read_text()
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(stop_s) >= drained_s + 10


def deployment_of(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The pod of the one Deployment."""
    (deployment,) = (one for one in documents if one["kind"] == "Deployment")
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def test_the_application_does_not_wait_for_its_sidecar() -> None:
    """A native sidecar whose probe nothing but restarts it, asks inside the pod, and reads no configuration."""
    pod = deployment_of(manifests((DEPLOY / "kubernetes" / "sidecar.yaml").read_text()))
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert {"startupProbe", "readinessProbe"}.isdisjoint(sidecar)
    assert sidecar["livenessProbe"]["exec"]["command"][:3] == ["cachesvc", "health", "--server"]


UMBRELLA = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: application
spec:
  selector: {matchLabels: {app: application}}
  template:
    metadata:
      labels: {app: application}
      annotations: {checksum/cachesvc: {{ include "cachesvc.startOnly" .Subcharts.cachesvc }}}
    spec:
      initContainers:
        {{- include "cachesvc.sidecar" .Subcharts.cachesvc | nindent 8 }}
      containers:
        - {name: application, image: "example/application:1.0.0"}
      volumes:
        {{- include "cachesvc.sidecarVolumes" .Subcharts.cachesvc | nindent 8 }}
"""


def test_the_chart_puts_its_sidecar_into_another_chart_s_pod(tmp_path: Path) -> None:
    """As _helpers.tpl says; the container is that of sidecar.yaml, and all else that is made is its configuration."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "deployment.yaml").write_text(UMBRELLA)
    (tmp_path / "Chart.yaml").write_text(
        "{apiVersion: v2, name: umbrella, version: 1.0.0, dependencies: [{name: cachesvc, version: 0.1.0}]}"
    )
    shutil.copytree(CHART, tmp_path / "charts" / "cachesvc")
    resources = {"requests": {"cpu": "250m", "memory": "384Mi"}, "limits": {"memory": "1Gi"}}
    values = {"cachesvc": {"mode": "sidecar", "resources": resources, "persistence": {"size": "5Gi"}}}
    with helm_python.Chart.load(tmp_path) as chart:
        rendered = chart.render(values=values, name="demo")
    documents = [one for path, text in rendered.items() if path.endswith(".yaml") for one in manifests(text)]
    for document in documents:
        validate(document)
    assert sorted(one["kind"] for one in documents) == ["ConfigMap", "Deployment"]
    ours = deployment_of(documents)
    theirs = deployment_of(manifests((DEPLOY / "kubernetes" / "sidecar.yaml").read_text()))
    without = {"imagePullPolicy"}
    (container,) = ours["initContainers"]
    assert {key: value for key, value in container.items() if key not in without} == theirs["initContainers"][
        0
    ]
    config = next(one for one in documents if one["kind"] == "ConfigMap")
    assert ours["volumes"] == [
        theirs["volumes"][0],
        {"name": "cachesvc-config", "configMap": {"name": "demo-cachesvc"}},
    ]
    assert config["metadata"]["name"] == "demo-cachesvc"
    file = tmp_path / "cachesvc.toml"
    file.write_text(config["data"]["cachesvc.toml"])
    assert load(file).server.listen == "127.0.0.1:50051"


def own_settings() -> Iterator[tuple[str, str, object]]:
    """The settings that the chart leaves to the operator, but for policies, each with a value that is not the default."""
    sections = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]["properties"]
    defaults = Settings().redacted()
    for section, its in sections.items():
        for name, schema in its.get("properties", {}).items():
            choices = schema.get("enum", [True, False] if schema["type"] == "boolean" else ["127.0.0.1:1"])
            choices = [schema["maximum"], schema.get("minimum", 1)] if "maximum" in schema else choices
            yield section, name, next(choice for choice in choices if choice != defaults[section][name])


@pytest.mark.parametrize(("section", "name", "value"), list(own_settings()))
def test_a_changed_setting_restarts_the_pod_when_it_takes_a_restart(
    section: str, name: str, value: object
) -> None:
    """And only then: live settings reach the running server."""

    def template(config: dict[str, Any]) -> object:
        documents = render(
            config=config, networkPolicy={"enabled": False}, terminationGracePeriodSeconds=3600
        )
        (deployment,) = (one for one in documents if one["kind"] == "Deployment")
        return deployment["spec"]["template"]

    assert (template({}) != template({section: {name: value}})) == (not is_live(f"{section}.{name}"))


def test_a_typo_in_a_manifest_is_caught() -> None:
    """The validation is strict: a field that does not exist is an error."""
    (deployment,) = (one for one in render() if one["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(deployment)


@pytest.mark.parametrize(
    "wrong",
    [
        {"persistance": {"enabled": True}},
        {"image": {"repository": ""}},
        {"persistence": {"size": "20"}},
        {"terminationGracePeriodSeconds": 1},
        {"config": {"server": {"listen": "127.0.0.1:1"}}},
        {"config": {"store": {"path": "/tmp"}}},
        {"networkPolicy": {"clientLabels": {"a": 1}}},
        {"serviceMonitor": {"interval": "often"}},
        {"mode": "daemon"},
        {"image": {"digest": "latest"}},
        {"networkPolicy": {"monitoringNamespace": ""}},
        {"config": {"srver": {"threads": 8}}},
        {"config": {"server": {"thread": 8}}},
        {"config": {"server": {"threads": 0}}},
        {"config": {"store": {"eviction": "random"}}},
        {"config": {"policy": {"support-*": {"min_score": 2}}}},
    ],
    ids=str,
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    """The schema names what cannot be: misspelt keys, bad sizes, settings that the chart decides."""
    with helm_python.Chart.load(CHART) as chart, pytest.raises(helm_python.HelmError):
        chart.validate_schema(chart.merge_values(wrong))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param(
            {"config": {"server": {"drain_s": 30}}}, "terminationGracePeriodSeconds", id="drains too long"
        ),
        pytest.param(
            {"config": {"telemetry": {"otlp_endpoint": "http://otel:4317"}}},
            "networkPolicy.egress",
            id="a collector that cannot be reached",
        ),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(values: dict[str, Any], said: str) -> None:
    """At the rendering, naming the value, and not in production."""
    with pytest.raises(helm_python.HelmError, match=said):
        render(**values)


def test_the_notes_say_what_is_so() -> None:
    """Who may call, what is lost, and a command with the names of this release."""

    def notes(**values: Any) -> str:
        with helm_python.Chart.load(CHART) as chart:
            rendered = chart.render(values=values, name="demo")
        return str(next(text for path, text in rendered.items() if path.endswith("NOTES.txt")))

    assert "exec deployment/demo-cachesvc -- cachesvc stats" in notes()
    assert '{"cachesvc-client":"true"}' in notes()
    assert "networkPolicy.enabled is false" in notes(networkPolicy={"enabled": False})
    assert "lost with the pod" in notes(persistence={"enabled": False})
    assert "cachesvc.sidecar" in notes(mode="sidecar")


def test_helm_lints_the_chart() -> None:
    """Without an error or a warning."""
    report = helm_python.lint(CHART, strict=True)
    assert [one for one in report["messages"] if one["severity"] >= 2] == []
    assert report["errors"] in ([], None)


def test_every_configuration_that_is_shipped_loads(tmp_path: Path) -> None:
    """The chart's and the manifests' configuration files are what the server takes."""
    documents = [
        *render(),
        *manifests((DEPLOY / "kubernetes" / "sidecar.yaml").read_text()),
        *manifests((DEPLOY / "kubernetes" / "shared.yaml").read_text()),
    ]
    texts = [one["data"]["cachesvc.toml"] for one in documents if one["kind"] == "ConfigMap"]
    texts.append((DEPLOY / "systemd" / "cachesvc.toml").read_text())
    assert len(texts) == 4
    for text in texts:
        file = tmp_path / "cachesvc.toml"
        file.write_text(text)
        assert load(file).store.path == Path("/var/lib/cachesvc/store")


def test_the_chart_s_alerts_are_the_alerts() -> None:
    """A chart can only read its own files: the copy in it is the same."""
    assert (CHART / "files" / "alerts.yaml").read_text() == (
        DEPLOY / "prometheus" / "alerts.yaml"
    ).read_text()


def test_the_dockerfile_is_clean() -> None:
    """hadolint finds nothing; the last stage has neither torch nor root."""
    file = DEPLOY / "docker" / "Dockerfile"
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run([hadolint, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout
    last = file.read_text().rpartition("\nFROM ")[2]
    assert "torch" not in last
    assert "/opt/cachesvc/bin/pip install '.[otel]'" in file.read_text()  # telemetry.otlp_endpoint needs it
    assert "USER 10001:10001" in last


@needs_systemd
def test_the_unit_is_what_systemd_takes(tmp_path: Path) -> None:
    """It verifies but for the program, which is not here, and its exposure is low."""
    unit = DEPLOY / "systemd" / "cachesvc.service"
    text = unit.read_text().replace("/opt/cachesvc/bin/cachesvc", shutil.which("true") or "/bin/true")
    copy = tmp_path / "cachesvc.service"
    copy.write_text(text)
    run = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(copy)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert security.returncode == 0, security.stdout[-500:]
    prevented = re.search(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)
    assert prevented is not None
    # what the metrics of the process, and the engine's choice of instructions, are read from
    assert "ProcSubset" not in text
    hopeless = {EXIT_CODES[kind] for kind in (Kind.INVALID, Kind.LOCKED, Kind.CORRUPT, Kind.REFUSED)}
    assert {int(code) for code in prevented[1].split()} == hopeless


# ----------------------------------------------------------------- monitoring


def queries() -> list[str]:
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    dashboard = json.loads((DEPLOY / "grafana" / "cachesvc.json").read_text())
    return [rule["expr"] for group in alerts["groups"] for rule in group["rules"]] + [
        target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
    ]


def test_every_metric_that_is_asked_for_exists() -> None:
    """Alerts and dashboard name metrics of the code, and labels that those have."""
    known = {doc.name: set(doc.labels) for doc in catalogue()}
    for query in queries():
        for name in re.findall(r"\b(?:cachesvc|process)_[a-z_]+|\bup\b", query):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert base in known or base in PROCESS, f"{name} in {query}"
        for name, labels in re.findall(r"\b(cachesvc_[a-z_]+)\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)\s*[=!]~?", labels))
            assert used <= known[re.sub(r"_(bucket|sum|count)$", "", name)] | {"job", "instance"}, query


@pytest.mark.parametrize("maker", ["grafana/make_dashboard.py", "helm/make_schema.py"])
def test_what_is_made_is_what_its_maker_makes(maker: str) -> None:
    """Edited by hand it would be lost; make fix makes it anew."""
    command = [sys.executable, str(DEPLOY / maker), "--check"]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_every_alert_is_in_the_runbook() -> None:
    """Each has its heading, and the runbook has no alert that does not exist."""
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    names = {rule["alert"] for group in alerts["groups"] for rule in group["rules"]}
    runbook = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"^### (Cachesvc\w+)$", runbook, re.MULTILINE)) == names
    for group in alerts["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")


def test_every_metric_is_in_the_runbook() -> None:
    """Each has its line, with something to do; no line is of a metric that does not exist."""
    runbook = (ROOT / "docs" / "operations.md").read_text().partition("\n## Metrics\n")[2]
    lines = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", runbook.partition("\n## ")[0], re.MULTILINE))
    documented = {name for name in lines if not name.startswith("process_")}
    assert documented == {doc.name for doc in catalogue()}
    assert lines.keys() - documented == PROCESS - {"up"}


def test_every_exit_code_is_in_the_runbook_and_in_the_help() -> None:
    """None is missing, and those of signals aside none is made up."""
    runbook = (
        (ROOT / "docs" / "operations.md").read_text().partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    )
    listed = {
        int(code)
        for cell in re.findall(r"^\| ([0-9, ]+) \|", runbook, re.MULTILINE)
        for code in cell.split(",")
    }
    used = {0, MISS, WRONG_INPUT, UNREACHABLE, *EXIT_CODES.values()}
    assert listed == used | {137, 143}
    told = re.findall(r"(?:: |; )(\d+) ", cli.__doc__.partition("Exit codes")[2].replace("\n", " "))
    assert {int(code) for code in told} == used


def test_the_runbook_names_what_exists() -> None:
    """Every command and every setting of it, and of the deployment's page, is one."""
    commands = {command.name or command.callback.__name__.replace("_", "-") for command in cli.app.registered_commands
                if command.callback is not None}  # fmt: skip
    sections = {key.partition(".")[0] for key in keys()}
    for page in (ROOT / "docs" / "operations.md", DEPLOY / "README.md"):
        text = page.read_text()
        for command in re.findall(r"(?:`|-- |bin/)cachesvc ([a-z][a-z-]*)", text):
            assert command in commands, f"{command} in {page.name}"
        for name in re.findall(r"`([a-z]+\.[a-z_]+)\b(?!\.)", text):
            if (
                name.partition(".")[0] in sections
                and name != "server.lock"
                and not name.startswith("policy.")
            ):
                assert name in set(keys()), f"{name} in {page.name}"


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    """And each says of all alerts whether they fire."""
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yaml").read_text())["tests"]
    expected = {test["name"]: test["promql_expr_test"] for test in tests if "name" in test}
    names = [rule["alert"] for group in alerts["groups"] for rule in group["rules"]]
    assert sorted(expected) == sorted([f"{name} {what}" for name in names for what in ("fires", "is silent")])
    for name, (asked,) in expected.items():
        assert asked["expr"] == 'count by (alertname) (ALERTS{alertstate="firing"})'
        fires = [f'{{alertname="{name.removesuffix(" fires")}"}}'] if name.endswith(" fires") else []
        assert [sample["labels"] for sample in asked["exp_samples"]] == fires


def test_every_label_value_that_is_asked_for_exists() -> None:
    """An outcome, a reason or a code that was renamed would make an alert that never fires."""
    registry = CollectorRegistry()
    MetricsObserver(registry, "", 0)
    values: dict[str, set[str]] = {"code": {code.name for code in CODES.values()}}
    values["method"] = {
        method.name for method in cache_pb2.DESCRIPTOR.services_by_name["CacheService"].methods
    }
    for metric in registry.collect():
        for sample in metric.samples:
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    values["job"] = {"cachesvc"}
    for query in queries():
        for label, wanted in re.findall(r'(\w+)=~?"([^"]*)"', query):
            for one in wanted.split("|"):
                assert any(re.fullmatch(one, value) for value in values[label]), f"{label}={one} in {query}"


@needs_promtool
def test_promtool_takes_the_alerts_and_their_tests_pass() -> None:
    """check rules, and the unit tests of the rules."""
    for arguments in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        run = subprocess.run(
            ["promtool", *arguments],
            cwd=DEPLOY / "prometheus",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture
def prometheus(server: Running, tmp_path: Path) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """A real Prometheus that scrapes a real server each second; gives what a query answers."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian's package prometheus)")
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: ['{DEPLOY}/prometheus/alerts.yaml']\n"
        f"scrape_configs: [{{job_name: cachesvc, static_configs: [{{targets: ['{server.app.admin_address}']}}]}}]\n"
    )
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path}/tsdb",
        "--web.listen-address=127.0.0.1:0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        listening = (re.search(r"Listening on.* address=(\S+)", line) for line in process.stderr)
        found = next((match for match in listening if match is not None), None)
        assert found is not None, "it ended"
        address = found[1]
        drain = threading.Thread(target=process.stderr.read)  # else it waits for whoever reads its log
        drain.start()

        def ask(query: str) -> list[dict[str, Any]]:
            url = f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": query})
            with urllib.request.urlopen(url, timeout=10) as reply:
                answer: list[dict[str, Any]] = json.load(reply)["data"]["result"]
            return answer

        yield ask
        process.terminate()
        process.wait(20)
        drain.join()


def test_a_real_prometheus_answers_every_query(
    server: Running, prometheus: Callable[[str], list[dict[str, Any]]]
) -> None:
    """With a little load the target is up, every panel of the dashboard has data, every metric of an alert a series, and
    nothing is pending or fires.
    """
    dashboard = json.loads((DEPLOY / "grafana" / "cachesvc.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerted = {name for query in queries() for name in re.findall(r"\b(?:cachesvc|process)_[a-z_]+", query)}
    failing_only = (
        "cachesvc_task_errors_total"  # begins with the first failure of housekeeping, and there is none
    )
    waited_for = [
        'up{job="cachesvc"} == 1',
        *(query.replace("$__rate_interval", "10s") for query in panels if failing_only not in query),
        *alerted - {failing_only},
    ]
    with cachesvc.Client(server.app.address, timeout_s=5.0) as client:
        until_s = time.monotonic() + 60
        while waited_for and time.monotonic() < until_s:
            client.store("an answer", "a question", input_tokens=3, output_tokens=4, cost_usd=0.1)
            client.lookup("a question", journey="j")
            client.lookup("A question, is it?", journey="j")
            client.lookup("a question", namespace="Not a namespace")
            waited_for = [query for query in waited_for if not prometheus(query)]
            time.sleep(0.3)  # for the next scrape: another program's clock
    assert waited_for == []
    assert prometheus("ALERTS") == []
