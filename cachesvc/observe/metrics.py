"""Prometheus metrics: the only module that names them. Never a prompt or a response.

The README's table is made from this module (``catalogue``), so it cannot drift.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import assert_never, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.metrics import MetricWrapperBase

from cachesvc.core.events import (
    CallFailed,
    ConfigRead,
    EmbedderChanged,
    EntriesRemoved,
    Event,
    FeedbackDone,
    IndexSettled,
    IndexWarmed,
    Labelled,
    LabelsDropped,
    LookupDone,
    Opinion,
    ScopesChanged,
    SnapshotDone,
    StoreDone,
    StoreMovedAside,
    TaskFailed,
    TrustChanged,
    TrustMovedAside,
    TrustStands,
)
from cachesvc.core.gates import Gate
from cachesvc.core.types import Outcome, Removal, StoreStats, Unseen
from cachesvc.core.warming import Warming
from cachesvc.observe.crew import CrewMetrics
from cachesvc.observe.trust import TrustMetrics

_BUCKETS_S = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
_MOVE_BUCKETS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
_STAGES = ("identity", "exact", "embed", "search", "fetch", "decide")
_TIERS = {Outcome.HIT_EXACT: "exact", Outcome.HIT_SEMANTIC: "semantic"}
_OTHER_JOURNEY = "other"


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is read at the moment of a scrape."""

    store: Callable[[], StoreStats]
    index_bytes: Callable[[], int]
    index_scopes: Callable[[], int]
    warming: Callable[[], Warming]
    ready: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class MetricDoc:
    """A line of the README's table."""

    name: str
    labels: tuple[str, ...]
    help: str


