"""Rules and the state of trust as plain data and back: what a store keeps and a person may read. What is read is
validated.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

from cachesvc.core.trust import audit, brake
from cachesvc.core.trust.confidence import UNKNOWN, Confidence
from cachesvc.core.trust.control import ControlState, anew
from cachesvc.core.trust.features import VERSION
from cachesvc.core.trust.labels import Tally
from cachesvc.core.trust.models import Additive, Record
from cachesvc.core.trust.rules import Calibration, Evidence, Rule
from cachesvc.core.trust.state import Step, TrustState

_FORMAT = 1


def to_record(rule: Rule) -> Record:
    """Dicts, lists, numbers, text and None alone."""
    return {
        "version": rule.version,
        "threshold": rule.threshold,
        "made_ms": rule.made_ms,
        "features_version": rule.features_version,
        "note": rule.note,
        "model": None if rule.model is None else rule.model.to_record(),
        "calibration": _calibration_record(rule.calibration),
        "evidence": None if rule.evidence is None else asdict(rule.evidence),
    }


def from_record(record: Mapping[str, object]) -> Rule:
    """Read one back. Raises ValueError with what is wrong; a model of other features than today's is wrong, too."""
    model, calibration, evidence = (record.get(name) for name in ("model", "calibration", "evidence"))
    features_version = _whole(record.get("features_version", 0))
    if model is not None and features_version != VERSION:
        raise ValueError(f"the rule is of version {features_version} of the features, not of {VERSION}")
    return Rule(
        version=_whole(record.get("version")),
        threshold=_number(record.get("threshold")),
        made_ms=_whole(record.get("made_ms")),
        model=None if model is None else Additive.from_record(_mapping(model)),
        calibration=None if calibration is None else _calibration(_mapping(calibration)),
        evidence=None if evidence is None else _evidence(_mapping(evidence)),
        note=str(record.get("note", "")),
        features_version=features_version,
    )


def _calibration_record(calibration: Calibration | None) -> Record | None:
    if calibration is None:
        return None
    return {
        "values": list(calibration.values),
        "confidences": list(calibration.confidences),
        "error": calibration.error,
    }


def _calibration(record: Mapping[str, object]) -> Calibration:
    values, confidences = _numbers(record.get("values")), _numbers(record.get("confidences"))
    if not values or len(values) != len(confidences):
        raise ValueError("a calibration needs as many confidences as values, and one at least")
    if list(values) != sorted(values) or list(confidences) != sorted(confidences):
        raise ValueError("a calibration does not rise")
    if confidences[0] < 0 or confidences[-1] > 1:
        raise ValueError("a confidence is none")
    return Calibration(values, confidences, _number(record.get("error")))


def _evidence(record: Mapping[str, object]) -> Evidence:
    requests, served, wrong = (_whole(record.get(name)) for name in ("requests", "served", "wrong"))
    if not 0 <= wrong <= served <= requests:
        raise ValueError("the evidence contradicts itself")
    return Evidence(requests, served, wrong, _number(record.get("error_bound")), _number(record.get("level")))


def _mapping(stored: object) -> Mapping[str, object]:
    if not isinstance(stored, Mapping):
        raise ValueError("a part of the rule is no record")  # noqa: TRY004 - one error for all that is wrong with a record
    return stored


def _numbers(stored: object) -> tuple[float, ...]:
    if not isinstance(stored, list | tuple):
        raise ValueError("a part of the rule is no list")  # noqa: TRY004 - as above
    return tuple(_number(part) for part in stored)


def _number(stored: object) -> float:
    if isinstance(stored, bool) or not isinstance(stored, int | float) or not isfinite(stored):
        raise ValueError("a part of the rule is no number to reckon with")
    return float(stored)


def _whole(stored: object) -> int:
    if isinstance(stored, bool) or not isinstance(stored, int):
        raise ValueError("a part of the rule is no whole number")  # noqa: TRY004 - as above
    return stored


def state_record(state: TrustState) -> dict[str, Any]:
    """A state as plain values."""
    return {
        "format": _FORMAT,
        "namespace": state.namespace,
        "generation": state.generation,
        "applied": state.applied,
        "rules": [to_record(rule) for rule in state.rules],
        "active": state.active,
        "pinned": state.pinned,
        "challenger": state.challenger,
        "steps": [asdict(step) for step in state.steps],
        "tally": asdict(state.tally),
        "audits": audit.to_record(state.audits),
        "braking": brake.to_record(state.braking),
        "control": state.control.to_record(),
        "challenged_at": state.challenged_at,
        "confidence": _confidence_record(state.confidence),
    }


def state_of(record: Mapping[str, Any]) -> TrustState:
    """What ``state_record`` made plain. Raises ValueError for anything else."""
    try:
        if record["format"] != _FORMAT:
            raise ValueError(f"the state of trust has format {record['format']}, not {_FORMAT}")
        rules = tuple(_rules(record["rules"]))
        active, control = int(record["active"]), ControlState.from_record(record["control"])
        if active and all(rule.version != active for rule in rules):
            # Its threshold and its counts are in terms that no other rule shares.
            active, control = 0, anew(control)
        return TrustState(
            namespace=str(record["namespace"]),
            generation=int(record["generation"]),
            applied=int(record["applied"]),
            rules=rules,
            active=active,
            pinned=bool(record["pinned"]),
            challenger=str(record["challenger"]),
            steps=tuple(Step(**step) for step in record["steps"]),
            tally=Tally(**record["tally"]),
            audits=audit.from_record(record["audits"]),
            braking=brake.from_record(record["braking"]),
            control=control,
            challenged_at=int(record["challenged_at"]),
            confidence=_confidence(record.get("confidence")),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a state of trust: {error!r}") from None


def _confidence_record(known: Confidence) -> Record:
    return {
        "told": known.told,
        "made_at": known.made_at,
        "rule_version": known.rule_version,
        "calibration": _calibration_record(known.calibration),
        "after": known.after,
    }


def _confidence(stored: object) -> Confidence:
    """Of a state from before there was any, nothing is known."""
    if stored is None:
        return UNKNOWN
    record = _mapping(stored)
    calibration = record["calibration"]
    return Confidence(
        told=_whole(record["told"]),
        made_at=_whole(record["made_at"]),
        rule_version=_whole(record["rule_version"]),
        calibration=None if calibration is None else _calibration(_mapping(calibration)),
        after=_whole(record["after"]),
    )


def _rules(records: Sequence[Mapping[str, object]]) -> Iterator[Rule]:
    """Those that today's features can still serve by."""
    for record in records:
        try:
            yield from_record(record)
        except ValueError:
            continue
