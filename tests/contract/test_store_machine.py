"""LmdbStore against its oracle: random histories, with restarts, must read the same and check clean."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.adapters.memory import MemoryStore
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Identity, Message, Payload, Request, Vector

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
    drawn: Vector = np.random.default_rng(seed).normal(size=4).astype(np.float32)
    return drawn


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    of: Identity = draw(identities)
    created_ms = draw(times)
    return Draft(
        identity=of,
        payload=Payload(
            response=draw(st.sampled_from([b"", b"short", b"long " * 2000])),
            tags=tuple(draw(st.lists(st.sampled_from(["red", "blue"]), unique=True))),
        ),
        prompt=of.text,
        vector=draw(st.none() | st.builds(vector, st.integers(0, 9))),
        created_ms=created_ms,
        expires_ms=created_ms + draw(times),
    )


class StoreMachine(RuleBasedStateMachine):
    """Every rule is done to both stores and must give both the same answer."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self._real = self._open()
        self._model = MemoryStore()

    def _open(self) -> LmdbStore:
        options = StoreOptions(
            path=self._directory / "store",
            map_size_bytes=16 << 20,
            max_bytes=8 << 20,
            durability="async",
            write_queue_length=8,
            compress_min_bytes=1000,
            log_max_records=100_000,
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

    @rule(limit=st.integers(1, 3))
    def evict(self, limit: int) -> None:
        assert self._real.evict(limit) == self._model.evict(limit)

    @rule(used_ms=st.dictionaries(ids, times, max_size=5))
    def touch(self, used_ms: dict[int, int]) -> None:
        self._real.touch(used_ms)
        self._model.touch(used_ms)

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
        for of in IDENTITIES:
            assert self._real.find(of.scope, of.exact_key) == self._model.find(of.scope, of.exact_key)


def test_the_store_does_what_its_oracle_does() -> None:
    """Whatever is done in whatever order, LmdbStore answers as MemoryStore does and checks clean."""
    bounds = settings(deadline=None, derandomize=True, database=None, max_examples=80, stateful_step_count=25)
    run_state_machine_as_test(StoreMachine, settings=bounds)
