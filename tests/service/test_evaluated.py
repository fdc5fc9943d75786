"""``cachesvc eval`` tells of a stream what the server does with it: the same hits, from the same entries."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cachesvc.core.policy import Policy
from cachesvc.core.ports import Embedder
from cachesvc.evaluation.data import Asked, embedded, read_stream, stream_of
from cachesvc.evaluation.serving import Shop
from cachesvc.settings_policy import PolicySettings
from cachesvc.v1 import cache_pb2 as pb
from tests.conftest import Running

Start = Callable[..., Running]

DATA = Path(__file__).parents[2] / "bench" / "data"
CALL_S = 10.0


def prompts() -> list[Asked]:
    """Near to each other, some more than once, some that differ in what the model cannot see."""
    rows = [
        row
        for name in ("t2s_advising", "banking77")
        for row in read_stream(DATA / f"stream_{name}.jsonl")[:65]
    ]
    again = [replace(row, prompt=row.prompt.upper()) for row in rows[:10]]
    more = [replace(row, prompt=f"{row.prompt}  please") for row in rows[40:50]]
    return [*rows, *rows[5:15], *again, *more, Asked("a b " * 2_000, "long"), Asked("a b " * 2_000, "long")]


@pytest.mark.parametrize("min_score", [0.75, 0.95], ids=["low", "default"])
def test_the_same_hits(start: Start, embedder: Embedder, min_score: float) -> None:
    """Prompt by prompt: miss, exact hit or semantic hit, and whose answer."""
    server = start(policy={"default": {"min_score": min_score}})
    rows = prompts()
    policy: Policy = PolicySettings(min_score=min_score).policy()
    vectors = embedded(embedder, [row.prompt for row in rows])
    told = Shop(stream_of("made", rows, vectors, embedder.dimension)).serve(policy)
    by_server = [served(server, row.prompt, place) for place, row in enumerate(rows)]
    by_eval = [
        (int(place), "HIT_EXACT" if exact else "HIT_SEMANTIC" if place >= 0 else "MISS")
        for place, exact in zip(told.places, told.exact, strict=True)
    ]
    assert by_server == by_eval
    assert {kind for _, kind in by_eval} == {"HIT_EXACT", "HIT_SEMANTIC", "MISS"}
    assert len(rows) > 150


def served(server: Running, prompt: str, place: int) -> tuple[int, str]:
    """Ask; a miss is stored. The place whose answer came, or -1, and how."""
    found = server.stub.Lookup(pb.LookupRequest(prompt=prompt), timeout=CALL_S)
    name = pb.Outcome.Name(found.outcome).removeprefix("OUTCOME_")
    if found.HasField("entry"):
        return int(found.entry.response), name
    server.stub.Store(
        pb.StoreRequest(lookup_id=found.lookup_id, prompt=prompt, response=str(place).encode()),
        timeout=CALL_S,
    )
    return -1, "MISS"
