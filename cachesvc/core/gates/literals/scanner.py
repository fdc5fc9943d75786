"""One pass over the atoms of a text that finds its numbers, quantities, dates and times."""

from dataclasses import dataclass, field
from fractions import Fraction

from cachesvc.core.gates.literals.atoms import Atom, Number
from cachesvc.core.gates.literals.calendar import date, is_day, is_year, time_of_day, written_date
from cachesvc.core.gates.literals.lexicon import (
    DAY_PARTS,
    DAYS,
    DOLLARS,
    EVERY,
    GLUED_ONLY,
    GLUED_UNITS,
    HOLIDAYS,
    MANY,
    MONEY_BEFORE,
    MONEY_SIGNS,
    MONTHS,
    MULTIPLES,
    PERIODS,
    PLAIN_SUFFIX_SCALES,
    ROMAN,
    SEASONS,
    SPOKEN,
    SUFFIX_SCALES,
    TIME_DIMENSIONS,
    UNITS,
    UNSURE_MONTHS,
    UNSURE_SEASONS,
    UNSURE_WEEKDAYS,
    WEEKDAYS,
    WHICH,
    ZONES,
    Unit,
)

NUMBER, QUANTITY, COUNT, DATE, TIME, NAME = "number", "quantity", "count", "date", "time", "name"

FIRST = "first"
"""The word: a number in "the first chapter", hardly one in "the first thing to do"."""

_NOTHING = Atom("", "", glued=False)
_BEFORE_MONTH = frozenset(
    [
        "in",
        "of",
        "until",
        "till",
        "since",
        "by",
        "last",
        "next",
        "this",
        "during",
        "early",
        "late",
        "mid",
        "before",
        "after",
        "every",
        "through",
        "from",
    ]
)
_BEFORE_DAY = frozenset(["on", "by", "until", "till", "since", "before", "after", "from", "dated", "due"])
_BEFORE_SEASON = frozenset(["this", "next", "last", "in", "every", "during", "for", "of"])
_AFTER_SEASON = frozenset(["semester", "term", "quarter", "season", "break"])
_JOINS = frozenset(("-", "to", "or", "and", "/", "through", "until"))
_TOGETHER = frozenset(("and", "or", ",", "vs", "versus", "&", "with"))
_VERSIONED = frozenset(("v", "version", "ver", "versions"))
_SAY_NOTHING = frozenset(
    [
        "the",
        "a",
        "an",
        "of",
        "is",
        "are",
        "was",
        "were",
        "do",
        "does",
        "and",
        "or",
        ",",
        ".",
        "?",
        "!",
        '"',
        "'",
        ":",
        ";",
    ]
)
_SHORT = frozenset(
    [
        "a",
        "i",
        "am",
        "an",
        "and",
        "as",
        "at",
        "be",
        "by",
        "do",
        "for",
        "from",
        "go",
        "he",
        "if",
        "in",
        "is",
        "it",
        "me",
        "my",
        "no",
        "of",
        "on",
        "or",
        "so",
        "the",
        "to",
        "up",
        "us",
        "we",
    ]
)
_CODE_LENGTH = range(2, 7)
_CENTURY_YEARS = range(1900, 2101)
_CLOCK_PARTS = 2
_HOURS = 12
_HALVES = {"morning": "am", "afternoon": "pm", "evening": "pm"}
_NUMBERED = frozenset(
    [
        "part",
        "chapter",
        "volume",
        "book",
        "type",
        "phase",
        "grade",
        "class",
        "stage",
        "level",
        "war",
        "season",
        "episode",
        "act",
        "section",
    ]
)


@dataclass(slots=True)
class Item:
    """A literal: where it stands among the atoms, and its value in the form that is compared."""

    kind: str
    value: str
    start: int
    end: int
    number: Fraction | int = 0
    unit: Unit | None = None
    rate: str = ""


