"""OpenTelemetry against a real collector: spans with their caller's trace, metrics, and what happens without one."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

from cachesvc.v1 import cache_pb2 as pb
from tests.conftest import Running

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CANARY = "zyzzyva-prompt-that-nobody-else-hears"
WAIT_S = 20.0


class Collector(trace_grpc.TraceServiceServicer, metrics_grpc.MetricsServiceServicer):  # type: ignore[misc]  # no types
    """What an OpenTelemetry collector receives over OTLP/gRPC, on a real socket."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.raw = b""
        self.changed = threading.Condition()
        self.gate = threading.Event()
        self.gate.set()
        self._server = grpc.server(ThreadPoolExecutor(4))
        trace_grpc.add_TraceServiceServicer_to_server(self, self._server)
        metrics_grpc.add_MetricsServiceServicer_to_server(self, self._server)
        self.address = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - the protocol's name
        self.gate.wait(WAIT_S)
        with self.changed:
            self.raw += request.SerializeToString()
            if isinstance(request, trace_pb.ExportTraceServiceRequest):
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        self.spans += scope.spans
                self.changed.notify_all()
                return trace_pb.ExportTraceServiceResponse()
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    self.metrics.update({metric.name: metric for metric in scope.metrics})
            self.changed.notify_all()
            return metrics_pb.ExportMetricsServiceResponse()

    def wait(self, condition: Callable[[], Any]) -> Any:
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S), "it was not received"
            return condition()

    def span(self, name: str) -> Any:
        return self.wait(lambda: next((span for span in self.spans if span.name == name), None))

    def stop(self) -> None:
        self.gate.set()
        self._server.stop(0)


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


def telemetry(address: str, **more: Any) -> dict[str, Any]:
    return {
        "otlp_endpoint": address,
        "sample_ratio": 1.0,
        "metrics_interval_s": 0.2,
        "timeout_s": 2.0,
        **more,
    }


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are sent soon, not after five seconds: OpenTelemetry's own setting."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def traceparent(flags: str = "01") -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{TRACE}-{PARENT}-{flags}"),)


def test_calls_are_spans_of_their_callers_traces(start: Callable[..., Running], collector: Collector) -> None:
    """A lookup and a store are spans in the caller's trace, stages below them, told by attributes, no text."""
    server = start(telemetry=telemetry(collector.address))
    prompt = f"How do I say {CANARY}?"
    server.stub.Store(
        pb.StoreRequest(prompt=prompt, response=CANARY.encode(), model="m", cost_usd=0.5),
        timeout=10,
        metadata=traceparent(),
    )
    server.stub.Lookup(
        pb.LookupRequest(prompt=prompt, model="m", journey="j"), timeout=10, metadata=traceparent()
    )
    with pytest.raises(grpc.RpcError):
        server.stub.Lookup(pb.LookupRequest(prompt=""), timeout=10)
    lookup, store, failed = (collector.span(f"cachesvc.{name}") for name in ("lookup", "store", "call"))
    for span in (lookup, store):
        assert span.trace_id.hex() == TRACE
        assert span.parent_span_id.hex() == PARENT
    told = attributes(lookup)
    expected = {
        "rpc.system.name": "grpc",
        "rpc.method": "Lookup",
        "gen_ai.request.model": "m",
        "cachesvc.namespace": "default",
        "cachesvc.journey": "j",
        "cachesvc.outcome": "hit_exact",
        "cachesvc.cache.status": "hit",
        "cachesvc.tier": "exact",
        "cachesvc.similarity": 1.0,
        "cachesvc.saved_cost_usd": 0.5,
    }
    assert {key: told.get(key) for key in expected} == expected
    stage = collector.span("cachesvc.exact")
    assert stage.parent_span_id == lookup.span_id
    assert lookup.start_time_unix_nano <= stage.start_time_unix_nano
    assert attributes(store)["cachesvc.tier"] == "semantic"
    assert (failed.status.code, attributes(failed)["error.type"]) == (2, "INVALID_ARGUMENT")
    collector.wait(lambda: "cachesvc_lookups_total" in collector.metrics)
    assert CANARY.encode() not in collector.raw


