"""A client process of several callers, for throughput. ``bench.load`` runs two of them.

A job comes as a JSON line; it is prepared, ``ready`` is printed, and it runs when a line says so.
The result, as JSON: how many calls were done in how many seconds.
"""

import contextlib
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

import grpc

from bench.prompts import MODEL, answer
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

_TIMEOUT_S = 30.0
_BUSY_PAUSE_S = 0.01  # asking again at once would take the time of those who are served
BATCH = 64  # stores of one call, where they come in batches
_NO_TICKET = "0" * 32
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)

_Reply = TypeVar("_Reply")
_Call: TypeAlias = Callable[[], int | None]  # how many it counts for, where that is not one


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        with contextlib.ExitStack() as stack:
            channels = [
                stack.enter_context(grpc.insecure_channel(job["address"], options=_OWN_CONNECTION))
                for _ in range(job["channels"])
            ]
            calls = _calls(job, itertools.cycle([CacheServiceStub(channel) for channel in channels]))
            print("ready", flush=True)
            sys.stdin.readline()
            print(json.dumps(_run(calls, job["threads"], job["seconds"])), flush=True)


def _calls(job: dict[str, Any], stubs: Iterator[CacheServiceStub]) -> Iterator[_Call]:
    """The calls of a job, in order: endless for lookups, each entry once for stores. One connection after the other."""
    texts: list[str] = job["texts"]
    namespace: str = job["namespace"]
    match job["kind"]:
        case "lookup":
            expected = job["outcome"]
            return (_lookup(next(stubs), text, expected) for text in itertools.cycle(texts))
        case "unlike":
            return (_unlike(next(stubs), text, n) for n, text in enumerate(itertools.cycle(texts)))
        case "store":
            return iter([_store(next(stubs), namespace, n, prompt=text) for n, text in enumerate(texts)])
        case "ticket":
            tickets = _tickets(stubs, namespace, texts)
            return iter(
                [_store(next(stubs), namespace, n, ticket=ticket) for n, ticket in enumerate(tickets)]
            )
        case "ticket-batch":
            items = [
                pb.StoreRequest(response=answer(n), lookup_id=ticket)
                for n, ticket in enumerate(_tickets(stubs, namespace, texts))
            ]
            return iter([_stores(next(stubs), items[n : n + BATCH]) for n in range(0, len(items), BATCH)])
        case "echo-store":
            return iter([_store(next(stubs), namespace, n, ticket=_NO_TICKET) for n in range(len(texts))])
        case other:
            raise SystemExit(f"unknown kind {other}")


def _tickets(stubs: Iterator[CacheServiceStub], namespace: str, texts: list[str]) -> list[str]:
    """The tickets of lookups that miss."""
    requests = [pb.LookupRequest(namespace=namespace, prompt=text, model=MODEL) for text in texts]
    return [next(stubs).Lookup(request).lookup_id for request in requests]


def _stores(stub: CacheServiceStub, items: list[pb.StoreRequest]) -> Callable[[], int]:
    request = pb.BatchStoreRequest(items=items)

    def call() -> int:
        results = _taken(lambda: stub.BatchStore(request, timeout=_TIMEOUT_S)).results
        if any(result.HasField("error") for result in results):
            raise SystemExit("a store failed")
        return len(results)

    return call


def _unlike(stub: CacheServiceStub, text: str, number: int) -> Callable[[], None]:
    """A lookup that takes an inference; asked again when it got none."""
    request = pb.LookupRequest(prompt=f"{text} number {number}", model=MODEL)

    def call() -> None:
        while True:
            with contextlib.suppress(grpc.RpcError):
                found = stub.Lookup(request, timeout=_TIMEOUT_S)
                if not pb.Outcome.Name(found.outcome).startswith("OUTCOME_BYPASS"):
                    return

    return call


def _lookup(stub: CacheServiceStub, text: str, expected: int) -> Callable[[], None]:
    """Asked again where the server refused it for being busy: only what was answered counts."""

    def call() -> None:
        outcome = pb.OUTCOME_BYPASS_EMBEDDER_BUSY
        while outcome == pb.OUTCOME_BYPASS_EMBEDDER_BUSY:
            try:
                outcome = stub.Lookup(pb.LookupRequest(prompt=text, model=MODEL), timeout=_TIMEOUT_S).outcome
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
            if outcome == pb.OUTCOME_BYPASS_EMBEDDER_BUSY:
                time.sleep(_BUSY_PAUSE_S)
        if outcome != expected:
            raise SystemExit(f"a lookup came to {pb.Outcome.Name(outcome)}")

    return call


def _store(
    stub: CacheServiceStub, namespace: str, number: int, prompt: str = "", ticket: str = ""
) -> Callable[[], None]:
    request = pb.StoreRequest(response=answer(number))
    if ticket:
        request.lookup_id = ticket
    else:
        request.namespace, request.prompt, request.model = namespace, prompt, MODEL

    def call() -> None:
        _taken(lambda: stub.Store(request, timeout=_TIMEOUT_S))

    return call


def _taken(store: Callable[[], _Reply]) -> _Reply:
    """Asked again where the server refused it for being busy: only what was answered counts."""
    while True:
        try:
            return store()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
        time.sleep(_BUSY_PAUSE_S)


def _run(calls: Iterator[_Call], threads: int, seconds: float) -> dict[str, float]:
    lock = threading.Lock()
    began_s = time.perf_counter()
    until_s = began_s + seconds

    def caller() -> int:
        done = 0
        while time.perf_counter() < until_s:
            with lock:
                call = next(calls, None)
            if call is None:
                break
            done += call() or 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(caller_done.result() for caller_done in [pool.submit(caller) for _ in range(threads)])
    return {"done": done, "seconds": time.perf_counter() - began_s}


if __name__ == "__main__":
    main()
