"""Durable stores a second, 16 callers, where no vector is given: ``bench.stores`` has those with one."""

from collections.abc import Iterator

from bench import load
from bench.calls import say
from bench.report import Figure, Measured
from bench.stage import Stage

_CALLERS = 16
_MOST_S = 60.0


def measure(stage: Stage) -> Measured:
    """Without a vector, and with an inference each."""
    rates: dict[str, list[float]] = {}
    with load.drivers() as drivers:
        for number in range(stage.size.load_rounds):
            say(f"durable stores, round {number + 1} of {stage.size.load_rounds}")
            for name, job in _jobs(stage, number):
                rates.setdefault(name, []).append(drivers.rate(job))
    return Measured([Figure(name, "/s", rounds) for name, rounds in rates.items()])


def _jobs(stage: Stage, number: int) -> Iterator[tuple[str, load.Job]]:
    """Stores go to namespaces of their own, others in each round: every one is a new entry."""
    ground = stage.ground()
    texts = ground.stored[: stage.size.stores]
    for name, namespace in (
        (f"durable stores, exact tier only, {_CALLERS} callers", "exact"),
        (f"durable stores with embedding, {_CALLERS} callers", "embed"),
    ):
        address = ground.server.address
        yield name, load.Job("store", address, texts, _CALLERS, _MOST_S, namespace=f"{namespace}-{number}")
