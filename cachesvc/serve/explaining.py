"""Explain on the wire: a lookup and an entry in, every step of the decision out."""

from cachesvc.core.gates import Gate, Veto
from cachesvc.engine.explain import ExplainedCandidate, Explanation
from cachesvc.serve.wire import GATES, OUTCOMES, entry_id_text
from cachesvc.v1 import cache_pb2 as pb


def explain_response(explanation: Explanation) -> pb.ExplainResponse:
    """An explanation."""
    identity = explanation.identity
    response = pb.ExplainResponse(
        outcome=OUTCOMES[explanation.outcome],
        reason=explanation.outcome.value,
        context=identity.context.hex(),
        scope=identity.scope.hex(),
        exact_key=identity.exact_key.hex(),
        text=identity.text,
        threshold=explanation.threshold,
        rule_version=explanation.rule_version,
        mode=explanation.mode.value,
        brake=explanation.brake.value,
        unseen="" if explanation.unseen is None else explanation.unseen.value,
    )
    for candidate in explanation.candidates:
        _fill_candidate(response.candidates.add(), candidate, explanation.gates)
    return response


def _fill_candidate(
    message: pb.ExplainedCandidate, candidate: ExplainedCandidate, gates: frozenset[Gate]
) -> None:
    message.entry_id = entry_id_text(candidate.entry_id)
    message.prompt = candidate.prompt
    message.outcome = OUTCOMES[candidate.outcome]
    message.identical = candidate.identical
    message.differs_in.extend(candidate.differs_in)
    message.score = candidate.score or 0.0
    if candidate.value is not None:
        message.rule_score = candidate.value
    if candidate.confidence is not None:
        message.confidence = candidate.confidence
    for veto in candidate.vetoes:
        message.gates.append(_verdict(veto, gates))
    message.features.update(candidate.features)


def _verdict(veto: Veto, gates: frozenset[Gate]) -> pb.GateVerdict:
    return pb.GateVerdict(
        gate=GATES[veto.gate],
        enforced=veto.gate in gates,
        ours=veto.ours,
        theirs=veto.theirs,
        reason=veto.gate.value,
    )
