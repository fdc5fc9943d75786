"""No response crosses a scope: ≥ 100,000 mixed operations against an oracle that is a dict.

The embedder is an adversary. It gives the same vector to texts that have nothing in common, so that the
score never keeps two requests apart: only the scope does. The oracle knows nothing of digests, logs or
indexes; it keys a plain dict with the very values that must be equal.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from cachesvc.adapters.faiss_index import FaissIndex
from cachesvc.adapters.memory import ManualClock, MemoryStore
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import Event, ScopesChanged
from cachesvc.core.policy import Policy, PolicyBook
from cachesvc.core.tickets import TicketBounds
from cachesvc.core.types import (
    Ask,
    Entry,
    Keep,
    LookupResult,
    Message,
    Outcome,
    Payload,
    Request,
    Unseen,
    Vector,
)
from cachesvc.engine.admit import Admit
from cachesvc.engine.guard import Guard, GuardOptions
from cachesvc.engine.janitor import Janitor, JanitorOptions
from cachesvc.engine.lookup import Lookup
from cachesvc.engine.parts import EmbedBudget, Parts, Tuning
from cachesvc.engine.tickets import Tickets
from cachesvc.engine.views import Views
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub
from tests.doubles import ToldTrust

if TYPE_CHECKING:
    from random import Random

    from tests.trouble.conftest import Service

Seeded: TypeAlias = "Callable[[int], Random]"
Turns: TypeAlias = tuple[tuple[str, str], ...]

ENGINE_OPERATIONS = 100_000
WIRE_OPERATIONS = 6_000
WIRE_CALLERS = 3
DIMENSION = 4
SIGHTS = 3  # different vectors there are


@dataclass(frozen=True)
class Scope:
    """What must be equal. ``before`` and ``after`` are the turns around the question."""

    namespace: str
    model: str
    before: Turns
    after: Turns
    vary: tuple[tuple[str, str], ...]


@dataclass
class Stored:
    response: bytes
    entry_id: str


@dataclass
class Oracle:
    """What is stored, by scope and question."""

    live: dict[Scope, dict[str, Stored]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def expect(self, scope: Scope, question: str, outcome: str, entry_id: str, response: bytes) -> None:
        """Compare a lookup with what is stored. Exact in both directions: no wrong hit, no missed one."""
        self.seen[outcome] += 1
        stored = self.live.get(scope, {})
        if question in stored:
            assert (outcome, entry_id) == ("HIT_EXACT", stored[question].entry_id)
            assert response == stored[question].response
            return
        alike = {
            item.entry_id: item.response for text, item in stored.items() if _looks_alike(text, question)
        }
        if alike:
            assert outcome == "HIT_SEMANTIC"
            assert alike[entry_id] == response
        else:
            assert outcome.startswith("MISS_"), f"{outcome} where nothing alike is stored in {scope}"

    def stored(self, scope: Scope, question: str, item: Stored, replaced_id: str) -> None:
        had = self.live.setdefault(scope, {}).get(question)
        assert replaced_id == (had.entry_id if had else "")
        self.live[scope][question] = item
        self.seen["REPLACED" if had else "STORED"] += 1

    def pick(self, random: "Random", scope: Scope) -> str | None:
        return random.choice(sorted(self.live[scope])) if self.live.get(scope) else None

    def deleted(self, scope: Scope, question: str) -> None:
        del self.live[scope][question]
        self.seen["DELETED"] += 1


class Adversary:
    """``Embedder`` with three vectors for all texts; of some texts it says that it cannot see them."""

    fingerprint = "adversary"
    dimension = DIMENSION

    def embed(self, text: str, wait_s: float) -> Vector | Unseen:
        """See ``Embedder.embed``."""
        sight = _sight(text)
        if sight is None:
            return Unseen.UNKNOWN_TOKENS
        vector = np.zeros(DIMENSION, dtype=np.float32)
        vector[sight] = 1.0
        return vector


QUESTIONS = (
    "and in euros?",
    "And in euros?",
    "and in euros? ",
    "yes",
    "no",
    "delete it",
    "keep it",
    "1",
    "2",
    "\u4f60",
)


def _sight(text: str) -> int | None:
    return None if text == QUESTIONS[-1] else blake2b(text.encode(), digest_size=1).digest()[0] % SIGHTS


def _looks_alike(text: str, question: str) -> bool:
    return _sight(text) is not None and _sight(text) == _sight(question)


# Values that are made to be confused: by joining without separators, by case, by quoting, by order.
NAMESPACES = ("a", "b", "ab", "a-b", "a.b")
MODELS = ("", "m", "M", "m1")
BEFORE: tuple[Turns, ...] = (
    (),
    (("system", "be brief"),),
    (("developer", "be brief"),),
    (("system", "be brief "),),
    (("system", "be"), ("system", "brief")),
    (("system", "be brief"), ("user", "price?"), ("assistant", "$1")),
    (("system", "be brief"), ("user", "price?"), ("assistant", "$2")),
    (("user", "price?"), ("assistant", "$1")),
    (("user", "and in euros?"), ("user", "")),
    (("user", '"],["user","yes'),),
)
AFTER: tuple[Turns, ...] = ((), (("assistant", "well,"),))
VARY = (
    (),
    (("temperature", "0"),),
    (("temperature", "0.0"),),
    (("temperature", "1"),),
    (("a", "b"), ("c", "d")),
    (("a", 'b","c":"d'),),
    (("a", "d"), ("c", "b")),
)


def _scopes(random: "Random", how_many: int, namespaces: Sequence[str] = NAMESPACES) -> list[Scope]:
    """Scopes that differ from each other in as little as possible."""
    scopes = [Scope(random.choice(namespaces), "m", (), (), ())]
    while len(scopes) < how_many:
        near = random.choice(scopes)
        change = random.choice(
            (
                lambda s: replace(s, namespace=random.choice(namespaces)),
                lambda s: replace(s, model=random.choice(MODELS)),
                lambda s: replace(s, before=random.choice(BEFORE)),
                lambda s: replace(s, after=random.choice(AFTER)),
                lambda s: replace(s, vary=random.choice(VARY)),
            )
        )(near)
        if change not in scopes:
            scopes.append(change)
    return scopes


# ---------------------------------------------------------------- the engine


class _Counts:
    """``Observer`` that counts what the views did."""

    def __init__(self) -> None:
        self.loaded = 0
        self.unloaded = 0

    def on(self, event: Event) -> None:
        """See ``Observer.on``."""
        if isinstance(event, ScopesChanged):
            self.loaded += event.loaded
            self.unloaded += event.unloaded


@dataclass
class Engine:
    """Lookup and Admit wired by hand, with real indexes on the reference store."""

    lookup: Lookup
    admit: Admit
    counts: _Counts


def _engine(loaded_scopes: int) -> Engine:
    store, clock, counts, ids = MemoryStore(), ManualClock(), _Counts(), count()
    views = Views(
        store,
        lambda scope: FaissIndex(DIMENSION),
        row_bytes=DIMENSION * 4 + 8,
        max_bytes=FaissIndex(DIMENSION).memory_bytes * loaded_scopes,
        clock=clock,
        observer=counts,
    )
    options = JanitorOptions(interval_s=1.0, high_watermark=0.95, low_watermark=0.9, max_notes=64)
    book = PolicyBook(Policy(gates=frozenset()), {})
    parts = Parts(
        store=store,
        embedder=Guard(
            Adversary(), Adversary, GuardOptions(1, 8, 60.0, 1, 400), clock=clock, observer=counts
        ),
        views=views,
        tickets=Tickets(clock, TicketBounds(1024, 1 << 24, 600.0)),
        reuse=ToldTrust().reuse(),
        janitor=Janitor(store, lambda: options, policies=lambda: book, clock=clock, observer=counts),
        tuning=lambda: Tuning(book, EmbedBudget(1.0, 0.0)),
        clock=clock,
        observer=counts,
        new_id=lambda: f"{next(ids):x}",
    )
    return Engine(Lookup(parts), Admit(parts), counts)


@pytest.mark.slow
def test_one_hundred_thousand_operations_cross_no_scope(seeded: Seeded) -> None:
    """Every lookup of a long mixed history answers as a dict keyed with the plain values would."""
    random = seeded(20_240)
    scopes = _scopes(random, 160)
    engine, oracle, sequence = _engine(loaded_scopes=80), Oracle(), count()
    for _ in range(ENGINE_OPERATIONS):
        scope, question = random.choice(scopes), random.choice(QUESTIONS)
        dice = random.random()
        if dice < 0.60:
            _check_lookup(engine, oracle, scope, question, random)
        elif dice < 0.80:
            _store(engine, oracle, scope, question, f"{next(sequence)}")
        elif dice < 0.92:
            _delete(engine, oracle, scope, random)
        elif dice < 0.97:
            _store_by_ticket(engine, oracle, scope, question, f"{next(sequence)}")
        else:
            _store_with_a_ticket_of_another(engine, random.sample(scopes, 2), question)

    seen = oracle.seen
    assert min(seen[name] for name in ("HIT_EXACT", "HIT_SEMANTIC", "STORED", "REPLACED", "DELETED")) > 1_000
    assert seen["MISS_EMPTY"] + seen["MISS_BELOW_THRESHOLD"] > 1_000
    assert engine.counts.unloaded > 100, "no scope was unloaded and built anew"


def _check_lookup(
    engine: Engine, oracle: Oracle, scope: Scope, question: str, random: "Random"
) -> LookupResult:
    result = engine.lookup(Ask(_request(scope, question, random), min_score=random.choice((None, -1.0))))
    entry = result.entry
    if entry is not None:
        _assert_entry_is_of(entry, scope)
    oracle.expect(
        scope,
        question,
        result.outcome.name,
        "" if entry is None else str(entry.id),
        b"" if entry is None else entry.payload.response,
    )
    return result


def _assert_entry_is_of(entry: Entry, scope: Scope) -> None:
    assert _scope_of(entry.payload.response) == _plain(scope)
    assert (entry.namespace, entry.model) == (scope.namespace, scope.model)


def _store(engine: Engine, oracle: Oracle, scope: Scope, question: str, sequence: str) -> None:
    _keep(engine, oracle, scope, question, sequence, Keep(Payload(b""), _request(scope, question)))


def _store_by_ticket(engine: Engine, oracle: Oracle, scope: Scope, question: str, sequence: str) -> None:
    """A miss, then a store that names nothing but the miss."""
    missed = engine.lookup(Ask(_request(scope, question), bypass=True))
    assert missed.outcome is Outcome.BYPASS_REQUESTED
    _keep(engine, oracle, scope, question, sequence, Keep(Payload(b""), lookup_id=missed.lookup_id))


def _keep(engine: Engine, oracle: Oracle, scope: Scope, question: str, sequence: str, keep: Keep) -> None:
    response = _response(scope, question, sequence)
    result = engine.admit.store(replace(keep, payload=Payload(response)))
    assert result.semantic == (_sight(question) is not None)
    replaced = "" if result.replaced_id is None else str(result.replaced_id)
    oracle.stored(scope, question, Stored(response, str(result.entry_id)), replaced)


def _store_with_a_ticket_of_another(engine: Engine, scopes: Sequence[Scope], question: str) -> None:
    missed = engine.lookup(Ask(_request(scopes[0], question), bypass=True))
    keep = Keep(Payload(b"poison"), _request(scopes[1], question), lookup_id=missed.lookup_id)
    with pytest.raises(CacheError) as refused:
        engine.admit.store(keep)
    assert refused.value.kind is Kind.INVALID


def _delete(engine: Engine, oracle: Oracle, scope: Scope, random: "Random") -> None:
    question = oracle.pick(random, scope)
    if question is None:
        return
    entry_id = int(oracle.live[scope][question].entry_id)
    other = next(name for name in NAMESPACES if name != scope.namespace)
    assert engine.admit.get(other, entry_id) is None
    assert not engine.admit.delete(other, entry_id), "deleted from another namespace"
    assert engine.admit.delete(scope.namespace, entry_id)
    oracle.deleted(scope, question)


def _request(scope: Scope, question: str, random: "Random | None" = None) -> Request:
    messages = tuple(
        Message(role, content) for role, content in (*scope.before, ("user", question), *scope.after)
    )
    vary = list(scope.vary)
    if random is not None:
        random.shuffle(vary)  # order is no part of a map
    return Request(scope.namespace, messages, scope.model, dict(vary))


def _plain(scope: Scope) -> object:
    return [
        scope.namespace,
        scope.model,
        [list(turn) for turn in scope.before],
        [list(turn) for turn in scope.after],
        [list(pair) for pair in scope.vary],
    ]


def _response(scope: Scope, question: str, sequence: str) -> bytes:
    """Says by itself where it belongs."""
    return json.dumps([_plain(scope), question, sequence]).encode()


def _scope_of(response: bytes) -> object:
    return json.loads(response)[0]


# ------------------------------------------------------- the service, on disk


@pytest.fixture(scope="module")
def service(host: "Callable[..., Service]") -> "Service":
    """gRPC, LMDB and FAISS, all real; memory for a part of the scopes. No gate helps to keep requests apart."""
    return host(Adversary(), index={"max_bytes": 1 << 20}, policy={"default": {"gates": []}})


@pytest.mark.slow
def test_callers_side_by_side_cross_no_scope(service: "Service", seeded: Seeded) -> None:
    """Over gRPC and on disk, with others beside it, each caller's history answers as its own dict would."""
    with ThreadPoolExecutor(WIRE_CALLERS) as pool:
        callers = [pool.submit(_call_for_a_while, service.stub, seeded(n), n) for n in range(WIRE_CALLERS)]
        seen = sum((caller.result(timeout=120) for caller in callers), Counter())
    assert min(seen[name] for name in ("HIT_EXACT", "HIT_SEMANTIC", "STORED", "REPLACED", "DELETED")) > 100
    assert seen["MISS_EMPTY"] + seen["MISS_BELOW_THRESHOLD"] > 100


