"""The client for synchronous applications. It fails open: a dead or slow cache is a miss with a reason.

    client = cachesvc.Client("127.0.0.1:50051", namespace="support")
    reply = client.lookup("How do I reset my password?", model="gpt-5")
    if not reply.hit:
        answer = call_the_model()
        client.store(answer, lookup_id=reply.lookup_id)

or, the same in one:

    @client.cached(model="gpt-5", journey="help-widget")
    def ask(prompt: str) -> str: ...
"""

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, Unpack

import grpc

from cachesvc.audits import Audits
from cachesvc.breaker import Breaker
from cachesvc.calls import (
    CHANNEL_OPTIONS,
    OVERLOADED,
    PAUSED_LOOKUP,
    PAUSED_STORE,
    THROTTLED_LOOKUP,
    TIMED_OUT,
    UNSENDABLE,
    CachedEntry,
    Counts,
    IdentityOptions,
    LookupOptions,
    LookupReply,
    Prompt,
    StoreOptions,
    StoreReply,
    Usage,
    batch_lookup_replies,
    batch_store_replies,
    cached_entry,
    call_error,
    failed_lookup,
    failed_store,
    lookup_reply,
    lookup_request,
    refuse_unknown,
    store_reply,
    store_request,
    told,
)
from cachesvc.curating import (
    EntrySummary,
    InvalidateOptions,
    Invalidation,
    ListOptions,
    entry_summary,
    invalidate_request,
    invalidation,
    list_request,
)
from cachesvc.decorated import CachedCall, CachedOptions, Recalled
from cachesvc.judging import (
    Explanation,
    FeedbackOptions,
    FeedbackReply,
    Judgement,
    explanation,
    feedback_reply,
    feedback_request,
)
from cachesvc.throttle import Throttle
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

P = ParamSpec("P")
R = TypeVar("R")


