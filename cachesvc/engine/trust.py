"""What the lookups of each namespace go by now, and the rounds in which that is made from what became known.

Every process asks ``stance`` on each lookup, counts what lookups came to, and follows what the one that leads makes of
the labels. The store of trust may fail or be lost: lookups then go on by the stance last known, or by their policy.

Locks: ``_lock`` guards the counts and the map of stances; nothing is read or written while it is held.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeAlias

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.events import TaskFailed, TrustChanged, TrustStands
from cachesvc.core.policy import Policy
from cachesvc.core.trust.labels import Label, News, Tally
from cachesvc.core.trust.life import Advance, Audited
from cachesvc.core.trust.state import Brake, Stance, Step, TrustState, by_policy
from cachesvc.engine.trust_parts import TrustParts

_FOLLOW_S = 1.0
_ATTEMPTS = 5  # at a change that others make, too
_PARTS = 20  # of a namespace's labels in one round


@dataclass(frozen=True, slots=True)
class TrustOptions:
    """``round_s`` between two rounds, in each of which at most ``round_labels`` of a namespace are read; what
    ``max_namespaces`` are doing is kept in memory.
    """

    round_s: float
    round_labels: int
    max_namespaces: int


@dataclass(frozen=True, slots=True)
class Changed:
    """A state as somebody wants it, and the steps that this is."""

    state: TrustState
    steps: Sequence[Step] = ()


Apply: TypeAlias = Callable[[str, Callable[[TrustState], Changed]], object]
"""Puts a changed state of a namespace in force. Raises FULL, UNAVAILABLE."""

Errand: TypeAlias = Callable[[TrustState, Policy, Apply], None]
"""Has something done for a namespace whose state calls for it, behind the rounds: a challenger trained, its rule calibrated."""


def _nothing(state: TrustState, policy: Policy, apply: Apply) -> None:
    """Nobody is there to do it."""


@dataclass(frozen=True, slots=True)
class Errands:
    """What rounds have done elsewhere, for it takes long. They must not block."""

    challenge: Errand = _nothing
    calibrate: Errand = _nothing


class Life(Protocol):
    """How a namespace's trust comes of what is known of it. Pure."""

    def advance(
        self,
        state: TrustState,
        labels: Sequence[tuple[int, Label]],
        tally: Tally,
        policy: Policy,
        now_ms: int,
    ) -> Advance:
        """The state after these labels, which follow on those applied, and with this tally."""

    def stance(self, state: TrustState, policy: Policy) -> Stance:
        """What lookups go by in this state, under this policy."""

    def audited(self, state: TrustState, policy: Policy) -> Audited | None:
        """What audits say; None before there was one."""

    def is_challenge_due(self, state: TrustState, policy: Policy) -> bool:
        """Whether a challenger should be trained."""

    def is_calibration_due(self, state: TrustState, policy: Policy) -> bool:
        """Whether the rule that decides should be calibrated anew."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A namespace's stance, and what it was made from."""

    state: TrustState
    policy: Policy
    stance: Stance
    audited: Audited | None


@dataclass(frozen=True, slots=True)
class _Folded:
    """What a namespace's last round came to, and from what beside labels."""

    state: TrustState
    tally: Tally
    policy: Policy


