"""Quantities among the atoms of a text: numbers with their units, and money."""

from fractions import Fraction

from cachesvc.core.gates.literals.found import AHEAD, COUNT, NUMBER, QUANTITY, Found, Item
from cachesvc.core.gates.literals.lexicon import (
    BITS,
    DOLLARS,
    GLUED_ONLY,
    GLUED_UNITS,
    MONEY_BEFORE,
    MONEY_SIGNS,
    TIME_DIMENSIONS,
    UNITS,
    Unit,
)

_JOINS = frozenset(("-", "to", "or", "and", "/", "through", "until"))
_POWERS = {"square": 2, "sq": 2, "cubic": 3}
_DEGREES = frozenset(["c", "f", "celsius", "centigrade", "fahrenheit", "kelvin"])


class Amounts(Found):
    """Reads what says how much."""

    __slots__ = ()

    def _money_before(self, place: int) -> tuple[int, Unit | None]:
        """Where the amount begins, and its currency, in "$5", "A$5", "USD 5", "Rs. 500"."""
        before = self.at(place - 1)
        if before.text in MONEY_SIGNS:
            country = DOLLARS.get(self.at(place - 2).text) if before.text == "$" and before.glued else None
            return (place - 2, UNITS[country]) if country else (place - 1, UNITS[before.text])
        if before.text in MONEY_BEFORE:
            return place - 1, UNITS[before.text]
        if before.text == "." and self.at(place - 2).text == "rs":
            return place - 2, UNITS["rs"]
        return place, None

    def _unit(self, place: int) -> tuple[Unit | None, int]:
        """The unit there, and where it ends."""
        atom, at = self.at(place), place
        if atom.text == "-" and atom.glued and self.at(place + 1).glued:
            at = place + 1
            atom = self.at(at)
        name, following = atom.text, self.at(at + 1)
        end = at + 1
        unit = UNITS.get(name) if atom.glued or name not in GLUED_ONLY else None
        if name in _POWERS and following.text in UNITS:
            unit, end = _power(UNITS[following.text], _POWERS[name]), at + 2
        elif name in DOLLARS and following.text in ("dollar", "dollars"):
            unit, end = UNITS[DOLLARS[name]], at + 2
        elif atom.raw in BITS:
            unit = BITS[atom.raw]
        elif name == "in" and atom.glued:
            unit = GLUED_UNITS["in"]
        elif name == "'" and atom.glued and following.glued and following.number is not None:
            unit = GLUED_UNITS["'"]
        elif unit is not None and unit.dimension == "degree" and following.text in _DEGREES:
            unit, end = UNITS[following.text], at + 2
        elif unit is not None and following.text == "^" and self.at(at + 2).text in ("2", "3"):
            unit, end = _power(unit, int(self.at(at + 2).text)), at + 3
        return (unit, end) if unit is not None else (None, place)

    def _rate(self, place: int) -> tuple[Unit | None, int]:
        """The period in "per hour", "an hour", "/h"."""
        if self.at(place).text not in ("per", "/", "a", "an", "each", "every"):
            return None, place
        unit = UNITS.get(self.at(place + 1).text)
        if unit is None or (
            unit.dimension not in TIME_DIMENSIONS and self.at(place).text not in ("per", "/")
        ):
            return None, place
        return unit, place + 2

    def _quantity(self, start: int, end: int, value: Fraction | int, unit: Unit) -> int:
        if unit.is_count:
            self.items.append(Item(COUNT, f"{value} {unit.dimension}", start, end, value, unit))
            return end
        self._share_unit(start, unit)
        if unit.dimension in TIME_DIMENSIONS:
            self._ahead(start, end)
        period, end = self._rate(end)
        rate = f"/{period.dimension}" if period is not None else ""
        factor = unit.factor / period.factor if period is not None else unit.factor
        last = self.items[-1] if self.items else None
        if last is not None and self._continues(last, start, unit) and last.unit is not None:
            value = last.number + value * unit.factor / last.unit.factor
            start, unit, factor = last.start, last.unit, last.unit.factor
            self.items.pop()
        dimension, total = f"{unit.dimension}{rate}", value * factor
        if dimension == "m/s":
            dimension = "speed"
        self.items.append(Item(QUANTITY, f"{dimension}:{total}", start, end, value, unit, rate))
        return end

    def _ahead(self, start: int, end: int) -> None:
        """In two hours, two hours from now, two hours later."""
        after = self.at(end).text
        is_from_now = after == "from" and self.at(end + 1).text == "now"
        if is_from_now or after == "later" or (self.at(start - 1).text == "in" and after != "ago"):
            self.loose.add(AHEAD)

    def _continues(self, last: Item, start: int, unit: Unit) -> bool:
        """Five feet *six inches*, an hour *and ten minutes*: what follows is smaller and of the same dimension."""
        if last.kind != QUANTITY or last.unit is None or last.rate or last.unit.dimension != unit.dimension:
            return False
        is_beside = last.end == start or (last.end == start - 1 and self.at(last.end).text == "and")
        return is_beside and unit.factor < last.unit.factor

    def _share_unit(self, start: int, unit: Unit) -> None:
        """Both ends of "5-10 km" are of that unit."""
        last = self.items[-1] if self.items else None
        if (
            last is None
            or last.kind != NUMBER
            or last.end != start - 1
            or self.at(last.end).text not in _JOINS
        ):
            return
        number = self.at(last.end - 1).number
        if number is None or number.ordinal or last.start != last.end - 1:
            return
        last.kind, last.number, last.unit = QUANTITY, number.value, unit
        last.value = f"{unit.dimension}:{number.value * unit.factor}"


def of_unit(unit: Unit, value: Fraction | int) -> str:
    """So much of a unit, in the form that is compared."""
    return f"{unit.dimension}:{value * unit.factor}"


def _power(unit: Unit, power: int) -> Unit:
    return Unit(f"{unit.dimension}^{power}", unit.factor**power)
