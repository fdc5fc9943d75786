"""``kill -9`` at random moments: what was acknowledged is there, whole, and nothing is mixed."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub

if TYPE_CHECKING:
    from random import Random

    from tests.trouble.conftest import Process

Launch: TypeAlias = "Callable[[Mapping[str, Mapping[str, Any]]], Process]"
Dial: TypeAlias = Callable[[str], grpc.Channel]
Seeded: TypeAlias = "Callable[[int], Random]"

pytestmark = pytest.mark.slow

ROUNDS = 30
WRITERS = 8
READERS = 2
CHECK_EVERY = 5
SAMPLE = 400
EXACT = "exact"  # its policy has the exact tier only, so stores are not slowed by embedding
SEMANTIC = "default"
HOT_PROMPTS = 12  # of each namespace, replaced again and again by all writers
BATCH = 5
CALL_S = 20.0


@dataclass(frozen=True)
class Key:
    namespace: str
    prompt: str


@dataclass
class Write:
    """One attempt to store. ``ended_s`` is when it was acknowledged, or when the server was dead."""

    response: bytes
    began_s: float
    ended_s: float = float("inf")
    acknowledged: bool = False


@dataclass
class Ledger:
    """Every write and what may be served for its prompt."""

    writes: dict[Key, list[Write]] = field(default_factory=dict)
    batches: list[list[Key]] = field(default_factory=list)  # of fresh prompts, not acknowledged
    touched: set[Key] = field(default_factory=set)
    entry_ids: list[str] = field(default_factory=list)
    ambiguous: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    _sequence: int = 0

    def sequence(self) -> int:
        with self.lock:
            self._sequence += 1
            return self._sequence

    def begin(self, key: Key, response: bytes) -> Write:
        write = Write(response, time.monotonic())
        with self.lock:
            self.writes.setdefault(key, []).append(write)
            self.touched.add(key)
        return write

    def acknowledge(self, write: Write, entry_id: str) -> None:
        write.ended_s, write.acknowledged = time.monotonic(), True
        with self.lock:
            self.entry_ids.append(entry_id)

    def server_died(self) -> None:
        """What was not acknowledged may have happened until now, and not later."""
        for key in self.touched:
            for write in self.writes[key]:
                if not write.acknowledged:
                    write.ended_s = min(write.ended_s, time.monotonic())

    def acceptable(self, key: Key) -> list[Write]:
        """Writes that no acknowledged write came after."""
        writes = self.writes[key]
        return [
            write
            for write in writes
            if not any(later.acknowledged and later.began_s > write.ended_s for later in writes)
        ]

    def must_be_there(self, key: Key) -> bool:
        return any(write.acknowledged for write in self.writes[key])

    def settle(self, key: Key, response: bytes | None) -> None:
        """What was read while nobody wrote is from now on the only truth."""
        if response is None:
            del self.writes[key]
            return
        self.writes[key] = [write for write in self.writes[key] if write.response == response][-1:]
        self.writes[key][0].acknowledged = True

    def keys(self) -> list[Key]:
        with self.lock:
            return list(self.writes)


def test_thirty_kills_lose_and_mix_nothing(
    launch: Launch, dial: Dial, open_store: Callable[[], LmdbStore], seeded: Seeded, tmp_path: Path
) -> None:
    """Whenever the server is killed, every acknowledged entry answers afterwards with its own bytes."""
    sections: dict[str, dict[str, Any]] = {
        "server": {"listen": f"unix:{tmp_path}/s"},
        f'policy."{EXACT}"': {"semantic": False},
    }
    ledger = Ledger()
    for number in range(ROUNDS):
        random = seeded(number)
        process = launch(sections).serving()
        stub = CacheServiceStub(dial(process.address))
        _verify(stub, ledger, random)
        _load_until_killed(process, dial(process.address), ledger, random)
        if (number + 1) % CHECK_EVERY == 0:
            _assert_clean(open_store())
    process = launch(sections).serving()
    _verify(CacheServiceStub(dial(process.address)), ledger, seeded(ROUNDS), everything=True)
    process.kill()
    _assert_clean(open_store())

    assert len(set(ledger.entry_ids)) == len(ledger.entry_ids), "an entry id was given twice"
    assert len(ledger.entry_ids) >= ROUNDS * WRITERS, "the load was too light to prove anything"
    assert ledger.ambiguous >= ROUNDS, "no call was under way when the server was killed"


def test_ids_are_not_reused_after_a_kill(launch: Launch, dial: Dial) -> None:
    """An id that was given out names its own entry or nothing, also after ``kill -9`` and a restart."""
    given: list[str] = []
    for life in range(4):
        process = launch({f'policy."{EXACT}"': {"semantic": False}}).serving()
        stub = CacheServiceStub(dial(process.address))
        for entry_id in given:
            try:
                stub.Get(pb.GetRequest(namespace=EXACT, id=entry_id), timeout=CALL_S)
            except grpc.RpcError as error:
                _assert_code(error, grpc.StatusCode.NOT_FOUND)
            else:
                raise AssertionError("a deleted entry is back")
        fresh = [
            stub.Store(
                pb.StoreRequest(namespace=EXACT, prompt=f"question {life} {n}", response=b"answer"),
                timeout=CALL_S,
            ).entry_id
            for n in range(5)
        ]
        assert not given or min(fresh) > max(given)
        for entry_id in fresh:  # so that the highest ids are free again when it starts anew
            assert stub.Delete(pb.DeleteRequest(namespace=EXACT, id=entry_id), timeout=CALL_S).deleted
        given += fresh
        process.kill()


# ------------------------------------------------------------------- the load


def _load_until_killed(process: "Process", channel: grpc.Channel, ledger: Ledger, random: "Random") -> None:
    delay_s = random.uniform(0.020, 0.250)
    stub = CacheServiceStub(channel)
    ready = threading.Barrier(WRITERS + READERS + 1)
    dead = threading.Event()
    seeds = [random.getrandbits(32) for _ in range(WRITERS + READERS)]
    with ThreadPoolExecutor(WRITERS + READERS) as pool:
        make = type(random)
        workers = [
            pool.submit(_write_until_refused, stub, ledger, make(seed), ready) for seed in seeds[:WRITERS]
        ]
        workers += [
            pool.submit(_read_until_dead, stub, ledger, make(seed), ready) for seed in seeds[WRITERS:]
        ]
        ready.wait(CALL_S)
        dead.wait(delay_s)  # never set: the moment of the kill is what is random here
        process.kill()
        for worker in workers:
            worker.result(CALL_S * 2)
    ledger.server_died()


def _write_until_refused(
    stub: CacheServiceStub, ledger: Ledger, random: "Random", ready: threading.Barrier
) -> None:
    ready.wait(CALL_S)
    while True:
        try:
            if random.random() < 0.1:
                _store_batch(stub, ledger, random)
            else:
                _store_one(stub, ledger, random)
        except grpc.RpcError as error:
            _assert_code(error, grpc.StatusCode.UNAVAILABLE)
            with ledger.lock:
                ledger.ambiguous += 1
            return


def _store_one(stub: CacheServiceStub, ledger: Ledger, random: "Random") -> None:
    namespace = SEMANTIC if random.random() < 0.15 else EXACT
    sequence = ledger.sequence()
    hot = random.random() < 0.4
    prompt = f"hot question {random.randrange(HOT_PROMPTS)}" if hot else f"what is item {sequence}?"
    key = Key(namespace, prompt)
    request = _store_request(key, sequence, random)
    write = ledger.begin(key, request.response)
    ledger.acknowledge(write, stub.Store(request, timeout=CALL_S).entry_id)


def _store_batch(stub: CacheServiceStub, ledger: Ledger, random: "Random") -> None:
    """Fresh prompts in one call: one commit, so that a kill leaves all of them or none."""
    batch = []
    for _ in range(BATCH):
        sequence = ledger.sequence()
        key = Key(EXACT, f"what is batch item {sequence}?")
        request = _store_request(key, sequence, random)
        batch.append((key, ledger.begin(key, request.response), request))
    try:
        reply = stub.BatchStore(pb.BatchStoreRequest(items=[item[2] for item in batch]), timeout=CALL_S)
    except grpc.RpcError:
        with ledger.lock:
            ledger.batches.append([item[0] for item in batch])
        raise
    for (_, write, _), result in zip(batch, reply.results, strict=True):
        ledger.acknowledge(write, result.response.entry_id)


def _read_until_dead(
    stub: CacheServiceStub, ledger: Ledger, random: "Random", ready: threading.Barrier
) -> None:
    ready.wait(CALL_S)
    while True:
        keys = ledger.keys()
        key = random.choice(keys) if keys else Key(EXACT, "nothing yet")
        try:
            reply = stub.Lookup(pb.LookupRequest(namespace=key.namespace, prompt=key.prompt), timeout=CALL_S)
        except grpc.RpcError as error:
            _assert_code(error, grpc.StatusCode.UNAVAILABLE)
            return
        _assert_not_mixed(key, reply)


# ------------------------------------------------------------------ the truth


def _verify(stub: CacheServiceStub, ledger: Ledger, random: "Random", *, everything: bool = False) -> None:
    """Nobody writes now: what the last load touched, and a sample of what was there before, is right."""
    keys = set(ledger.writes)
    if not everything:
        keys = ledger.touched | set(random.sample(sorted(keys, key=str), min(SAMPLE, len(keys))))
    present = set()
    for key, reply in _lookups(stub, sorted(keys, key=str)):
        response = None
        if reply.outcome == pb.OUTCOME_HIT_EXACT:
            _assert_not_mixed(key, reply)
            response = reply.entry.response
            present.add(key)
            allowed = [write.response for write in ledger.acceptable(key)]
            assert response in allowed, f"{key} answers with an older write"
        else:
            assert not ledger.must_be_there(key), f"acknowledged, and lost: {key} ({reply.reason})"
        ledger.settle(key, response)
    for batch in ledger.batches:
        assert sum(key in present for key in batch) in (0, BATCH), "half of a batch was stored"
    ledger.batches.clear()
    ledger.touched.clear()


def _lookups(stub: CacheServiceStub, keys: list[Key]) -> Iterator[tuple[Key, pb.LookupResponse]]:
    for first in range(0, len(keys), 200):
        chunk = keys[first : first + 200]
        items = [
            pb.LookupRequest(namespace=key.namespace, prompt=key.prompt, exact_only=True) for key in chunk
        ]
        results = stub.BatchLookup(pb.BatchLookupRequest(items=items), timeout=CALL_S).results
        for key, result in zip(chunk, results, strict=True):
            assert result.WhichOneof("result") == "response", result.error
            yield key, result.response


def _store_request(key: Key, sequence: int, random: "Random") -> pb.StoreRequest:
    response = _self_describing(key, sequence, random)
    return pb.StoreRequest(
        namespace=key.namespace,
        prompt=key.prompt,
        response=response,
        metadata={"digest": blake2b(response).hexdigest()},
        usage=pb.Usage(input_tokens=sequence, output_tokens=len(response)),
        ttl=Duration(seconds=86_400),
    )


def _self_describing(key: Key, sequence: int, random: "Random") -> bytes:
    """namespace | prompt | sequence | filling | digest of all that; some fill several pages."""
    filling = random.randbytes(random.choice((0, 20, 900, 12_000))).hex()
    said = f"{key.namespace}|{key.prompt}|{sequence}|{filling}|".encode()
    return said + blake2b(said).hexdigest().encode()


def _assert_not_mixed(asked: Key, reply: pb.LookupResponse) -> None:
    """Whatever hit is one entry, whole; an exact hit is the entry of the prompt that was asked."""
    if reply.outcome not in (pb.OUTCOME_HIT_EXACT, pb.OUTCOME_HIT_SEMANTIC):
        return
    entry = reply.entry
    said, _, digest = entry.response.rpartition(b"|")
    assert blake2b(said + b"|").hexdigest().encode() == digest, "the response is damaged"
    namespace, prompt, sequence, _ = said.decode().split("|")
    assert (namespace, prompt) == (asked.namespace, entry.prompt), "a response under another entry's prompt"
    assert entry.metadata["digest"] == blake2b(entry.response).hexdigest(), "metadata of another entry"
    assert entry.usage.input_tokens == int(sequence), "usage of another entry"
    assert entry.usage.output_tokens == len(entry.response), "usage of another entry"
    if reply.outcome == pb.OUTCOME_HIT_EXACT:
        assert prompt == asked.prompt, "an exact hit for another prompt"


def _assert_code(error: grpc.RpcError, code: grpc.StatusCode) -> None:
    assert isinstance(error, grpc.Call)
    assert error.code() is code, error


def _assert_clean(store: LmdbStore) -> None:
    try:
        problems: Iterable[str] = store.check()
    finally:
        store.close()
    assert not problems
