"""The door: which calls are begun, and which are turned away.

Refusing is done most when there is least to spare, so it is done on gRPC's own thread, before a message is
read: measured, a refusal costs less than a bare echo does. What that thread must never do is wait.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, ParamSpec, Protocol, TypeAlias, TypeVar

import grpc
from grpc_status import rpc_status

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import CallFailed
from cachesvc.core.ports import Observer
from cachesvc.engine.parts import Tuning
from cachesvc.serve.errors import CODES, status
from cachesvc.serve.pool import CROWDED, LATE, CallPool

_P = ParamSpec("_P")
_T = TypeVar("_T")

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Metadata: TypeAlias = "Iterable[tuple[str, str | bytes]]"
TurnsAway: TypeAlias = Callable[[Metadata], bool]
"""Whether a lookup had better not be begun, by its metadata."""

# What a client may tell in metadata, so that it is known before the message is read. See ``LookupRequest``.
NAMESPACE = "cachesvc-namespace"
EXACT_ONLY = "cachesvc-exact-only"

_SATURATED = CacheError(
    Kind.OVERLOADED, "more lookups want an inference than can have one in time: try again later"
)
# A lookup in vain is worth nothing; an answer that was paid for is worth storing, if only for the exact tier.
_LOOKUPS = ("Lookup", "BatchLookup")
_EARLIER = 0.8  # than the guard would send it away: what is let in has yet to be read


@dataclass(frozen=True, slots=True)
class Admission:
    """What the door of a server goes by, and who is told whom it turns away. ``refusals`` must not wait for anything,
    as writing a log may: gRPC's thread has gRPC's lock meanwhile, without which nothing is taken in, nor stopped.
    """

    turns_away: TurnsAway
    refusals: Observer


class Door(grpc.GenericRpcHandler):
    """Finds the method of a call, or its refusal. gRPC asks for each call, on the thread that takes calls in."""

    def __init__(
        self,
        service: str,
        handlers: Mapping[str, Handler],
        pool: CallPool,
        admission: "Admission",
    ) -> None:
        self._handlers = {f"/{service}/{name}": handler for name, handler in handlers.items()}
        self._lookups = {f"/{service}/{name}" for name in _LOOKUPS}
        self._refusals: dict[tuple[str, CacheError], Handler] = {
            (f"/{service}/{name}", error): grpc.stream_unary_rpc_method_handler(
                _Refusal(name, error, admission.refusals)
            )
            for name in handlers
            for error in (LATE, CROWDED, _SATURATED)
        }
        self._refusal = pool.refusal
        self._turns_away = admission.turns_away

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """See ``grpc.GenericRpcHandler``."""
        method = handler_call_details.method
        handler = self._handlers.get(method)
        if handler is None:
            return None
        refusal = self._refusal()
        if (
            refusal is None
            and method in self._lookups
            and self._turns_away(handler_call_details.invocation_metadata)
        ):
            refusal = _SATURATED
        return handler if refusal is None else self._refusals[method, refusal]


class Crowd(Protocol):
    """What the door needs to know of ``engine.Guard``."""

    def is_crowded(self, wait_s: float) -> bool:
        """See ``Guard``."""

    def lets_in(self, wait_s: float, share: str | None) -> bool:
        """See ``Guard``."""


class Doorkeeper:
    """Turns lookups away that want an inference when there are more than can be made."""

    def __init__(self, crowd: Crowd, tuning: Callable[[], Tuning]) -> None:
        self._crowd = crowd
        self._tuning = tuning

    def turns_away(self, metadata: Metadata) -> bool:
        """See ``TurnsAway``."""
        tuning = self._tuning()
        wait_s = _EARLIER * tuning.budget.max_wait_s
        if not self._crowd.is_crowded(wait_s):
            return False
        told = dict(metadata)
        namespace = told.get(NAMESPACE)
        if told.get(EXACT_ONLY) == "true":
            return False
        if not isinstance(namespace, str):
            return not self._crowd.lets_in(wait_s, None)
        return tuning.policies.of(namespace).embeds and not self._crowd.lets_in(wait_s, namespace)


class _AtOnce(ThreadPoolExecutor):
    """Runs what it is given on the thread that gives it."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """As ThreadPoolExecutor, but done on return. For what neither waits nor raises."""
        done: Future[_T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class _Refusal:
    """Ends a call with an error. As a method that takes a stream it is not kept until a message has come."""

    experimental_thread_pool = _AtOnce(1)  # where gRPC runs it

    def __init__(self, name: str, error: CacheError, observer: Observer) -> None:
        self._event = CallFailed(name, error.kind, CODES[error.kind].name, "", "")
        self._status = rpc_status.to_status(status(error))
        self._observer = observer

    def __call__(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
        self._observer.on(self._event)
        context.abort_with_status(self._status)
        raise AssertionError("abort raises")
