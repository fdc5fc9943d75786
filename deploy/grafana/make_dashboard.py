"""Makes cachesvc.json, the Grafana dashboard: ``python deploy/grafana/make_dashboard.py [--check]``.

Panels are rows of a table here; the tests check that every metric named exists.
"""

import json
import sys
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("cachesvc.json")
_RATE = "$__rate_interval"

# title, unit, and what is drawn: (legend, query)
PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Hit rate",
        "percentunit",
        (
            (
                "{{instance}}",
                (
                    f'sum by (instance) (rate(cachesvc_lookups_total{{outcome=~"hit_.*"}}[{_RATE}])) '
                    f"/ sum by (instance) (rate(cachesvc_lookups_total[{_RATE}]))"
                ),
            ),
        ),
    ),
    (
        "Lookups by outcome",
        "reqps",
        (("{{outcome}}", f"sum by (outcome) (rate(cachesvc_lookups_total[{_RATE}])) > 0"),),
    ),
    (
        "Money saved per hour",
        "currencyUSD",
        (("saved", f"sum(rate(cachesvc_saved_cost_usd_total[{_RATE}])) * 3600"),),
    ),
    ("Tokens saved", "short", (("{{type}}", f"sum by (type) (rate(cachesvc_saved_tokens_total[{_RATE}]))"),)),
    (
        "Lookup time",
        "s",
        tuple(
            (
                f"p{quantile * 100:g} {{{{tier}}}}",
                f"histogram_quantile({quantile}, sum by (tier, le) (rate(cachesvc_lookup_duration_seconds_bucket[{_RATE}])))",
            )
            for quantile in (0.5, 0.99)
        ),
    ),
    (
        "Stages, p99",
        "s",
        (
            (
                "{{stage}}",
                f"histogram_quantile(0.99, sum by (stage, le) (rate(cachesvc_lookup_stage_seconds_bucket[{_RATE}])))",
            ),
        ),
    ),
    ("Stores", "reqps", (("{{tier}}", f"sum by (tier) (rate(cachesvc_stores_total[{_RATE}]))"),)),
    (
        "Store time, p99",
        "s",
        (
            (
                "p99",
                f"histogram_quantile(0.99, sum by (le) (rate(cachesvc_store_duration_seconds_bucket[{_RATE}])))",
            ),
        ),
    ),
    ("Entries", "short", (("{{instance}}", "cachesvc_entries"),)),
    (
        "Store size",
        "bytes",
        (("{{instance}} used", "cachesvc_store_bytes"), ("{{instance}} bound", "cachesvc_store_max_bytes")),
    ),
    (
        "Entries removed",
        "ops",
        (("{{reason}}", f"sum by (reason) (rate(cachesvc_entries_removed_total[{_RATE}]))"),),
    ),
    (
        "Errors",
        "reqps",
        (("{{method}} {{code}}", f"sum by (method, code) (rate(cachesvc_call_errors_total[{_RATE}]))"),),
    ),
    ("Indexes in memory", "bytes", (("{{instance}}", "cachesvc_index_bytes"),)),
    (
        "Scopes",
        "short",
        (
            ("{{instance}} in memory", "cachesvc_index_scopes"),
            ("{{instance}} loads/s", f"rate(cachesvc_index_scope_loads_total[{_RATE}])"),
            ("{{instance}} unloads/s", f"rate(cachesvc_index_scope_unloads_total[{_RATE}])"),
        ),
    ),
    (
        "Health",
        "short",
        (
            ("{{instance}} ready", "cachesvc_ready"),
            ("{{instance}} embedder", "cachesvc_embedder_healthy"),
            ("{{instance}} configuration", "cachesvc_config_last_reload_ok"),
            ("{{instance}} stuck threads", "cachesvc_embedder_stuck_threads"),
        ),
    ),
    (
        "Housekeeping errors and snapshots",
        "ops",
        (
            ("{{task}}", f"sum by (task) (rate(cachesvc_task_errors_total[{_RATE}]))"),
            ("snapshot {{result}}", f"sum by (result) (rate(cachesvc_index_snapshots_total[{_RATE}]))"),
        ),
    ),
    ("Memory of the process", "bytes", (("{{instance}}", 'process_resident_memory_bytes{job="cachesvc"}'),)),
    (
        "False hits of audits, with 95 % confidence",
        "percentunit",
        tuple(
            (f"{{{{namespace}}}} {legend}", f"max by (namespace) ({name})")
            for legend, name in (
                ("rate", "cachesvc_false_hit_rate"),
                ("low", "cachesvc_false_hit_rate_low"),
                ("high", "cachesvc_false_hit_rate_high"),
                ("target", "cachesvc_false_hit_rate_target"),
            )
        ),
    ),
    (
        "Rules and brakes",
        "short",
        (
            ("{{namespace}} threshold", "max by (namespace) (cachesvc_rule_threshold)"),
            ("{{namespace}} brake (2: exact only)", "max by (namespace) (cachesvc_brake)"),
        ),
    ),
    (
        "Labels",
        "ops",
        (
            (
                "{{origin}} {{result}}",
                f"sum by (origin, result) (rate(cachesvc_labels_total[{_RATE}]))",
            ),
            ("dropped {{reason}}", f"sum by (reason) (rate(cachesvc_labels_dropped_total[{_RATE}]))"),
        ),
    ),
    (
        "Feedback",
        "ops",
        (
            ("{{verdict}}", f"sum by (verdict) (rate(cachesvc_feedback_total[{_RATE}]))"),
            ("vetoes", f"sum(rate(cachesvc_vetoes_total[{_RATE}]))"),
            ("quarantines", f"sum(rate(cachesvc_quarantines_total[{_RATE}]))"),
        ),
    ),
    (
        "Journeys",
        "reqps",
        (
            (
                "{{journey}} {{result}}",
                f"sum by (journey, result) (rate(cachesvc_journey_lookups_total[{_RATE}]))",
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "title": "cachesvc",
        "uid": "cachesvc",
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [_panel(n, *panel) for n, panel in enumerate(PANELS)],
    }


def _panel(number: int, title: str, unit: str, targets: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number + 1,
        "title": title,
        "type": "timeseries",
        "datasource": source,
        "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": source, "expr": query, "legendFormat": legend}
            for n, (legend, query) in enumerate(targets)
        ],
    }


def main() -> int:
    """See the module."""
    text = json.dumps(dashboard(), indent=2) + "\n"
    if sys.argv[1:] == ["--check"]:
        return int(_FILE.read_text() != text)
    _FILE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
