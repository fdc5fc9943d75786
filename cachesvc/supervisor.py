"""The composition root of a server of several workers: what is done once, what is asked of the whole, and the signals.

It takes the store's directory, makes the store ready, has the model compiled, takes the port and opens the operators'
ports; then it keeps the workers (``crew``), which open the store and answer the calls. It loads no engine and no index and
has no store open: what may kill a process kills a worker. Workers end with it.
"""

import os
import queue
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector

from cachesvc import __version__, signals
from cachesvc.adapters import lmdb_tickets
from cachesvc.adapters.clock import SystemClock
from cachesvc.adapters.lmdb_begin import prepare
from cachesvc.adapters.snapshot_files import remove_parts
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import StoreMovedAside
from cachesvc.core.ports import Observer
from cachesvc.core.warming import Warming
from cachesvc.crew import Crew, CrewOptions, Ended
from cachesvc.link import Begin, Family, Report, Seat
from cachesvc.making import (
    admin_grpc_options,
    compiled_engine,
    concurrency,
    open_trust,
    store_options,
    telling_migration,
)
from cachesvc.observe.crew import CrewMetrics, Merged, MetricValues, SampleKey
from cachesvc.observe.fanout import Fanout
from cachesvc.observe.later import Later
from cachesvc.observe.log import Logger, LogObserver
from cachesvc.observe.metrics import MetricsObserver
from cachesvc.reload import Reloader
from cachesvc.serve.admin import AdminPages, AdminServer
from cachesvc.serve.crew_service import CrewService
from cachesvc.serve.door import Admission
from cachesvc.serve.grpc_server import GrpcServer
from cachesvc.serve.reservation import Reservation
from cachesvc.settings import Settings, child_environment

_SOCKET_BYTES = 107 + len("unix:")  # a socket's address, at most
_LONGEST_NUMBER = 63
_CRASHES_TO_LOOK = 3  # more than the next start takes for kills
_NOT_BEGUN = Warming(False, 0, 0, 0, 0, 0.0)
_END_S = 8.0  # for a worker's last housekeeping, beyond the two drains


