"""``python -m bench.stores``: durable stores a second, beside the floors they stand on.

The callers hold tickets of lookups before, so that nothing is embedded. The floors, in the same rounds: a bare
gRPC server that is sent the same message; LMDB alone, which is given the very rows of these entries; the disk's
sync alone. ``--layout N`` fills a store of N entries instead and tells the bytes of an entry, table by table.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import lmdb
import numpy as np

from bench import load, servers
from bench.calls import say
from bench.driver import BATCH
from bench.latency import by_round
from bench.prompts import MODEL, RESPONSE_BYTES, ROOT, answer
from bench.prompts import load as load_prompts
from bench.report import Figure, report
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Message, Payload, Request
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

_CALLERS = 16
_STORES = 800
_SYNCS = 200
_DIMENSION = 384
_PAGE_BYTES = 4096
_GIB = 1 << 30
_MOST_S = 60.0
_FINGERPRINT = "bench:1"
_LIKE_OURS: dict[str, Any] = {"map_size": 4 << 30, "max_dbs": 32, "lib_version": 0}
_DAY_MS = 86_400_000
_BEGAN_MS = 1_700_000_000_000

_UNARY = f"durable stores/s, {_CALLERS} callers, vector given (by lookup_id)"
_BATCHED = f"durable stores/s, {_CALLERS} callers, vector given, in batches of {BATCH}"
_ECHO = f"echo of the same StoreRequest, {_CALLERS} callers"
_TARGETS = {_UNARY: 4000.0, _BATCHED: 4000.0}


def main() -> int:
    options = _arguments()
    (ROOT / "build").mkdir(exist_ok=True)  # a disk, which the system's temporary directory may not be
    notes = [f"responses of {RESPONSE_BYTES:,} bytes, vectors of {_DIMENSION} dimensions"]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as directory:
        if options.layout:
            figures = list(_layout(Path(directory), options.layout, options.scopes))
            notes.append(f"{options.layout:,} entries in {options.scopes:,} scopes")
        else:
            figures = rates(Path(directory), options.rounds)
    report(figures, notes, mode="full", publish=False)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.stores", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="a minute has room for three")
    parser.add_argument("--layout", type=int, default=0, metavar="N", help="bytes of an entry at N entries")
    parser.add_argument("--scopes", type=int, default=1, help="scopes that --layout spreads them over")
    return parser.parse_args()


# ---------------------------------------------------------------------- rates


def rates(directory: Path, rounds: int) -> list[Figure]:
    """What is stored a second, and its floors. ``directory`` is empty and on a disk."""
    prompts, _ = load_prompts(_STORES)
    config = servers.write_config(directory)
    first = pb.LookupRequest(prompt=prompts[0], model=MODEL, exact_only=True)
    rows = _rows(directory / "rows")
    found: dict[tuple[str, str], list[float]] = {}
    with (
        load.drivers() as drivers,
        servers.cachesvc(config, first) as server,
        servers.echo(_reply(server.address, prompts[0])) as echo,
    ):
        for number in range(rounds + 1):  # the first warms everything up and is not counted
            say(f"durable stores, round {number} of {rounds}")
            for name, asked, kind in (
                (_ECHO, echo, "echo-store"),
                (_UNARY, server, "ticket"),
                (_BATCHED, server, "ticket-batch"),
            ):
                job = load.Job(kind, asked.address, prompts, _CALLERS, _MOST_S, namespace=f"{kind}-{number}")
                per_s, cpu_us = _measured(drivers, asked, job)
                found.setdefault((name, "/s"), []).append(per_s)
                found.setdefault((f"{name}: the server's processor time for one", "µs"), []).append(cpu_us)
            for group in (16, 64):
                name = f"LMDB alone, the same rows, {group} entries a commit"
                found.setdefault((name, "/s"), []).append(_rows_alone(directory / "alone", rows, group))
            found.setdefault(("sync of a page alone", "/s"), []).append(_syncs(directory / "sync"))
    counted = {key: values[1:] for key, values in found.items()}
    ratios = by_round(counted[_UNARY, "/s"], counted[_ECHO, "/s"])
    return [
        *(
            Figure(name, unit, values, at_least=_TARGETS.get(name))
            for (name, unit), values in counted.items()
        ),
        Figure(f"durable stores/s ÷ echo of the same StoreRequest, {_CALLERS} callers", "", ratios),
    ]


def _measured(drivers: load.Drivers, server: servers.Server, job: load.Job) -> tuple[float, float]:
    """Calls a second, and the server's processor time for one; an item of a batch counts as a call."""
    began_s = 0.0

    def begin() -> None:
        nonlocal began_s
        began_s = server.cpu_s()

    per_s = drivers.rate(job, begin)
    return per_s, (server.cpu_s() - began_s) / len(job.texts) * 1e6