def _call_for_a_while(stub: CacheServiceStub, random: "Random", caller: int) -> "Counter[str]":
    """The scopes of a caller are its own; they differ from the others' in the namespace alone."""
    scopes = _scopes(random, 40, [f"{name}{caller}" for name in NAMESPACES])
    oracle, sequence, done = Oracle(), count(), 0
    while done < WIRE_OPERATIONS // WIRE_CALLERS:
        scope, question = random.choice(scopes), random.choice(QUESTIONS)
        dice = random.random()
        if dice < 0.30:
            done += _wire_lookups(stub, oracle, [(scope, question)])
        elif dice < 0.40:
            asked = [(random.choice(scopes), random.choice(QUESTIONS)) for _ in range(12)]
            done += _wire_lookups(stub, oracle, asked)
        elif dice < 0.70:
            done += _wire_stores(stub, oracle, [(scope, question)], sequence)
        elif dice < 0.80:
            kept = [(random.choice(scopes), random.choice(QUESTIONS)) for _ in range(6)]
            done += _wire_stores(stub, oracle, kept, sequence)
        else:
            done += _wire_delete(stub, oracle, scope, random)
    return oracle.seen


def _wire_lookups(stub: CacheServiceStub, oracle: Oracle, asked: "list[tuple[Scope, str]]") -> int:
    items = [_lookup_message(scope, question) for scope, question in asked]
    if len(items) == 1:
        replies = [stub.Lookup(items[0], timeout=20)]
    else:
        results = stub.BatchLookup(pb.BatchLookupRequest(items=items), timeout=20).results
        replies = [result.response for result in results]
    for (scope, question), reply in zip(asked, replies, strict=True):
        outcome = pb.Outcome.Name(reply.outcome).removeprefix("OUTCOME_")
        if reply.HasField("entry"):
            assert _scope_of(reply.entry.response) == _plain(scope)
        oracle.expect(scope, question, outcome, reply.entry.id, reply.entry.response)
    return len(asked)