class Supervisor:
    """A running server of several workers, complete when constructed. ``stop`` once."""

    def __init__(
        self, settings: Settings, path: Path | None, logger: Logger, gave_up: Callable[[CacheError], None]
    ) -> None:
        """Open what is to be opened, and start the workers, without waiting for them. ``gave_up`` is called, from
        another thread, when there is no use in going on. Raises as ``App``; nothing is left open then.
        """
        self._logger = logger
        self._settings = settings
        self._tell_gave_up = gave_up
        self._stopping = False
        self._suspects_store = False
        self._starting = set(range(settings.server.workers))  # that have not served yet
        self._closing = ExitStack()
        try:
            self._start(settings, path)
        except BaseException:
            self._closing.close()
            raise

    def _start(self, settings: Settings, path: Path | None) -> None:
        own = CollectorRegistry()
        ProcessCollector(registry=own)
        metrics = MetricsObserver(own, __version__, settings.metrics.max_journeys)
        self._metrics = CrewMetrics(own)
        later = Later(metrics)
        self._closing.callback(later.stop)
        observer = Fanout(later, LogObserver(self._logger))
        fingerprint = compiled_engine(settings.embedder, self._tell_compiling).manifest.fingerprint
        self._prepared = prepare(store_options(settings), fingerprint, telling_migration(self._logger))
        self._closing.callback(self._let_go)
        if self._prepared.moved_aside is not None:
            observer.on(StoreMovedAside(str(self._prepared.moved_aside)))
        # Before there are several that would each move it aside.
        open_trust(settings, fingerprint, observer, is_doubtful=self._prepared.keeps_dying).close()
        self._clock = SystemClock(floor_ms=self._prepared.clock_ms)
        self._sockets = _empty_directory(settings.store.path / "workers")
        lmdb_tickets.wipe(settings.store.path / "tickets")
        remove_parts(settings.store.path / "snapshots")
        self._tickets_key = secrets.token_bytes(lmdb_tickets.KEY_BYTES)
        reservation = Reservation("server.listen", settings.server.listen)
        self._closing.callback(reservation.release)
        self.address = reservation.address
        self._crew = Crew(self._crew_options(settings), self._begin, self, self._clock)
        self._metrics.watch(settings.server.workers, lambda: len(self._serving()), self._is_ready)
        self._merged = Merged(own, self._crew.refresh)
        self.reloader = Reloader(path, settings, self._publish, observer)
        self._closing.callback(self.reloader.stop)
        self._listen(settings, later, observer)
        self._closing.callback(self._crew.stop)
        self._fields = {
            "version": __version__,
            "address": self.address,
            "admin": self.admin_address,
            "admin_rpc": self.admin_rpc_address,
            "store": str(settings.store.path.absolute()),
            "embedder": fingerprint,
            "workers": settings.server.workers,
        }
        self._crew.start()

    def _listen(self, settings: Settings, later: Later, observer: Observer) -> None:
        """Open the operators' ports."""
        shown = CollectorRegistry()
        shown.register(self._merged)
        pages = AdminPages(
            shown,
            later.flush,
            self._is_ready,
            self._components,
            self._warming,
            self._is_alive,
            self._redacted,
        )
        admin = AdminServer(settings.admin.listen, pages)
        self._closing.callback(admin.stop)
        self.admin_address = admin.address
        service = CrewService(
            lambda: [_rpc_address(self._sockets, number) for number in self._serving()],
            self._components,
            self.reloader,
            self._clock.now_ms(),
        )
        rpc = GrpcServer(
            service,
            admin_grpc_options(settings),
            clock=self._clock,
            observer=observer,
            new_id=lambda: secrets.token_hex(12),
            works=lambda: True,
            admission=Admission(lambda metadata: False, later),
        )
        self.admin_rpc_address = rpc.start()
        self._closing.callback(rpc.stop)
        rpc.begin_serving()

    def stop(self) -> None:
        """Have the workers finish what is under way and end, and close everything."""
        self._stopping = True
        self._logger.info("stopping")
        self._closing.close()
        self._logger.info("stopped")

    # -------------------------------------------------- what workers are told

    def _crew_options(self, settings: Settings) -> CrewOptions:
        return CrewOptions(
            count=settings.server.workers,
            command=(sys.executable, "-P", "-m", "cachesvc.worker"),
            descriptors=(self._prepared.lock.descriptor,),
            environment=child_environment(),
            stop_s=2 * settings.server.drain_s + _END_S,
        )

    def _begin(self, number: int) -> Begin:
        start = self._clock.start
        seat = Seat(number, self._prepared.lock.descriptor, start.start_ms, start.boot_ns, self._tickets_key)
        return Begin(self._as_told(self._settings, number), seat)

    def _publish(self, settings: Settings) -> None:
        self._settings = settings
        self._logger.set_level(settings.log.level)
        self._crew.publish(lambda number: self._as_told(settings, number))

    def _as_told(self, settings: Settings, number: int) -> dict[str, Any]:
        """The settings of one worker: its share of the cores, the port that was chosen, a socket of its own."""
        told = settings.model_dump(mode="json")
        told["server"]["listen"] = self.address
        told["admin"]["rpc_listen"] = _rpc_address(self._sockets, number)
        if not settings.embedder.concurrency:
            told["embedder"]["concurrency"] = max(
                1, concurrency(settings.embedder) // settings.server.workers
            )
        return told

    # ---------------------------------------------- what becomes of workers

    def worker_serves(self, number: int, pid: int) -> None:
        """See ``CrewWatcher``."""
        self._logger.info("worker_serving", worker=number, pid=pid)
        if self._starting:
            self._starting.discard(number)
            if not self._starting:
                self._logger.info("serving", **self._fields)

    def worker_reports(self, number: int, report: Report) -> None:
        """See ``CrewWatcher``."""
        self._merged.heard(number, [_values(family) for family in report.families])

    def worker_ended(self, ended: Ended) -> None:
        """See ``CrewWatcher``."""
        self._merged.gone(ended.number)
        if not ended.wanted:
            self._metrics.restarted()
            self._logger.error("worker_ended", worker=ended.number, exit=ended.code)

    def gave_up(self, error: CacheError, *, suspects_store: bool) -> None:
        """See ``CrewWatcher``."""
        if suspects_store:
            self._prepared.lock.crashes += _CRASHES_TO_LOOK
            self._suspects_store = True
        self._tell_gave_up(error)

    def _let_go(self) -> None:
        self._prepared.lock.release(stopped=not self._suspects_store)

    # ------------------------------------------------------- how the whole is

    def _serving(self) -> list[int]:
        return [member.number for member in self._crew.members() if member.serving]

    def _is_ready(self) -> bool:
        return not self._stopping and any(
            member.serving and (member.report is None or member.report.ready)
            for member in self._crew.members()
        )

    def _is_alive(self) -> bool:
        """Whether what serves takes writes. That none serves is seen to."""
        reports = [member.report for member in self._crew.members() if member.serving]
        return all(report.alive for report in reports if report is not None)

    def _components(self) -> Mapping[str, bool]:
        """Each worker, and each part where it works in all that serve."""
        members = self._crew.members()
        parts: dict[str, bool] = {f"worker_{member.number}": member.serving for member in members}
        for member in members:
            if member.serving and member.report is not None:
                for name, works in member.report.components.items():
                    parts[name] = parts.get(name, True) and works
        parts["config"] = not self.reloader.now.last_error
        return parts

    def _warming(self) -> Warming:
        """Of the worker that is least far."""
        reports = [member.report for member in self._crew.members() if member.serving]
        told = [report.warming for report in reports if report is not None]
        return min(told, key=lambda one: (one.is_done, one.rows), default=_NOT_BEGUN)

    def _redacted(self) -> dict[str, Any]:
        return self.reloader.now.settings.redacted()

    def _tell_compiling(self, step: str) -> None:
        self._logger.info("compiling", step=step)


def supervise(settings: Settings, path: Path | None) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again. Raises what ``Supervisor`` raises, and
    what workers cannot start for.
    """
    os.umask(0o077)
    logger = Logger(settings.log.level, settings.log.format)
    heard: queue.SimpleQueue[int | CacheError] = queue.SimpleQueue()
    signals.hear(heard.put)
    supervisor = Supervisor(settings, path, logger, heard.put)
    said = signals.until_the_end(heard, supervisor.reloader)
    supervisor.stop()
    if isinstance(said, CacheError):
        raise said


def _empty_directory(path: Path) -> Path:
    """For the workers' sockets. Raises INVALID where their paths would be too long for the system."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    if len(_rpc_address(path, _LONGEST_NUMBER).encode()) > _SOCKET_BYTES:
        raise CacheError(
            Kind.INVALID, f"store.path {path.parent} is too long for server.workers: sockets go below it"
        )
    return path


def _rpc_address(sockets: Path, number: int) -> str:
    return f"unix:{sockets.absolute()}/{number}"


def _values(family: Family) -> MetricValues:
    values = {SampleKey(sample.name, tuple(sample.labels.items())): sample.value for sample in family.samples}
    return MetricValues(family.name, family.help, family.kind, values)
