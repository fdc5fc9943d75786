"""AdminService of a server of several workers: about the whole by itself, and for the longer methods by one of them.

Called on the supervisor's port; asks workers on sockets of theirs that nobody else can enter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from cachesvc.core.errors import CacheError, Kind, Violation
from cachesvc.reload import Reloader
from cachesvc.serve.admin_methods import AdminMethods
from cachesvc.serve.checks import parse
from cachesvc.serve.edge import Call
from cachesvc.serve.wire import fill_time
from cachesvc.v1 import admin_pb2 as pb
from cachesvc.v1.admin_pb2_grpc import AdminServiceStub

_M = TypeVar("_M", bound=Message)
_R_co = TypeVar("_R_co", covariant=True)

_Ask: TypeAlias = "Callable[[Any], _Replies[_M]]"

_STATS_S = 5.0
_ANSWER_S = 30.0
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))


class _Replies(Protocol[_R_co]):
    """A call under way, as gRPC has it."""

    def __iter__(self) -> Iterator[_R_co]: ...

    def cancel(self) -> bool: ...


class CrewService(AdminMethods):
    """The methods. ``serving`` gives the addresses of the workers that answer, ``components`` the parts of the whole."""

    def __init__(
        self,
        serving: Callable[[], Sequence[str]],
        components: Callable[[], Mapping[str, bool]],
        reloader: Reloader,
        started_ms: int,
    ) -> None:
        super().__init__(reloader)
        self._serving = serving
        self._components = components
        self._started_ms = started_ms

    def get_stats(self, data: bytes, call: Call) -> pb.GetStatsResponse:
        """``GetStats``: the store by one worker, for all see the same; indexes of all together."""
        request = parse(pb.GetStatsRequest, data)
        replies: list[pb.GetStatsResponse] = []
        refusal = CacheError(Kind.UNAVAILABLE, "no worker serves")
        for address in self._serving():
            try:
                with _calling(address) as channel:
                    replies.append(AdminServiceStub(channel).GetStats(request, timeout=_STATS_S))
            except CacheError as error:  # it may just have ended
                refusal = error
        if not replies:
            raise refusal
        stats = replies[0]
        stats.index_bytes = sum(reply.index_bytes for reply in replies)
        stats.index_scopes = sum(reply.index_scopes for reply in replies)
        stats.config_generation = self._reloader.now.generation
        stats.components.clear()
        stats.components.update(self._components())
        fill_time(stats.start_time, self._started_ms)
        return stats

    def check_store(self, data: bytes, call: Call) -> Iterator[pb.CheckStoreResponse]:
        """``CheckStore``."""
        return self._one("CheckStore", pb.CheckStoreResponse, data, call)

    def export(self, data: bytes, call: Call) -> Iterator[pb.ExportResponse]:
        """``Export``."""
        return self._one("Export", pb.ExportResponse, data, call)

    def import_(self, requests: Iterator[bytes], call: Call) -> Iterator[pb.ImportResponse]:
        """``Import``."""
        with _calling(self._any()) as channel:
            method: _Ask[pb.ImportResponse] = channel.stream_stream(
                f"/{self.name}/Import", response_deserializer=pb.ImportResponse.FromString
            )
            yield from _while_wanted(method(requests), call)

    def backup(self, data: bytes, call: Call) -> Iterator[pb.BackupResponse]:
        """``Backup``."""
        return self._one("Backup", pb.BackupResponse, data, call)

    def get_trust(self, data: bytes, call: Call) -> pb.GetTrustResponse:
        """``GetTrust``."""
        return self._answer("GetTrust", pb.GetTrustResponse, data)

    def revert_rule(self, data: bytes, call: Call) -> pb.RevertRuleResponse:
        """``RevertRule``: by one worker; the others follow."""
        return self._answer("RevertRule", pb.RevertRuleResponse, data)

    def unpin_rule(self, data: bytes, call: Call) -> pb.UnpinRuleResponse:
        """``UnpinRule``: by one worker; the others follow."""
        return self._answer("UnpinRule", pb.UnpinRuleResponse, data)

    def list_labels(self, data: bytes, call: Call) -> Iterator[pb.ListLabelsResponse]:
        """``ListLabels``."""
        return self._one("ListLabels", pb.ListLabelsResponse, data, call)

    def _answer(self, name: str, kind: type[_M], data: bytes) -> _M:
        """The one message that one of the workers answers."""
        with _calling(self._any()) as channel:
            ask: Callable[..., _M] = channel.unary_unary(
                f"/{self.name}/{name}", response_deserializer=kind.FromString
            )
            return ask(data, timeout=_ANSWER_S)

    def _one(self, name: str, kind: type[_M], data: bytes, call: Call) -> Iterator[_M]:
        """What one of the workers answers."""
        with _calling(self._any()) as channel:
            ask: _Ask[_M] = channel.unary_stream(
                f"/{self.name}/{name}", response_deserializer=kind.FromString
            )
            yield from _while_wanted(ask(data), call)

    def _any(self) -> str:
        serving = self._serving()
        if not serving:
            raise CacheError(Kind.UNAVAILABLE, "no worker serves")
        return serving[0]


def _while_wanted(replies: "_Replies[_M]", call: Call) -> Iterator[_M]:
    try:
        for reply in replies:
            if not call.wanted():
                raise CacheError(Kind.UNAVAILABLE, "the caller is gone, or the server is stopping")
            yield reply
    finally:
        replies.cancel()


@contextmanager
def _calling(address: str) -> Iterator[grpc.Channel]:
    """A connection to a worker; what it refuses is refused here."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise _refusal(error) from None


def _refusal(error: grpc.RpcError) -> CacheError:
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    if status is None:  # the worker ended, or was about to
        return CacheError(Kind.UNAVAILABLE, "the worker that was asked has ended: try again")
    info, wrong = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(wrong)
    violations = tuple(Violation(one.field, one.description) for one in wrong.field_violations)
    return CacheError(Kind[info.reason] if info.reason else Kind.INTERNAL, status.message, violations)
