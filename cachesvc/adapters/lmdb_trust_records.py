"""What ``lmdb_trust`` keeps, as records: labels, tallies, vetoes and states. Enums by name, so that they may be added to.

Called by ``lmdb_trust``, ``lmdb_labels`` and ``lmdb_vetoes`` only.
"""

import msgspec
import numpy as np

from cachesvc.core.gates import Gate
from cachesvc.core.trust.labels import Comparator, Label, LabelledCandidate, Origin


class CandidateRecord(msgspec.Struct, array_like=True, frozen=True):
    """A ``LabelledCandidate``."""

    features: bytes
    score: float
    gate: str | None
    same: bool | None


class LabelRecord(msgspec.Struct, array_like=True, frozen=True):
    """A ``Label``."""

    key: bytes
    at_ms: int
    origin: str
    comparator: str
    share: float
    rule_version: int
    features_version: int
    served: int | None
    candidates: list[CandidateRecord]


class TallyRecord(msgspec.Struct, array_like=True, frozen=True):
    """A ``Tally``, in the order of its fields."""

    counts: list[int]


class VetoRecord(msgspec.Struct, array_like=True, frozen=True):
    """A ``VetoPair``, but for its scope."""

    ours_key: bytes
    theirs_key: bytes
    ours: bytes
    theirs: bytes
    at_ms: int


class StateRecord(msgspec.Struct, array_like=True, frozen=True):
    """A ``TrustState``, packed."""

    generation: int
    state: bytes


def record_of(label: Label) -> LabelRecord:
    """What is kept of a label."""
    return LabelRecord(
        label.key,
        label.at_ms,
        label.origin.name,
        label.comparator.name,
        label.share,
        label.rule_version,
        label.features_version,
        label.served,
        [
            CandidateRecord(
                candidate.features.astype("<f4").tobytes(),
                candidate.score,
                None if candidate.gate is None else candidate.gate.name,
                candidate.same,
            )
            for candidate in label.candidates
        ],
    )


def label_of(record: LabelRecord) -> Label | None:
    """None for one of a version that had other origins, comparators or gates."""
    try:
        return Label(
            record.key,
            record.at_ms,
            Origin[record.origin],
            Comparator[record.comparator],
            record.share,
            record.rule_version,
            record.features_version,
            record.served,
            tuple(
                LabelledCandidate(
                    np.frombuffer(candidate.features, "<f4").astype(np.float32),
                    candidate.score,
                    None if candidate.gate is None else Gate[candidate.gate],
                    candidate.same,
                )
                for candidate in record.candidates
            ),
        )
    except KeyError:
        return None