def _wire_stores(
    stub: CacheServiceStub, oracle: Oracle, kept: "list[tuple[Scope, str]]", sequence: "count[int]"
) -> int:
    items = []
    for scope, question in kept:
        lookup = _lookup_message(scope, question)
        response = _response(scope, question, f"{next(sequence)}")
        items.append(
            pb.StoreRequest(
                namespace=lookup.namespace,
                chat=lookup.chat,
                model=lookup.model,
                vary=lookup.vary,
                response=response,
            )
        )
    if len(items) == 1:
        replies = [stub.Store(items[0], timeout=20)]
    else:
        results = stub.BatchStore(pb.BatchStoreRequest(items=items), timeout=20).results
        replies = [result.response for result in results]
    for (scope, question), item, reply in zip(kept, items, replies, strict=True):
        oracle.stored(scope, question, Stored(item.response, reply.entry_id), reply.replaced_entry_id)
    return len(kept)


def _wire_delete(stub: CacheServiceStub, oracle: Oracle, scope: Scope, random: "Random") -> int:
    question = oracle.pick(random, scope)
    if question is None:
        return 0
    entry_id = oracle.live[scope][question].entry_id
    assert not stub.Delete(pb.DeleteRequest(namespace="somebody-else", id=entry_id), timeout=20).deleted
    assert stub.Delete(pb.DeleteRequest(namespace=scope.namespace, id=entry_id), timeout=20).deleted
    oracle.deleted(scope, question)
    return 1


