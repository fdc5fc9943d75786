"""What both clients share for judging reuses and explaining lookups: requests built, replies read. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from cachesvc.calls import BYTES, TEXT, IdentityOptions, LookupReply, Prompt, set_identity, set_input
from cachesvc.v1 import cache_pb2 as pb

Judgement: TypeAlias = Literal["right", "wrong"]

AUDIT = "audit"
"""The source of what client libraries report when they were asked for a fresh answer."""


class FeedbackOptions(IdentityOptions, total=False):
    """Of feedback. ``lookup_id`` or ``entry_id``, with the prompt, stand in for a reply that is no longer at hand."""

    lookup_id: str
    entry_id: str
    prompt: Prompt
    source: str
    content_type: str


@dataclass(frozen=True, slots=True)
class FeedbackReply:
    """What came of feedback. ``verdict`` None: a fresh answer could not be told from the entry's."""

    verdict: Judgement | None
    known: bool
    vetoed: bool
    quarantined: bool


@dataclass(frozen=True, slots=True)
class ExplainedGate:
    """A gate's objection; ``enforced`` where it is on in the namespace."""

    gate: str
    enforced: bool
    ours: str
    theirs: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExplainedCandidate:
    """An entry beside the request; fields as in the API's ``ExplainedCandidate``."""

    entry_id: str
    prompt: str
    score: float
    rule_score: float | None
    confidence: float | None
    gates: tuple[ExplainedGate, ...]
    outcome: str
    features: Mapping[str, float]
    identical: bool
    differs_in: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a lookup decides; fields as in the API's ``ExplainResponse``."""

    outcome: str
    reason: str
    context: str
    scope: str
    exact_key: str
    text: str
    candidates: tuple[ExplainedCandidate, ...]
    threshold: float | None
    rule_version: int
    mode: str
    brake: str
    unseen: str


def feedback_request(
    reply: LookupReply | None,
    verdict: Judgement | None,
    fresh: bytes | str | None,
    options: FeedbackOptions,
    defaults: IdentityOptions,
) -> pb.SubmitFeedbackRequest:
    """Build one. ``defaults`` are the client's. Raises ValueError or one of calls.UNSENDABLE for what is wrong."""
    if (verdict is None) == (fresh is None):
        raise ValueError("give a verdict ('right' or 'wrong') or a fresh answer, and not both")
    if reply is not None and reply.entry is None:
        raise ValueError("reply is no hit: there is no reuse to judge")
    entry_id = "" if reply is None or reply.entry is None else reply.entry.id
    request = pb.SubmitFeedbackRequest(
        lookup_id=options.get("lookup_id", "" if reply is None else reply.lookup_id),
        entry_id=options.get("entry_id", entry_id) if "prompt" in options else options.get("entry_id", ""),
        source=options.get("source", ""),
    )
    if "prompt" in options:
        set_input(request, options["prompt"])
    else:
        # The identity is the lookup's, and what the caller says must agree; the default model need not.
        defaults = {"namespace": defaults.get("namespace", "")}
    set_identity(request, options, defaults)
    if fresh is not None:
        request.fresh.response = fresh.encode() if isinstance(fresh, str) else fresh
        request.fresh.content_type = options.get("content_type", TEXT if isinstance(fresh, str) else BYTES)
    else:
        verdicts = {"right": pb.VERDICT_RIGHT, "wrong": pb.VERDICT_WRONG}
        if verdict not in verdicts:
            raise ValueError(f"verdict is {verdict!r}; must be 'right' or 'wrong'")
        request.verdict = verdicts[verdict]
    return request


def feedback_reply(response: pb.SubmitFeedbackResponse) -> FeedbackReply:
    """Read one."""
    verdicts: Mapping[Any, Judgement] = {pb.VERDICT_RIGHT: "right", pb.VERDICT_WRONG: "wrong"}
    return FeedbackReply(
        verdicts.get(response.verdict), response.known, response.vetoed, response.quarantined
    )


def explanation(response: pb.ExplainResponse) -> Explanation:
    """Read one."""
    return Explanation(
        outcome=_outcome(response.outcome),
        reason=response.reason,
        context=response.context,
        scope=response.scope,
        exact_key=response.exact_key,
        text=response.text,
        candidates=tuple(_candidate(candidate) for candidate in response.candidates),
        threshold=response.threshold if response.HasField("threshold") else None,
        rule_version=response.rule_version,
        mode=response.mode,
        brake=response.brake,
        unseen=response.unseen,
    )


def _candidate(message: pb.ExplainedCandidate) -> ExplainedCandidate:
    return ExplainedCandidate(
        entry_id=message.entry_id,
        prompt=message.prompt,
        score=message.score,
        rule_score=message.rule_score if message.HasField("rule_score") else None,
        confidence=message.confidence if message.HasField("confidence") else None,
        gates=tuple(
            ExplainedGate(
                pb.Gate.Name(gate.gate).removeprefix("GATE_").lower(),
                gate.enforced,
                gate.ours,
                gate.theirs,
                gate.reason,
            )
            for gate in message.gates
        ),
        outcome=_outcome(message.outcome),
        features=dict(sorted(message.features.items())),
        identical=message.identical,
        differs_in=tuple(message.differs_in),
    )


def _outcome(outcome: "pb.Outcome.ValueType") -> str:
    return pb.Outcome.Name(outcome).removeprefix("OUTCOME_")