class Client:
    """A connection to one server, to be shared by threads and kept open.

    ``timeout_s`` is what a lookup may cost the application at most, ``store_timeout_s`` what a store
    may. After five lookups in a row without an answer in that time, lookups and stores fail at once, and
    one a second is tried, until one is answered. A server that is too busy is sent about twice
    what it takes on. ``namespace``, ``model`` and ``journey`` are defaults for every call.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        namespace: str = "",
        model: str = "",
        journey: str = "",
        timeout_s: float = 0.25,
        store_timeout_s: float = 2.0,
    ) -> None:
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._stub = CacheServiceStub(self._channel)
        self._defaults = IdentityOptions(namespace=namespace, model=model, journey=journey)
        self._timeout_s = timeout_s
        self._store_timeout_s = store_timeout_s
        self._counts = Counts()
        self._breaker = Breaker()
        self._throttle = Throttle()
        self._audits = Audits()

    def lookup(self, prompt: Prompt, **options: Unpack[LookupOptions]) -> LookupReply:
        """Ask. Never raises for what the cache or the network does; TypeError for no such option."""
        refuse_unknown(options, LookupOptions)
        reply = self._ask(prompt, options)
        self._counts.add(reply.outcome)
        return reply

    def store(
        self, response: bytes | str, prompt: Prompt | None = None, **options: Unpack[StoreOptions]
    ) -> StoreReply:
        """Keep an answer, under the prompt, the ``lookup_id`` of a miss, or both. Fails open like ``lookup``."""
        refuse_unknown(options, StoreOptions)
        reply = PAUSED_STORE if self._breaker.paused else self._keep(response, prompt, options)
        self._counts.add("STORED" if reply.stored else "NOT_STORED")
        return reply

    def lookup_many(self, prompts: Sequence[Prompt], **options: Unpack[LookupOptions]) -> list[LookupReply]:
        """Ask many at once, with the same options; replies in the same order. Fails open."""
        refuse_unknown(options, LookupOptions)
        replies = self._ask_many(prompts, options)
        for reply in replies:
            self._counts.add(reply.outcome)
        return replies

    def store_many(
        self, items: Sequence[tuple[Prompt, bytes | str, StoreOptions]], *, timeout_s: float = 10.0
    ) -> list[StoreReply]:
        """Keep many answers in one commit: prompt, response and options each. Fails open, item by item."""
        try:
            requests = [
                store_request(response, prompt, options, self._defaults)
                for prompt, response, options in items
            ]
            batch = pb.BatchStoreRequest(items=requests)
            replies = batch_store_replies(self._stub.BatchStore(batch, timeout=timeout_s))
        except (grpc.RpcError, *UNSENDABLE) as error:
            replies = [failed_store(error)] * len(items)
        for reply in replies:
            self._counts.add("STORED" if reply.stored else "NOT_STORED")
        return replies

    def get(self, entry_id: str, *, namespace: str = "", timeout_s: float = 2.0) -> CachedEntry | None:
        """One entry, or None when there is none. Raises CallError: this call does not fail open."""
        request = pb.GetRequest(namespace=namespace or self._defaults["namespace"], id=entry_id)
        try:
            return cached_entry(self._stub.Get(request, timeout=timeout_s).entry)
        except grpc.RpcError as error:
            failure = call_error(error)
            if failure.code == "NOT_FOUND":
                return None
            raise failure from None

    def delete(self, entry_id: str, *, namespace: str = "", timeout_s: float = 2.0) -> bool:
        """Remove one entry; whether it was there. Raises CallError: this call does not fail open."""
        request = pb.DeleteRequest(namespace=namespace or self._defaults["namespace"], id=entry_id)
        try:
            return self._stub.Delete(request, timeout=timeout_s).deleted
        except grpc.RpcError as error:
            raise call_error(error) from None

    def invalidate(self, **options: Unpack[InvalidateOptions]) -> Invalidation:
        """Remove everything that meets all criteria. Raises CallError: this call does not fail open."""
        refuse_unknown(options, InvalidateOptions)
        request = invalidate_request(options, self._defaults["namespace"])
        try:
            return invalidation(self._stub.Invalidate(request, timeout=options.get("timeout_s", 60.0)))
        except grpc.RpcError as error:
            raise call_error(error) from None

    def list_entries(self, **options: Unpack[ListOptions]) -> Iterator[EntrySummary]:
        """Entries of a namespace, page by page as they are read. Raises CallError on the way."""
        refuse_unknown(options, ListOptions)
        page_token = ""
        while True:
            request = list_request(options, self._defaults["namespace"], page_token)
            try:
                page = self._stub.ListEntries(request, timeout=options.get("timeout_s", 10.0))
            except grpc.RpcError as error:
                raise call_error(error) from None
            for entry in page.entries:
                yield entry_summary(entry)
            page_token = page.next_page_token
            if not page_token:
                return

    def feedback(
        self,
        reply: LookupReply | None = None,
        verdict: Judgement | None = None,
        *,
        fresh: bytes | str | None = None,
        **options: Unpack[FeedbackOptions],
    ) -> FeedbackReply:
        """Say of a hit that it was right or wrong, or bring a fresh answer to compare it with. What is wrong is not
        served for such a request again. Raises CallError, and ValueError: this call does not fail open.

        With the ``prompt`` (and what else made up the request) it is understood even when the server does not
        remember the lookup any more.
        """
        refuse_unknown(options, FeedbackOptions)
        request = feedback_request(reply, verdict, fresh, options, self._defaults)
        try:
            response = self._stub.SubmitFeedback(request, timeout=options.get("timeout_s", 2.0))
        except grpc.RpcError as error:
            raise call_error(error) from None
        return feedback_reply(response)

    def explain(self, prompt: Prompt, *, entry_id: str = "", **options: Unpack[LookupOptions]) -> Explanation:
        """How a lookup decides, step by step. Raises CallError: this call does not fail open."""
        refuse_unknown(options, LookupOptions)
        request = pb.ExplainRequest(lookup=lookup_request(prompt, options, self._defaults), entry_id=entry_id)
        try:
            response = self._stub.Explain(request, timeout=options.get("timeout_s", 5.0))
        except grpc.RpcError as error:
            raise call_error(error) from None
        return explanation(response)

    def cached(
        self,
        *,
        prompt: str = "",
        ignore: Collection[str] = (),
        usage: Callable[[Any], Usage] | None = None,
        name: str = "",
        audits: bool = True,
        **options: Unpack[CachedOptions],
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorate a model call: lookup, else call, then store.

        ``prompt`` names the argument that holds the prompt (else the one called prompt, else the
        first). All other arguments must match exactly, unless ``ignore`` names them. ``usage`` reads
        tokens and cost from the answer. The answer must be str, bytes or JSON; anything else is
        returned and not stored. What the function raises is raised, and nothing is stored.

        Each function has its own entries, by its module and qualified name. ``name`` stands in for
        them: give it when a function is renamed or moved and its entries should stay, and to tell
        apart functions that are called the same, as lambdas and what a factory makes.

        When the cache did not answer the lookup in time it is not asked to store: the budget is kept.

        On some hits, few where much is known, the service asks for a fresh answer: the function is then called
        behind the caller's back as well, and its answer reported, so that it is known how often hits are wrong.
        ``audits=False`` leaves that out, for functions that do more than answer.
        """

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            call = CachedCall(function, prompt, ignore, usage, name, options)

            @functools.wraps(function)
            def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
                asked, looked_up = call.identity(args, kwargs)
                recalled = call.recall(self._ask(asked, looked_up))
                self._counts.add(recalled.outcome)
                if recalled.hit:
                    if recalled.audit and audits:
                        again = functools.partial(function, *args, **kwargs)
                        self._audit(call, recalled, again)
                    hit: R = recalled.answer
                    return hit
                answer = function(*args, **kwargs)
                self._store_answer(call, asked, answer, recalled, looked_up)
                return answer

            return wrapper

        return decorate

    def counts(self) -> dict[str, int]:
        """How often each outcome happened, and STORED and NOT_STORED, AUDITED and NOT_AUDITED."""
        return self._counts.snapshot()

    def close(self) -> None:
        """Close the connection. Audits that wait for their turn are dropped."""
        self._audits.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, prompt: Prompt, options: LookupOptions) -> LookupReply:
        """A lookup that is not counted yet."""
        timeout_s = options.get("timeout_s", self._timeout_s)
        try:
            request = lookup_request(prompt, options, self._defaults)
        except UNSENDABLE as error:
            return failed_lookup(error)
        kind = told(request)
        if not self._throttle.may_ask(kind):
            return THROTTLED_LOOKUP
        if not self._breaker.may_look_up():
            return PAUSED_LOOKUP
        try:
            reply = lookup_reply(self._stub.Lookup(request, timeout=timeout_s, metadata=kind))
        except (grpc.RpcError, *UNSENDABLE) as error:
            reply = failed_lookup(error)
        self._throttle.note(kind, refused=reply.outcome == OVERLOADED)
        if reply.outcome != TIMED_OUT or timeout_s >= self._timeout_s:  # less patience proves nothing
            self._breaker.note(in_time=reply.outcome != TIMED_OUT)
        return reply

    def _ask_many(self, prompts: Sequence[Prompt], options: LookupOptions) -> list[LookupReply]:
        """Lookups that are not counted yet."""
        if self._breaker.paused:
            return [PAUSED_LOOKUP] * len(prompts)
        timeout_s = options.get("timeout_s", self._timeout_s)
        try:
            items = [lookup_request(prompt, options, self._defaults) for prompt in prompts]
        except UNSENDABLE as error:
            return [failed_lookup(error)] * len(prompts)
        kind = told(*items[:1])
        if not self._throttle.may_ask(kind):
            return [THROTTLED_LOOKUP] * len(prompts)
        try:
            batch = pb.BatchLookupRequest(items=items)
            replies = batch_lookup_replies(self._stub.BatchLookup(batch, timeout=timeout_s, metadata=kind))
        except (grpc.RpcError, *UNSENDABLE) as error:
            replies = [failed_lookup(error)] * len(prompts)
        self._throttle.note(kind, refused=any(reply.outcome == OVERLOADED for reply in replies))
        return replies

    def _keep(self, response: bytes | str, prompt: Prompt | None, options: StoreOptions) -> StoreReply:
        """A store that is not counted yet."""
        timeout_s = options.get("timeout_s", self._store_timeout_s)
        try:
            request = store_request(response, prompt, options, self._defaults)
            return store_reply(self._stub.Store(request, timeout=timeout_s))
        except (grpc.RpcError, *UNSENDABLE) as error:
            return failed_store(error)

    def _store_answer(
        self, call: CachedCall, asked: Prompt, answer: Any, recalled: Recalled, looked_up: LookupOptions
    ) -> None:
        storing = call.storing(answer, recalled, looked_up)
        if storing is None:
            self._counts.add("NOT_STORED")
        else:
            self.store(storing.response, asked, **storing.options)

    def _audit(self, call: CachedCall, recalled: Recalled, function: Callable[[], Any]) -> None:
        """Answer anew, later, and report it; whatever goes wrong there is counted only."""

        def audit() -> None:
            done = False
            try:
                request = call.report(function(), recalled)
                if request is not None:
                    request.namespace = request.namespace or self._defaults["namespace"]
                    self._stub.SubmitFeedback(request, timeout=self._store_timeout_s)
                    done = True
            except Exception:  # noqa: BLE001 - the application's function may raise anything, and has no caller here
                done = False
            finally:
                self._counts.add("AUDITED" if done else "NOT_AUDITED")

        if not self._audits.run(audit):
            self._counts.add("NOT_AUDITED")
