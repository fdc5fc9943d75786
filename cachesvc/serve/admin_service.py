"""AdminService, the operators' API, on a port of its own: bytes in, messages out, CacheError for what goes wrong."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import Failpoint
from cachesvc.core.types import CheckStep, NamespaceUsage, StoreStats
from cachesvc.core.warming import Warming
from cachesvc.engine.move import Mover
from cachesvc.engine.trust_desk import TrustDesk
from cachesvc.reload import Reloader
from cachesvc.serve import trust_admin
from cachesvc.serve.admin_methods import AdminMethods
from cachesvc.serve.checks import Check, parse
from cachesvc.serve.copying import PART, Copying
from cachesvc.serve.edge import Call
from cachesvc.serve.requests import RequestReader
from cachesvc.serve.transfer import FORMAT_VERSION, ImportReader, export_record, import_response
from cachesvc.serve.wire import fill_time
from cachesvc.v1 import admin_pb2 as pb

_NAMESPACE_COUNT = 1000
_PROGRESS_S = 0.5
_BACKUP_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Insight:
    """What GetStats shows, read when it is asked."""

    version: str
    started_ms: int
    components: Callable[[], Mapping[str, bool]]
    store: Callable[[], StoreStats]
    usage: Callable[[int], list[NamespaceUsage]]
    index_bytes: Callable[[], int]
    index_scopes: Callable[[], int]
    warming: Callable[[], Warming]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What the longer methods do. ``back_up`` blocks until its copy of the store is whole and on disk."""

    mover: Mover
    checking: Callable[[], Iterator[CheckStep]]
    index_disagreements: Callable[[], Iterator[str]]
    back_up: Callable[[Path], None]
    backup_dir: Path
    trust: TrustDesk
    failpoint: Failpoint


class AdminService(AdminMethods):
    """The methods of a process that has the store open itself."""

    def __init__(self, insight: Insight, reloader: Reloader, upkeep: Upkeep, reader: RequestReader) -> None:
        self._insight = insight
        super().__init__(reloader)
        self._upkeep = upkeep
        self._reader = reader

    def get_stats(self, data: bytes, call: Call) -> pb.GetStatsResponse:
        """``GetStats``."""
        parse(pb.GetStatsRequest, data)
        insight, stats = self._insight, self._insight.store()
        response = pb.GetStatsResponse(
            version=insight.version,
            components=insight.components(),
            entries=stats.entries,
            used_bytes=stats.used_bytes,
            max_bytes=stats.max_bytes,
            sequence=stats.sequence,
            index_bytes=insight.index_bytes(),
            index_scopes=insight.index_scopes(),
            config_generation=self._reloader.now.generation,
            warming=_warming(insight.warming()),
            namespaces=[
                pb.NamespaceUsage(namespace=one.namespace, entries=one.entries, bytes=one.size_bytes)
                for one in insight.usage(_NAMESPACE_COUNT)
            ],
        )
        fill_time(response.start_time, insight.started_ms)
        return response

    def check_store(self, data: bytes, call: Call) -> Iterator[pb.CheckStoreResponse]:
        """``CheckStore``."""
        parse(pb.CheckStoreRequest, data)
        step = CheckStep(0, 0, ())
        for step in self._upkeep.checking():
            yield pb.CheckStoreResponse(checked=step.checked, total=step.total, problems=step.problems)
            _stay(call)
        problems = list(self._upkeep.index_disagreements())
        yield pb.CheckStoreResponse(checked=step.checked, total=step.total, problems=problems)

    def export(self, data: bytes, call: Call) -> Iterator[pb.ExportResponse]:
        """``Export``."""
        request = parse(pb.ExportRequest, data)
        check = Check()
        if request.namespace:
            check.namespace(request.namespace)
        after_id = check.entry_id("after_id", request.after_id) if request.after_id else 0
        check.done()
        header = pb.ExportHeader(
            format_version=FORMAT_VERSION,
            cachesvc_version=self._insight.version,
            fingerprint=self._upkeep.mover.fingerprint,
            vectors=request.vectors,
            namespace=request.namespace,
        )
        header.time.GetCurrentTime()
        yield pb.ExportResponse(record=pb.ExportRecord(header=header))
        count = 0
        for exported in self._upkeep.mover.export(request.namespace, after_id, vectors=request.vectors):
            _stay(call)
            count += 1
            yield pb.ExportResponse(record=export_record(exported))
        yield pb.ExportResponse(record=pb.ExportRecord(trailer=pb.ExportTrailer(entries=count)))

    def import_(self, requests: Iterator[bytes], call: Call) -> Iterator[pb.ImportResponse]:
        """``Import``."""
        entries = ImportReader(self._reader).entries(requests, call.wanted)
        return (import_response(tally) for tally in self._upkeep.mover.import_(entries))

    def backup(self, data: bytes, call: Call) -> Iterator[pb.BackupResponse]:
        """``Backup``."""
        name = parse(pb.BackupRequest, data).name
        if not _BACKUP_NAME.fullmatch(name) or name.endswith(PART):
            raise CacheError.invalid(
                "name",
                "must be at most 63 lower-case letters, digits, '.', '_' and '-', beginning with a letter or "
                f"digit and not ending in {PART}",
            )
        total_bytes = self._insight.store().used_bytes
        copying = Copying(self._upkeep.back_up, self._upkeep.backup_dir, name, self._upkeep.failpoint)
        while not copying.wait(_PROGRESS_S):
            yield pb.BackupResponse(written_bytes=copying.written_bytes, total_bytes=total_bytes)
        path = copying.result()
        size_bytes = (path / "data.mdb").stat().st_size
        yield pb.BackupResponse(written_bytes=size_bytes, total_bytes=size_bytes, path=str(path))

    def get_trust(self, data: bytes, call: Call) -> pb.GetTrustResponse:
        """``GetTrust``."""
        return trust_admin.get_trust(self._upkeep.trust, data)

    def revert_rule(self, data: bytes, call: Call) -> pb.RevertRuleResponse:
        """``RevertRule``."""
        return trust_admin.revert_rule(self._upkeep.trust, data)

    def unpin_rule(self, data: bytes, call: Call) -> pb.UnpinRuleResponse:
        """``UnpinRule``."""
        return trust_admin.unpin_rule(self._upkeep.trust, data)

    def list_labels(self, data: bytes, call: Call) -> Iterator[pb.ListLabelsResponse]:
        """``ListLabels``."""
        for part in trust_admin.list_labels(self._upkeep.trust, data):
            _stay(call)
            yield part


def _warming(told: Warming) -> pb.IndexWarming:
    message = pb.IndexWarming(
        done=told.is_done,
        scopes=told.scopes,
        scopes_total=told.scopes_total,
        rows=told.rows,
        rows_total=told.rows_total,
    )
    message.elapsed.FromMilliseconds(int(told.elapsed_s * 1000))
    return message


def _stay(call: Call) -> None:
    if not call.wanted():
        raise CacheError(Kind.UNAVAILABLE, "the caller is gone, or the server is stopping")
