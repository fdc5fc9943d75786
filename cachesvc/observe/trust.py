"""The metrics of trust: what labels, feedback and audits come to, and how each namespace stands. Never a prompt.

Beside ``metrics``, which owns it. Namespaces are labels here, at most as many as it is told: callers choose their names.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import assert_never

from prometheus_client import CollectorRegistry, Counter, Gauge

from cachesvc.core.events import (
    FeedbackDone,
    Labelled,
    LabelsDropped,
    TrustChanged,
    TrustMovedAside,
    TrustStands,
)
from cachesvc.core.trust.labels import Comparator, Origin
from cachesvc.core.trust.state import Brake

_RESULTS: Mapping[bool | None, str] = {True: "right", False: "wrong", None: "unknown"}
_BRAKES: Mapping[Brake, int] = {Brake.OPEN: 0, Brake.TIGHT: 1, Brake.EXACT_ONLY: 2}
_STANDS: tuple[tuple[str, str, Callable[[TrustStands], float | None]], ...] = (
    (
        "cachesvc_false_hit_rate",
        "Share of the semantic hits of a namespace that are wrong, as audits have it; not there before the first.",
        lambda event: event.false_hit_rate,
    ),
    (
        "cachesvc_false_hit_rate_low",
        "Lower end of its 95 % confidence sequence, which holds at all times at once.",
        lambda event: event.false_hit_rate_low,
    ),
    (
        "cachesvc_false_hit_rate_high",
        "Upper end of it.",
        lambda event: event.false_hit_rate_high,
    ),
    (
        "cachesvc_false_hit_rate_target",
        "policy.*.max_false_hit_rate: when the lower end is above, the brake tightens.",
        lambda event: event.max_false_hit_rate,
    ),
    ("cachesvc_audited_hits", "Semantic hits that were asked anew.", lambda event: event.audited),
    ("cachesvc_audited_wrong_hits", "Those that were wrong.", lambda event: event.audited_wrong),
    (
        "cachesvc_brake",
        "0: open, 1: tight, 2: the exact tier alone is served, for audits found too many wrong hits.",
        lambda event: _BRAKES[event.brake],
    ),
    (
        "cachesvc_rule_version",
        "The rule that decides; 0 is the policy's threshold.",
        lambda event: event.rule_version,
    ),
    ("cachesvc_rule_threshold", "Its threshold, in terms of its score.", lambda event: event.threshold),
    (
        "cachesvc_calibration_error",
        "Of confidence, on labels that it was not made from; not there where replies have no confidence.",
        lambda event: event.calibration_error,
    ),
)
_REASONS = ("queue_full", "entries_gone", "failed", "store_failed", "stopped")


class TrustMetrics:
    """Counts, and shows how namespaces stand: at most ``max_namespaces``, the first that come, but those that were audited
    or braked before all others. What is counted exists from the start, at 0.
    """

    def __init__(self, registry: CollectorRegistry, max_namespaces: int) -> None:
        self._max_namespaces = max_namespaces
        self._namespaces: dict[
            str, bool
        ] = {}  # that are shown, and whether they give way to what is known of others
        self._stands: list[tuple[Gauge, Callable[[TrustStands], float | None]]] = [
            (Gauge(name, text, ["namespace"], registry=registry), read) for name, text, read in _STANDS
        ]
        self._labels = Counter(
            "cachesvc_labels",
            "Fresh answers that were compared with stored ones, or judged: by how they came to be there, how they were "
            "compared, and whether reuse was, or would have been, right (right, wrong, unknown).",
            ["origin", "comparator", "result"],
            registry=registry,
        )
        self._dropped = Counter(
            "cachesvc_labels_dropped",
            "Fresh answers from which nothing was learned, by reason.",
            ["reason"],
            registry=registry,
        )
        self._feedback = Counter(
            "cachesvc_feedback",
            "Judgements of reuses, by what they were taken for (right, wrong, unknown); repetitions not counted.",
            ["verdict"],
            registry=registry,
        )
        self._vetoes = Counter(
            "cachesvc_vetoes",
            "Reuses that feedback said were wrong, and that are refused.",
            registry=registry,
        )
        self._quarantines = Counter(
            "cachesvc_quarantines",
            "Entries removed since feedback said of several requests that they were wrong.",
            registry=registry,
        )
        self._steps = Counter(
            "cachesvc_trust_steps", "Changes of rules and brakes, each in the log.", registry=registry
        )
        self._moved_aside = Gauge(
            "cachesvc_trust_moved_aside",
            "1 when the store of trust was damaged and this process began with an empty one: vetoes and labels are gone.",
            registry=registry,
        )
        for origin in Origin:
            for comparator in Comparator:
                for result in _RESULTS.values():
                    self._labels.labels(origin.name.lower(), comparator.name.lower(), result)
        for reason in _REASONS:
            self._dropped.labels(reason)
        for result in _RESULTS.values():
            self._feedback.labels(result)

    def on(
        self,
        event: TrustMovedAside | TrustChanged | TrustStands | Labelled | LabelsDropped | FeedbackDone,
    ) -> None:
        """Count it, or show it."""
        match event:
            case TrustStands():
                self._show(event)
            case TrustMovedAside():
                self._moved_aside.set(1)
            case TrustChanged():
                self._steps.inc()
            case Labelled():
                origin, comparator = event.origin.name.lower(), event.comparator.name.lower()
                self._labels.labels(origin, comparator, _RESULTS[event.same]).inc()
            case LabelsDropped():
                self._dropped.labels(event.why).inc(event.count)
            case FeedbackDone():
                if not event.known:
                    self._feedback.labels(_RESULTS[event.same]).inc()
                    self._vetoes.inc(event.vetoed)
                    self._quarantines.inc(event.quarantined)
            case _:
                assert_never(event)

    def _show(self, event: TrustStands) -> None:
        is_mere_name = not event.audited and event.brake is Brake.OPEN
        if event.namespace not in self._namespaces and not self._make_room(is_mere_name=is_mere_name):
            return
        self._namespaces[event.namespace] = is_mere_name
        for gauge, read in self._stands:
            value = read(event)
            if value is not None:
                gauge.labels(event.namespace).set(value)
            else:
                with suppress(KeyError):  # it was not there
                    gauge.remove(event.namespace)

    def _make_room(self, *, is_mere_name: bool) -> bool:
        """Whether there is any for one more."""
        if len(self._namespaces) < self._max_namespaces:
            return True
        mere = next((name for name, is_mere in self._namespaces.items() if is_mere), None)
        if is_mere_name or mere is None:
            return False
        del self._namespaces[mere]
        for gauge, _ in self._stands:
            with suppress(KeyError):  # what is not known of it was never shown
                gauge.remove(mere)
        return True
