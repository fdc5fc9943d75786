"""The composition root: what is made, in which order it starts and stops, and the signals.

Start: settings → embedder → store → clock → engine → operators' ports → gRPC → health SERVING → indexes warm.
Stop is the reverse: health NOT_SERVING → calls under way finish → last housekeeping → store.
"""

import gc
import os
import queue
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector

from cachesvc import __version__, signals
from cachesvc.adapters.clock import ClockStart, SystemClock
from cachesvc.adapters.faiss_index import FaissIndex, Growing, row_bytes
from cachesvc.adapters.leader import Leader
from cachesvc.adapters.lmdb_pages import MappedPages
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.lmdb_tickets import LmdbTickets
from cachesvc.adapters.scope_notes import NoteFile
from cachesvc.adapters.snapshot_files import SnapshotFiles
from cachesvc.core.events import StoreMovedAside
from cachesvc.core.ports import Clock, Embedder, Failpoint, Observer, TicketBook, no_failpoint
from cachesvc.core.tickets import TicketBounds
from cachesvc.core.trust import life
from cachesvc.engine.admit import Admit
from cachesvc.engine.analyses import Analyses
from cachesvc.engine.curate import Curator
from cachesvc.engine.explain import Explain
from cachesvc.engine.guard import Guard
from cachesvc.engine.janitor import Janitor
from cachesvc.engine.lookup import Lookup
from cachesvc.engine.move import Mover
from cachesvc.engine.parts import Parts, Reuse, SecondOpinion
from cachesvc.engine.settling import Behind, Settler
from cachesvc.engine.snapshots import Snapshots
from cachesvc.engine.tickets import Tickets
from cachesvc.engine.views import Views
from cachesvc.engine.warmup import Warmup, WarmupOptions
from cachesvc.link import Seat
from cachesvc.live import Live
from cachesvc.making import (
    admin_grpc_options,
    grpc_options,
    guard_options,
    make_embedder,
    make_otel,
    make_verifier,
    step_back,
    store_options,
    telling_migration,
)
from cachesvc.observe.fanout import Fanout
from cachesvc.observe.later import Later
from cachesvc.observe.log import Logger, LogObserver
from cachesvc.observe.metrics import Gauges, MetricsObserver
from cachesvc.reload import Reloader
from cachesvc.serve.admin import AdminPages, AdminServer
from cachesvc.serve.admin_service import AdminService, Insight, Upkeep
from cachesvc.serve.door import Admission, Doorkeeper
from cachesvc.serve.grpc_server import GrpcOptions, GrpcServer, Service
from cachesvc.serve.grpc_service import Applications, CacheService
from cachesvc.serve.requests import RequestReader
from cachesvc.settings import Settings
from cachesvc.trusting import Trusting, TrustNeeds


