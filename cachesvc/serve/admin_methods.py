"""What AdminService is, whoever answers it: its methods by name, and those about the configuration.

One process answers them all by itself (``admin_service``), the supervisor of several in part (``crew_service``).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator

import grpc

from cachesvc.reload import Reloader
from cachesvc.serve.checks import parse
from cachesvc.serve.edge import Call, Edge
from cachesvc.v1 import admin_pb2 as pb


class AdminMethods(ABC):
    """The methods: bytes in, messages out. Raise CacheError."""

    name = pb.DESCRIPTOR.services_by_name["AdminService"].full_name

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader

    def handlers(self, edge: Edge) -> grpc.GenericRpcHandler:
        """The methods, behind the edge of a server."""
        return edge.service(
            self.name,
            {
                "GetStats": edge.unary("GetStats", self.get_stats),
                "GetConfig": edge.unary("GetConfig", self.get_config),
                "ReloadConfig": edge.unary("ReloadConfig", self.reload_config),
                "CheckStore": edge.stream("CheckStore", self.check_store),
                "Export": edge.stream("Export", self.export),
                "Import": edge.bidirectional("Import", self.import_),
                "Backup": edge.stream("Backup", self.backup),
                "GetTrust": edge.unary("GetTrust", self.get_trust),
                "RevertRule": edge.unary("RevertRule", self.revert_rule),
                "UnpinRule": edge.unary("UnpinRule", self.unpin_rule),
                "ListLabels": edge.stream("ListLabels", self.list_labels),
            },
        )

    @abstractmethod
    def get_stats(self, data: bytes, call: Call) -> pb.GetStatsResponse:
        """``GetStats``."""

    def get_config(self, data: bytes, call: Call) -> pb.GetConfigResponse:
        """``GetConfig``."""
        parse(pb.GetConfigRequest, data)
        now, path = self._reloader.now, self._reloader.path
        return pb.GetConfigResponse(
            json=json.dumps(now.settings.redacted(), indent=2),
            generation=now.generation,
            path="" if path is None else str(path),
            last_error=now.last_error,
        )

    def reload_config(self, data: bytes, call: Call) -> pb.ReloadConfigResponse:
        """``ReloadConfig``. Whoever answers calls goes by it once this returns."""
        parse(pb.ReloadConfigRequest, data)
        changed = self._reloader.reload()
        return pb.ReloadConfigResponse(generation=self._reloader.now.generation, changed=changed)

    @abstractmethod
    def check_store(self, data: bytes, call: Call) -> Iterator[pb.CheckStoreResponse]:
        """``CheckStore``."""

    @abstractmethod
    def export(self, data: bytes, call: Call) -> Iterator[pb.ExportResponse]:
        """``Export``."""

    @abstractmethod
    def import_(self, requests: Iterator[bytes], call: Call) -> Iterator[pb.ImportResponse]:
        """``Import``."""

    @abstractmethod
    def backup(self, data: bytes, call: Call) -> Iterator[pb.BackupResponse]:
        """``Backup``."""

    @abstractmethod
    def get_trust(self, data: bytes, call: Call) -> pb.GetTrustResponse:
        """``GetTrust``."""

    @abstractmethod
    def revert_rule(self, data: bytes, call: Call) -> pb.RevertRuleResponse:
        """``RevertRule``."""

    @abstractmethod
    def unpin_rule(self, data: bytes, call: Call) -> pb.UnpinRuleResponse:
        """``UnpinRule``."""

    @abstractmethod
    def list_labels(self, data: bytes, call: Call) -> Iterator[pb.ListLabelsResponse]:
        """``ListLabels``."""
