"""The service's own decision on a request and its candidates, and what the gates refused on the way to it.

The one place in which trials meet ``core.deciding``: what they find is what the server would do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cachesvc.core.deciding import Bar, Beside, Known, Terms, decide
from cachesvc.core.gates import Analysis, Gate
from cachesvc.core.policy import Policy
from cachesvc.core.trust.life import stance
from cachesvc.core.trust.state import TrustState
from cachesvc.core.types import Ask, Candidate, Decision, Entry, Identity, Payload, Request

_PAYLOAD = Payload(b"-")
_ASK = Ask(Request("", (), "", {}))
FOREVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class Option:
    """An entry that is near to a request. ``answer`` is equal for those that say the same."""

    entry: Entry
    analysis: Analysis
    score: float
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Refused:
    """A candidate over the threshold that gates refused: of which request, which entry, and every gate that did."""

    place: int
    candidate: int
    score: float
    gates: tuple[Gate, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is served, if anything, and what was refused by gates before that."""

    candidate: Candidate | None
    refused: Sequence[Refused]


@lru_cache(maxsize=256)
def bar_of(policy: Policy) -> Bar:
    """What candidates must reach in a namespace of which nothing is known yet."""
    return Bar.of(policy, _ASK, stance(TrustState(""), policy).rule, verifies=False)


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, and what there is to ask about it afterwards."""

    decision: Decision
    reach: Sequence[Candidate]
    beside: Beside


def choose(
    place: int, text: str, analysis: Analysis, options: Sequence[Option], policy: Policy, now_ms: int = 0
) -> Choice:
    """Decide on a request's options, best score first, as the server would with mode ``on`` and before it learned."""
    decided = decision_of(text, analysis, options, policy, now_ms)
    decision, served = decided.decision, None
    if decision.entry is not None and decision.score is not None:
        served = Candidate(decision.entry.id, decision.score)
    by_id = {option.entry.id: option for option in options}
    return Choice(served, _refused(place, decided, served, by_id, policy))


def decision_of(
    text: str, analysis: Analysis | None, options: Sequence[Option], policy: Policy, now_ms: int = 0
) -> Decided:
    """The same, with all that the service knows of it. ``analysis`` None: the text's is made."""
    by_id = {option.entry.id: option for option in options}
    bar = bar_of(policy)
    known = Known(
        lambda entry: by_id[entry.id].analysis, lambda entry: by_id[entry.id].answer, lambda entry: False
    )
    identity = Identity("", "", b"", b"", text.encode("utf-8", "surrogatepass"), text)
    beside = Beside(identity, Terms(now_ms, None, {}), policy.gates, known, analysis)
    candidates = [Candidate(option.entry.id, option.score) for option in options]
    decision = decide(candidates, bar, beside, lambda candidate: by_id[candidate.entry_id].entry)
    return Decided(decision, bar.in_reach(candidates), beside)


def _refused(
    place: int,
    decided: Decided,
    served: Candidate | None,
    by_id: Mapping[int, Option],
    policy: Policy,
) -> list[Refused]:
    """The candidates that were looked at before the one that was served."""
    refused: list[Refused] = []
    for candidate in decided.reach:
        if served is not None and candidate.entry_id == served.entry_id:
            break
        vetoes = decided.beside.verdicts(by_id[candidate.entry_id].entry)
        gates = tuple(veto.gate for veto in vetoes if veto.gate in policy.gates)
        if gates:
            refused.append(Refused(place, candidate.entry_id, candidate.score, gates))
    return refused


def entry_of(place: int, prompt: str, created_ms: int = 0, expires_ms: int = FOREVER_MS) -> Entry:
    """What an answer to a prompt is stored as."""
    return Entry(place, "", "", b"", b"", b"", prompt, _PAYLOAD, created_ms, expires_ms)