def _lookup_message(scope: Scope, question: str) -> pb.LookupRequest:
    turns = (*scope.before, ("user", question), *scope.after)
    return pb.LookupRequest(
        namespace=scope.namespace, chat=_chat(*turns), model=scope.model, vary=dict(scope.vary)
    )


def _chat(*turns: tuple[str, str]) -> pb.Chat:
    return pb.Chat(messages=[pb.Message(role=role, content=content) for role, content in turns])


# --------------------------------------------------------------- metamorphic

SYSTEM, ASKED, ANSWERED, QUESTION = (
    ("system", "You are the caf\u00e9's clerk.\nBe brief."),
    ("user", "What is the price of item 1?"),
    ("assistant", "It is $1."),
    ("user", "yes"),
)
VARIED = {"temperature": "0.5", "locale": "de"}


def _base(**changes: object) -> pb.LookupRequest:
    request: dict[str, object] = {
        "namespace": "shop",
        "model": "gpt-1",
        "vary": VARIED,
        "chat": _chat(SYSTEM, ASKED, ANSWERED, QUESTION),
        **changes,
    }
    return pb.LookupRequest(**request)  # type: ignore[arg-type]  # each change has its field's type


def _turned(*turns: tuple[str, str]) -> pb.LookupRequest:
    return _base(chat=_chat(*turns))


