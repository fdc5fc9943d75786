"""The metrics of a server of several processes: those of its workers added up, and those of the workers as such.

Counters and histograms of workers that have ended go on counting, so that none goes back when one is replaced; what a
killed worker counted in its last seconds is lost with it. Called by the supervisor.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

_ADDED = frozenset(("counter", "histogram"))
# Gauges that are of the store, or of the whole, are the same in all workers, or the most of them is meant.
_SUMS = frozenset(
    (
        *("cachesvc_index_bytes", "cachesvc_index_scopes", "cachesvc_embedder_stuck_threads"),
        *("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_open_fds"),
    )
)
_LEASTS = frozenset(
    (
        *("cachesvc_embedder_healthy", "cachesvc_config_last_reload_ok"),
        *("cachesvc_index_warmed_scopes", "cachesvc_index_warmed_rows"),
        *("process_start_time_seconds", "process_max_fds"),
    )
)
_CREATED = "_created"  # a counter's and a histogram's age, as OpenMetrics has it


@dataclass(frozen=True, slots=True)
class SampleKey:
    """Which value of a metric."""

    name: str
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MetricValues:
    """A metric of one process. ``kind`` is Prometheus' name of its type."""

    name: str
    help: str
    kind: str
    values: Mapping[SampleKey, float]


def values_of(metric: Metric) -> MetricValues:
    """As a registry collects it."""
    return MetricValues(
        metric.name,
        metric.documentation,
        metric.type,
        {SampleKey(sample.name, tuple(sample.labels.items())): sample.value for sample in metric.samples},
    )


class Merged(Collector):
    """What a scrape shows: all processes as one. ``own`` are the supervisor's metrics; ``refresh`` is called first, and
    has workers report. Thread-safe.
    """

    def __init__(self, own: CollectorRegistry, refresh: Callable[[], None]) -> None:
        self._own = own
        self._refresh = refresh
        self._lock = threading.Lock()
        self._past: dict[str, MetricValues] = {}
        self._living: dict[int, Sequence[MetricValues]] = {}

    def heard(self, number: int, metrics: Sequence[MetricValues]) -> None:
        """What a worker counts now."""
        with self._lock:
            self._living[number] = metrics

    def gone(self, number: int) -> None:
        """A worker has ended: what it counted stays."""
        with self._lock:
            _add(self._past, (one for one in self._living.pop(number, ()) if one.kind in _ADDED))

    def collect(self) -> Iterator[Metric]:
        """See ``prometheus_client.registry.Collector``."""
        self._refresh()
        merged: dict[str, MetricValues] = {}
        _add(merged, map(values_of, self._own.collect()))
        with self._lock:
            for metrics in (*self._living.values(), self._past.values()):
                _add(merged, metrics)
        for metric in merged.values():
            shown = Metric(metric.name, metric.help, metric.kind)
            for key, value in metric.values.items():
                shown.add_sample(key.name, dict(key.labels), value)
            yield shown


def _add(held: dict[str, MetricValues], metrics: Iterable[MetricValues]) -> None:
    for metric in metrics:
        before = held.get(metric.name)
        held[metric.name] = metric if before is None else _merge(before, metric)


def _merge(one: MetricValues, other: MetricValues) -> MetricValues:
    values = dict(one.values)
    for key, value in other.values.items():
        values[key] = _both(one, key, values[key], value) if key in values else value
    return MetricValues(one.name, one.help, one.kind, values)


def _both(metric: MetricValues, key: SampleKey, one: float, other: float) -> float:
    if key.name.endswith(_CREATED) or metric.name in _LEASTS:
        return min(one, other)
    return one + other if metric.kind in _ADDED or metric.name in _SUMS else max(one, other)


class CrewMetrics:
    """Of the workers as such."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._workers = Gauge(
            "cachesvc_workers", "server.workers, where they are more than one.", registry=registry
        )
        self._serving = Gauge(
            "cachesvc_workers_serving", "Workers that answer calls, of several.", registry=registry
        )
        self._restarts = Counter(
            "cachesvc_worker_restarts", "Workers that ended, each replaced by another.", registry=registry
        )

    def watch(self, count: int, serving: Callable[[], int], ready: Callable[[], bool]) -> None:
        """How many there are to be; and, read at each scrape, how many there are and whether any answers. Once."""
        self._workers.set(count)
        self._serving.set_function(serving)
        # Said here, too, for when there is no worker to say it.
        Gauge("cachesvc_ready", "1 while the service answers.", registry=self._registry).set_function(
            lambda: float(ready())
        )

    def restarted(self) -> None:
        """A worker ended that was not to."""
        self._restarts.inc()
