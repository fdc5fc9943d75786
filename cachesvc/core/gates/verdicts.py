"""Two analyses compared by every gate."""

from collections.abc import Set as AbstractSet

from cachesvc.core.gates.analysis import Analysis
from cachesvc.core.gates.gate import Gate, Veto
from cachesvc.core.gates.literals import literal_vetoes
from cachesvc.core.gates.meaning import meaning_vetoes


def verdicts(ours: Analysis, theirs: Analysis) -> tuple[Veto, ...]:
    """Every gate that refuses, each once, whether it is on or not."""
    return (
        *literal_vetoes(ours.literals, theirs.literals),
        *meaning_vetoes(ours.meaning, theirs.meaning),
    )


def first_veto(ours: Analysis, theirs: Analysis, gates: AbstractSet[Gate]) -> Veto | None:
    """The first of the gates that are on to refuse, or None when none does."""
    return next((veto for veto in verdicts(ours, theirs) if veto.gate in gates), None)
