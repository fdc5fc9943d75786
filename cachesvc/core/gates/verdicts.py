"""Two analyses compared by every gate."""

from collections.abc import Set as AbstractSet

from cachesvc.core.gates.analysis import Analysis
from cachesvc.core.gates.gate import Gate, Veto
from cachesvc.core.gates.literals import literal_differences, literal_vetoes
from cachesvc.core.gates.meaning import REFUSALS, meaning_vetoes


def verdicts(ours: Analysis, theirs: Analysis) -> tuple[Veto, ...]:
    """Every gate that refuses, each once, whether it is on or not."""
    return (
        *literal_vetoes(ours.literals, theirs.literals),
        *meaning_vetoes(ours.meaning, theirs.meaning),
    )


def first_veto(ours: Analysis, theirs: Analysis, gates: AbstractSet[Gate]) -> Veto | None:
    """The first of the gates that are on to refuse, or None when none does. Asks no more of them than it must."""
    for veto in literal_differences(ours.literals, theirs.literals):
        if veto.gate in gates:
            return veto
    mine, other = ours.meaning, theirs.meaning
    for gate, refuses in REFUSALS:
        if gate in gates and (refusal := refuses(mine, other)) is not None:
            return refusal
    return None
