"""``python -m bench.workers``: two workers beside one, on the same cores and in the same rounds.

Callers spread over several connections, for each stays with one worker. The callers are on the same cores, too, as an
application's are: what they take is not the server's.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc

from bench import load, servers
from bench.calls import say
from bench.prompts import MODEL, ROOT, answer, variant
from bench.prompts import load as load_prompts
from bench.report import Figure
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

_ENTRIES = 300
_STORES = 300
_VARIANTS = 300
_CALLERS = 16
_CHANNELS = 32  # of each client process: so many that they spread evenly
_CPU = ": CPU of the server a call"
_RATIOS = ("semantic hits", "exact hits", "durable stores, exact tier", "durable stores by lookup_id")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind of lookup in a round")
    parser.add_argument("--only", choices=_RATIOS, action="append", help="of these kinds of call; repeatable")
    options = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="workers-", dir=ROOT / "build") as directory:
        rates = measured(Path(directory), options.rounds, options.seconds, options.only or _RATIOS)
    for figure in figures(rates):
        print(f"{figure.name:45} {figure.median:10.3f} {figure.unit}   {_spread(figure)}")
    return 0


def figures(rates: dict[str, list[float]]) -> Iterator[Figure]:
    """What came of it: rates, and their ratios by round."""
    for name in _RATIOS:
        for what, suffix, is_cost in (("", "", False), (" a core, by CPU time", _CPU, True)):
            one = rates.get(f"{name}, 1 worker{suffix}", [])
            two = rates.get(f"{name}, 2 workers{suffix}", [])
            ratios = [a / b if is_cost else b / a for a, b in zip(one, two, strict=True)]
            if ratios:
                at_least = 0.95 if name == _RATIOS[0] and not is_cost else None
                yield Figure(f"{name}{what}, 2 workers ÷ 1", "", ratios, at_least=at_least)
    for name, values in rates.items():
        yield Figure(name, "µs" if name.endswith(_CPU) else "/s", values)


def measured(
    directory: Path, rounds: int, seconds: float, kinds: Sequence[str] = _RATIOS
) -> dict[str, list[float]]:
    """Rates and CPU time of calls, by kind and workers, a value per round. ``directory`` is empty and on a disk."""
    prompts, _ = load_prompts(_ENTRIES)
    rates: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        running = {}
        for workers in (1, 2):
            (directory / str(workers)).mkdir()
            config = servers.write_config(directory / str(workers))
            settings = f"workers = {workers}\n[embedder]\nmax_wait_s = 30.0\n[admin]"  # nobody is sent away
            config.write_text(config.read_text().replace("[admin]", settings))
            running[workers] = stack.enter_context(servers.cachesvc(config, _ask(prompts[0])))
        for server in running.values():
            near = _fill(server, prompts)  # the same each time
        drivers = stack.enter_context(load.drivers())
        for number in range(rounds):
            say(f"workers, round {number + 1} of {rounds}")
            for workers in (1, 2) if number % 2 else (2, 1):
                for name, job in _jobs(running[workers].address, prompts, near, seconds, number):
                    if name not in kinds:
                        continue
                    label = f"{name}, {workers} worker{'s' if workers > 1 else ''}"
                    before_s = running[workers].cpu_s()
                    done = drivers.done(job)
                    rates.setdefault(label, []).append(done.rate)
                    took_us = (running[workers].cpu_s() - before_s) / done.calls * 1e6
                    rates.setdefault(f"{label}{_CPU}", []).append(took_us)
    return rates


def _fill(server: servers.Server, prompts: list[str]) -> list[str]:
    """Store the prompts. Variants of them that hit by meaning."""
    with grpc.insecure_channel(server.address) as channel:
        stub = CacheServiceStub(channel)
        for first in range(0, len(prompts), 200):
            stub.BatchStore(
                pb.BatchStoreRequest(
                    items=[
                        pb.StoreRequest(prompt=prompt, model=MODEL, response=answer(first + n))
                        for n, prompt in enumerate(prompts[first : first + 200])
                    ]
                )
            )
        variants = [variant(prompt) for prompt in prompts[:_VARIANTS]]
        hit = pb.OUTCOME_HIT_SEMANTIC
        return [text for text in variants if stub.Lookup(_ask(text)).outcome == hit]


def _jobs(
    address: str, prompts: list[str], near: list[str], seconds: float, number: int
) -> Iterator[tuple[str, load.Job]]:
    """Stores are new entries in every round."""
    for name, texts, outcome in (
        (_RATIOS[0], near, pb.OUTCOME_HIT_SEMANTIC),
        (_RATIOS[1], prompts, pb.OUTCOME_HIT_EXACT),
    ):
        yield name, load.Job("lookup", address, texts, _CALLERS, seconds, outcome=outcome, channels=_CHANNELS)
    for name, kind, namespace in ((_RATIOS[2], "store", "exact"), (_RATIOS[3], "ticket", "ticket")):
        yield (
            name,
            load.Job(
                kind,
                address,
                prompts[:_STORES],
                _CALLERS,
                60.0,
                namespace=f"{namespace}-{number}",
                channels=_CHANNELS,
            ),
        )


def _spread(figure: Figure) -> str:
    return f"{min(figure.rounds):.3f} to {max(figure.rounds):.3f}"


def _ask(text: str) -> pb.LookupRequest:
    return pb.LookupRequest(prompt=text, model=MODEL)


if __name__ == "__main__":
    raise SystemExit(main())
