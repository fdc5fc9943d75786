"""What a text names literally: numbers, quantities, dates, times, versions, ids, addresses, code, quotations."""

from cachesvc.core.gates.literals.reading import Literals, literals
from cachesvc.core.gates.literals.refusals import literal_differences, literal_vetoes

__all__ = ["Literals", "literal_differences", "literal_vetoes", "literals"]
