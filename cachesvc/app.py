"""The composition root: what is made, in which order it starts and stops, and the signals.

Start: settings → embedder → store → clock → engine → operators' ports → gRPC → health SERVING.
Stop is the reverse: health NOT_SERVING → calls under way finish → last housekeeping → store.
"""

import os
import queue
import secrets
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector

from cachesvc import __version__
from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.engine_cache import Engine, compile_engine, find_engine
from cachesvc.adapters.faiss_index import FaissIndex, row_bytes
from cachesvc.adapters.lmdb_rewrite import Told
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.model_files import fetched_directory, model_digest
from cachesvc.adapters.onnx_embedder import OnnxEmbedder, OnnxOptions
from cachesvc.adapters.snapshot_files import SnapshotFiles
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import StoreMovedAside
from cachesvc.core.ports import Embedder, Failpoint, Observer, no_failpoint
from cachesvc.engine.admit import Admit
from cachesvc.engine.curate import Curator
from cachesvc.engine.guard import Guard, GuardOptions
from cachesvc.engine.janitor import Janitor, JanitorOptions
from cachesvc.engine.lookup import Lookup
from cachesvc.engine.move import Mover
from cachesvc.engine.parts import EmbedBudget, Parts, Tuning
from cachesvc.engine.snapshots import Snapshots
from cachesvc.engine.tickets import TicketBounds, Tickets
from cachesvc.engine.views import Views
from cachesvc.observe.fanout import Fanout
from cachesvc.observe.later import Later
from cachesvc.observe.log import Logger, LogObserver
from cachesvc.observe.metrics import Gauges, MetricsObserver
from cachesvc.reload import Reloader
from cachesvc.serve.admin import AdminPages, AdminServer
from cachesvc.serve.admin_service import AdminService, Insight, Upkeep
from cachesvc.serve.door import Doorkeeper, TurnsAway
from cachesvc.serve.grpc_server import GrpcOptions, GrpcServer, Service
from cachesvc.serve.grpc_service import CacheService
from cachesvc.serve.requests import Limits, RequestReader
from cachesvc.settings import EmbedderSettings, Settings, TelemetrySettings

if TYPE_CHECKING:
    from cachesvc.observe.otel import OtelObserver


_TOLD_COUNT = 16_384  # entries of a migration between two lines of the log: some seconds


