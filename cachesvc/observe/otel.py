"""Traces and metrics over OTLP/gRPC, an extra. Nothing global is set, and nothing here waits for a collector.

A span for each lookup and store that is sampled, made from its event once it is over; the spans of a
lookup's stages are its children. Spans go through a bounded queue to a thread that sends them; when the
collector is slow they are dropped. Metrics are those of the Prometheus registry, read at an interval: so
their names, labels and meanings are listed once. Never a prompt or a response: events hold none.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Collected
from prometheus_client.samples import Sample

from cachesvc.core.events import CallFailed, Event, LookupDone, StoreDone
from cachesvc.core.ports import Clock
from cachesvc.core.types import Outcome

_QUEUE_LENGTH = 2048
_BATCH_LENGTH = 256
_STOP_MS = 2000
_STAGES = ("identity", "exact", "embed", "search", "fetch", "decide")
_TIERS = {Outcome.HIT_EXACT: "exact", Outcome.HIT_SEMANTIC: "semantic"}


@dataclass(frozen=True, slots=True)
class OtelOptions:
    """Where and what to send; see the ``telemetry`` settings. ``instance`` is which of several this one is."""

    otlp_endpoint: str
    service_name: str
    sample_ratio: float
    metrics_interval_s: float
    timeout_s: float
    instance: str = ""


class OtelObserver:
    """``Observer`` that traces, and a thread that sends metrics. ``stop`` takes two seconds at most for each."""

    def __init__(
        self,
        options: OtelOptions,
        version: str,
        registry: CollectorRegistry,
        flush: Callable[[], None],
        clock: Clock,
    ) -> None:
        """``flush`` brings the registry up to date."""
        self._clock = clock
        service = {"service.name": options.service_name, "service.version": version}
        instance = {"service.instance.id": options.instance} if options.instance else {}
        resource = Resource({**service, **instance})
        self._provider = TracerProvider(
            resource=resource,
            sampler=ParentBased(TraceIdRatioBased(options.sample_ratio)),
            shutdown_on_exit=False,
        )
        spans = OTLPSpanExporter(endpoint=options.otlp_endpoint, insecure=True, timeout=options.timeout_s)
        self._spans = BatchSpanProcessor(
            spans, max_queue_size=_QUEUE_LENGTH, max_export_batch_size=_BATCH_LENGTH
        )
        self._provider.add_span_processor(self._spans)
        self._tracer = self._provider.get_tracer("cachesvc", version)
        self._propagator = TraceContextTextMapPropagator()
        self._metrics = _MetricsSender(options, resource, version, registry, flush, clock)

    def on(self, event: Event) -> None:
        """See ``Observer.on``."""
        match event:
            case LookupDone():
                self._on_lookup(event)
            case StoreDone():
                attributes: dict[str, AttributeValue] = {
                    "rpc.method": "Store",
                    "cachesvc.namespace": event.namespace,
                    "cachesvc.journey": event.journey,
                    "cachesvc.tier": "semantic" if event.semantic else "exact",
                    "cachesvc.response.size": event.response_bytes,
                }
                self._span("cachesvc.store", event.trace, event.total_us, attributes)
            case CallFailed():
                attributes = {"rpc.method": event.method, "error.type": event.code}
                self._span("cachesvc.call", "", 0, attributes, failed=event.code)
            case _:
                pass  # the metrics tell of it

    def stop(self) -> None:
        """Send what is queued if that is quick, and end the threads."""
        self._metrics.stop()
        ender = threading.Thread(target=self._provider.shutdown, name="cachesvc-otel-stop", daemon=True)
        ender.start()  # a collector that hangs would keep it for as long as the exporter tries again
        ender.join(_STOP_MS / 1000)

    def _on_lookup(self, event: LookupDone) -> None:
        outcome = event.outcome
        attributes: dict[str, AttributeValue] = {
            "rpc.method": "Lookup",
            "gen_ai.request.model": event.model,
            "cachesvc.namespace": event.namespace,
            "cachesvc.journey": event.journey,
            "cachesvc.outcome": outcome.label,
            "cachesvc.cache.status": "hit" if outcome.is_hit else outcome.label.partition("_")[0],
            "cachesvc.tier": _TIERS.get(outcome, "none"),
            "cachesvc.lookup_id": event.lookup_id,
        }
        if event.score is not None:
            attributes["cachesvc.similarity"] = event.score
        if event.confidence is not None:
            attributes["cachesvc.confidence"] = event.confidence
        if event.gate is not None:
            attributes["cachesvc.gate"] = event.gate.label
        if outcome.is_hit:
            attributes["cachesvc.saved_cost_usd"] = event.saved_cost_usd
        stages = {stage: getattr(event.timings, f"{stage}_us") for stage in _STAGES}
        self._span("cachesvc.lookup", event.trace, event.timings.total_us, attributes, stages=stages)

    def _span(
        self,
        name: str,
        trace: str,
        took_us: int,
        attributes: dict[str, AttributeValue],
        *,
        failed: str = "",
        stages: Mapping[str, int] | None = None,
    ) -> None:
        context = self._propagator.extract({"traceparent": trace}, Context()) if trace else Context()
        ended_ns = self._clock.now_ms() * 1_000_000
        started_ns = ended_ns - took_us * 1000
        attributes = {"rpc.system.name": "grpc", **attributes}
        span = self._tracer.start_span(
            name,
            context,
            SpanKind.SERVER,
            {k: v for k, v in attributes.items() if v != ""},
            start_time=started_ns,
        )
        if span.is_recording():
            if failed:
                span.set_status(Status(StatusCode.ERROR, failed))
            _stage_spans(self._tracer, set_span_in_context(span, Context()), started_ns, stages or {})
        span.end(ended_ns)


def _stage_spans(tracer: Tracer, parent: Context, at_ns: int, stages: Mapping[str, int]) -> None:
    for stage, took_us in stages.items():
        if took_us:
            span = tracer.start_span(f"cachesvc.{stage}", parent, SpanKind.INTERNAL, start_time=at_ns)
            at_ns += took_us * 1000
            span.end(at_ns)


class _MetricsSender:
    """Sends what the Prometheus registry holds, at an interval, on a thread of its own."""

    def __init__(
        self,
        options: OtelOptions,
        resource: Resource,
        version: str,
        registry: CollectorRegistry,
        flush: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._exporter = OTLPMetricExporter(
            endpoint=options.otlp_endpoint, insecure=True, timeout=options.timeout_s
        )
        self._resource = resource
        self._scope = InstrumentationScope("cachesvc", version)
        self._registry = registry
        self._flush = flush
        self._clock = clock
        self._interval_s = options.metrics_interval_s
        self._started_ns = clock.now_ms() * 1_000_000
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachesvc-otel", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._exporter.shutdown(timeout_millis=_STOP_MS)
        self._thread.join(_STOP_MS / 1000)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._flush()
            self._exporter.export(self._data())  # it logs what fails, and does not raise

    def _data(self) -> MetricsData:
        now_ns = self._clock.now_ms() * 1_000_000
        metrics = [
            metric
            for collected in self._registry.collect()
            for metric in _converted(collected, self._started_ns, now_ns)
        ]
        scopes = [ScopeMetrics(self._scope, metrics, "")]
        return MetricsData([ResourceMetrics(self._resource, scopes, "")])


def _converted(collected: Collected, started_ns: int, now_ns: int) -> Iterator[Metric]:
    """A Prometheus metric as OTLP has it, under the name that it has there."""
    match collected.type:
        case "counter":
            points = [_point(s, started_ns, now_ns) for s in collected.samples if s.name.endswith("_total")]
            total = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
            yield Metric(f"{collected.name}_total", collected.documentation, "1", total)
        case "histogram":
            points_of = list(_histogram_points(collected, started_ns, now_ns))
            data = Histogram(points_of, AggregationTemporality.CUMULATIVE)
            yield Metric(collected.name, collected.documentation, "s", data)
        case _:  # gauges, and info, which is one with labels
            points = [_point(s, started_ns, now_ns) for s in collected.samples]
            name = collected.samples[0].name if collected.samples else collected.name
            yield Metric(name, collected.documentation, "1", Gauge(points))


def _point(sample: Sample, started_ns: int, now_ns: int) -> NumberDataPoint:
    return NumberDataPoint(dict(sample.labels), started_ns, now_ns, sample.value)


def _histogram_points(collected: Collected, started_ns: int, now_ns: int) -> Iterator[HistogramDataPoint]:
    series: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for sample in collected.samples:
        labels = tuple(sorted((key, value) for key, value in sample.labels.items() if key != "le"))
        part = sample.labels.get("le", sample.name.rpartition("_")[2])
        series.setdefault(labels, {})[part] = sample.value
    for labels, parts in series.items():
        total = parts.pop("sum", 0.0)
        count = int(parts.pop("count", 0))
        parts.pop("created", None)
        bounds = sorted((bound for bound in parts if bound != "+Inf"), key=float)
        cumulative = [int(parts[bound]) for bound in bounds] + [count]
        counts = [after - before for before, after in zip([0, *cumulative], cumulative, strict=False)]
        yield HistogramDataPoint(
            dict(labels), started_ns, now_ns, count, total, counts, [float(b) for b in bounds], 0.0, 0.0
        )
