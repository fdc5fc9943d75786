"""Quantities among the atoms of a text: numbers with their units, and money."""

from fractions import Fraction

from cachesvc.core.gates.literals.atoms import LARGEST
from cachesvc.core.gates.literals.found import AHEAD, COUNT, NUMBER, QUANTITY, Found, Item
from cachesvc.core.gates.literals.lexicon import (
    BITS,
    CAPITALS,
    DOLLARS,
    EVERY,
    GLUED_ONLY,
    GLUED_UNITS,
    MONEY_BEFORE,
    MONEY_SIGNS,
    TIME_DIMENSIONS,
    UNITS,
    Unit,
)

_JOINS = frozenset(("-", "to", "or", "and", "/", "through", "until"))
_TIMES = frozenset(("by", "x", "*"))
_SUMS = tuple(
    "divid multipl increas decreas reduc cut rais lower grow grew shrink extend lengthen shorten scal widen calculat "
    "comput add subtract sum product move shift solve times".split()
)
"""How words begin by which "5 by 2 m" is to be reckoned and is no size."""

_BEFORE_SUM = 6
_BEFORE_SIZE = frozenset(("a", "an", "of", "the", "my", "our", "this", "is", "measures", "measuring"))
_AFTER_AMOUNT = frozenset(
    "for in to is are was and or at on with until then as a an the how what when if but from of do does can too very so hot cold warm".split()
)
_PART_OF = (("a",), ("an",), ("of", "a"), ("of", "an"))
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
        is_unit = name not in GLUED_ONLY or atom.glued or (atom.raw in CAPITALS and self._ends(end))
        unit = UNITS.get(name) if is_unit else None
        if name == "per" and following.text == "cent":
            unit, end = UNITS["percent"], at + 2
        elif name in _POWERS and following.text in UNITS:
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
        elif unit is not None and following.glued:
            unit, end = self._raised(unit, end)
        return (unit, end) if unit is not None else (None, place)

    def _raised(self, unit: Unit, end: int) -> tuple[Unit, int]:
        """The unit of "m^2" and "m2", and where it ends."""
        sign, power = self.at(end), self.at(end + 1)
        if sign.text == "^" and power.text in ("2", "3"):
            return _power(unit, int(power.text)), end + 2
        if sign.glued and sign.text in ("2", "3") and unit.dimension == "m":
            return _power(unit, int(sign.text)), end + 1
        return unit, end

    def _ends(self, place: int) -> bool:
        """No word stands there that what is before it may belong to, nor is it part of a name: "F1"."""
        if self.at(place).glued and self.at(place).text[:1].isdigit():
            return False
        return not self.at(place).text.isalpha() or self.at(place).text in _AFTER_AMOUNT

    def _unit_of_part(self, place: int) -> tuple[Unit | None, int]:
        """The unit in "half a cup", "a quarter of a mile"."""
        for words in _PART_OF:
            after = place + len(words)
            if (
                all(self.at(place + at).text == word for at, word in enumerate(words))
                and self.at(after).text in UNITS
            ):
                return self._unit(after)
        return None, place

    def _rate(self, place: int) -> tuple[Unit | None, int]:
        """The period in "per hour", "an hour", "/h", "hourly"."""
        word = self.at(place).text
        if word in EVERY and self._ends(place + 1):
            return EVERY[word], place + 1
        if word not in ("per", "/", "a", "an", "each", "every"):
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

    def _half_more(self, place: int) -> bool:
        """Whether the half there was added to what is before it: "an hour *and a half*"."""
        if self.at(place - 1).text != "a" or self.at(place - 2).text != "and":
            return False
        unit = UNITS.get(self.at(place - 3).text)
        if unit is None or unit.is_count:
            return False
        last = self.items[-1] if self.items else None
        if (
            last is not None
            and last.kind == QUANTITY
            and last.end == place - 2
            and last.unit is not None
            and not last.rate
        ):
            last.number += Fraction(1, 2)
            last.value, last.end = of_unit(last.unit, last.number), place + 1
            return True
        one = of_unit(unit, 1)
        if self.at(place - 4).text not in ("a", "an") or one not in self.bare:
            return False
        self.bare.remove(one)
        self._quantity(place - 3, place + 1, Fraction(3, 2), unit)
        return True

    def _share_scale(self, start: int, value: Fraction | int, scale: int) -> None:
        """Both ends of "40-50k" are thousands. Where it is "40 to 50k" the first may be meant as it is."""
        last = self.items[-1] if self.items else None
        sign = self.at(start - 1)
        if last is None or last.end != start - 1 or sign.text != "-":
            return
        number = self.at(last.end - 1).number
        if number is None or not sign.glued or not self.at(start).glued:
            return
        if not isinstance(number.value, int) or number.ordinal or number.value >= min(value, scale):
            return
        if last.kind == NUMBER and last.value == str(number.value):
            last.value = str(number.value * scale)
        elif last.unit is not None and last.value == of_unit(last.unit, number.value):
            last.number = number.value * scale
            last.value = of_unit(last.unit, last.number)

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
        if last.number.denominator > LARGEST:
            return False
        is_beside = last.end == start or (last.end == start - 1 and self.at(last.end).text == "and")
        return is_beside and unit.factor < last.unit.factor

    def _share_unit(self, start: int, unit: Unit) -> None:
        """Both ends of "5-10 km" are of that unit."""
        last = self.items[-1] if self.items else None
        if last is None or last.kind != NUMBER or last.end != start - 1:
            return
        join = self.at(last.end).text
        is_size = join in _TIMES and unit.dimension == UNITS["m"].dimension and self._is_size(last.start)
        if join not in _JOINS and not is_size:
            return
        number = self.at(last.end - 1).number
        if number is None or number.ordinal or last.start != last.end - 1:
            return
        last.kind, last.number, last.unit = QUANTITY, number.value, unit
        last.value = f"{unit.dimension}:{number.value * unit.factor}"

    def _is_size(self, place: int) -> bool:
        """What begins there is no sum: "a rug of 5 x 2 m", not "what is 5 x 2 m", "increase the length of 5 by 2 m"."""
        before = self.at(place - 1).text
        if before not in _BEFORE_SIZE or (before == "is" and self.at(place - 2).text in ("what", "much")):
            return False
        return not any(
            atom.text.startswith(_SUMS) for atom in self.atoms[max(place - _BEFORE_SUM, 0) : place]
        )


def of_unit(unit: Unit, value: Fraction | int) -> str:
    """So much of a unit, in the form that is compared."""
    return f"{unit.dimension}:{value * unit.factor}"


def _power(unit: Unit, power: int) -> Unit:
    return Unit(f"{unit.dimension}^{power}", unit.factor**power)