class Trust:
    """Owns the thread of rounds. ``stance`` and ``count`` never block and never raise."""

    def __init__(
        self,
        parts: TrustParts,
        life: Life,
        options: TrustOptions,
        leads: Callable[[], bool],
        errands: Errands = Errands(),
    ) -> None:
        """``leads`` says whether this process does the rounds."""
        self._store = parts.trust
        self._policies = parts.policies
        self._clock = parts.clock
        self._observer = parts.observer
        self._life = life
        self._options = options
        self._leads = leads
        self._errands = errands
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._counts: dict[str, Tally] = {}
        self._sequence = -1  # of the store, when it was followed last
        self._folded: dict[str, _Folded] = {}  # of the thread alone
        self._round_at_s = self._clock.monotonic_s()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachesvc-trust", daemon=True)

    def start(self) -> None:
        """Begin. Before that, and after ``stop``, only ``tick`` does anything."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and keep what was counted."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self._attempt(self._flush)

    def stance(self, namespace: str, policy: Policy) -> Stance:
        """What a lookup goes by. One look into a dict, but for the first of a namespace or after a change of policy."""
        known = self._known.get(namespace)
        if known is not None and known.policy is policy:
            return known.stance
        try:
            return self._note(self._state_of(namespace), policy).stance
        except Exception as error:  # noqa: BLE001 - the edge of the request: counted, and it costs trust, no lookup
            self._fail("stance", error)
            return self._by_policy(namespace, policy)

    def count(self, namespace: str, tally: Tally) -> None:
        """A lookup came to something. What is counted for too many namespaces at once is lost."""
        with self._lock:
            before = self._counts.get(namespace)
            if before is not None or len(self._counts) < self._options.max_namespaces:
                self._counts[namespace] = tally if before is None else before.plus(tally)

    def change(self, namespace: str, change: Callable[[TrustState], Changed]) -> TrustState:
        """Put a changed state in force here, and within a second everywhere. Raises FULL, UNAVAILABLE."""
        for _ in range(_ATTEMPTS):
            state = self._store.state(namespace) or TrustState(namespace)
            changed = change(state)
            after = replace(changed.state, generation=state.generation + 1)
            if self._store.put_state(after):
                self._note(after, self._policies().of(namespace))
                self._tell(namespace, changed.steps)
                return after
        raise CacheError(Kind.UNAVAILABLE, "the state of trust changes all the time: try again")

    def tick(self) -> None:
        """Keep what was counted, follow the store, and do a round where one is due and this process leads."""
        self._attempt(self._flush)
        self._attempt(self._follow)
        now_s = self._clock.monotonic_s()
        if now_s - self._round_at_s >= self._options.round_s:
            self._round_at_s = now_s
            if self._leads():
                self._attempt(self._round)

    def _run(self) -> None:
        while not self._stopped.wait(_FOLLOW_S):
            self.tick()

    def _attempt(self, task: Callable[[], None], name: str = "") -> bool:
        """Whether it did not fail."""
        try:
            task()
        except Exception as error:  # noqa: BLE001 - the edge of the worker: counted, and the thread lives on
            self._fail(name or task.__name__, error)
        else:
            return True
        return False

    def _fail(self, name: str, error: Exception) -> None:
        self._observer.on(TaskFailed.of(f"trust_{name.strip('_')}", error))

    def _flush(self) -> None:
        with self._lock:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        try:
            self._store.add_all([News(namespace, (), tally) for namespace, tally in counts.items()])
        except CacheError:
            for namespace, tally in counts.items():
                self.count(namespace, tally)
            raise

    def _follow(self) -> None:
        sequence = self._store.sequence()
        if sequence == self._sequence:
            return
        policies = self._policies()
        with self._lock:
            known = list(self._known.items())
        followed = [
            self._attempt(partial(self._follow_one, name, held, policies.of(name)), "follow")
            for name, held in known
        ]
        self._sequence = sequence if all(followed) else -1

    def _follow_one(self, namespace: str, held: _Known, policy: Policy) -> None:
        """Counts change each second, and there may be thousands of namespaces: what is as it was costs a look."""
        generation = self._store.generation(namespace)
        if generation < held.state.generation:  # the store gave it up, or was lost: it begins anew
            with self._lock:
                self._known.pop(namespace, None)
        if generation != held.state.generation or policy is not held.policy:
            self._note(self._store.state(namespace) or TrustState(namespace), policy)

    def _round(self) -> None:
        namespaces = self._store.namespaces()
        self._folded = {name: self._folded[name] for name in namespaces if name in self._folded}
        for namespace in namespaces:
            if self._stopped.is_set():
                return
            self._attempt(partial(self._fold, namespace), "fold")

    def _fold(self, namespace: str) -> None:
        for _ in range(_PARTS):
            if not self._advance(namespace):
                return

    def _advance(self, namespace: str) -> bool:
        """Fold what is new into the state of a namespace. Whether there may be more."""
        policy = self._policies().of(namespace)
        held = self._folded.get(namespace)
        if held is not None and held.state.generation != self._store.generation(namespace):
            held = None  # an operator, or another that leads by now, was first; or the store gave it up
        state = self._store.state(namespace) or TrustState(namespace) if held is None else held.state
        labels = self._store.labels(namespace, state.applied, self._options.round_labels)
        tally = self._store.tally(namespace)
        is_open = state.braking.level is Brake.OPEN  # else it opens as time passes
        if held is not None and is_open and not labels and tally == held.tally and policy is held.policy:
            self._calibrate(state, policy)  # another namespace may have been at it
            return False
        advance = self._life.advance(state, labels, tally, policy, self._clock.now_ms())
        # Counts alone are not worth a commit: callers choose how many namespaces there are.
        if labels or advance.steps:
            state = replace(advance.state, generation=state.generation + 1)
            if not self._store.put_state(state):  # somebody was first in between
                self._folded.pop(namespace, None)
                return True
            self._note(state, policy)
            self._tell(namespace, advance.steps)
        self._folded[namespace] = _Folded(state, tally, policy)
        if self._life.is_challenge_due(state, policy):
            self._errands.challenge(state, policy, self.change)
        self._calibrate(state, policy)
        return len(labels) == self._options.round_labels

    def _calibrate(self, state: TrustState, policy: Policy) -> None:
        if self._life.is_calibration_due(state, policy):
            self._errands.calibrate(state, policy, self.change)

    def _tell(self, namespace: str, steps: Sequence[Step]) -> None:
        for step in steps:
            self._observer.on(TrustChanged(namespace, step.what))

    def _state_of(self, namespace: str) -> TrustState:
        known = self._known.get(namespace)
        if known is not None:
            return known.state
        try:
            return self._store.state(namespace) or TrustState(namespace)
        except CacheError as error:
            self._sequence = -1  # read it when that works again
            self._fail("state", error)
            return TrustState(namespace)

    def _by_policy(self, namespace: str, policy: Policy) -> Stance:
        """Noted, so that not each lookup fails anew, as older than any state: it is tried again when the store is followed."""
        before = self._known.get(namespace)
        state = replace(TrustState(namespace) if before is None else before.state, generation=-1)
        stance = by_policy(namespace, policy)
        with self._lock:
            if before is not None or len(self._known) < self._options.max_namespaces:
                self._known[namespace] = _Known(state, policy, stance, None)
        self._sequence = -1
        return stance

    def _note(self, state: TrustState, policy: Policy) -> _Known:
        audited = self._life.audited(state, policy)
        known = _Known(state, policy, self._life.stance(state, policy), audited)
        with self._lock:
            before = self._known.get(state.namespace)
            if before is not None and before.state.generation > state.generation:
                return before
            if before is None and len(self._known) >= self._options.max_namespaces:
                del self._known[next(iter(self._known))]
            self._known[state.namespace] = known
        stands = _stands(known)
        if before is None or _stands(before) != stands:
            self._observer.on(stands)
        return known


def _stands(known: _Known) -> TrustStands:
    stance, audited, calibration = known.stance, known.audited, known.stance.rule.calibration
    return TrustStands(
        namespace=known.state.namespace,
        threshold=stance.rule.threshold,
        rule_version=stance.rule.version,
        brake=stance.brake,
        audited=0 if audited is None else audited.hits,
        audited_wrong=0 if audited is None else audited.wrong,
        false_hit_rate=None if audited is None else audited.rate,
        false_hit_rate_low=None if audited is None else audited.low,
        false_hit_rate_high=None if audited is None else audited.high,
        max_false_hit_rate=known.policy.trust.max_false_hit_rate,
        calibration_error=None if calibration is None else calibration.error,
    )
