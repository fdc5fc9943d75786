"""Turns fresh answers into labels, behind the requests: the candidates that were near are compared with what was
answered after all.

A Store that follows a miss, and a caller who brings a fresh answer, hand in a ``Case``; nothing waits for what becomes
of it. The queue is bounded in number and in bytes: what does not fit is dropped and counted. Labels are kept in groups,
at most a second after they were made, so that a kill takes no more.

Locks: ``_state`` guards the queue; nothing is called while it is held.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from cachesvc.core.events import DropReason, Labelled, LabelsDropped, TaskFailed
from cachesvc.core.gates import analyse, first_veto
from cachesvc.core.policy import Policy
from cachesvc.core.tickets import Ticket
from cachesvc.core.trust import features as feature_set
from cachesvc.core.trust.compare import Judged
from cachesvc.core.trust.labels import Comparator, Label, LabelledCandidate, News, Origin, foremost
from cachesvc.core.types import Candidate, Entry, Identity, Unseen, Vector
from cachesvc.core.visibility import unseen_difference
from cachesvc.engine.comparing import Comparing
from cachesvc.engine.trust_parts import TrustParts, rest_s
from cachesvc.engine.vetoes import Vetoes

_GROUP_S = 1.0
_GROUP_COUNT = 64
_OVERHEAD_BYTES = 2048  # of a case without its texts


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """Cases that wait at most, and their bytes; how long one may wait for inferences that nobody else wants."""

    max_queue: int
    max_queue_bytes: int
    compare_wait_s: float


@dataclass(frozen=True, slots=True)
class Case:
    """A request whose candidates can be judged, for its answer is known, or somebody's verdict on the one that was
    served. ``served`` is the entry that was served or would have been, ``vector`` the request's; the rest as in ``Label``.
    """

    key: bytes
    identity: Identity
    candidates: tuple[Candidate, ...]
    served: int | None
    origin: Origin
    share: float
    rule_version: int
    answer: bytes | bool
    vector: Vector | None = None

    @property
    def size_bytes(self) -> int:
        """Memory that it holds, roughly."""
        answer_bytes = 0 if isinstance(self.answer, bool) else len(self.answer)
        return _OVERHEAD_BYTES + answer_bytes + len(self.identity.text)


def label_key(kind: str, *parts: bytes) -> bytes:
    """The key of what is told: the same when the same thing is told again."""
    digest = blake2b(kind.encode(), digest_size=16, person=b"label")
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()


def answered(lookup_id: str, ticket: Ticket, answer: bytes) -> Case | None:
    """What a fresh answer to a lookup says of what was near; None for a hit for which none was asked."""
    origin = Origin.AUDIT if ticket.audit else ticket.origin
    if origin is None:
        return None
    return Case(
        key=label_key(f"{origin.name} fresh", lookup_id.encode()),
        identity=ticket.identity,
        candidates=ticket.candidates,
        served=ticket.served,
        origin=origin,
        share=ticket.share,
        rule_version=ticket.rule_version,
        answer=answer,
        vector=None if isinstance(ticket.embedded, Unseen) else ticket.embedded,
    )


class Labeller:
    """Owns the thread that labels. ``offer`` never blocks."""

    def __init__(
        self,
        parts: TrustParts,
        comparing: Comparing,
        vetoes: Vetoes,
        options: LabelOptions,
        step_back: Callable[[], None] = lambda: None,
    ) -> None:
        """``step_back`` lets the thread that calls it give way."""
        self._trust = parts.trust
        self._store = parts.store
        self._policies = parts.policies
        self._analyses = parts.analyses
        self._clock = parts.clock
        self._observer = parts.observer
        self._comparing = comparing
        self._vetoes = vetoes
        self._options = options
        self._step_back = step_back
        self._state = threading.Condition()
        self._queue: deque[Case] = deque()
        self._queued_bytes = 0
        self._stopping = False
        self._made: list[tuple[str, Label]] = []  # of the thread alone
        self._made_since_s = 0.0
        self._thread = threading.Thread(target=self._run, name="cachesvc-label", daemon=True)

    def start(self) -> None:
        """Begin. Before that cases wait."""
        self._thread.start()

    def stop(self) -> None:
        """Keep what was made and end; cases that still wait are dropped."""
        with self._state:
            self._stopping = True
            self._state.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._commit()
        self._drop("stopped", len(self._queue))

    def learn(self, lookup_id: str, ticket: Ticket, answer: bytes) -> None:
        """A lookup that is remembered has a fresh answer."""
        case = answered(lookup_id, ticket, answer)
        if case is not None:
            self.offer(case)

    def offer(self, case: Case) -> None:
        """Label this soon, if its policy learns and there is room."""
        if not case.candidates or self._policies().of(case.identity.namespace).trust.compare == "off":
            return
        with self._state:
            options = self._options
            fits = self._queued_bytes + case.size_bytes <= options.max_queue_bytes
            accepted = fits and len(self._queue) < options.max_queue and not self._stopping
            if accepted:
                self._queue.append(case)
                self._queued_bytes += case.size_bytes
                self._state.notify()
        if not accepted:
            self._drop("queue_full", 1)

    @property
    def queued(self) -> int:
        """Cases that wait."""
        return len(self._queue)

    def work(self) -> bool:
        """Label what has waited longest, if anything does; then keep what is due. Whether there was anything."""
        with self._state:
            case = self._queue.popleft() if self._queue else None
            self._queued_bytes -= 0 if case is None else case.size_bytes
        if case is not None:
            self._try_label(case)
        waited_s = self._clock.monotonic_s() - self._made_since_s
        if self._made and (len(self._made) >= _GROUP_COUNT or waited_s >= _GROUP_S):
            self._commit()
        return case is not None

    def judge(self, case: Case, policy: Policy, wait_s: float | None = None) -> Label | None:
        """The label that a case comes to; None when the candidates that matter are there no more. Whoever has no more
        than ``wait_s`` waits no longer for inferences, and keeps a thread that lookups need: raises OVERLOADED where enough
        others do.
        """
        rows = self._store.fetch(case.identity.scope, [one.entry_id for one in case.candidates])
        now_ms = self._clock.now_ms()
        there = [
            _Beside(candidate, row)
            for candidate, row in zip(case.candidates, rows, strict=True)
            if isinstance(row, Entry) and row.expires_ms > now_ms and row.exact_key != case.identity.exact_key
        ]
        places = {one.candidate.entry_id: place for place, one in enumerate(there)}
        served = None if case.served is None else places.get(case.served)
        if not there or (served is None and case.served is not None):
            return None
        ours = analyse(case.identity.text)
        theirs = [self._analyses.of(one.entry) for one in there]
        answers = [self._analyses.answer_of(one.entry) for one in there]
        scores = [one.candidate.score for one in there]
        values = feature_set.features(ours, theirs, scores, answers=answers)
        vetoes = [first_veto(ours, analysis, policy.gates) for analysis in theirs]
        gates = [None if veto is None else veto.gate for veto in vetoes]
        judged = self._judged(case, there, policy, wait_s)
        return Label(
            key=case.key,
            at_ms=now_ms,
            origin=case.origin,
            comparator=judged[foremost(served, gates)].comparator,
            share=case.share,
            rule_version=case.rule_version,
            features_version=feature_set.VERSION,
            served=served,
            candidates=tuple(
                LabelledCandidate(
                    row, one.candidate.score, gate, None if self._is_barred(case, one) else verdict.same
                )
                for row, one, gate, verdict in zip(values, there, gates, judged, strict=True)
            ),
        )

    def tell(self, label: Label) -> None:
        """A label was kept."""
        self._observer.on(Labelled(label.origin, label.comparator, label.verdict))

    def _is_barred(self, case: Case, one: "_Beside") -> bool:
        """Whether no rule could have served it: nothing is to be learned from it then."""
        if one.candidate.entry_id == case.served:
            return False
        if unseen_difference(case.identity.text, one.entry.prompt):
            return True
        identity, vector = case.identity, case.vector
        return vector is not None and self._vetoes.refuses(
            identity.scope, identity.exact_key, vector, one.entry
        )

    def _judged(
        self, case: Case, there: "Sequence[_Beside]", policy: Policy, wait_s: float | None
    ) -> list[Judged]:
        answer, most_s = case.answer, self._options.compare_wait_s
        until_s = self._clock.monotonic_s() + (most_s if wait_s is None else min(most_s, wait_s))
        if isinstance(answer, bool):
            return [
                Judged(answer if one.candidate.entry_id == case.served else None, Comparator.VERDICT)
                for one in there
            ]
        return [
            self._comparing.compare(
                answer,
                one.entry.payload.response,
                policy.trust,
                until_s - self._clock.monotonic_s(),
                is_asked=wait_s is not None,
            )
            for one in there
        ]

    def _run(self) -> None:
        self._step_back()
        while not self._stopping:
            began_s = self._clock.monotonic_s()
            was_there = self.work()
            took_s = self._clock.monotonic_s() - began_s
            with self._state:
                if was_there:
                    self._state.wait_for(lambda: self._stopping, rest_s(took_s))
                else:
                    self._state.wait_for(lambda: self._stopping or bool(self._queue), _GROUP_S)

    def _try_label(self, case: Case) -> None:
        namespace = case.identity.namespace
        try:
            label = self.judge(case, self._policies().of(namespace))
        except Exception as error:  # noqa: BLE001 - the edge of the worker: counted, and the thread lives on
            self._observer.on(TaskFailed.of("label", error))
            self._drop("failed", 1)
        else:
            if label is None:
                self._drop("entries_gone", 1)
                return
            if not self._made:
                self._made_since_s = self._clock.monotonic_s()
            self._made.append((namespace, label))

    def _commit(self) -> None:
        """Keep what was made. Where the store of trust fails it is lost: there will be more."""
        made, self._made = self._made, []
        if not made:
            return
        by_namespace: dict[str, list[Label]] = {}
        for namespace, label in made:
            by_namespace.setdefault(namespace, []).append(label)
        try:
            self._trust.add_all([News(name, tuple(labels)) for name, labels in by_namespace.items()])
        except Exception as error:  # noqa: BLE001 - the edge of the worker: counted, and the thread lives on
            self._observer.on(TaskFailed.of("label", error))
            self._drop("store_failed", len(made))
            return
        for _, label in made:
            self.tell(label)

    def _drop(self, why: DropReason, count: int) -> None:
        if count:
            self._observer.on(LabelsDropped(why, count))


@dataclass(frozen=True, slots=True)
class _Beside:
    """A candidate and its entry."""

    candidate: Candidate
    entry: Entry
