"""The client of AdminService, for the command line and for scripts. Every call raises CallError."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import grpc

from cachesvc.calls import CHANNEL_OPTIONS, call_error
from cachesvc.v1 import admin_pb2 as pb
from cachesvc.v1.admin_pb2_grpc import AdminServiceStub

_T = TypeVar("_T")


class AdminClient:
    """A connection to ``admin.rpc_listen`` of one server."""

    def __init__(self, target: str = "127.0.0.1:50053", *, timeout_s: float = 10.0) -> None:
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._stub = AdminServiceStub(self._channel)
        self._timeout_s = timeout_s

    def stats(self) -> pb.GetStatsResponse:
        """How full the service is and whether its parts work."""
        return _call(lambda: self._stub.GetStats(pb.GetStatsRequest(), timeout=self._timeout_s))

    def config(self) -> pb.GetConfigResponse:
        """The configuration in force."""
        return _call(lambda: self._stub.GetConfig(pb.GetConfigRequest(), timeout=self._timeout_s))

    def reload(self) -> pb.ReloadConfigResponse:
        """Have the configuration read again."""
        return _call(lambda: self._stub.ReloadConfig(pb.ReloadConfigRequest(), timeout=self._timeout_s))

    def check(self) -> Iterator[pb.CheckStoreResponse]:
        """Have everything read; progress and findings as they come."""
        return _stream(self._stub.CheckStore(pb.CheckStoreRequest()))

    def export(
        self, *, namespace: str = "", vectors: bool = False, after_id: str = ""
    ) -> Iterator[pb.ExportRecord]:
        """The records of an export, header and trailer included."""
        request = pb.ExportRequest(namespace=namespace, vectors=vectors, after_id=after_id)
        return (response.record for response in _stream(self._stub.Export(request)))

    def import_(self, records: Iterator[pb.ExportRecord]) -> Iterator[pb.ImportResponse]:
        """Store exported records; progress as it comes."""
        return _stream(self._stub.Import(pb.ImportRequest(record=record) for record in records))

    def backup(self, name: str) -> Iterator[pb.BackupResponse]:
        """Have a copy of the store written; progress as it comes."""
        return _stream(self._stub.Backup(pb.BackupRequest(name=name)))

    def trust(self, namespace: str = "") -> pb.GetTrustResponse:
        """How right the hits of namespaces are, of one or of all."""
        request = pb.GetTrustRequest(namespace=namespace)
        return _call(lambda: self._stub.GetTrust(request, timeout=self._timeout_s))

    def revert_rule(self, namespace: str, version: int) -> pb.RevertRuleResponse:
        """Put an earlier rule of a namespace in force and keep it there; 0 is the policy's threshold."""
        request = pb.RevertRuleRequest(namespace=namespace, version=version)
        return _call(lambda: self._stub.RevertRule(request, timeout=self._timeout_s))

    def unpin_rule(self, namespace: str) -> pb.UnpinRuleResponse:
        """Let a namespace adopt rules again."""
        request = pb.UnpinRuleRequest(namespace=namespace)
        return _call(lambda: self._stub.UnpinRule(request, timeout=self._timeout_s))

    def labels(self, namespace: str) -> Iterator[pb.ListLabelsResponse]:
        """What is known of a namespace's requests: first the tally and the features' names, then labels."""
        return _stream(self._stub.ListLabels(pb.ListLabelsRequest(namespace=namespace)))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _call(call: Callable[[], _T]) -> _T:
    try:
        return call()
    except grpc.RpcError as error:
        raise call_error(error) from None


def _stream(responses: Iterator[_T]) -> Iterator[_T]:
    try:
        yield from responses
    except grpc.RpcError as error:
        raise call_error(error) from None
