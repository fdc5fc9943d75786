"""Alerts and dashboard: made of metrics that exist, tried with promtool and by a real Prometheus."""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

import cachesvc
from cachesvc.observe.metrics import MetricsObserver, catalogue
from cachesvc.serve.errors import CODES
from cachesvc.v1 import cache_pb2
from tests.conftest import Running
from tests.deploy.places import ALERT_TESTS, ALERTS, DASHBOARD, PROCESS

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package prometheus)"
)


def queries() -> list[str]:
    alerts = yaml.safe_load(ALERTS.read_text())
    dashboard = json.loads(DASHBOARD.read_text())
    return [rule["expr"] for group in alerts["groups"] for rule in group["rules"]] + [
        target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
    ]


def test_every_metric_that_is_asked_for_exists() -> None:
    """Alerts and dashboard name metrics of the code, and labels that those have."""
    known = {doc.name: set(doc.labels) for doc in catalogue()}
    for query in queries():
        for name in re.findall(r"\b(?:cachesvc|process)_[a-z_]+|\bup\b", query):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert base in known or base in PROCESS | {"up"}, f"{name} in {query}"
        for name, labels in re.findall(r"\b(cachesvc_[a-z_]+)\{([^}]*)\}", query):
            used = set(re.findall(r"(\w+)\s*[=!]~?", labels))
            assert used <= known[re.sub(r"_(bucket|sum|count)$", "", name)] | {"job", "instance"}, query


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    """And each says of all alerts whether they fire."""
    alerts = yaml.safe_load(ALERTS.read_text())
    tests = yaml.safe_load(ALERT_TESTS.read_text())["tests"]
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


@pytest.mark.slow
@needs_promtool
def test_promtool_takes_the_alerts_and_their_tests_pass() -> None:
    """check rules, and the unit tests of the rules."""
    for arguments in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        run = subprocess.run(
            ["promtool", *arguments],
            cwd=ALERTS.parent,
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
        f"rule_files: ['{ALERTS}']\n"
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


@pytest.mark.slow
def test_a_real_prometheus_answers_every_query(
    server: Running, prometheus: Callable[[str], list[dict[str, Any]]]
) -> None:
    """With a little load the target is up, every panel of the dashboard has data, every metric of an alert a series, and
    nothing fires. (A busy machine may make an alert pending.)
    """
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerted = {name for query in queries() for name in re.findall(r"\b(?:cachesvc|process)_[a-z_]+", query)}
    # These begin with the first failure of housekeeping, and with the first audit, and there is neither.
    not_yet = re.compile(r"cachesvc_(task_errors_total|false_hit_rate(_low|_high)?)\b")
    waited_for = [
        'up{job="cachesvc"} == 1',
        *(query.replace("$__rate_interval", "10s") for query in panels if not not_yet.search(query)),
        # A server of one process has none of workers: those are looked at in tests/workers.
        *(name for name in alerted if not name.startswith("cachesvc_worker") and not not_yet.fullmatch(name)),
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
    assert prometheus('ALERTS{alertstate="firing"}') == []
