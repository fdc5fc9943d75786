"""Unary calls taken in with their message, on the threads that poll gRPC, several of them.

grpcio wakes a thread of the pool for a call; that thread asks for the message and sleeps until the polling thread
has it. Here the polling thread asks, and when the message is there the call may be answered on that very thread, or
goes to the pool, once. For this the module uses names of ``grpc._server`` that nobody promises to keep: ``USABLE``
says whether they are what they were, and where they are not calls go the library's own way.
"""

import inspect
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import grpc
from grpc import _server as library

from cachesvc.core.errors import Kind
from cachesvc.core.events import TaskFailed
from cachesvc.core.ports import Observer

cygrpc: Any = getattr(library, "cygrpc", None)

_POLL_S = 0.2  # what grpcio's poll takes to notice anything but an event, too
_LEAVE_S = 1.0  # for a poll to end; a thread that is held by an answer of its own ends with the process
_USED = {
    "_receive_message": ["state", "call", "request_deserializer"],
    "_unary_response_in_pool": [
        "rpc_event",
        "state",
        "behavior",
        "argument_thunk",
        "request_deserializer",
        "response_serializer",
    ],
    "_status": ["rpc_event", "state", "serialized_response"],
    "_abort": ["state", "call", "code", "details"],
    "_process_event_and_continue": ["state", "event"],
    "_Context": ["rpc_event", "state", "request_deserializer"],
    "_is_rpc_state_active": ["state"],
    "_RPCState": [],
}
_CONSTANTS = ("_CLOSED", "_RECEIVE_MESSAGE_TOKEN")
_OF_CORE = ("CompletionType", "ReceiveMessageOperation", "StatusCode")
_OF_A_CALL = ("callbacks", "client", "condition", "context", "due")


def _is_known() -> bool:
    """Whether the library has what is used of it, as it was when this was written."""
    return (
        all(
            list(inspect.signature(getattr(library, name, print)).parameters) == parameters
            for name, parameters in _USED.items()
        )
        and all(hasattr(library, name) for name in _CONSTANTS)
        and all(hasattr(cygrpc, name) for name in _OF_CORE)
        and all(hasattr(_new_call(), name) for name in _OF_A_CALL)
    )


def _new_call() -> Any:
    return library._RPCState()  # type: ignore[no-untyped-call]  # noqa: SLF001 - see above


USABLE = _is_known()


class Method(Protocol):
    """A unary method that takes bytes."""

    begins: bool

    def begin(self, data: bytes, arrival: "Arrival") -> object:
        """On a polling thread, where it ``begins``: reply and give None, or give what ``__call__`` takes."""

    def __call__(self, argument: Any, context: grpc.ServicerContext) -> object:
        """On a thread of the pool: give the answer to a message, or to what became of it."""


class Handled:
    """The moment when a call has been handled, of the methods of a Future the one that gRPC uses."""

    __slots__ = ("_callbacks", "_is_now", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Any], object]] = []
        self._is_now = False

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call this then, or now if it was."""
        with self._lock:
            if not self._is_now:
                self._callbacks.append(callback)
                return
        callback(self)

    def now(self, _: object = None) -> None:
        """It is now, if it was not."""
        with self._lock:
            self._is_now = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


class Arrival:
    """A call of a unary method that has come; its message may still be on the way."""

    __slots__ = ("_call", "_serializer", "_state", "handled", "method")

    def __init__(self, call: Any, state: Any, method: Method, serializer: Any) -> None:
        self._call = call
        self._state = state
        self._serializer = serializer
        self.method = method
        self.handled = Handled()

    def receive(self, arrived: Callable[["Arrival", bytes], None]) -> None:
        """Ask for the message. Who is told of it, on a polling thread, sees to it that the call counts as handled;
        it does when the caller left without one, or when who is told raises: the library ends it as INTERNAL then.
        """
        came = False

        def deserialize(data: bytes) -> bool:
            nonlocal came
            arrived(self, data)
            came = True
            return True  # all the library looks at

        state = self._state
        tell = library._receive_message(state, self._call.call, deserialize)  # noqa: SLF001 - see above

        def tag(event: Any) -> Any:
            told = tell(event)
            if not came:
                with state.condition:
                    if state.client == library._CLOSED:  # noqa: SLF001 - as above
                        self._abort_without_message()
                self.handled.now()
            return told

        self._call.call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), tag)
        state.due.add(library._RECEIVE_MESSAGE_TOKEN)  # noqa: SLF001 - as above

    def _abort_without_message(self) -> None:
        library._abort(  # noqa: SLF001 - as above
            self._state,
            self._call.call,
            cygrpc.StatusCode.unimplemented,
            b"a method of one request got none",
        )

    def context(self) -> grpc.ServicerContext:
        """What a handler gets beside its message."""
        return library._Context(self._call, self._state, None)  # noqa: SLF001 - as above

    def reply(self, data: bytes) -> None:
        """Answer and end the call. Instead of ``run``."""
        library._status(self._call, self._state, data)  # noqa: SLF001 - as above

    def run(self, argument: object) -> None:
        """Let the method make an answer of its message, or of what became of it, and send it; nothing is made of it
        for a caller who left while it waited.
        """
        self._state.context.run(
            library._unary_response_in_pool,  # noqa: SLF001 - as above
            self._call,
            self._state,
            self.method,
            lambda: argument if self._is_wanted() else None,
            None,
            self._serializer,
        )

    def _is_wanted(self) -> bool:
        with self._state.condition:
            return bool(library._is_rpc_state_active(self._state))  # noqa: SLF001 - as above

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call this when the reply is out, or the caller gone. To be called before ``receive``."""
        self._state.callbacks.append(callback)


def arrival(arguments: tuple[Any, ...]) -> Arrival | None:
    """What gRPC asks the pool to do, if it is a call of a ``Method``."""
    if not USABLE or arguments[0] is not library._unary_response_in_pool:  # noqa: SLF001 - as above
        return None
    _, call, state, method, _, _, serializer = arguments
    return Arrival(call, state, method, serializer) if hasattr(method, "begins") else None


class Pollers:
    """Threads beside gRPC's own that take events from its queue and act on them. None where it is not ``USABLE``."""

    def __init__(self, server: grpc.Server, count: int, observer: Observer) -> None:
        self._server: Any = server
        self._observer = observer
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name="cachesvc-poll", daemon=True)
            for _ in range(count if USABLE else 0)
        ]

    def start(self) -> None:
        """Begin, once the server has started."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End them. To be called before the server is stopped: gRPC's own thread does the rest."""
        self._stop.set()
        until_s = time.monotonic() + _LEAVE_S
        for thread in self._threads:
            thread.join(max(until_s - time.monotonic(), 0.0))

    def _run(self) -> None:
        state = self._server._state  # noqa: SLF001 - as above
        queue = state.completion_queue
        while not self._stop.is_set():
            event = queue.poll(time.time() + _POLL_S)  # noqa: TID251 - gRPC's deadlines are wall times
            if event.completion_type != cygrpc.CompletionType.queue_timeout:
                try:
                    library._process_event_and_continue(state, event)  # noqa: SLF001 - as above
                except Exception as error:  # noqa: BLE001 - the edge of the thread, whose end nobody would notice
                    self._observer.on(TaskFailed("poll", Kind.INTERNAL, type(error).__name__))
            event = None  # a reference to a call that has ended keeps the next poll busy, as grpcio says
