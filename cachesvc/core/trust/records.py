"""The state of trust as plain values, for whoever stores it: dicts, lists, numbers and strings."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cachesvc.core.trust.audit import audits_of, audits_record
from cachesvc.core.trust.control import ControlState
from cachesvc.core.trust.detector import detector_of
from cachesvc.core.trust.labels import Tally
from cachesvc.core.trust.state import Brake, Braking, Step, TrustState

_FORMAT = 1


def state_record(state: TrustState) -> dict[str, Any]:
    """A state as plain values."""
    return {
        "format": _FORMAT,
        "namespace": state.namespace,
        "generation": state.generation,
        "applied": state.applied,
        "active": state.active,
        "pinned": state.pinned,
        "challenger": state.challenger,
        "steps": [asdict(step) for step in state.steps],
        "tally": asdict(state.tally),
        "audits": audits_record(state.audits),
        "braking": _braking_record(state.braking),
        "control": state.control.to_record(),
        "challenged_at": state.challenged_at,
    }


def state_of(record: Mapping[str, Any]) -> TrustState:
    """What ``state_record`` made plain. Raises ValueError for anything else."""
    try:
        if record["format"] != _FORMAT:
            raise ValueError(f"the state of trust has format {record['format']}, not {_FORMAT}")
        return TrustState(
            namespace=str(record["namespace"]),
            generation=int(record["generation"]),
            applied=int(record["applied"]),
            active=int(record["active"]),
            pinned=bool(record["pinned"]),
            challenger=str(record["challenger"]),
            steps=tuple(Step(**step) for step in record["steps"]),
            tally=Tally(**record["tally"]),
            audits=audits_of(record["audits"]),
            braking=_braking_of(record["braking"]),
            control=ControlState.from_record(record["control"]),
            challenged_at=int(record["challenged_at"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a state of trust: {error!r}") from None


def _braking_record(braking: Braking) -> dict[str, Any]:
    return {**asdict(braking), "level": braking.level.value}


def _braking_of(record: Mapping[str, Any]) -> Braking:
    detectors = {name: detector_of(record[name]) for name in ("worse", "needed", "better")}
    return Braking(**{**record, "level": Brake(record["level"]), **detectors})
