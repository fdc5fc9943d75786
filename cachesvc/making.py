"""What the settings mean to the parts: the configured embedder, and how each part is to be opened.

Called by ``app`` and by the commands that work on a store without a server.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from cachesvc import __version__
from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.engine_cache import CROSS_ENCODERS, Engine, compile_engine, find_engine
from cachesvc.adapters.http_judge import HttpJudge
from cachesvc.adapters.lmdb_begin import StoreOptions
from cachesvc.adapters.lmdb_rewrite import Told
from cachesvc.adapters.lmdb_trust import DIRECTORY, LmdbTrust, TrustBounds
from cachesvc.adapters.model_files import fetched_directory, model_digest
from cachesvc.adapters.verifier_pool import VerifierPool
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import TrustMovedAside
from cachesvc.core.ports import Embedder, Observer
from cachesvc.engine.guard import GuardOptions
from cachesvc.engine.janitor import JanitorOptions
from cachesvc.link import Seat
from cachesvc.observe.log import Logger
from cachesvc.serve.grpc_server import GrpcOptions
from cachesvc.settings import Settings
from cachesvc.settings_sections import EmbedderSettings, TelemetrySettings

if TYPE_CHECKING:
    from cachesvc.observe.otel import OtelObserver

_TOLD_COUNT = 16_384  # entries of a migration between two lines of the log: some seconds


def make_embedder(settings: EmbedderSettings, progress: Callable[[str], None]) -> Embedder:
    """The configured engine, compiled first if it must be. Raises UNAVAILABLE, CORRUPT or INCOMPATIBLE."""
    if settings.engine == "sentence-transformers":
        return _sbert_embedder(settings)
    return _onnx_embedder(settings, compiled_engine(settings, progress))


def compiled_engine(settings: EmbedderSettings, progress: Callable[[str], None]) -> Engine:
    """The configured model as an engine on disk, compiled first if it must be. Raises as ``make_embedder``."""
    engine = find_engine(settings.model, settings.precision, settings.cache_dir.expanduser())
    if engine is None:
        if not settings.compile_on_start:
            raise CacheError(
                Kind.UNAVAILABLE,
                f"embedder.model {settings.model!r} is not compiled: run cachesvc compile-model",
            )
        engine = compile_model(settings, progress)
    return engine


def _onnx_embedder(settings: EmbedderSettings, engine: Engine) -> Embedder:
    from cachesvc.adapters.onnx_embedder import OnnxEmbedder, OnnxOptions  # noqa: PLC0415 - loads the runtime

    manifest = engine.manifest
    return OnnxEmbedder(
        OnnxOptions(
            path=engine.path,
            fingerprint=manifest.fingerprint,
            dimension=manifest.dimension,
            window_tokens=manifest.window_tokens,
            prefix=manifest.prefix,
            concurrency=concurrency(settings),
            max_text_length=settings.max_text_length,
        )
    )


def compile_model(settings: EmbedderSettings, progress: Callable[[str], None]) -> Engine:
    """Compile the configured model, whether or not it was. Raises UNAVAILABLE."""
    return compile_engine(settings.model, settings.precision, settings.cache_dir.expanduser(), progress)


def _sbert_embedder(settings: EmbedderSettings) -> Embedder:
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
        concurrency=concurrency(settings),
        max_text_length=settings.max_text_length,
    )


def make_verifier(settings: Settings, progress: Callable[[str], None]) -> VerifierPool | None:
    """The configured second opinion, its model compiled first if it must be; None for none. Raises as
    ``make_embedder``.
    """
    verifier = settings.verifier
    pool = partial(VerifierPool, concurrency=verifier.concurrency, min_probability=verifier.min_probability)
    if verifier.kind == "http":
        judge = HttpJudge(verifier.url, verifier.token.get_secret_value())
        return pool(judge, let_go=judge.close)
    if verifier.kind == "cross-encoder":
        from cachesvc.adapters.cross_encoder import PRECISION, CrossEncoder  # noqa: PLC0415 - loads the runtime

        cache_dir = settings.embedder.cache_dir.expanduser()
        engine = find_engine(verifier.model, PRECISION, cache_dir)
        if engine is None:
            if not settings.embedder.compile_on_start:
                raise CacheError(
                    Kind.UNAVAILABLE,
                    f"verifier.model {verifier.model!r} is not compiled, and compile_on_start is off",
                )
            engine = compile_engine(verifier.model, PRECISION, cache_dir, progress, CROSS_ENCODERS)
        return pool(CrossEncoder(engine))
    return None


def concurrency(settings: EmbedderSettings) -> int:
    """How many inferences run at a time: as many as this process has cores, unless told."""
    return settings.concurrency or len(os.sched_getaffinity(0))


def make_otel(
    settings: TelemetrySettings,
    registry: CollectorRegistry,
    flush: Callable[[], None],
    seat: Seat | None,
) -> "OtelObserver":
    """What sends traces and metrics. Raises UNAVAILABLE where its packages are missing."""
    try:
        from cachesvc.observe.otel import OtelObserver, OtelOptions  # noqa: PLC0415 - an extra
    except ImportError:
        raise CacheError(
            Kind.UNAVAILABLE,
            "telemetry.otlp_endpoint is set and needs more packages: pip install 'cachesvc[otel]'",
        ) from None
    # Workers count each for itself: a collector must not take them for one.
    instance = "" if seat is None else f"{socket.gethostname()}-{seat.number}"
    options = OtelOptions(**settings.model_dump(), instance=instance)
    return OtelObserver(options, __version__, registry, flush, SystemClock(0))


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


def telling_migration(logger: Logger) -> Callable[[Told], None]:
    """An older store is written anew before anything listens: what says now and then that it goes on."""

    def tell(told: Told) -> None:
        if told.read % _TOLD_COUNT == 0 or told.read == told.total:
            logger.info("migrating", read=told.read, total=told.total, damaged=told.damaged)

    return tell


def guard_options(settings: Settings) -> GuardOptions:
    """How inferences are run and waited for."""
    embedder = settings.embedder
    threads = concurrency(embedder)
    return GuardOptions(
        threads,
        embedder.max_waiting,
        embedder.hang_s,
        max_stuck=2 * threads,
        long_length=embedder.long_length,
    )


def grpc_options(settings: Settings) -> GrpcOptions:
    """How the applications' port is served."""
    server = settings.server
    return GrpcOptions(
        setting="server.listen",
        **server.model_dump(exclude={"insecure_bind", "workers", "max_connection_age_s"}),
        shares_port=server.workers > 1,
        max_connection_age_s=server.max_connection_age_s if server.workers > 1 else 0.0,
        traced=bool(settings.telemetry.otlp_endpoint),
    )