class App:
    """A running service, complete when constructed. ``stop`` once."""

    def __init__(
        self,
        settings: Settings,
        make_embedder: Callable[[], Embedder],
        logger: Logger,
        path: Path | None = None,
        failpoint: Failpoint = no_failpoint,
    ) -> None:
        """Open and listen. ``make_embedder`` may be called again, should one get stuck; ``path`` is where the
        settings came from. Raises LOCKED, INCOMPATIBLE, CORRUPT or UNAVAILABLE; nothing is left open then.
        """
        self._logger = logger
        self._failpoint = failpoint
        self._stopping = False
        self._closing = ExitStack()  # what was opened, closed in reverse, each whatever the others do
        try:
            self._start(settings, make_embedder, path)
        except BaseException:
            self._closing.close()
            raise

    def _start(self, settings: Settings, make_embedder: Callable[[], Embedder], path: Path | None) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        metrics = MetricsObserver(registry, __version__, settings.metrics.max_journeys)
        later = Later(metrics)
        self._closing.callback(later.stop)
        observers: list[Observer] = [later, LogObserver(self._logger)]
        if settings.telemetry.otlp_endpoint:
            otel = _otel(settings.telemetry, registry, later.flush)
            self._closing.callback(otel.stop)
            observers.append(otel)
        observer = Fanout(*observers)
        self._live = _Live.of(settings)
        self.reloader = Reloader(path, settings, self._publish, observer)
        self._closing.callback(self.reloader.stop)

        embedder = make_embedder()
        self._store = store = LmdbStore(
            store_options(settings), embedder.fingerprint, self._failpoint, self._tell_migration
        )
        self._closing.callback(store.close)
        if store.moved_aside is not None:
            observer.on(StoreMovedAside(str(store.moved_aside)))
        clock = SystemClock(floor_ms=store.last_clock_ms())
        if clock.ahead_s > _CLOCK_ODD_S:
            self._logger.error("wall_clock_behind_store", seconds=round(clock.ahead_s))
        self._guard = Guard(embedder, make_embedder, _guard_options(settings), clock=clock, observer=observer)
        self._closing.callback(self._guard.stop)
        self._views = Views(
            store,
            lambda: FaissIndex(embedder.dimension),
            row_bytes=row_bytes(embedder.dimension),
            max_bytes=settings.index.max_bytes,
            clock=clock,
            observer=observer,
            snapshots=self._snapshots(settings, embedder, observer),
        )
        self._janitor = Janitor(
            store,
            lambda: self._live.janitor,
            policies=lambda: self._live.tuning.policies,
            clock=clock,
            observer=observer,
            chores=[self._views.save_snapshots],
        )
        parts = Parts(
            store=store,
            embedder=self._guard,
            views=self._views,
            tickets=Tickets(clock, TicketBounds(**settings.tickets.model_dump())),
            janitor=self._janitor,
            tuning=lambda: self._live.tuning,
            clock=clock,
            observer=observer,
            new_id=_new_id,
        )
        self._listen(settings, parts, registry, metrics, later)
        self._logger.info(
            "serving",
            version=__version__,
            address=self.address,
            admin=self.admin_address,
            admin_rpc=self.admin_rpc_address,
            store=str(settings.store.path.absolute()),
            embedder=embedder.fingerprint,
            **asdict(store.stats()),
        )

    def _listen(
        self,
        settings: Settings,
        parts: Parts,
        registry: CollectorRegistry,
        metrics: MetricsObserver,
        later: Later,
    ) -> None:
        """Open the ports: first the operators', and the applications' when all else works."""
        reader = RequestReader(lambda: self._live.limits)
        cache = CacheService(Lookup(parts), Admit(parts), Curator(parts), reader, parts.observer)
        insight = Insight(
            version=__version__,
            started_ms=parts.clock.now_ms(),
            components=self._components,
            store=self._store.stats,
            usage=self._store.usage,
            index_bytes=lambda: self._views.memory_bytes,
            index_scopes=lambda: self._views.loaded_count,
        )
        upkeep = Upkeep(
            mover=Mover(parts),
            checking=self._store.checking,
            index_disagreements=self._views.disagreements,
            back_up=self._store.backup,
            backup_dir=settings.admin.backup_dir,
            failpoint=self._failpoint,
        )
        admin = AdminService(insight, self.reloader, upkeep, reader)
        self._grpc = _grpc_server(
            cache,
            _grpc_options(settings),
            parts,
            works=self._is_ready,
            turns_away=Doorkeeper(self._guard, parts.tuning).turns_away,
        )
        self._admin_grpc = _grpc_server(
            admin, _admin_grpc_options(settings), parts, works=lambda: True, turns_away=lambda metadata: False
        )
        metrics.watch(
            Gauges(
                store=insight.store,
                index_bytes=insight.index_bytes,
                index_scopes=insight.index_scopes,
                ready=self._is_ready,
            )
        )
        pages = AdminPages(
            registry,
            later.flush,
            self._is_ready,
            self._components,
            lambda: self._store.alive,
            self._redacted,
        )
        self._admin = AdminServer(settings.admin.listen, pages)
        self._closing.callback(self._admin.stop)
        self.admin_address = self._admin.address
        self.admin_rpc_address = self._admin_grpc.start()
        self._closing.callback(self._admin_grpc.stop)
        self._admin_grpc.begin_serving()
        self._closing.callback(self._janitor.stop)
        self.address = self._grpc.start()
        self._closing.callback(self._grpc.stop)
        self._janitor.start()
        self._grpc.begin_serving()

    def stop(self) -> None:
        """Finish what is under way and close everything."""
        self._stopping = True
        self._logger.info("stopping")
        self._closing.close()
        self._logger.info("stopped")

    def _snapshots(self, settings: Settings, embedder: Embedder, observer: Observer) -> Snapshots | None:
        if not settings.index.snapshot_min_vectors:
            return None
        files = SnapshotFiles(
            settings.store.path / "snapshots",
            key=self._store.key_for(b"snapshot"),
            fingerprint=embedder.fingerprint,
            sessions=self._store.sessions,
            observer=observer,
            failpoint=self._failpoint,
        )
        return Snapshots(files, self._store, observer, min_rows=settings.index.snapshot_min_vectors)

    def _tell_migration(self, told: Told) -> None:
        """An older store is written anew before anything listens: say now and then that it goes on."""
        if told.read % _TOLD_COUNT == 0 or told.read == told.total:
            self._logger.info("migrating", read=told.read, total=told.total, damaged=told.damaged)

    def _publish(self, settings: Settings) -> None:
        """From now on go by these: one assignment, so that nobody sees a part of them."""
        self._live = _Live.of(settings)
        self._logger.set_level(settings.log.level)

    def _redacted(self) -> dict[str, Any]:
        return self.reloader.now.settings.redacted()

    def _is_ready(self) -> bool:
        return all(works for name, works in self._components().items() if name not in _INFORMATIONAL)

    def _components(self) -> Mapping[str, bool]:
        return {
            "grpc": not self._stopping,
            "store": self._store.alive,
            "housekeeping": self._janitor.alive,
            "embedder": self._guard.healthy,
            "config": not self.reloader.now.last_error,
        }


