"""The service's own decision on a request and its candidates, and what the gates refused on the way to it.

The one place in which trials meet ``core.policy``: what they find is what the server would do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cachesvc.core.gates import Analysis, Gate, verdicts
from cachesvc.core.policy import Policy, Terms, decide
from cachesvc.core.types import Candidate, Entry, Payload

_PAYLOAD = Payload(b"-")
FOREVER_MS = 1 << 62


@dataclass(frozen=True, slots=True)
class Option:
    """An entry that is near to a request."""

    entry: Entry
    analysis: Analysis
    score: float


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


def choose(
    place: int, text: str, analysis: Analysis, options: Sequence[Option], policy: Policy, now_ms: int = 0
) -> Choice:
    """Decide on a request's options, best score first, as the server would with mode ``on``."""
    refused: list[Refused] = []
    left: list[Option] = []
    for option in options:
        gates = tuple(veto.gate for veto in verdicts(analysis, option.analysis) if veto.gate in policy.gates)
        if gates and option.score >= policy.min_score:
            refused.append(Refused(place, option.entry.id, option.score, gates))
        if not gates:
            left.append(option)
    rows = {option.entry.id: option.entry for option in left}
    candidates = [Candidate(option.entry.id, option.score) for option in left]
    decision = decide(text, candidates, rows, Terms(policy.min_score, now_ms, None, {}))
    if decision.entry is None or decision.score is None:
        return Choice(None, refused)
    served = Candidate(decision.entry.id, decision.score)
    return Choice(served, [one for one in refused if one.score >= served.score])


def entry_of(place: int, prompt: str, created_ms: int = 0, expires_ms: int = FOREVER_MS) -> Entry:
    """What an answer to a prompt is stored as."""
    return Entry(place, "", "", b"", b"", b"", prompt, _PAYLOAD, created_ms, expires_ms)