def admin_grpc_options(settings: Settings) -> GrpcOptions:
    """Few callers, who may stay long: an export, an import, a backup, and room for questions beside."""
    return GrpcOptions(
        setting="admin.rpc_listen",
        listen=settings.admin.rpc_listen,
        reflection=settings.server.reflection,
        threads=8,
        pollers=1,
        max_streams=16,
        max_concurrent_calls=64,
        max_queued_calls=8,
        max_queue_s=10.0,
        max_message_bytes=settings.server.max_message_bytes + (8 << 20),  # an entry, its prompt and vector
        drain_s=settings.server.drain_s,
    )


def janitor_options(settings: Settings) -> JanitorOptions:
    """How housekeeping is done."""
    store = settings.store
    return JanitorOptions(
        interval_s=store.tidy_interval_s,
        high_watermark=store.high_watermark,
        low_watermark=store.low_watermark,
        max_notes=store.max_use_notes,
        max_entries=store.max_entries or None,
    )


def step_back() -> None:
    """Let the calling thread, and on Linux it alone, have what processor time others leave."""
    if sys.platform == "linux":
        with suppress(OSError):  # where that is not allowed the thread works all the same
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def open_trust(
    settings: Settings, fingerprint: str, observer: Observer, *, is_doubtful: bool = False
) -> LmdbTrust:
    """Open the store of trust, or create it; what is damaged is moved aside, which is told.

    Raises FULL or UNAVAILABLE. ``is_doubtful`` as in ``LmdbTrust``.
    """
    given = settings.trust
    bounds = TrustBounds(given.max_labels, given.max_vetoes, given.max_bytes, given.max_namespaces)
    trust = LmdbTrust(settings.store.path / DIRECTORY, fingerprint, bounds, is_doubtful=is_doubtful)
    if trust.moved_aside is not None:
        observer.on(TrustMovedAside(str(trust.moved_aside)))
    return trust