class App:
    """A running service, complete when constructed. ``stop`` once."""

    def __init__(
        self,
        settings: Settings,
        make_embedder: Callable[[], Embedder],
        logger: Logger,
        path: Path | None = None,
        failpoint: Failpoint = no_failpoint,
        seat: Seat | None = None,
    ) -> None:
        """Open and listen. ``make_embedder`` may be called again, should one get stuck; ``path`` is where the
        settings came from; ``seat`` makes it one of several that share the store and the port, with no admin
        page of its own. Raises LOCKED, INCOMPATIBLE, CORRUPT or UNAVAILABLE; nothing is left open then.
        """
        self._logger = logger
        self._failpoint = failpoint
        self._seat = seat
        self._stopping = False
        self._at_rest: Callable[[], None] = lambda: None
        self._closing = ExitStack()  # what was opened, closed in reverse, each whatever the others do
        try:
            self._start(settings, make_embedder, path)
        except BaseException:
            self._closing.close()
            raise

    def _start(self, settings: Settings, make_embedder: Callable[[], Embedder], path: Path | None) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        metrics = MetricsObserver(
            registry, __version__, settings.metrics.max_journeys, settings.metrics.max_namespaces
        )
        later = Later(metrics)
        self._closing.callback(later.stop)
        observers: list[Observer] = [later, LogObserver(self._logger)]
        if settings.telemetry.otlp_endpoint:
            otel = make_otel(settings.telemetry, registry, later.flush, self._seat)
            self._closing.callback(otel.stop)
            observers.append(otel)
        observer = Fanout(*observers)
        self._live = Live.of(settings)
        self.reloader = Reloader(path, settings, self.publish, observer)
        self._closing.callback(self.reloader.stop)

        embedder = make_embedder()
        self._store = store = LmdbStore(
            self._store_options(settings),
            embedder.fingerprint,
            self._failpoint,
            telling_migration(self._logger),
        )
        self._closing.callback(store.close)
        pages = MappedPages(settings.store.path / "data.mdb", settings.store.max_mapped_bytes)
        self._closing.callback(pages.stop)
        pages.start()
        self._closing.callback(self._rest)
        if store.moved_aside is not None:
            observer.on(StoreMovedAside(str(store.moved_aside)))
        clock = self._clock(store)
        if clock.ahead_s > _CLOCK_ODD_S:
            self._logger.error("wall_clock_behind_store", seconds=round(clock.ahead_s))
        self._guard = Guard(embedder, make_embedder, guard_options(settings), clock=clock, observer=observer)
        self._closing.callback(self._guard.stop)
        settler = Settler(clock, observer, step_back)
        self._closing.callback(settler.stop)
        settler.start()
        self._views = Views(
            store,
            lambda scope: FaissIndex(
                embedder.dimension,
                Growing(partial(store.vectors, scope), settings.index.lists_min_vectors),
            ),
            row_bytes=row_bytes(embedder.dimension),
            max_bytes=settings.index.max_bytes,
            clock=clock,
            observer=observer,
            behind=Behind(self._snapshots(settings, embedder, observer), settler),
        )
        leads, has_led = self._leads(settings)
        self._warmup = Warmup(
            self._views,
            NoteFile(settings.store.path / "scopes.recent", store.key_for(b"scopes")),
            WarmupOptions(settings.index.warm_max_scopes, settings.index.warm_share),
            leads=has_led,
            clock=clock,
            observer=observer,
        )
        self._janitor = Janitor(
            store,
            lambda: self._live.janitor,
            policies=lambda: self._live.tuning.policies,
            clock=clock,
            observer=observer,
            chores=[self._views.save_snapshots, self._warmup.note, self._trust_in_place],
            leads=leads,
        )
        tickets, analyses = self._tickets(settings, clock), Analyses(settings.index.max_analyses)
        self._trusting = Trusting(
            settings,
            TrustNeeds(
                store=store,
                embedder=self._guard,
                tickets=tickets,
                analyses=analyses,
                policies=lambda: self._live.tuning.policies,
                leads=has_led,
                clock=clock,
                observer=observer,
                step_back=step_back,
                is_doubtful=store.keeps_dying,
            ),
            life,
        )
        self._closing.callback(self._trusting.stop)
        parts = Parts(
            store=store,
            embedder=self._guard,
            views=self._views,
            tickets=tickets,
            reuse=Reuse(
                stance=self._trusting.trust.stance,
                count=self._trusting.trust.count,
                vetoes=self._trusting.vetoes,
                analyses=analyses,
                second_opinion=self._second_opinion(settings),
                coin=_coin,
            ),
            janitor=self._janitor,
            tuning=lambda: self._live.tuning,
            clock=clock,
            observer=observer,
            new_id=_new_id,
        )
        self._listen(settings, parts, registry, metrics, later)
        if self._seat is None:  # else its supervisor says so
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
        trusting = self._trusting
        cache = CacheService(
            Applications(
                Lookup(parts),
                Admit(parts, trusting.labeller.learn),
                Curator(parts),
                trusting.feedback,
                Explain(parts),
            ),
            reader,
            parts.observer,
        )
        insight = Insight(
            version=__version__,
            started_ms=parts.clock.now_ms(),
            components=self._components,
            store=self._store.stats,
            usage=self._store.usage,
            index_bytes=lambda: self._views.memory_bytes,
            index_scopes=lambda: self._views.loaded_count,
            warming=self._warmup.progress,
        )
        upkeep = Upkeep(
            mover=Mover(parts),
            checking=self._store.checking,
            index_disagreements=self._views.disagreements,
            back_up=self._back_up,
            backup_dir=settings.admin.backup_dir,
            trust=trusting.desk,
            failpoint=self._failpoint,
        )
        admin = AdminService(insight, self.reloader, upkeep, reader)
        doorkeeper = Doorkeeper(self._guard, parts.tuning)
        self._grpc = _grpc_server(
            cache,
            grpc_options(settings),
            parts,
            works=self._is_ready,
            admission=Admission(doorkeeper.turns_away, later),
        )
        self._admin_grpc = _grpc_server(
            admin,
            admin_grpc_options(settings),
            parts,
            works=lambda: True,
            admission=Admission(lambda metadata: False, later),
        )
        metrics.watch(
            Gauges(
                store=insight.store,
                index_bytes=insight.index_bytes,
                index_scopes=insight.index_scopes,
                warming=insight.warming,
                ready=self._is_ready,
            )
        )
        self.pages = AdminPages(
            registry,
            later.flush,
            self._is_ready,
            self._components,
            insight.warming,
            lambda: self._store.alive,
            self._redacted,
        )
        self.admin_address = ""
        if self._seat is None:
            self._admin = AdminServer(settings.admin.listen, self.pages)
            self._closing.callback(self._admin.stop)
            self.admin_address = self._admin.address
        self.admin_rpc_address = self._admin_grpc.start()
        self._closing.callback(self._admin_grpc.stop)
        self._admin_grpc.begin_serving()
        self._closing.callback(self._janitor.stop)
        self._closing.callback(self._warmup.stop)
        self.address = self._grpc.start()
        self._closing.callback(self._grpc.stop)
        self._janitor.start()
        self._trusting.start()
        self._grpc.begin_serving()
        self._warmup.start()

    def stop(self, at_rest: Callable[[], None] = lambda: None) -> None:
        """Finish what is under way and close everything. ``at_rest`` is called when no more is answered, and nothing
        is closed that the metrics are read from.
        """
        self._stopping, self._at_rest = True, at_rest
        self._logger.info("stopping")
        self._closing.close()
        self._logger.info("stopped")

    def _rest(self) -> None:
        self._at_rest()

    def _trust_in_place(self) -> None:
        self._trusting.store.refuse_removed()

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
            is_shared=self._seat is not None,
        )
        return Snapshots(files, self._store, observer, min_rows=settings.index.snapshot_min_vectors)

    def _back_up(self, directory: Path) -> None:
        self._store.backup(directory)
        self._trusting.store.backup(directory / "trust")

    def _store_options(self, settings: Settings) -> StoreOptions:
        options = store_options(settings)
        return options if self._seat is None else replace(options, lent_lock=self._seat.lock_descriptor)

    def _clock(self, store: LmdbStore) -> SystemClock:
        seat = self._seat
        start = None if seat is None else ClockStart(seat.clock_start_ms, seat.clock_boot_ns)
        return SystemClock(store.last_clock_ms(), start)

    def _leads(self, settings: Settings) -> tuple[Callable[[], bool], Callable[[], bool]]:
        """Whether it leads, and whether it did already when that was asked last."""
        if self._seat is None:
            return (lambda: True), (lambda: True)
        leader = Leader(settings.store.path / "housekeeping.lock")
        self._closing.callback(leader.resign)
        leader.leads()  # the first that comes does
        return leader.leads, lambda: leader.holds

    def _tickets(self, settings: Settings, clock: Clock) -> TicketBook:
        bounds = TicketBounds(**settings.tickets.model_dump())
        if self._seat is None:
            return Tickets(clock, bounds)
        tickets = LmdbTickets(settings.store.path / "tickets", self._seat.tickets_key, clock, bounds)
        self._closing.callback(tickets.close)
        return tickets

    def _second_opinion(self, settings: Settings) -> SecondOpinion | None:
        def progress(step: str) -> None:
            self._logger.info("compiling", step=step)

        verifier = make_verifier(settings, progress)
        if verifier is None:
            return None
        self._closing.callback(verifier.close)
        return SecondOpinion(verifier, settings.verifier.timeout_s)

    def publish(self, settings: Settings) -> None:
        """From now on go by these: one assignment, so that nobody sees a part of them."""
        self._live = Live.of(settings)
        self._logger.set_level(settings.log.level)

    def _redacted(self) -> dict[str, Any]:
        return self.reloader.now.settings.redacted()

    def _is_ready(self) -> bool:
        return all(works for name, works in self._components().items() if name not in _INFORMATIONAL)

    def _components(self) -> Mapping[str, bool]:
        return {
            "grpc": not self._stopping,
            "store": self._store.alive and self._store.in_place,
            "housekeeping": self._janitor.alive,
            "embedder": self._guard.healthy,
            "config": not self.reloader.now.last_error,
            "index": self._warmup.progress().is_done,
            "trust": self._trusting.store.in_place,
        }


