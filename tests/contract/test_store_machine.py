"""LmdbStore against its oracle: random histories, with restarts, must read the same and check clean."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.memory import MemoryStore
from cachesvc.core.eviction import EvictionPolicy
from cachesvc.core.identity import identify
from cachesvc.core.selection import Near, Selector
from cachesvc.core.types import (
    UNBOUNDED,
    Draft,
    Identity,
    Match,
    Message,
    Payload,
    Place,
    Quota,
    Request,
    Source,
    Use,
    Vector,
)

PRINT = "engine:test"
_TEXTS = [f"question {n}" for n in range(5)]
_NAMESPACES = ["one", "two"]
IDENTITIES = [
    identify(Request(namespace, (Message("user", text),), "m", {}), PRINT)
    for namespace in _NAMESPACES
    for text in _TEXTS
]
identities = st.sampled_from(IDENTITIES)
times = st.integers(min_value=0, max_value=40)
ids = st.integers(min_value=1, max_value=30)


def vector(seed: int) -> Vector:
    """Exact in half precision, too, so that what is read can be compared bit for bit."""
    one: Vector = np.eye(1, 4, seed % 4, dtype=np.float32)[0]
    return one if seed < 4 else -one


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    of: Identity = draw(identities)
    created_ms = draw(times)
    return Draft(
        identity=of,
        payload=Payload(
            response=draw(st.sampled_from([b"", b"short", b"long " * 2000])),
            tags=tuple(draw(st.lists(st.sampled_from(["red", "blue"]), unique=True))),
            sources=tuple(
                draw(st.lists(st.builds(Source, st.just("doc"), st.sampled_from("12")), max_size=2))
            ),
            cost_usd=draw(st.sampled_from([0.0, 0.001, 0.5])),
        ),
        prompt=of.text,
        vector=draw(st.none() | st.builds(vector, st.integers(0, 9))),
        created_ms=created_ms,
        expires_ms=created_ms + draw(times),
        sliding_ms=draw(st.sampled_from([0, 0, 20])),
        latest_ms=created_ms + 60,
        epoch=draw(st.none() | st.integers(0, 6)),
        quota=draw(st.sampled_from([UNBOUNDED, Quota(max_entries=3), Quota(max_bytes=4000)])),
    )


selectors = st.builds(
    Selector,
    namespace=st.sampled_from([None, *_NAMESPACES]),
    tags=st.sampled_from([(), ("red",), ("red", "blue")]),
    source_id=st.sampled_from([None, None, "doc", "other"]),
    except_version=st.sampled_from([None, "1"]),
    model=st.sampled_from([None, "m", "n"]),
    before_ms=st.none() | times,
    since_ms=st.none() | times,
    near=st.none() | st.builds(Near, st.builds(vector, st.integers(0, 9)), st.sampled_from([0.5, 0.999])),
)


class StoreMachine(RuleBasedStateMachine):
    """Every rule is done to both stores and must give both the same answer."""

    _eviction: EvictionPolicy = "gdsf"

    def __init__(self) -> None:
        super().__init__()
        self._directory = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self._real = self._open()
        self._model = MemoryStore(eviction=self._eviction)

    def _open(self) -> LmdbStore:
        options = StoreOptions(
            path=self._directory / "store",
            map_size_bytes=16 << 20,
            max_bytes=8 << 20,
            durability="async",
            write_queue_length=8,
            compress_min_bytes=1000,
            log_max_records=100_000,
            eviction=self._eviction,
        )
        return LmdbStore(options, PRINT)

    def teardown(self) -> None:
        self._real.close()
        shutil.rmtree(self._directory)

    @initialize(batch=st.lists(drafts(), max_size=6))
    def fill(self, batch: list[Draft]) -> None:
        self.put(batch)

    @rule(batch=st.lists(drafts(), min_size=1, max_size=3))
    def put(self, batch: list[Draft]) -> None:
        assert self._real.put(batch, None) == self._model.put(batch, None)

    @rule(of=identities, response=st.binary(max_size=4))
    def replace(self, of: Identity, response: bytes) -> None:
        draft = Draft(of, Payload(response), of.text, None, 20, 30)
        self.put([draft])
        self.put([draft])

    @rule(entry_ids=st.lists(ids, max_size=4))
    def remove(self, entry_ids: list[int]) -> None:
        assert self._real.remove(entry_ids) == self._model.remove(entry_ids)

    @rule(now_ms=times, limit=st.integers(1, 5))
    def expire(self, now_ms: int, limit: int) -> None:
        assert self._real.expire(now_ms, limit) == self._model.expire(now_ms, limit)

    @rule(limit=st.integers(1, 3), namespace=st.sampled_from([None, *_NAMESPACES]))
    def evict(self, limit: int, namespace: str | None) -> None:
        assert self._real.evict(limit, namespace) == self._model.evict(limit, namespace)

    @rule(uses=st.dictionaries(ids, st.builds(Use, times, st.integers(1, 3)), max_size=5))
    def touch(self, uses: dict[int, Use]) -> None:
        self._real.touch(uses)
        self._model.touch(uses)

    @rule(selector=selectors)
    def forbid(self, selector: Selector) -> None:
        assert self._real.forbid(selector) == self._model.forbid(selector)

    @rule(selector=selectors, limit=st.integers(1, 4))
    def walk(self, selector: Selector, limit: int) -> None:
        assert self._walked(self._real, selector, limit) == self._walked(self._model, selector, limit)

    def _walked(self, store: LmdbStore | MemoryStore, selector: Selector, limit: int) -> list[Match]:
        matches: list[Match] = []
        after: Place | None = None
        while True:
            part = store.select(selector, after, limit)
            assert len(part.matches) <= limit
            matches += part.matches
            after = part.after
            if after is None:
                return matches

    @rule()
    def reopen(self) -> None:
        self._real.close()
        self._real = self._open()

    @rule(after=st.integers(0, 40), limit=st.integers(1, 10))
    def follow(self, after: int, limit: int) -> None:
        assert self._real.changes(after, limit) == self._model.changes(after, limit)

    @rule(of=identities, entry_ids=st.lists(ids, max_size=5), max_count=st.integers(0, 6))
    def read(self, of: Identity, entry_ids: list[int], max_count: int) -> None:
        assert self._real.fetch(of.scope, entry_ids) == self._model.fetch(of.scope, entry_ids)
        real, model = (store.scope_vectors(of.scope, max_count) for store in (self._real, self._model))
        assert (real is None) == (model is None)
        if real is not None and model is not None:
            assert real.sequence == model.sequence
            assert real.ids.tolist() == model.ids.tolist()
            assert real.vectors.tobytes() == model.vectors.tobytes()

    @invariant()
    def they_agree(self) -> None:
        assert self._real.check() == []
        assert self._real.sequence() == self._model.sequence()
        assert self._real.stats().entries == self._model.stats().entries
        assert self._real.usage(10) == self._model.usage(10)
        assert self._real.epoch() == self._model.epoch()
        for of in IDENTITIES:
            assert self._real.find(of.scope, of.exact_key) == self._model.find(of.scope, of.exact_key)


class LruMachine(StoreMachine):
    _eviction: EvictionPolicy = "lru"


class LfuMachine(StoreMachine):
    _eviction: EvictionPolicy = "lfu"


@pytest.mark.parametrize("machine", [StoreMachine, LruMachine, LfuMachine], ids=["gdsf", "lru", "lfu"])
def test_the_store_does_what_its_oracle_does(machine: type[StoreMachine]) -> None:
    """Whatever is done in whatever order, LmdbStore answers as MemoryStore does and checks clean."""
    bounds = settings(deadline=None, derandomize=True, database=None, max_examples=40, stateful_step_count=25)
    run_state_machine_as_test(machine, settings=bounds)