_CLOCK_ODD_S = 60.0  # less is what machines differ by

# Parts that may fail while the service answers all the same: without an embedder from the exact tier, with
# a refused configuration by the last good one.
_INFORMATIONAL = ("embedder", "config")


@dataclass(frozen=True, slots=True)
class _Live:
    """What of the settings changes while the service runs, as its users take it."""

    tuning: Tuning
    janitor: JanitorOptions
    limits: Limits

    @classmethod
    def of(cls, settings: Settings) -> "_Live":
        budget = EmbedBudget(settings.embedder.max_wait_s, settings.embedder.min_left_s)
        return cls(
            Tuning(settings.policy_book(), budget),
            _janitor_options(settings),
            Limits(**settings.limits.model_dump()),
        )


def serve(settings: Settings, path: Path | None) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again. Raises what ``App`` raises."""
    os.umask(0o077)
    logger = Logger(settings.log.level, settings.log.format)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def on_signal(number: int, frame: FrameType | None) -> None:
        signals.put(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, on_signal)
    app = App(
        settings,
        lambda: make_embedder(settings.embedder, lambda step: logger.info("compiling", step=step)),
        logger,
        path,
    )
    while signals.get() == signal.SIGHUP:
        with suppress(CacheError):  # told by its event
            app.reloader.reload()
    app.stop()


def make_embedder(settings: EmbedderSettings, progress: Callable[[str], None]) -> Embedder:
    """The configured engine, compiled first if it must be. Raises UNAVAILABLE, CORRUPT or INCOMPATIBLE."""
    concurrency = settings.concurrency or len(os.sched_getaffinity(0))
    if settings.engine == "sentence-transformers":
        return _sbert_embedder(settings, concurrency)
    engine = find_engine(settings.model, settings.precision, settings.cache_dir.expanduser())
    if engine is None:
        if not settings.compile_on_start:
            raise CacheError(
                Kind.UNAVAILABLE,
                f"embedder.model {settings.model!r} is not compiled: run cachesvc compile-model",
            )
        engine = compile_model(settings, progress)
    manifest = engine.manifest
    return OnnxEmbedder(
        OnnxOptions(
            path=engine.path,
            fingerprint=manifest.fingerprint,
            dimension=manifest.dimension,
            window_tokens=manifest.window_tokens,
            prefix=manifest.prefix,
            concurrency=concurrency,
            max_text_length=settings.max_text_length,
        )
    )


def compile_model(settings: EmbedderSettings, progress: Callable[[str], None]) -> Engine:
    """Compile the configured model, whether or not it was. Raises UNAVAILABLE."""
    return compile_engine(settings.model, settings.precision, settings.cache_dir.expanduser(), progress)


def _sbert_embedder(settings: EmbedderSettings, concurrency: int) -> Embedder:
    try:
        from cachesvc.adapters.sbert_embedder import SbertEmbedder  # noqa: PLC0415 - brings torch in
    except ImportError:
        raise CacheError(
            Kind.UNAVAILABLE,
            "embedder.engine = 'sentence-transformers' needs more packages: pip install 'cachesvc[compile]'",
        ) from None
    directory = fetched_directory(settings.model)
    return SbertEmbedder(
        directory,
        digest=model_digest(directory),
        concurrency=concurrency,
        max_text_length=settings.max_text_length,
    )


def store_options(settings: Settings) -> StoreOptions:
    """How the configured store is opened."""
    store = settings.store
    return StoreOptions(
        path=store.path,
        map_size_bytes=store.map_size_bytes,
        max_bytes=store.max_bytes,
        durability=store.durability,
        write_queue_length=store.write_queue_length,
        compress_min_bytes=store.compress_min_bytes,
        log_max_records=store.log_max_records,
        eviction=store.eviction,
        on_corruption=store.on_corruption,
    )


def _otel(
    settings: TelemetrySettings, registry: CollectorRegistry, flush: Callable[[], None]
) -> "OtelObserver":
    try:
        from cachesvc.observe.otel import OtelObserver, OtelOptions  # noqa: PLC0415 - an extra
    except ImportError:
        raise CacheError(
            Kind.UNAVAILABLE,
            "telemetry.otlp_endpoint is set and needs more packages: pip install 'cachesvc[otel]'",
        ) from None
    return OtelObserver(OtelOptions(**settings.model_dump()), __version__, registry, flush, SystemClock(0))


def _guard_options(settings: Settings) -> GuardOptions:
    embedder = settings.embedder
    threads = embedder.concurrency or len(os.sched_getaffinity(0))
    return GuardOptions(threads, embedder.max_waiting, embedder.hang_s, max_stuck=2 * threads)


def _grpc_server(
    service: Service, options: GrpcOptions, parts: Parts, *, works: Callable[[], bool], turns_away: TurnsAway
) -> GrpcServer:
    return GrpcServer(
        service,
        options,
        clock=parts.clock,
        observer=parts.observer,
        new_id=_new_id,
        works=works,
        turns_away=turns_away,
    )


def _grpc_options(settings: Settings) -> GrpcOptions:
    server = settings.server
    return GrpcOptions(
        setting="server.listen",
        **server.model_dump(exclude={"insecure_bind"}),
        traced=bool(settings.telemetry.otlp_endpoint),
    )


def _admin_grpc_options(settings: Settings) -> GrpcOptions:
    """Few callers, who may stay long: an export, an import, a backup, and room for questions beside."""
    return GrpcOptions(
        setting="admin.rpc_listen",
        listen=settings.admin.rpc_listen,
        reflection=settings.server.reflection,
        threads=8,
        max_streams=16,
        max_concurrent_calls=64,
        max_queued_calls=8,
        max_queue_s=10.0,
        max_message_bytes=settings.server.max_message_bytes + (8 << 20),  # an entry, its prompt and vector
        drain_s=settings.server.drain_s,
    )


def _janitor_options(settings: Settings) -> JanitorOptions:
    store = settings.store
    return JanitorOptions(
        interval_s=store.tidy_interval_s,
        high_watermark=store.high_watermark,
        low_watermark=store.low_watermark,
        max_notes=store.max_use_notes,
        max_entries=store.max_entries or None,
    )


def _new_id() -> str:
    return secrets.token_hex(12)
