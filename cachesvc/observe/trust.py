"""The metrics of trust: what labels, feedback and audits come to, and how each namespace stands. Never a prompt.

Beside ``metrics``, which owns it. Namespaces are labels here, at most as many as it is told: operators name them.
"""

from collections.abc import Mapping
from typing import assert_never

from prometheus_client import CollectorRegistry, Counter

from cachesvc.core.events import FeedbackDone, Labelled, LabelsDropped, TrustChanged
from cachesvc.core.trust.labels import Comparator, Origin

_RESULTS: Mapping[bool | None, str] = {True: "right", False: "wrong", None: "unknown"}
_REASONS = ("queue_full", "entries_gone", "failed", "store_failed", "stopped")


class TrustMetrics:
    """Counts. Labels exist from the start, at 0."""

    def __init__(self, registry: CollectorRegistry) -> None:
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
        for origin in Origin:
            for comparator in Comparator:
                for result in _RESULTS.values():
                    self._labels.labels(origin.name.lower(), comparator.name.lower(), result)
        for reason in _REASONS:
            self._dropped.labels(reason)
        for result in _RESULTS.values():
            self._feedback.labels(result)

    def on(self, event: TrustChanged | Labelled | LabelsDropped | FeedbackDone) -> None:
        """Count it."""
        match event:
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
