"""The manifests and the chart: rendered, strictly validated, and their settings held against the code."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

import cachesvc
from cachesvc.settings import Settings, is_live, load
from tests.deploy.places import ALERTS, CHART, DEPLOY

KUBERNETES = "1.37"


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
    delayed = {"cachesvc": {**values["cachesvc"], "sidecar": {"initialDelaySeconds": 120}}}
    with helm_python.Chart.load(tmp_path) as chart:
        rendered = chart.render(values=values, name="demo")
        patient = chart.render(values=delayed, name="demo")
    assert "initialDelaySeconds: 120" in "".join(patient.values())
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
        {"sidecar": {"initialDelaySeconds": "2m"}},
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
    assert (CHART / "files" / "alerts.yaml").read_text() == ALERTS.read_text()


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus)"
)
def test_the_chart_s_rules_are_what_prometheus_takes(tmp_path: Path) -> None:
    """As rendered into a PrometheusRule, with links to the runbook's address and the operator's labels."""
    settings = {
        "enabled": True,
        "labels": {"release": "monitoring"},
        "runbook": "https://wiki.example/cachesvc",
    }
    (rule,) = (one for one in render(prometheusRule=settings) if one["kind"] == "PrometheusRule")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    run = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert rule["metadata"]["labels"]["release"] == "monitoring"
    for alert in rule["spec"]["groups"][0]["rules"]:
        assert alert["annotations"]["runbook_url"].startswith("https://wiki.example/cachesvc#")