class MetricsObserver:
    """``Observer`` that counts, in the registry it is given. Labels exist from the start, at 0."""

    def __init__(
        self, registry: CollectorRegistry, version: str, max_journeys: int, max_namespaces: int = 100
    ) -> None:
        self._registry = registry
        self._max_journeys = max_journeys
        self._journeys: set[str] = set()
        Info("cachesvc_build", "The version that runs.", registry=registry).info({"version": version})
        self._lookups = Counter("cachesvc_lookups", "Lookups by outcome.", ["outcome"], registry=registry)
        self._lookup_s = Histogram(
            "cachesvc_lookup_duration_seconds",
            "Time of a lookup inside the service, by tier of the answer (exact, semantic, none).",
            ["tier"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._stage_s = Histogram(
            "cachesvc_lookup_stage_seconds",
            "Time of a lookup's stages; a stage that did not run is not counted.",
            ["stage"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._journey_lookups = Counter(
            "cachesvc_journey_lookups",
            "Lookups by journey and result (hit, miss, bypass). Journeys beyond metrics.max_journeys are one: other.",
            ["journey", "result"],
            registry=registry,
        )
        self._saved_tokens = Counter(
            "cachesvc_saved_tokens",
            "Tokens of the model calls that hits replaced.",
            ["type"],
            registry=registry,
        )
        self._saved_usd = Counter(
            "cachesvc_saved_cost_usd", "US dollars of the model calls that hits replaced.", registry=registry
        )
        self._withheld_tokens = Counter(
            "cachesvc_withheld_tokens",
            "Tokens of the model calls that hits would have replaced, had they been served (mode shadow or canary, held "
            "back, braked).",
            ["type"],
            registry=registry,
        )
        self._withheld_usd = Counter(
            "cachesvc_withheld_cost_usd",
            "US dollars of the model calls that hits would have replaced, had they been served.",
            registry=registry,
        )
        self._gate_vetoes = Counter(
            "cachesvc_gate_vetoes",
            "Misses by the gate that refused the best candidate; each is a lookup of outcome miss_gated.",
            ["gate"],
            registry=registry,
        )
        self._opinions = Counter(
            "cachesvc_second_opinions",
            "Second opinions by what they came to (yes, no, late, busy, failed).",
            ["result"],
            registry=registry,
        )
        self._audits_asked = Counter(
            "cachesvc_audits_asked",
            "Semantic hits for which the client was asked for a fresh answer, to compare with.",
            registry=registry,
        )
        self._stores = Counter(
            "cachesvc_stores",
            "Responses stored, by tier: semantic, or exact for those that only the identical request finds.",
            ["tier"],
            registry=registry,
        )
        self._store_s = Histogram(
            "cachesvc_store_duration_seconds",
            "Time of a store inside the service, until durable.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._unseen = Counter(
            "cachesvc_store_unseen",
            "Responses stored for the exact tier only, by what the embedder cannot see in the prompt.",
            ["reason"],
            registry=registry,
        )
        self._removed = Counter(
            "cachesvc_entries_removed",
            "Entries that left the store, by reason.",
            ["reason"],
            registry=registry,
        )
        self._scope_loads = Counter(
            "cachesvc_index_scope_loads", "Scopes loaded into memory.", registry=registry
        )
        self._scope_unloads = Counter(
            "cachesvc_index_scope_unloads", "Scopes unloaded to keep index.max_bytes.", registry=registry
        )
        self._scope_load_s = Histogram(
            "cachesvc_index_scope_load_seconds",
            "Time to load a scope.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._call_errors = Counter(
            "cachesvc_call_errors", "Calls that ended in an error.", ["method", "code"], registry=registry
        )
        self._task_errors = Counter(
            "cachesvc_task_errors",
            "Housekeeping that failed and is tried again.",
            ["task"],
            registry=registry,
        )
        self._config_reloads = Counter(
            "cachesvc_config_reloads",
            "Times the configuration was read again, by result (applied, unchanged, refused).",
            ["result"],
            registry=registry,
        )
        self._config_generation = Gauge(
            "cachesvc_config_generation", "Generation of the configuration in force.", registry=registry
        )
        self._config_ok = Gauge(
            "cachesvc_config_last_reload_ok",
            "0 while the configuration last read was refused and an older one is in force.",
            registry=registry,
        )
        self._settles = Counter(
            "cachesvc_index_moves",
            "Indexes that began to move to another layout, finished, were let go of before, or failed.",
            ["result"],
            registry=registry,
        )
        self._settle_s = Histogram(
            "cachesvc_index_move_seconds",
            "Time that moving an index to another layout took, behind the requests.",
            buckets=_MOVE_BUCKETS,
            registry=registry,
        )
        self._snapshots = Counter(
            "cachesvc_index_snapshots",
            "Snapshots of indexes by what became of them (saved, loaded, stale, rejected).",
            ["result"],
            registry=registry,
        )
        self._moved_aside = Gauge(
            "cachesvc_store_moved_aside",
            "1 when the store was too damaged to open and this process began with an empty one.",
            registry=registry,
        )
        self._embedder_healthy = Gauge(
            "cachesvc_embedder_healthy",
            "0 while embedding fails or all its threads are stuck; the exact tier answers meanwhile.",
            registry=registry,
        )
        self._embedder_stuck = Gauge(
            "cachesvc_embedder_stuck_threads",
            "Threads given up in an inference that has not ended.",
            registry=registry,
        )
        self._trust = TrustMetrics(registry, max_namespaces)
        self._embedder_healthy.set(1)
        self._config_generation.set(1)
        self._config_ok.set(1)
        self._start_labels()

    def on(self, event: Event) -> None:  # noqa: C901, PLR0912 - a case an event
        """See ``Observer.on``."""
        match event:
            case LookupDone():
                self._on_lookup(event)
            case StoreDone():
                self._stores.labels("semantic" if event.semantic else "exact").inc()
                self._store_s.observe(event.total_us / 1e6)
                if event.unseen is not None:
                    self._unseen.labels(event.unseen.name.lower()).inc()
            case EntriesRemoved():
                self._removed.labels(event.why.value).inc(event.count)
            case ScopesChanged():
                self._scope_loads.inc(event.loaded)
                self._scope_unloads.inc(event.unloaded)
                if event.loaded:
                    self._scope_load_s.observe(event.load_us / 1e6)
            case CallFailed():
                self._call_errors.labels(event.method, event.code).inc()
            case TaskFailed():
                self._task_errors.labels(event.task).inc()
            case EmbedderChanged():
                self._embedder_healthy.set(event.healthy)
                self._embedder_stuck.set(event.stuck)
            case SnapshotDone():
                self._snapshots.labels(event.result).inc()
            case IndexSettled():
                self._settles.labels(event.result).inc()
                if event.result == "finished":
                    self._settle_s.observe(event.took_s)
            case IndexWarmed():
                pass  # read at a scrape, before it is over too
            case StoreMovedAside():
                self._moved_aside.set(1)
            case (
                TrustMovedAside()
                | TrustChanged()
                | TrustStands()
                | Labelled()
                | LabelsDropped()
                | FeedbackDone()
            ):
                self._trust.on(event)
            case ConfigRead():
                self._config_reloads.labels(event.result).inc()
                self._config_generation.set(event.generation)
                self._config_ok.set(event.result != "refused")
            case _:
                assert_never(event)

    def watch(self, gauges: Gauges) -> None:
        """Read these at every scrape. Once, when what they read exists."""

        def gauge(name: str, text: str, read: Callable[[], float]) -> None:
            Gauge(name, text, registry=self._registry).set_function(read)

        gauge("cachesvc_entries", "Entries in the store.", lambda: gauges.store().entries)
        gauge("cachesvc_store_bytes", "Bytes of the store's pages in use.", lambda: gauges.store().used_bytes)
        gauge("cachesvc_store_max_bytes", "store.max_bytes.", lambda: gauges.store().max_bytes)
        gauge(
            "cachesvc_store_sequence", "Sequence of the store's last change.", lambda: gauges.store().sequence
        )
        gauge("cachesvc_index_bytes", "Bytes of the indexes in memory.", gauges.index_bytes)
        gauge("cachesvc_index_scopes", "Scopes in memory.", gauges.index_scopes)
        gauge(
            "cachesvc_index_warm_scopes",
            "Scopes that were in memory before the start.",
            lambda: gauges.warming().scopes_total,
        )
        gauge(
            "cachesvc_index_warmed_scopes", "Of those, how many are again.", lambda: gauges.warming().scopes
        )
        gauge("cachesvc_index_warm_rows", "Their vectors, then.", lambda: gauges.warming().rows_total)
        gauge("cachesvc_index_warmed_rows", "Vectors loaded so far.", lambda: gauges.warming().rows)
        gauge(
            "cachesvc_index_warm_seconds",
            "How long that took, or has taken so far.",
            lambda: gauges.warming().elapsed_s,
        )
        gauge(
            "cachesvc_index_warming",
            "1 while scopes that were in memory before the start are loaded.",
            lambda: not gauges.warming().is_done,
        )
        gauge("cachesvc_ready", "1 while the service answers.", lambda: float(gauges.ready()))

    def _on_lookup(self, event: LookupDone) -> None:
        outcome, timings = event.outcome, event.timings
        self._of_outcome[outcome].inc()
        self._of_tier[_TIERS.get(outcome, "none")].observe(timings.total_us / 1e6)
        for stage, histogram in self._of_stage.items():
            took_us = getattr(timings, stage)
            if took_us:
                histogram.observe(took_us / 1e6)
        if event.journey:
            result = "hit" if outcome.is_hit else outcome.label.partition("_")[0]
            self._journey_lookups.labels(self._bounded(event.journey), result).inc()
        self._count_saved(event)
        if event.gate is not None:
            self._of_gate[event.gate].inc()
        if event.opinion:
            self._opinions.labels(event.opinion).inc()
        if event.audit:
            self._audits_asked.inc()

    def _count_saved(self, event: LookupDone) -> None:
        is_hit = event.outcome.is_hit
        tokens, usd = (
            (self._saved_tokens, self._saved_usd) if is_hit else (self._withheld_tokens, self._withheld_usd)
        )
        if event.saved_input_tokens:
            tokens.labels("input").inc(event.saved_input_tokens)
        if event.saved_output_tokens:
            tokens.labels("output").inc(event.saved_output_tokens)
        if event.saved_cost_usd:
            usd.inc(event.saved_cost_usd)

    def _bounded(self, journey: str) -> str:
        if journey not in self._journeys:
            if len(self._journeys) >= self._max_journeys:
                return _OTHER_JOURNEY
            self._journeys.add(journey)
        return journey

    def _start_labels(self) -> None:
        """Make them now, at 0; those of every lookup are kept, for finding one costs as much as counting."""
        self._of_outcome = {outcome: self._lookups.labels(outcome.label) for outcome in Outcome}
        self._of_tier = {tier: self._lookup_s.labels(tier) for tier in ("exact", "semantic", "none")}
        self._of_stage = {f"{stage}_us": self._stage_s.labels(stage) for stage in _STAGES}
        self._of_gate = {gate: self._gate_vetoes.labels(gate.label) for gate in Gate}
        for kind in ("input", "output"):
            self._saved_tokens.labels(kind)
            self._withheld_tokens.labels(kind)
        for opinion in get_args(Opinion):
            if opinion:
                self._opinions.labels(opinion)
        for tier in ("semantic", "exact"):
            self._stores.labels(tier)
        for unseen in Unseen:
            self._unseen.labels(unseen.name.lower())
        for result in ("saved", "loaded", "stale", "rejected"):
            self._snapshots.labels(result)
        for result in ("started", "finished", "abandoned", "failed"):
            self._settles.labels(result)
        for result in ("applied", "unchanged", "refused"):
            self._config_reloads.labels(result)
        for why in Removal:
            self._removed.labels(why.value)


def catalogue() -> Iterator[MetricDoc]:
    """Every metric with its labels, as Prometheus sees its name."""
    registry = CollectorRegistry()
    observer = MetricsObserver(registry, "", 0)
    observer.watch(
        Gauges(
            lambda: StoreStats(0, 0, 0, 0),
            lambda: 0,
            lambda: 0,
            lambda: Warming(True, 0, 0, 0, 0, 0.0),
            lambda: True,
        )
    )
    CrewMetrics(registry)
    for metric in registry._collector_to_names:  # noqa: SLF001 - the registry offers no public way to list
        if isinstance(metric, MetricWrapperBase):
            suffix = {"counter": "_total", "info": "_info"}.get(str(metric._type), "")  # noqa: SLF001 - as above
            yield MetricDoc(metric._name + suffix, tuple(metric._labelnames), metric._documentation)  # noqa: SLF001