OTHER: Mapping[str, pb.LookupRequest] = {
    "namespace": _base(namespace="shop2"),
    "namespace-default": _base(namespace=""),
    "model": _base(model="gpt-2"),
    "model-case": _base(model="GPT-1"),
    "model-space": _base(model="gpt-1 "),
    "no-model": _base(model=""),
    "vary-value": _base(vary={**VARIED, "temperature": "0.6"}),
    "vary-value-form": _base(vary={**VARIED, "temperature": "0.50"}),
    "vary-key": _base(vary={"Temperature": "0.5", "locale": "de"}),
    "vary-swapped": _base(vary={"temperature": "de", "locale": "0.5"}),
    "vary-more": _base(vary={**VARIED, "seed": "1"}),
    "vary-empty-value": _base(vary={**VARIED, "seed": ""}),
    "vary-less": _base(vary={"temperature": "0.5"}),
    "no-vary": _base(vary={}),
    "system-digit": _turned(("system", SYSTEM[1] + "1"), ASKED, ANSWERED, QUESTION),
    "system-case": _turned(("system", SYSTEM[1].upper()), ASKED, ANSWERED, QUESTION),
    "system-space": _turned(("system", SYSTEM[1] + " "), ASKED, ANSWERED, QUESTION),
    "system-zero-width": _turned(("system", SYSTEM[1] + "\u200b"), ASKED, ANSWERED, QUESTION),
    "system-accent": _turned(("system", SYSTEM[1].replace("\u00e9", "e")), ASKED, ANSWERED, QUESTION),
    "system-line-breaks": _turned(("system", SYSTEM[1].replace("\n", "\n\n")), ASKED, ANSWERED, QUESTION),
    "system-role": _turned(("developer", SYSTEM[1]), ASKED, ANSWERED, QUESTION),
    "no-system": _turned(ASKED, ANSWERED, QUESTION),
    "system-twice": _turned(SYSTEM, SYSTEM, ASKED, ANSWERED, QUESTION),
    "system-last": _turned(ASKED, ANSWERED, SYSTEM, QUESTION),
    "system-after-the-question": _turned(ASKED, ANSWERED, QUESTION, SYSTEM),
    "earlier-question": _turned(SYSTEM, ("user", "What is the price of item 2?"), ANSWERED, QUESTION),
    "earlier-answer": _turned(SYSTEM, ASKED, ("assistant", "It is $2."), QUESTION),
    "earlier-answer-role": _turned(SYSTEM, ASKED, ("tool", ANSWERED[1]), QUESTION),
    "earlier-turns-swapped": _turned(SYSTEM, ANSWERED, ASKED, QUESTION),
    "earlier-turns-joined": _turned(SYSTEM, ("user", ASKED[1] + ANSWERED[1]), QUESTION),
    "earlier-turn-less": _turned(SYSTEM, ASKED, QUESTION),
    "earlier-turn-more": _turned(SYSTEM, ASKED, ANSWERED, ("tool", ""), QUESTION),
    "no-earlier-turns": _turned(SYSTEM, QUESTION),
    "answer-begun": _turned(SYSTEM, ASKED, ANSWERED, QUESTION, ("assistant", "")),
    "prompt-alone": pb.LookupRequest(namespace="shop", model="gpt-1", vary=VARIED, prompt=QUESTION[1]),
}


