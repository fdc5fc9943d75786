"""Calibrates the rule that decides in a namespace when that is due: reads its labels behind the requests, and puts in
force what they come to.

Reading takes a second or two of one core: a thread of its own reads a page at a time and rests in between, and no
request and no round waits for it. Called from the rounds of trust, in the process that leads.
"""

import threading
from collections.abc import Callable

from cachesvc.core.events import TaskFailed
from cachesvc.core.policy import Policy
from cachesvc.core.trust.confidence import NOTHING_PICKED, Picked, picked
from cachesvc.core.trust.life import calibrated, deciding
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import TrustState
from cachesvc.engine.trust import Apply, Changed
from cachesvc.engine.trust_parts import TrustParts, rest_s

_PAGE_COUNT = 500


class Calibrator:
    """Thread-safe. One namespace at a time."""

    def __init__(self, parts: TrustParts, step_back: Callable[[], None] = lambda: None) -> None:
        """``step_back`` lets the thread that calls it give way."""
        self._parts = parts
        self._step_back = step_back
        self._busy = threading.Lock()
        self._stopped = threading.Event()

    def calibrate(self, state: TrustState, policy: Policy, apply: Apply) -> None:
        """Begin, unless a namespace is being calibrated: it will be due in the next round, too."""
        if not self.is_stopped and self._busy.acquire(blocking=False):
            threading.Thread(
                target=self._run, args=(state, policy, apply), name="cachesvc-calibrate", daemon=True
            ).start()

    def wait(self) -> None:
        """Until nothing is calibrated."""
        with self._busy:
            pass

    def stop(self) -> None:
        """Leave what is being read, and begin nothing more."""
        self._stopped.set()
        self.wait()

    @property
    def is_stopped(self) -> bool:
        """Whether nothing more is begun."""
        return self._stopped.is_set()

    def _run(self, state: TrustState, policy: Policy, apply: Apply) -> None:
        try:
            self._step_back()
            self._calibrated(state, policy, apply)
        except Exception as error:  # noqa: BLE001 - the edge of the thread: counted, and tried again
            self._parts.observer.on(TaskFailed.of("trust_calibrate", error))
        finally:
            self._busy.release()

    def _calibrated(self, state: TrustState, policy: Policy, apply: Apply) -> None:
        rule = deciding(state, policy)
        given = self._picked(state, rule, policy.trust.floor_score)
        if given is not None:
            apply(state.namespace, lambda now: Changed(calibrated(now, rule, given)))

    def _picked(self, state: TrustState, rule: Rule, floor_score: float) -> Picked | None:
        """Of all labels that are young enough; None when it was stopped. What is kept of a page is small."""
        given, after = NOTHING_PICKED, state.confidence.after
        while not self.is_stopped:
            began_s = self._parts.clock.monotonic_s()
            page = self._parts.trust.labels(state.namespace, after, _PAGE_COUNT)
            given = given.plus(picked(page, rule, floor_score))
            if len(page) < _PAGE_COUNT:
                return given
            after = page[-1][0]
            took_s = self._parts.clock.monotonic_s() - began_s
            self._stopped.wait(rest_s(took_s))
        return None