@dataclass(slots=True)
class Scan:
    """What a pass finds."""

    atoms: list[Atom]
    items: list[Item] = field(default_factory=list)
    bare: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)
    loose: set[tuple[str, str]] = field(default_factory=set)
    ones: int = 0
    firsts: int = 0

    def run(self) -> "Scan":
        """Find everything."""
        place = 0
        while place < len(self.atoms):
            place = self._read(place)
        return self

    def at(self, place: int) -> Atom:
        """The atom there, or one that is empty beyond either end."""
        return self.atoms[place] if 0 <= place < len(self.atoms) else _NOTHING

    def _read(self, place: int) -> int:
        atom = self.atoms[place]
        text = atom.text
        if atom.number is not None:
            return self._number(place, atom.number)
        if text[:1].isdigit():
            return self._digits(place)
        if text not in SPOKEN:
            return place + 1
        if text in MONTHS:
            return self._month(place)
        if text in WEEKDAYS:
            return self._weekday(place)
        if text in WHICH:
            return self._which(place)
        if text == "quarter" and self.at(place + 1).text in ("past", "to") and self._hour(place + 2):
            after = self.at(place + 1).text == "past"
            hour = self._hour(place + 2)
            return self._clock(
                place, place + 3, (hour if after else (hour + 10) % 12 + 1), 15 if after else 45
            )
        return self._word(place)

    def _add(self, kind: str, value: str, start: int, end: int) -> int:
        self.items.append(Item(kind, value, start, end))
        return end

    # Words

    def _word(self, place: int) -> int:
        atom = self.atoms[place]
        text = atom.text
        before = self.at(place - 1).text
        end = place + 1
        if text in DAYS or text in HOLIDAYS:
            self._add(DATE, DAYS.get(text) or HOLIDAYS[text], place, end)
        elif text == "ago":
            self.loose.add(("when", "ago"))
        elif text in SEASONS:
            is_sure = (
                text not in UNSURE_SEASONS or before in _BEFORE_SEASON or self.at(end).text in _AFTER_SEASON
            )
            following = self.at(end).number
            if is_sure or (following is not None and is_year(following.value)):
                self._add(DATE, SEASONS[text], place, end)
        elif text in DAY_PARTS:
            if before != "good":
                self._add(TIME, DAY_PARTS[text], place, end)
        elif text == "night":
            if before == "at" or before in WEEKDAYS or before in DAYS:
                self._add(TIME, "night", place, end)
        elif text in ZONES:
            if atom.raw.isupper() or text in ("utc", "gmt"):
                self._add(TIME, text, place, end)
        elif text in MULTIPLES:
            self.loose.add(("multiple", MULTIPLES[text]))
        elif text in MANY:
            self._add(NUMBER, MANY[text], place, end)
        elif text in ROMAN:
            if atom.raw.isupper() and (self.at(place - 1).raw[:1].isupper() or before in _NUMBERED):
                self._add(NUMBER, str(ROMAN[text]), place, end)
        elif (unit := EVERY.get(text) or UNITS.get(text)) is not None and unit.stands_alone:
            self.bare.add(_key(unit, 1))
        return end

    def _which(self, place: int) -> int:
        """ "Next week", "last Friday", "this year"."""
        which = WHICH[self.atoms[place].text]
        following = self.at(place + 1).text
        if following in PERIODS:
            if which == "this":
                return place + 2
            return self._add(DATE, f"{which} {PERIODS[following]}", place, place + 2)
        if following in WEEKDAYS or following in MONTHS or following in SEASONS:
            if which == "last":
                return self._add(DATE, which, place, place + 1)
            self.loose.add((following, which))
        return place + 1

    def _weekday(self, place: int) -> int:
        atom = self.atoms[place]
        following = self.at(place + 1)
        if atom.text in UNSURE_WEEKDAYS and not (
            atom.raw[0].isupper() and (following.text in (".", ",") or following.number is not None)
        ):
            return place + 1
        return self._add(DATE, f"day {WEEKDAYS[atom.text]}", place, place + 1)

    def _month(self, place: int) -> int:
        """A month with the day and the year that may stand around it."""
        atom = self.atoms[place]
        month = MONTHS[atom.text]
        end = place + 1
        if self.at(end).text == "." and self.at(end).glued and atom.text != "may":
            end += 1
        start = place
        day, year = self._day_before(place), None
        if day is not None:
            start = self.items.pop().start
        elif (number := self._plain_number(end)) is not None and is_day(number.value):
            day, end = int(number.value), end + 1
        after = end + 1 if self.at(end).text in (",", "of") else end
        number = self.at(after).number
        if number is not None and is_year(number.value) and number.written == str(number.value):
            year, end = int(number.value), after + 1
        if day is None and year is None and atom.text in UNSURE_MONTHS and not self._is_sure_month(place):
            return place + 1
        self._add(DATE, date(year, month, day), start, end)
        if (
            day is not None
            and self.at(end).text in ("-", "to")
            and (last := self._plain_number(end + 1)) is not None
        ) and is_day(last.value):
            end = self._add(DATE, date(year, month, int(last.value)), end + 1, end + 2)
        return end

    def _is_sure_month(self, place: int) -> bool:
        raw, before = self.atoms[place].raw, self.at(place - 1)
        if before.text in _BEFORE_MONTH:
            return True
        is_inside = place > 0 and before.text not in (".", "?", "!", ":", '"')
        return (
            is_inside
            and raw[0].isupper()
            and not raw.isupper()
            and self.atoms[place].text in ("may", "march")
        )

    def _day_before(self, place: int) -> int | None:
        """The day in "4th of July" and "4 July": the last literal, where it is a number right before the month."""
        if not self.items or self.items[-1].kind != NUMBER:
            return None
        last = self.items[-1]
        gap = self.at(place - 1).text if last.end == place - 1 else ""
        if last.end != place and gap not in ("of", "-"):
            return None
        number = self.at(last.end - 1).number
        if number is None or not is_day(number.value) or last.value.startswith("-"):
            return None
        return int(number.value)

    def _plain_number(self, place: int) -> Number | None:
        """The number there, unless it measures or counts something."""
        if self.at(place).text == "the" and self.at(place + 1).number is not None:
            return None
        number = self.at(place).number
        following = self.at(place + 1).text
        if number is None or following in UNITS or following in ("am", "pm", "o'clock", "%", ":"):
            return None
        return number

    # Digits that are no number

    def _digits(self, place: int) -> int:
        """A date, a time, a version or a number too long or too odd to be one."""
        text = self.atoms[place].text
        end = place + 1
        value = written_date(text)
        if value is not None:
            return self._add(DATE, value, place, end)
        if ":" in text:
            parts = text.split(":")
            hour, minute = int(parts[0]), int(parts[1])
            done = self._clock(place, end, hour, minute, is_padded=len(parts[0]) > 1 and parts[0][0] == "0")
            if len(parts) > _CLOCK_PARTS and self.items[-1].kind == TIME:
                self.items[-1].value += f":{parts[2]}"
            return done
        if "." in text:
            self.versions.add(text)
        return self._add(NUMBER, text, place, end)

    def _clock(self, start: int, end: int, hour: int, minute: int, *, is_padded: bool = False) -> int:
        half, end = self._half(end)
        value = time_of_day(hour, minute, half, is_padded=is_padded)
        if value is None:
            return self._add(NUMBER, f"{hour}:{minute:02}", start, end)
        return self._add(TIME, value, start, end)

    def _half(self, place: int) -> tuple[str, int]:
        """Which half of the day is said there, and where that ends."""
        atom = self.at(place)
        if atom.text in ("am", "pm"):
            return atom.text, place + 1
        if atom.text == "in" and self.at(place + 1).text == "the" and self.at(place + 2).text in _HALVES:
            return _HALVES[self.at(place + 2).text], place + 3
        if atom.text == "at" and self.at(place + 1).text == "night":
            return "pm", place + 2
        if atom.text in ("a", "p") and self.at(place + 1).text == "." and self.at(place + 2).text == "m":
            return f"{atom.text}m", place + (4 if self.at(place + 3).text == "." else 3)
        if atom.text == "o'clock":
            half, end = self._half(place + 1)
            return half, end
        return "", place

    def _hour(self, place: int) -> int:
        number = self.at(place).number
        return int(number.value) if number is not None and number.value in range(1, 13) else 0

    # Numbers

    def _number(self, place: int, number: Number) -> int:
        atom = self.atoms[place]
        start, money = self._money_before(place)
        value: Fraction | int = number.value
        end = place + 1
        following = self.at(end)
        if number.ordinal:
            self.firsts += atom.text == FIRST
            return self._add(NUMBER, FIRST if atom.text == FIRST else f"{value}th", place, end)
        if value == Fraction(1, 2) and following.text == "past" and self._hour(end + 1):
            return self._clock(place, end + 2, self._hour(end + 1), 30)
        if isinstance(value, int) and 0 < value <= _HOURS and self._says_time(end):
            return self._clock(place, end, value, 0)
        if atom.text.count("/") == 0 and "/" in number.written and self.at(place - 1).text in _BEFORE_DAY:
            return self._add(DATE, number.written, place, end)
        if (following.glued or following.text == "k") and following.text in (
            SUFFIX_SCALES if money else PLAIN_SUFFIX_SCALES
        ):
            value, end = value * (SUFFIX_SCALES if money else PLAIN_SUFFIX_SCALES)[following.text], end + 1
        if self._is_negative(start):
            value, start = -value, start - 1
        unit, end = (money, end) if money else self._unit(end)
        if unit is None and self.at(end).glued and self.at(end).text.isalpha():
            self._suffixed(place, end)
        if unit is None:
            return self._plain(place, start, end, number, value)
        if atom.text == "one":
            self.bare.add(_key(unit, 1))
            self.ones += 0 if unit.stands_alone else 1
            return end
        return self._quantity(start, end, value, unit)

    def _says_time(self, place: int) -> bool:
        return self._half(place) != ("", place)

    def _is_negative(self, start: int) -> bool:
        sign, before = self.at(start - 1), self.at(start - 2)
        if sign.text == "-" and self.at(start).glued:
            return not sign.glued or start == 1
        return sign.text in ("minus", "negative") and before.number is None

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
        atom = self.at(place)
        if atom.text == "-" and atom.glued and self.at(place + 1).glued:
            place += 1
            atom = self.at(place)
        name = atom.text
        if name in ("square", "sq", "cubic") and (unit := UNITS.get(self.at(place + 1).text)) is not None:
            power = 3 if name == "cubic" else 2
            return Unit(f"{unit.dimension}^{power}", unit.factor**power), place + 2
        if name in DOLLARS and self.at(place + 1).text in ("dollar", "dollars"):
            return UNITS[DOLLARS[name]], place + 2
        if atom.glued and name == "in":
            return GLUED_UNITS["in"], place + 1
        if name == "'" and atom.glued and self.at(place + 1).glued and self.at(place + 1).number is not None:
            return GLUED_UNITS["'"], place + 1
        unit = UNITS.get(name)
        if unit is None or (name in GLUED_ONLY and not atom.glued):
            return None, place
        if unit.dimension == "degree" and self.at(place + 1).text in (
            "c",
            "f",
            "celsius",
            "centigrade",
            "fahrenheit",
            "kelvin",
        ):
            return UNITS[self.at(place + 1).text], place + 2
        if self.at(place + 1).text == "^" and self.at(place + 2).text in ("2", "3"):
            power = int(self.at(place + 2).text)
            return Unit(f"{unit.dimension}^{power}", unit.factor**power), place + 3
        return unit, place + 1

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

    def _plain(self, place: int, start: int, end: int, number: Number, value: Fraction | int) -> int:
        """A number of nothing that is known here: it may be a version, or part of an identifier."""
        atom, before = self.atoms[place], self.at(place - 1)
        if atom.text == "one":
            self.ones += 1
            return end
        said = str(value)
        if (
            "." in number.written
            and number.written.endswith("0")
            and isinstance(value, Fraction)
            and end == place + 1
        ):
            said = number.written if value.denominator != 1 else str(value.numerator)
        if before.text in _VERSIONED:
            self.versions.add(said)
        elif before.text == "top":
            self.loose.add(("top", said))
            return end
        elif before.text.isalpha():
            self._beside(place, before, number)
        elif before.text == "-" and before.glued and atom.glued and self.at(place - 2).text.isalpha():
            self._beside(place, self.at(place - 2), number, is_glued=True)
        return self._add(NUMBER, said, start, end)

    def _beside(self, place: int, before: Atom, number: Number, *, is_glued: bool = False) -> None:
        """A word right before a number: with it, it may be one identifier ("EECS 492", "eecs492", "B12")."""
        written = number.written or str(number.value)
        together = f"{before.text}{written}"
        self.beside.add(together)
        is_code = (
            before.raw.isupper()
            and len(before.raw) in _CODE_LENGTH
            and before.text not in _SHORT
            and before.text not in SPOKEN
            and number.value not in _CENTURY_YEARS
        )
        if is_glued or self.atoms[place].glued or is_code:
            self.names.add(together)

    def _suffixed(self, place: int, end: int) -> None:
        """Letters right behind digits that are no unit: "737a"."""
        letters = self.at(end).text
        if letters not in ("x", "s", "year", "plus"):
            self.names.add(f"{self.atoms[place].text}{letters}")


def slots(scan: Scan) -> frozenset[tuple[str, str]]:
    """By each word beside a literal its value: what tells "from 5 to 10" from "from 10 to 5".

    Literals that are only listed ("5 and 10") stand beside the words around the list, all alike.
    """
    found: dict[str, str] = {}
    twice: set[str] = set()
    for group in _groups(scan):
        values = " ".join(sorted(item.value for item in group))
        words = (("before", scan.at(group[0].start - 1).text), ("after", scan.at(group[-1].end).text))
        for side, word in words:
            if word and word not in _SAY_NOTHING:
                key = f"{side} {word.rstrip('s')}"
                if key in found:
                    twice.add(key)
                found[key] = values
    return frozenset((key, value) for key, value in found.items() if key not in twice)


def _groups(scan: Scan) -> list[list[Item]]:
    groups: list[list[Item]] = []
    for item in scan.items:
        if item.value == FIRST:
            continue
        last = groups[-1][-1] if groups else None
        if last is not None and item.start == last.end + 1 and scan.at(last.end).text in _TOGETHER:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _key(unit: Unit, value: Fraction | int) -> str:
    return f"{unit.dimension}:{value * unit.factor}"
