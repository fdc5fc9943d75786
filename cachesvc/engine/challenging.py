"""Trains a challenger to a namespace's rule when one is due, and puts it in force where it wins.

Training takes seconds, and may hang: it is done elsewhere (``Train``), one at a time, and no request and no round waits
for it. Called from the rounds of trust, in the process that leads.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachesvc.core.events import TaskFailed
from cachesvc.core.policy import Policy
from cachesvc.core.trust.labels import Label
from cachesvc.core.trust.life import challenged, rule_of
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import TrustState
from cachesvc.engine.trust import Apply, Changed
from cachesvc.engine.trust_parts import TrustParts

_PAGE_COUNT = 1000
_REST_S = 600.0  # of a namespace whose training failed: it is due in each round


@dataclass(frozen=True, slots=True)
class Exercise:
    """What a challenger is trained from: labels, the oldest first, which stand for so many ``requests``; the rule that
    it is to beat; and what it is to keep.
    """

    labels: Sequence[Label]
    current: Rule
    max_error_rate: float
    floor_score: float
    requests: int
    now_ms: int
    version: int


Train = Callable[[Exercise], Rule | str]
"""The rule that won, or why none did. Blocks for a bounded time; raises UNAVAILABLE when that was not enough."""


class Challenger:
    """Thread-safe."""

    def __init__(
        self, parts: TrustParts, train: Train, max_labels: int, let_go: Callable[[], None] = lambda: None
    ) -> None:
        """``let_go`` has ``train`` fail soon, whatever it is at."""
        self._let_go = let_go
        self._stopped = threading.Event()
        self._parts = parts
        self._train = train
        self._max_labels = max_labels
        self._busy = threading.Lock()
        self._failed_at_s: dict[str, float] = {}  # guarded by _busy

    def challenge(self, state: TrustState, policy: Policy, apply: Apply) -> None:
        """Begin to train for a namespace, unless one is being trained: it will be due in the next round, too."""
        if not self._busy.acquire(blocking=False):
            return
        begun = False
        try:
            if not self._stopped.is_set() and not self._rests(state.namespace):
                threading.Thread(
                    target=self._run, args=(state, policy, apply), name="cachesvc-train", daemon=True
                ).start()
                begun = True
        finally:
            if not begun:
                self._busy.release()

    def wait(self) -> None:
        """Until nothing is trained."""
        with self._busy:
            pass

    def stop(self) -> None:
        """Leave what is being trained, and begin nothing more: from then on nothing of the store of trust is touched."""
        self._stopped.set()
        self._let_go()
        self.wait()

    def _rests(self, namespace: str) -> bool:
        now_s = self._parts.clock.monotonic_s()
        self._failed_at_s = {name: at_s for name, at_s in self._failed_at_s.items() if now_s - at_s < _REST_S}
        return namespace in self._failed_at_s

    def _run(self, state: TrustState, policy: Policy, apply: Apply) -> None:
        try:
            self._trained(state, policy, apply)
        except Exception as error:  # noqa: BLE001 - the edge of the thread: counted, and tried again
            self._fail(state.namespace, error)
        finally:
            self._busy.release()

    def _fail(self, namespace: str, error: Exception) -> None:
        if self._stopped.is_set():
            return  # it was told to
        self._failed_at_s[namespace] = self._parts.clock.monotonic_s()
        self._parts.observer.on(TaskFailed.of("trust_train", error))

    def _trained(self, state: TrustState, policy: Policy, apply: Apply) -> None:
        assert policy.trust.max_error_rate is not None, "else none is due"
        labels = self._labels(state.namespace)
        now_ms = self._parts.clock.now_ms()
        exercise = Exercise(
            labels=labels,
            current=rule_of(state, policy),
            max_error_rate=policy.trust.max_error_rate,
            floor_score=policy.trust.floor_score,
            requests=_requests(state, labels),
            now_ms=now_ms,
            version=max((rule.version for rule in state.rules), default=1) + 1,
        )
        outcome = self._train(exercise)
        winner = outcome if isinstance(outcome, Rule) else None
        why = outcome.note if isinstance(outcome, Rule) else outcome

        def change(now: TrustState) -> Changed:
            after = challenged(now, winner, why, policy, now_ms)
            return Changed(after.state, after.steps)

        apply(state.namespace, change)

    def _labels(self, namespace: str) -> list[Label]:
        labels: list[Label] = []
        after = 0
        while len(labels) < self._max_labels:
            page = self._parts.trust.labels(namespace, after, _PAGE_COUNT)
            labels += [label for _, label in page]
            if len(page) < _PAGE_COUNT:
                break
            after = page[-1][0]
        return labels


def _requests(state: TrustState, labels: Sequence[Label]) -> int:
    """How many the labels that are kept stand for, where older ones may have gone: as the tally has it for each of all."""
    told = sum(1 / label.share for label in labels if label.origin.counts_requests and label.share > 0)
    near = max(state.tally.near, 1)
    return max(int(told * max(state.tally.searched, near) / near), len(labels))