_CLOCK_ODD_S = 60.0  # less is what machines differ by

# Parts that may fail while the service answers all the same: without an embedder from the exact tier, with
# a refused configuration by the last good one, while indexes are loaded from the exact tier and those that are in,
# without files of trust by what is known of it until the end.
_INFORMATIONAL = ("embedder", "config", "index", "trust")


def serve(settings: Settings, path: Path | None) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again. Raises what ``App`` raises."""
    os.umask(0o077)
    logger = Logger(settings.log.level, settings.log.format)
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    signals.hear(heard.put)
    app = App(
        settings,
        lambda: make_embedder(settings.embedder, lambda step: logger.info("compiling", step=step)),
        logger,
        path,
    )
    gc.freeze()  # what is there now stays: a full collection that looked at it would hold up every call
    signals.until_the_end(heard, app.reloader)
    app.stop()


def _grpc_server(
    service: Service, options: GrpcOptions, parts: Parts, *, works: Callable[[], bool], admission: Admission
) -> GrpcServer:
    return GrpcServer(
        service,
        options,
        clock=parts.clock,
        observer=parts.observer,
        new_id=_new_id,
        works=works,
        admission=admission,
    )


def _new_id() -> str:
    return secrets.token_hex(12)


def _coin() -> float:
    """Evenly from 0 to 1, and nobody can tell beforehand."""
    return secrets.randbits(53) / (1 << 53)
