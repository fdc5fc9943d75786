"""What the measurements have in common: one timed call, and how progress is said."""

import sys
import time
from collections.abc import Callable

from bench.prompts import MODEL
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub


def ask(text: str) -> pb.LookupRequest:
    """A lookup of this prompt."""
    return pb.LookupRequest(prompt=text, model=MODEL)


def lookup_us(stub: CacheServiceStub, text: str, expected: int | None = None) -> float:
    """Microseconds of one call, the request's and the reply's coding included; ends the run at another outcome."""
    request = ask(text)
    began_s = time.perf_counter()
    found = stub.Lookup(request)
    took_us = (time.perf_counter() - began_s) * 1e6
    if expected is not None and found.outcome != expected:
        raise SystemExit(f"a lookup came to {pb.Outcome.Name(found.outcome)}: nothing to compare")
    return took_us


def timed_us(work: Callable[[], object]) -> float:
    """Microseconds that it takes."""
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1e6


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