@pytest.mark.parametrize("stored_first", ["base", "other"])
@pytest.mark.parametrize("id_", OTHER)
def test_one_difference_keeps_two_requests_apart(service: "Service", id_: str, stored_first: str) -> None:
    """Change any one thing that must match exactly, and neither request is answered with the other's."""
    run = f"{id_} {stored_first}"  # each case has scopes of its own
    base, other = _with_vary(_base(), run), _with_vary(OTHER[id_], run)
    stored, asked = (base, other) if stored_first == "base" else (other, base)
    service.stub.Store(_store_message(stored, b"mine"), timeout=20)
    assert service.stub.Lookup(asked, timeout=20).outcome == pb.OUTCOME_MISS_EMPTY
    assert service.stub.Lookup(_asking_else(asked), timeout=20).outcome == pb.OUTCOME_MISS_EMPTY

    service.stub.Store(_store_message(asked, b"theirs"), timeout=20)
    for request, response in ((stored, b"mine"), (asked, b"theirs")):
        assert service.stub.Lookup(request, timeout=20).entry.response == response
        alike = service.stub.Lookup(_asking_else(request), timeout=20)
        assert (alike.outcome, alike.entry.response) == (pb.OUTCOME_HIT_SEMANTIC, response)


SAME: Mapping[str, pb.LookupRequest] = {
    "vary-order": _base(vary=dict(reversed(VARIED.items()))),
    "unicode-form": _turned(("system", SYSTEM[1].replace("\u00e9", "e\u0301")), ASKED, ANSWERED, QUESTION),
    "line-endings": _turned(("system", SYSTEM[1].replace("\n", "\r\n")), ASKED, ANSWERED, QUESTION),
    "journey": _base(journey="checkout"),
    "request-id": _base(request_id="r-1"),
    "min-score": _base(min_score=1.0),
}


@pytest.mark.parametrize("id_", SAME)
def test_what_is_no_difference_is_an_exact_hit(service: "Service", id_: str) -> None:
    """Order of keys, Unicode form, line endings, labels and options are no part of what a request is."""
    run = f"same {id_}"
    service.stub.Store(_store_message(_with_vary(_base(), run), b"mine"), timeout=20)
    reply = service.stub.Lookup(_with_vary(SAME[id_], run), timeout=20)
    assert (reply.outcome, reply.entry.response) == (pb.OUTCOME_HIT_EXACT, b"mine")


def test_a_prompt_is_a_chat_of_one_user_message(service: "Service") -> None:
    """Both spellings of the same request are the same request."""
    prompt = pb.LookupRequest(prompt="yes", model="both")
    service.stub.Store(_store_message(prompt, b"mine"), timeout=20)
    chat = pb.LookupRequest(chat=_chat(("user", "yes")), model="both")
    assert service.stub.Lookup(chat, timeout=20).outcome == pb.OUTCOME_HIT_EXACT


def _with_vary(request: pb.LookupRequest, run: str) -> pb.LookupRequest:
    changed = pb.LookupRequest()
    changed.CopyFrom(request)
    changed.vary["run"] = run
    return changed


def _asking_else(request: pb.LookupRequest) -> pb.LookupRequest:
    """The same in everything but the question, which the embedder takes for the same."""
    text = next(text for n in count() if _looks_alike(text := f"else {n}", QUESTION[1]))
    changed = pb.LookupRequest()
    changed.CopyFrom(request)
    if changed.WhichOneof("input") == "prompt":
        changed.prompt = text
    else:
        place = max(n for n, turn in enumerate(changed.chat.messages) if turn.role == "user")
        changed.chat.messages[place].content = text
    return changed


def _store_message(request: pb.LookupRequest, response: bytes) -> pb.StoreRequest:
    store = pb.StoreRequest(
        namespace=request.namespace, model=request.model, vary=request.vary, response=response
    )
    if request.WhichOneof("input") == "prompt":
        store.prompt = request.prompt
    else:
        store.chat.CopyFrom(request.chat)
    return store
