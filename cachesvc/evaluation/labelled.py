"""Labels of a running service → requests that were judged, for ``tune``.

Labels hold no texts: of each candidate the score, the gate that refused it, and whether its answer was right.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cachesvc.core.gates import Gate
from cachesvc.core.trust.labels import NOTHING, Comparator, Label, LabelledCandidate, Origin, Tally
from cachesvc.evaluation.tune import Judged
from cachesvc.v1 import admin_pb2, cache_pb2


def judged(labels: Sequence[Label], tally: Tally) -> Judged:
    """What each labelled request would be served: the first candidate that no gate refuses.

    Requests that were near something but never came back with an answer are known by the tally alone: all others stand
    for them. Labels of which that cannot be told, and those that were not drawn by a known chance, are left out.
    """
    values: list[float] = []
    right: list[bool] = []
    shares: list[float] = []
    weight = 0.0
    for label in labels:
        if not label.origin.counts_requests:
            continue
        place = next((n for n, one in enumerate(label.candidates) if one.gate is None), None)
        same = None if place is None else label.candidates[place].same
        if place is not None and same is None:
            continue
        weight += 1 / label.share
        if place is not None and same is not None:
            values.append(label.candidates[place].score)
            right.append(same)
            shares.append(label.share)
    coverage = min(1.0, weight / tally.near) if tally.near else 1.0
    request_count = max(round(tally.searched * coverage), len(values))
    return Judged(np.array(values), np.array(right, np.bool_), request_count, np.array(shares))


def received(responses: Iterable[admin_pb2.ListLabelsResponse]) -> tuple[list[Label], Tally]:
    """What ``ListLabels`` streams, as the service has it itself, but for keys and the features' version."""
    labels: list[Label] = []
    tally = NOTHING
    for response in responses:
        if response.HasField("tally"):
            tally = Tally(*(getattr(response.tally, name) for name in Tally.__slots__))
        labels += [_label(listed) for listed in response.labels]
    return labels, tally


def _label(listed: admin_pb2.ListedLabel) -> Label:
    return Label(
        key=b"",
        at_ms=listed.time.ToMilliseconds(),
        origin=Origin[listed.origin.upper()],
        comparator=Comparator[listed.comparator.upper()],
        share=listed.share,
        rule_version=listed.rule_version,
        features_version=0,
        served=listed.served if listed.HasField("served") else None,
        candidates=tuple(_candidate(one) for one in listed.candidates),
    )


_SAID: Mapping[int, bool] = {cache_pb2.VERDICT_RIGHT: True, cache_pb2.VERDICT_WRONG: False}


def _candidate(listed: admin_pb2.ListedCandidate) -> LabelledCandidate:
    name = cache_pb2.Gate.Name(listed.gate).removeprefix("GATE_")
    gate = None if listed.gate == cache_pb2.GATE_UNSPECIFIED else Gate[name]
    return LabelledCandidate(
        np.array(listed.features, np.float32), listed.score, gate, _SAID.get(listed.verdict)
    )