def _reply(address: str, prompt: str) -> pb.StoreResponse:
    """What a store is answered, for the echo to answer it too."""
    with grpc.insecure_channel(address) as channel:
        request = pb.StoreRequest(namespace="first", prompt=prompt, model=MODEL, response=answer(0))
        reply: pb.StoreResponse = CacheServiceStub(channel).Store(request)
    return reply


# --------------------------------------------------------------------- floors


def _rows(directory: Path) -> dict[str, list[tuple[bytes, bytes]]]:
    """The rows of as many entries as are stored in a round, by table."""
    with closing(_filled(directory, _STORES, scopes=1)):
        pass
    with lmdb.open(str(directory), readonly=True, max_dbs=32) as env:
        names = [bytes(key) for key in _pairs(env, None)]
        return {name.decode(): list(_pairs(env, name).items()) for name in names if name != b"meta"}


def _pairs(env: lmdb.Environment, name: bytes | None) -> dict[bytes, bytes]:
    table = None if name is None else env.open_db(name, create=False)
    with env.begin() as txn, txn.cursor(db=table) as cursor:
        return {bytes(key): bytes(value) for key, value in cursor}


def _rows_alone(directory: Path, rows: dict[str, list[tuple[bytes, bytes]]], group: int) -> float:
    """Entries a second when LMDB is given their rows and nothing else is done: one thread, durable."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as path, lmdb.open(path, **_LIKE_OURS) as env:
        tables = {name: env.open_db(name.encode()) for name in rows}
        began_s = time.perf_counter()
        for first in range(0, _STORES, group):
            with env.begin(write=True) as txn:
                for name, pairs in rows.items():
                    for key, value in pairs[first : first + group]:
                        txn.put(key, value, db=tables[name])
        return _STORES / (time.perf_counter() - began_s)


def _syncs(path: Path) -> float:
    """How often a second the disk makes a page durable."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        began_s = time.perf_counter()
        for n in range(_SYNCS):
            os.pwrite(descriptor, bytes(_PAGE_BYTES), n % 8 * _PAGE_BYTES)
            os.fdatasync(descriptor)
        return _SYNCS / (time.perf_counter() - began_s)
    finally:
        os.close(descriptor)


# --------------------------------------------------------------------- layout


def _layout(directory: Path, count: int, scopes: int) -> Iterator[Figure]:
    """Bytes of an entry in each table, in whole pages."""
    with closing(_filled(directory / "layout", count, scopes)) as store:
        total_bytes = store.stats().used_bytes
    with lmdb.open(str(directory / "layout"), readonly=True, max_dbs=32) as env:
        for name in _pairs(env, None):
            with env.begin() as txn:
                stat = txn.stat(env.open_db(name, txn=txn, create=False))
            pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            if name != b"meta" and stat["entries"]:
                yield Figure(f"table {name.decode()}", "B", [pages * _PAGE_BYTES / count])
    yield Figure("all tables", "B", [total_bytes / count])


def _filled(path: Path, count: int, scopes: int) -> LmdbStore:
    """A store of entries that came in groups, as with many callers, in the scopes by turns."""
    options = StoreOptions(path, 16 * _GIB, 8 * _GIB, "sync", 64, 2048, 100_000)
    store = LmdbStore(options, _FINGERPRINT)
    for first in range(0, count, BATCH):
        store.put([_draft(n, scopes) for n in range(first, min(first + BATCH, count))], None)
    return store


def _draft(number: int, scopes: int) -> Draft:
    text = f"How do I change the delivery address of my order number {number} from another country?"
    request = Request("default", (Message("user", text),), f"{MODEL}-{number % scopes}", {})
    vector = np.random.default_rng(number).standard_normal(_DIMENSION).astype(np.float32)
    return Draft(
        identity=identify(request, _FINGERPRINT),
        payload=Payload(answer(number), "text/plain"),
        prompt=text,
        vector=vector / np.linalg.norm(vector),
        created_ms=_BEGAN_MS + number,
        expires_ms=_BEGAN_MS + number + _DAY_MS,
    )


if __name__ == "__main__":
    raise SystemExit(main())
