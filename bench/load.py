"""Throughput: many callers at once, in two client processes, against one server."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from bench.prompts import ROOT

_PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Job:
    """What the callers do. Lookups repeat until ``seconds`` are over; stores end with their texts."""

    kind: str
    address: str
    texts: Sequence[str]
    callers: int
    seconds: float
    namespace: str = ""
    outcome: int = 0
    channels: int = 1  # of each client process; a connection stays with one worker of several


@dataclass(frozen=True, slots=True)
class Done:
    """What all callers did together, and how long it took."""

    calls: int
    seconds: float

    @property
    def rate(self) -> float:
        """Calls per second of all callers together."""
        return self.calls / self.seconds


class Drivers:
    """The client processes. Not thread-safe."""

    def __init__(self, processes: "list[subprocess.Popen[str]]") -> None:
        self._processes = processes

    def rate(self, job: Job, begin: Callable[[], None] = lambda: None) -> float:
        """Calls per second of all callers together. ``begin`` is called when they are ready."""
        return self.done(job, begin).rate

    def done(self, job: Job, begin: Callable[[], None] = lambda: None) -> Done:
        """Have a job done."""
        processes = self._processes[: job.callers]  # no caller, no process
        for n, process in enumerate(processes):
            share = asdict(job) | {
                "texts": list(job.texts[n :: len(processes)]) or list(job.texts),
                "threads": job.callers // len(processes),
            }
            _say(process, json.dumps(share))
        for process in processes:
            _hear(process)
        begin()
        for process in processes:
            _say(process, "go")
        results = [json.loads(_hear(process)) for process in processes]
        return Done(sum(result["done"] for result in results), max(result["seconds"] for result in results))


@contextlib.contextmanager
def drivers() -> Iterator[Drivers]:
    """Starts the client processes, and ends them."""
    command = [sys.executable, "-m", "bench.driver"]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(_PROCESSES)
        ]
        try:
            yield Drivers(processes)
        finally:
            for process in processes:
                process.terminate()


def _say(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a client process ended without an answer")
    return line
