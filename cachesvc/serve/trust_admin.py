"""Trust on the operators' wire: requests → names, reports and labels → messages."""

from collections.abc import Iterator

from cachesvc.core.trust import features as feature_set
from cachesvc.core.trust.labels import Label, Tally
from cachesvc.core.trust.life import kept_rules
from cachesvc.core.trust.rules import Rule
from cachesvc.engine.trust_desk import NamespaceReport, TrustDesk
from cachesvc.serve.checks import Check, parse
from cachesvc.serve.wire import GATES, VERDICTS, fill_time
from cachesvc.v1 import admin_pb2 as pb
from cachesvc.v1 import cache_pb2

_NAMESPACE_COUNT = 1000


def get_trust(desk: TrustDesk, data: bytes) -> pb.GetTrustResponse:
    """``GetTrust``. Raises INVALID, NOT_FOUND."""
    name = parse(pb.GetTrustRequest, data).namespace
    reports = [desk.report(_namespace(name))] if name else desk.reports(_NAMESPACE_COUNT)
    return pb.GetTrustResponse(namespaces=[_report(report) for report in reports])


def revert_rule(desk: TrustDesk, data: bytes) -> pb.RevertRuleResponse:
    """``RevertRule``. Raises INVALID, NOT_FOUND."""
    request, check = parse(pb.RevertRuleRequest, data), Check()
    namespace = check.namespace(request.namespace)
    if request.version < 0:
        check.wrong("version", "must be the version of a rule, or 0 for the policy's threshold")
    check.done()
    return pb.RevertRuleResponse(rule=_rule(desk.revert(namespace, request.version)))


def unpin_rule(desk: TrustDesk, data: bytes) -> pb.UnpinRuleResponse:
    """``UnpinRule``. Raises INVALID, NOT_FOUND."""
    desk.unpin(_namespace(parse(pb.UnpinRuleRequest, data).namespace))
    return pb.UnpinRuleResponse()


def list_labels(desk: TrustDesk, data: bytes) -> Iterator[pb.ListLabelsResponse]:
    """``ListLabels``. Raises INVALID, NOT_FOUND."""
    namespace = _namespace(parse(pb.ListLabelsRequest, data).namespace)
    yield pb.ListLabelsResponse(tally=_tally(desk.tally(namespace)), features=feature_set.NAMES)
    for labels in desk.labels(namespace):
        yield pb.ListLabelsResponse(labels=[_label(label) for label in labels])


def _namespace(value: str) -> str:
    check = Check()
    namespace = check.namespace(value)
    check.done()
    return namespace


def _report(report: NamespaceReport) -> pb.NamespaceTrust:
    state, stance, terms = report.state, report.stance, report.policy.trust
    message = pb.NamespaceTrust(
        namespace=state.namespace,
        mode=report.policy.mode.value,
        rule=_rule(stance.rule),
        pinned=state.pinned,
        history=[
            _rule(rule)
            for rule in reversed(kept_rules(state, report.policy))
            if rule.version != stance.rule.version
        ],
        challenger=state.challenger,
        max_error_rate=terms.max_error_rate,
        labels={origin.name.lower(): count for origin, count in report.labels.items()},
        tally=_tally(report.tally),
        audit_share=stance.audit_share,
        brake=stance.brake.value,
        vetoes=report.vetoes,
    )
    audited, calibration = report.audited, stance.rule.calibration
    if audited is not None:
        message.audited, message.audited_wrong = audited.hits, audited.wrong
        message.false_hit_rate = audited.rate
        message.false_hit_rate_low, message.false_hit_rate_high = audited.low, audited.high
    if calibration is not None:
        message.calibration_error = calibration.error
    for step in reversed(state.steps):
        fill_time(message.steps.add(what=step.what).time, step.at_ms)
    return message


def _rule(rule: Rule) -> pb.Rule:
    message = pb.Rule(version=rule.version, kind=rule.kind, threshold=rule.threshold, evidence=rule.note)
    if rule.made_ms:
        fill_time(message.create_time, rule.made_ms)
    evidence = rule.evidence
    if evidence is not None:
        message.error_bound = evidence.error_bound
        message.useful_share = (evidence.served - evidence.wrong) / max(evidence.requests, 1)
        told = (
            f"{evidence.requests} requests, {evidence.served} served, {evidence.wrong} of them wrongly: at most "
            f"{evidence.error_bound:.2%} with {evidence.level:.0%} confidence"
        )
        message.evidence = f"{told}. {rule.note}" if rule.note else told
    if rule.model is not None:
        message.importance.update(rule.model.importance)
    return message


def _tally(tally: Tally) -> pb.LookupTally:
    return pb.LookupTally(**{name: getattr(tally, name) for name in Tally.__slots__})


def _label(label: Label) -> pb.ListedLabel:
    message = pb.ListedLabel(
        origin=label.origin.name.lower(),
        comparator=label.comparator.name.lower(),
        share=label.share,
        rule_version=label.rule_version,
        served=label.served,
    )
    fill_time(message.time, label.at_ms)
    for candidate in label.candidates:
        message.candidates.add(
            score=candidate.score,
            features=candidate.features,
            gate=cache_pb2.GATE_UNSPECIFIED if candidate.gate is None else GATES[candidate.gate],
            verdict=VERDICTS[candidate.same],
        )
    return message
