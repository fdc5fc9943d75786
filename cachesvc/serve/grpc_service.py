"""CacheService, the applications' API: bytes in, message out, CacheError for whatever goes wrong."""

from dataclasses import dataclass

import grpc

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import CallFailed
from cachesvc.core.ports import Observer
from cachesvc.core.types import Ask, LookupResult
from cachesvc.engine.admit import Admit
from cachesvc.engine.curate import Curator, Walk
from cachesvc.engine.explain import Explain
from cachesvc.engine.feedback import Feedback
from cachesvc.engine.judge import Begun
from cachesvc.engine.lookup import Lookup
from cachesvc.serve import curation, wire
from cachesvc.serve.checks import parse
from cachesvc.serve.edge import Call, Edge
from cachesvc.serve.errors import CODES, item_error
from cachesvc.serve.explaining import explain_response
from cachesvc.serve.requests import RequestReader
from cachesvc.v1 import cache_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["CacheService"].full_name


@dataclass(frozen=True, slots=True)
class Applications:
    """What answers applications."""

    lookup: Lookup
    admit: Admit
    curator: Curator
    feedback: Feedback
    explain: Explain


class CacheService:
    """The methods: bytes in, message out. Raise CacheError. An item of a batch that fails is an event."""

    name = SERVICE

    def __init__(self, engine: Applications, reader: RequestReader, observer: Observer) -> None:
        self._lookup = engine.lookup
        self._admit = engine.admit
        self._curator = engine.curator
        self._feedback = engine.feedback
        self._explain = engine.explain
        self._reader = reader
        self._observer = observer

    def handlers(self, edge: Edge) -> grpc.GenericRpcHandler:
        """The methods, behind the edge of a server."""
        return edge.service(
            SERVICE,
            {
                "Lookup": edge.unary("Lookup", self.lookup, self.begin_lookup),
                "Store": edge.unary("Store", self.store),
                "Get": edge.unary("Get", self.get),
                "Delete": edge.unary("Delete", self.delete),
                "BatchLookup": edge.unary("BatchLookup", self.batch_lookup),
                "BatchStore": edge.unary("BatchStore", self.batch_store),
                "Invalidate": edge.unary("Invalidate", self.invalidate),
                "ListEntries": edge.unary("ListEntries", self.list_entries),
                "SubmitFeedback": edge.unary("SubmitFeedback", self.submit_feedback),
                "Explain": edge.unary("Explain", self.explain),
            },
        )

    def lookup(self, data: bytes, call: Call) -> pb.LookupResponse:
        """``Lookup``."""
        return wire.lookup_response(self._lookup(self._reader.lookup(data, call.deadline_s, call.trace)))

    def begin_lookup(self, data: bytes, call: Call) -> "pb.LookupResponse | _LookupBegun":
        """``Lookup``, as far as the exact tier has it."""
        begun = self._lookup.begin(self._reader.lookup(data, call.deadline_s, call.trace))
        return (
            wire.lookup_response(begun)
            if isinstance(begun, LookupResult)
            else _LookupBegun(self._lookup, begun)
        )

    def store(self, data: bytes, call: Call) -> pb.StoreResponse:
        """``Store``."""
        return wire.store_response(self._admit.store(self._reader.store(data, call.deadline_s, call.trace)))

    def get(self, data: bytes, call: Call) -> pb.GetResponse:
        """``Get``."""
        namespace, entry_id = self._reader.entry_name(parse(pb.GetRequest, data))
        entry = self._admit.get(namespace, entry_id)
        if entry is None:
            raise CacheError(
                Kind.NOT_FOUND, f"id: no entry {wire.entry_id_text(entry_id)} in namespace {namespace}"
            )
        return wire.get_response(entry)

    def delete(self, data: bytes, call: Call) -> pb.DeleteResponse:
        """``Delete``."""
        namespace, entry_id = self._reader.entry_name(parse(pb.DeleteRequest, data))
        return pb.DeleteResponse(deleted=self._admit.delete(namespace, entry_id))

    def batch_lookup(self, data: bytes, call: Call) -> pb.BatchLookupResponse:
        """``BatchLookup``."""
        response = pb.BatchLookupResponse()
        left_bytes = self._reader.limits.batch_reply_bytes
        for n, ask in enumerate(self._reader.batch_lookup(data, call.deadline_s, call.trace)):
            if not call.wanted():
                raise CacheError(Kind.UNAVAILABLE, "the caller is gone, or the server is stopping")
            result = response.results.add()
            try:
                answer = self._answer(ask, left_bytes)
                left_bytes -= answer.ByteSize()
                result.response.CopyFrom(answer)
            except CacheError as error:
                result.error.CopyFrom(self._failed("BatchLookup", n, error))
        return response

    def batch_store(self, data: bytes, call: Call) -> pb.BatchStoreResponse:
        """``BatchStore``."""
        keeps = self._reader.batch_store(data, call.deadline_s, call.trace)
        good = [keep for keep in keeps if not isinstance(keep, CacheError)]
        stored = iter(self._admit.store_many(good, call.wanted))
        response = pb.BatchStoreResponse()
        for n, keep in enumerate(keeps):
            outcome = keep if isinstance(keep, CacheError) else next(stored)
            if isinstance(outcome, CacheError):
                response.results.add(error=self._failed("BatchStore", n, outcome))
            else:
                response.results.add(response=wire.store_response(outcome))
        return response

    def invalidate(self, data: bytes, call: Call) -> pb.InvalidateResponse:
        """``Invalidate``."""
        request, wish = curation.invalidate_request(data, self._reader.limits)
        walk = Walk(call.deadline_s, call.wanted)
        return curation.invalidate_response(
            self._curator.invalidate(wish, walk, dry_run=request.dry_run, max_examples=request.max_examples)
        )

    def list_entries(self, data: bytes, call: Call) -> pb.ListEntriesResponse:
        """``ListEntries``."""
        request, wish, after = curation.list_request(data)
        page = self._curator.page(wish, after, request.page_size, Walk(call.deadline_s, call.wanted))
        return curation.list_response(request, page)

    def submit_feedback(self, data: bytes, call: Call) -> pb.SubmitFeedbackResponse:
        """``SubmitFeedback``."""
        return wire.feedback_response(self._feedback(self._reader.feedback(data, call.deadline_s)))

    def explain(self, data: bytes, call: Call) -> pb.ExplainResponse:
        """``Explain``."""
        ask, entry_id = self._reader.explain(data, call.deadline_s)
        return explain_response(self._explain(ask, entry_id))

    def _answer(self, ask: Ask | CacheError, left_bytes: int) -> pb.LookupResponse:
        """One item's answer. A batch is a small request for a reply that may be very large: bounded here."""
        if isinstance(ask, CacheError):
            raise ask
        answer = wire.lookup_response(self._lookup(ask))
        if answer.ByteSize() > left_bytes:
            raise CacheError(
                Kind.OVERLOADED,
                f"the reply would have more than {self._reader.limits.batch_reply_bytes} bytes "
                "(limits.batch_reply_bytes): ask for fewer at once, or for this one with Lookup",
            )
        return answer

    def _failed(self, method: str, n: int, error: CacheError) -> pb.ItemError:
        self._observer.on(CallFailed(method, error.kind, CODES[error.kind].name, "", ""))
        return item_error(error.within(f"items[{n}]."))


class _LookupBegun:
    """A lookup that the exact tier did not answer."""

    def __init__(self, lookup: Lookup, begun: Begun) -> None:
        self._lookup = lookup
        self._begun = begun

    def finish(self) -> pb.LookupResponse:
        """See ``edge.Begun``."""
        return wire.lookup_response(self._lookup.finish(self._begun))
