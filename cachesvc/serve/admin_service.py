"""AdminService, the operators' API, on a port of its own: bytes in, messages out, CacheError for what goes wrong."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc

from cachesvc.core.types import NamespaceUsage, StoreStats
from cachesvc.reload import Reloader
from cachesvc.serve.checks import parse
from cachesvc.serve.edge import Call, Edge
from cachesvc.serve.wire import fill_time
from cachesvc.v1 import admin_pb2 as pb

_NAMESPACE_COUNT = 1000


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


class AdminService:
    """The methods."""

    name = pb.DESCRIPTOR.services_by_name["AdminService"].full_name

    def __init__(self, insight: Insight, reloader: Reloader) -> None:
        self._insight = insight
        self._reloader = reloader

    def handlers(self, edge: Edge) -> grpc.GenericRpcHandler:
        """The methods, behind the edge of a server."""
        return grpc.method_handlers_generic_handler(
            self.name,
            {
                "GetStats": edge.unary("GetStats", self.get_stats),
                "GetConfig": edge.unary("GetConfig", self.get_config),
                "ReloadConfig": edge.unary("ReloadConfig", self.reload_config),
            },
        )

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
            namespaces=[
                pb.NamespaceUsage(namespace=one.namespace, entries=one.entries, bytes=one.size_bytes)
                for one in insight.usage(_NAMESPACE_COUNT)
            ],
        )
        fill_time(response.start_time, insight.started_ms)
        return response

    def get_config(self, data: bytes, call: Call) -> pb.GetConfigResponse:
        """``GetConfig``."""
        parse(pb.GetConfigRequest, data)
        now = self._reloader.now
        return pb.GetConfigResponse(
            json=json.dumps(now.settings.redacted(), indent=2),
            generation=now.generation,
            path="" if self._reloader.path is None else str(self._reloader.path),
            last_error=now.last_error,
        )

    def reload_config(self, data: bytes, call: Call) -> pb.ReloadConfigResponse:
        """``ReloadConfig``."""
        parse(pb.ReloadConfigRequest, data)
        changed = self._reloader.reload()
        return pb.ReloadConfigResponse(generation=self._reloader.now.generation, changed=changed)
