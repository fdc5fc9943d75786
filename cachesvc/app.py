"""The composition root: what is made, in which order it starts and stops, and the signals.

Start: settings → embedder → store → clock → engine → admin port → gRPC → health SERVING.
Stop is the reverse: health NOT_SERVING → calls under way finish → last housekeeping → store.
"""

import os
import secrets
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from types import FrameType

from prometheus_client import CollectorRegistry

from cachesvc import __version__
from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.engine_cache import Engine, compile_engine, find_engine
from cachesvc.adapters.faiss_index import FaissIndex, row_bytes
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.model_files import fetched_directory, model_digest
from cachesvc.adapters.onnx_embedder import OnnxEmbedder, OnnxOptions
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import Embedder
from cachesvc.engine.admit import Admit
from cachesvc.engine.curate import Curator
from cachesvc.engine.janitor import Janitor, JanitorOptions
from cachesvc.engine.lookup import Lookup
from cachesvc.engine.parts import EmbedBudget, Parts
from cachesvc.engine.tickets import TicketBounds, Tickets
from cachesvc.engine.views import Views
from cachesvc.observe.fanout import Fanout
from cachesvc.observe.later import Later
from cachesvc.observe.log import Logger, LogObserver, make_logger
from cachesvc.observe.metrics import Gauges, MetricsObserver
from cachesvc.serve.admin import AdminPages, AdminServer
from cachesvc.serve.grpc_service import CacheService, GrpcOptions, GrpcServer
from cachesvc.serve.requests import Limits, RequestReader
from cachesvc.settings import EmbedderSettings, Settings


class App:
    """A running service, complete when constructed. ``stop`` once."""

    def __init__(self, settings: Settings, embedder: Embedder, logger: Logger) -> None:
        """Open and listen. Raises LOCKED, INCOMPATIBLE, CORRUPT or UNAVAILABLE; nothing is left open then."""
        self._logger = logger
        self._stopping = False
        self._closing = ExitStack()  # what was opened, closed in reverse, each whatever the others do
        try:
            self._start(settings, embedder)
        except BaseException:
            self._closing.close()
            raise

    def _start(self, settings: Settings, embedder: Embedder) -> None:
        registry = CollectorRegistry()
        metrics = MetricsObserver(registry, __version__, settings.metrics.max_journeys)
        later = Later(metrics)
        self._closing.callback(later.stop)
        observer = Fanout(later, LogObserver(self._logger))

        self._store = store = LmdbStore(_store_options(settings), embedder.fingerprint)
        self._closing.callback(store.close)
        clock = SystemClock(floor_ms=store.last_clock_ms())
        views = Views(
            store,
            lambda: FaissIndex(embedder.dimension),
            row_bytes=row_bytes(embedder.dimension),
            max_bytes=settings.index.max_bytes,
            clock=clock,
            observer=observer,
        )
        policies = settings.policy_book()
        self._janitor = Janitor(
            store,
            _janitor_options(settings),
            quota_of=lambda namespace: policies.of(namespace).quota,
            clock=clock,
            observer=observer,
        )
        parts = Parts(
            store=store,
            embedder=embedder,
            views=views,
            tickets=Tickets(clock, TicketBounds(**settings.tickets.model_dump())),
            janitor=self._janitor,
            policies=lambda: policies,
            budget=EmbedBudget(settings.embedder.max_wait_s, settings.embedder.min_left_s),
            clock=clock,
            observer=observer,
            new_id=_new_id,
        )
        reader = RequestReader(Limits(**settings.limits.model_dump()))
        self._grpc = GrpcServer(
            CacheService(Lookup(parts), Admit(parts), Curator(parts), reader, observer),
            GrpcOptions(**settings.server.model_dump(exclude={"insecure_bind"})),
            clock=clock,
            observer=observer,
            new_id=_new_id,
        )
        metrics.watch(
            Gauges(
                store=store.stats,
                index_bytes=lambda: views.memory_bytes,
                index_scopes=lambda: views.loaded_count,
                ready=lambda: all(self._components().values()),
            )
        )
        self._admin = AdminServer(
            settings.admin.listen,
            AdminPages(registry, later.flush, self._components, lambda: self._store.alive, settings.redacted),
        )
        self._closing.callback(self._admin.stop)
        self._closing.callback(self._janitor.stop)
        self.address = self._grpc.start()
        self.admin_address = self._admin.address
        self._closing.callback(self._grpc.stop)
        self._janitor.start()
        self._grpc.set_serving(serving=True)
        self._logger.info(
            "serving",
            version=__version__,
            address=self.address,
            admin=self.admin_address,
            store=str(settings.store.path.absolute()),
            embedder=embedder.fingerprint,
            **asdict(store.stats()),
        )

    def stop(self) -> None:
        """Finish what is under way and close everything."""
        self._stopping = True
        self._logger.info("stopping")
        self._closing.close()
        self._logger.info("stopped")

    def _components(self) -> Mapping[str, bool]:
        return {
            "grpc": not self._stopping,
            "store": self._store.alive,
            "housekeeping": self._janitor.alive,
        }


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises what ``App`` and ``make_embedder`` raise."""
    os.umask(0o077)
    logger = make_logger(settings.log.level, settings.log.format)
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    app = App(
        settings, make_embedder(settings.embedder, lambda step: logger.info("compiling", step=step)), logger
    )
    stop.wait()
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


def _store_options(settings: Settings) -> StoreOptions:
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