def test_metrics_are_those_of_the_registry(start: Callable[..., Running], collector: Collector) -> None:
    """Counters, histograms and gauges arrive under their Prometheus names with their values."""
    server = start(telemetry=telemetry(collector.address))
    server.stub.Store(pb.StoreRequest(prompt="q", response=b"r"), timeout=10)
    for _ in range(3):
        server.stub.Lookup(pb.LookupRequest(prompt="q"), timeout=10)

    def hits() -> float:
        metric = collector.metrics.get("cachesvc_lookups_total")
        points = [] if metric is None else metric.sum.data_points
        of_hits = [p.as_double for p in points if p.attributes[0].value.string_value == "hit_exact"]
        return float(sum(of_hits))

    collector.wait(lambda: hits() == 3)
    assert collector.metrics["cachesvc_lookups_total"].sum.is_monotonic
    histogram = collector.metrics["cachesvc_lookup_duration_seconds"].histogram
    exact = [point for point in histogram.data_points if point.attributes[0].value.string_value == "exact"]
    assert (exact[0].count, sum(exact[0].bucket_counts)) == (3, 3)
    assert len(exact[0].bucket_counts) == len(exact[0].explicit_bounds) + 1
    assert collector.metrics["cachesvc_entries"].gauge.data_points[0].as_double == 1


def test_what_is_not_sampled_is_not_sent(start: Callable[..., Running], collector: Collector) -> None:
    """With a share of none only callers' own sampled traces are followed."""
    server = start(telemetry=telemetry(collector.address, sample_ratio=0.0))
    for n in range(20):
        server.stub.Lookup(pb.LookupRequest(prompt=f"q{n}"), timeout=10)
    server.stub.Lookup(pb.LookupRequest(prompt="not"), timeout=10, metadata=traceparent("00"))
    server.stub.Lookup(pb.LookupRequest(prompt="sampled"), timeout=10, metadata=traceparent())
    collector.span("cachesvc.lookup")
    assert [span.trace_id.hex() for span in collector.spans if span.name == "cachesvc.lookup"] == [TRACE]


@pytest.mark.parametrize(
    "value", ["", "nonsense", "00-0-0-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "é"]
)
def test_a_wrong_traceparent_is_no_parent(
    start: Callable[..., Running], collector: Collector, value: str
) -> None:
    """The call is answered, and begins a trace of its own."""
    server = start(telemetry=telemetry(collector.address))
    metadata = (("traceparent", value),) if value.isascii() else (("traceparent-bin", value.encode()),)
    server.stub.Lookup(pb.LookupRequest(prompt="q"), timeout=10, metadata=metadata)
    span = collector.span("cachesvc.lookup")
    assert span.trace_id.hex() != TRACE
    assert span.parent_span_id == b""


@pytest.mark.parametrize("kind", ["hangs", "is not there"])
def test_a_collector_that_does_not_answer_costs_nothing(
    start: Callable[..., Running], collector: Collector, kind: str
) -> None:
    """Lookups go on as ever, and the server stops within bounds."""
    if kind == "hangs":
        collector.gate.clear()
        address = collector.address
    else:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    server = start(telemetry=telemetry(address))
    for n in range(50):
        reply = server.stub.Lookup(pb.LookupRequest(prompt=f"q{n}", exact_only=True), timeout=5)
        assert reply.outcome == pb.OUTCOME_MISS_EXACT_ONLY
    began_s = time.monotonic()
    server.app.stop()
    assert time.monotonic() - began_s < 15
    server.app._closing.pop_all()


def test_without_the_extra_the_start_says_what_to_install(tmp_path: Path) -> None:
    """An endpoint without the packages is an error at the start that names them."""
    config = tmp_path / "config.toml"
    config.write_text(
        f"[store]\npath = '{tmp_path}/s'\n[telemetry]\notlp_endpoint = 'http://127.0.0.1:4317'\n"
        "[server]\nlisten = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\nrpc_listen = '127.0.0.1:0'\n"
    )
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from cachesvc.cli import main\n"
        f"sys.argv = ['cachesvc', 'serve', '--config', {str(config)!r}]\n"
        "main()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env=os.environ
    )
    assert run.returncode == 4
    assert "pip install 'cachesvc[otel]'" in run.stderr
