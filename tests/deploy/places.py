"""Where what is tested is."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "cachesvc"
DASHBOARD = DEPLOY / "grafana" / "cachesvc.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
ALERT_TESTS = DEPLOY / "prometheus" / "alerts_test.yaml"
RUNBOOK = ROOT / "docs" / "operations.md"
# Metrics that are not ours and are told of all the same.
PROCESS = frozenset({"process_start_time_seconds", "process_resident_memory_bytes"})
