"""One pass over the atoms of a text that finds its numbers, quantities, dates and times."""

from fractions import Fraction

from cachesvc.core.gates.literals.amounts import Amounts, of_unit
from cachesvc.core.gates.literals.atoms import Atom, Number
from cachesvc.core.gates.literals.calendar import is_year, written_date
from cachesvc.core.gates.literals.found import AGO, DATE, FIRST, NUMBER, TIME
from cachesvc.core.gates.literals.lexicon import (
    DAY_PARTS,
    DAYS,
    DECADES,
    EVERY,
    HOLIDAYS,
    MANY,
    MONTHS,
    MULTIPLES,
    PLAIN_SUFFIX_SCALES,
    ROMAN,
    SEASONS,
    SPOKEN,
    SUFFIX_SCALES,
    UNITS,
    UNSURE_SEASONS,
    WEEKDAYS,
    WHICH,
    ZONES,
    Unit,
)
from cachesvc.core.gates.literals.moments import MAY_STAGE, Moments

_BEFORE_DAY = frozenset(["on", "by", "until", "till", "since", "before", "after", "from", "dated", "due"])
_PARTS_OF_YEAR = {"q": "quarter", "h": "half"}
_BEFORE_PART = frozenset(["in", "for", "of", "during", "since", "until", "by", "from"])
_COUNTS_OF_PARTS = {"quarter": 4, "half": 2}
_HALF = Fraction(1, 2)
_SPOKEN_SIGNS = {"plus": "+", "minus": "-", "by": "/"}
_MAY_END_DECADE = frozenset(("s", "'"))
_VERSIONED = frozenset(("v", "version", "ver", "versions"))
_SHORT = frozenset(
    "a i am an and as at be by do for from go he if in is it me my no of on or so the to up us we".split()
)
_CODE_LENGTH = range(2, 7)
_CENTURY_YEARS = range(1900, 2101)
_CLOCK_PARTS = 2
_HOURS = 12
_HALVES = frozenset(("am", "pm", "a", "p"))
_HOURS_AND_MINUTES = range(100, 1260)
"""As in 230pm."""

_OF_SOMETHING = frozenset("the this that what as my his her its their our your".split())
_SERIAL = 100
"""Smaller numbers before a hyphen count: a 4-way stop."""
_NO_SUFFIX = frozenset(("x", "s", "year", "plus", "up", "ish", "odd", "to", "in"))
_NUMBERED = frozenset(
    "part chapter volume book type phase grade class stage level war season episode act section".split()
)


class Scan(Moments, Amounts):
    """Reads everything, once."""

    __slots__ = ()

    def run(self) -> "Scan":
        """Find everything."""
        end = 0
        for place, atom in enumerate(self.atoms):
            if atom.speaks and place >= end:
                end = self._read(place)
        return self

    def _read(self, place: int) -> int:  # noqa: PLR0911 - one kind of atom a return
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

    def _word(self, place: int) -> int:  # noqa: C901, PLR0912 - one kind of word a branch
        atom = self.atoms[place]
        text = atom.text
        before = self.at(place - 1).text
        end = place + 1
        if text in DAYS or text in HOLIDAYS:
            is_beyond = before in ("after", "before") and self.at(place - 2).text == "day"
            day = DAYS.get(text) or HOLIDAYS[text]
            self.add(DATE, f"{before} {day}" if is_beyond else day, place, end)
        elif text == "ago":
            self.loose.add(AGO)
        elif text in DECADES:
            self._add_decade(DECADES[text], place, end)
        elif text in SEASONS:
            if text not in UNSURE_SEASONS or self._is_sure_season(place):
                self._stage(place)
                self.add(DATE, SEASONS[text], place, end)
        elif text in DAY_PARTS:
            if before != "good":
                self.add(TIME, DAY_PARTS[text], place, end)
        elif text == "night":
            if before == "at" or before in WEEKDAYS or before in DAYS:
                self.add(TIME, "night", place, end)
        elif text in ZONES:
            if atom.raw.isupper() or text in ("utc", "gmt"):
                return self._zone(place)
        elif text in MULTIPLES:
            self._multiple(place)
        elif text in MANY:
            self.add(NUMBER, MANY[text], place, end)
        elif text in ROMAN:
            if atom.raw.isupper() and (self.at(place - 1).raw[:1].isupper() or before in _NUMBERED):
                self.add(NUMBER, str(ROMAN[text]), place, end)
        elif (unit := EVERY.get(text) or UNITS.get(text)) is not None and unit.stands_alone:
            if before == "other" and self.at(place - 2).text == "every":
                return self._quantity(place - 1, end, 2, unit)
            if before in MAY_STAGE:
                self._stage(place)
            self.bare.append(of_unit(unit, 1))
        return end

    def _zone(self, place: int) -> int:
        """EST, UTC+1."""
        sign, hours = self.at(place + 1).text, self.at(place + 2)
        if sign in ("+", "-") and hours.glued and hours.number is not None:
            return self.add(TIME, f"{self.atoms[place].text}{sign}{hours.number.value}", place, place + 3)
        return self.add(TIME, self.atoms[place].text, place, place + 1)

    def _every(self, place: int, end: int, value: Fraction | int) -> int:
        """Where "every third day", "every third Monday" ends, which says how far apart; 0 where none does."""
        following = self.at(end).text
        unit = UNITS.get(following)
        if unit is not None and unit.stands_alone:
            return self._quantity(place, end + 1, value, unit)
        return self.add(NUMBER, f"every {value}", place, end) if following in WEEKDAYS else 0

    def _multiple(self, place: int) -> None:
        """Twice: two times. "Double" and the like are adjectives and verbs besides: so much only where it is of something."""
        text = self.atoms[place].text
        is_of_something = self.at(place - 1).text in ("a", "an") or self.at(place + 1).text in _OF_SOMETHING
        if text in ("twice", "thrice") or (is_of_something and not text.endswith(("ing", "ed"))):
            self.add(NUMBER, MULTIPLES[text], place, place + 1)
        else:
            self.loose.add(("multiple", MULTIPLES[text]))

    def _digits(self, place: int) -> int:
        """A date, a time, a version or a number too long or too odd to be one."""
        text = self.atoms[place].text
        end = place + 1
        value = written_date(text)
        if value is not None:
            return self.add(DATE, value, place, end)
        if ":" in text:
            parts = text.split(":")
            hour, minute = int(parts[0]), int(parts[1])
            done = self._clock(place, end, hour, minute, is_padded=len(parts[0]) > 1 and parts[0][0] == "0")
            if len(parts) > _CLOCK_PARTS and self.items[-1].kind == TIME:
                self.items[-1].value += f":{parts[2]}"
            return done
        if "." in text:
            self.versions.add(text)
        return self.add(NUMBER, text, place, end)

    def _number(self, place: int, number: Number) -> int:  # noqa: C901, PLR0911, PLR0912 - one kind of number a return
        atom = self.atoms[place]
        start, money = self._money_before(place)
        value: Fraction | int = number.value
        end = place + 1
        following = self.at(end)
        if following.glued and following.text in _MAY_END_DECADE and (ends := self._decade(place, number)):
            return ends
        if (number.ordinal or atom.glued) and (ends := self._part_of_year(place, number)):
            return ends
        if number.ordinal:
            if self.at(place - 1).text == "every" and (ends := self._every(place, end, value)):
                return ends
            if atom.text == "second" and self.at(place - 1).text == "a" and not self._goes_on(end):
                return end
            if following.text == "world" and self.at(end + 1).text == "war":
                return self.add(NUMBER, str(value), place, end)
            self.firsts += atom.text == FIRST
            return self.add(NUMBER, FIRST if atom.text == FIRST else f"{value}th", place, end)
        if following.text == "past" and value == _HALF and self._hour(end + 1):
            return self._clock(place, end + 2, self._hour(end + 1), 30)
        if isinstance(value, Fraction) and value == _HALF and self._half_more(place):
            return end
        if isinstance(value, int) and 0 < value <= _HOURS:
            if self._says_time(end):
                return self._clock(place, end, value, 0)
            if value == _HOURS and following.text in ("noon", "midday", "midnight"):
                return end
        elif (
            isinstance(value, int)
            and value in _HOURS_AND_MINUTES
            and following.text in _HALVES
            and self._half(end)[0]
        ):
            return self._clock(place, end, *divmod(value, 100))
        if "/" in number.written and (years := _two_years(number.written)):
            self.add(NUMBER, years[0], place, end)
            return self.add(NUMBER, years[1], place, end)
        if following.text == "-" and following.glued and is_year(value) and self.at(end + 1).glued:
            years = _two_years(f"{value}/{self.at(end + 1).text}")
            if years:
                self.add(NUMBER, years[0], place, end)
                return self.add(NUMBER, years[1], end + 1, end + 2)
        if atom.text.count("/") == 0 and "/" in number.written and self.at(place - 1).text in _BEFORE_DAY:
            return self.add(DATE, number.written, place, end)
        scale = (SUFFIX_SCALES if money else PLAIN_SUFFIX_SCALES).get(following.text)
        if scale is not None and (following.glued or following.text == "k"):
            self._share_scale(start, value, scale)
            value, end = value * scale, end + 1
        if self._is_negative(start):
            value, start = -value, start - 1
        unit, after = self._unit(end)
        if unit is None and isinstance(value, Fraction) and value < 1:
            unit, after = self._unit_of_part(end)
        if money is None and (age := self._age(following, unit, after)):
            return self._plain(place, start, age, number, value)
        if money is None:
            end = after
        elif unit is not None and unit.dimension == money.dimension:
            unit, end = money, after
        else:
            unit = money
        if unit is None and self.at(end).glued:
            self._suffixed(place, end)
        if unit is None:
            return self._plain(place, start, end, number, value)
        if atom.text == "one":
            self.bare.append(of_unit(unit, 1))
            self.ones += 0 if unit.stands_alone else 1
            return end
        return self._quantity(start, end, value, unit)

    def _part_of_year(self, place: int, number: Number) -> int:
        """Where "Q1", "the first quarter", "H2", "the second half" ends; else 0."""
        before, after = self.at(place - 1).text, self.at(place + 1).text
        if number.ordinal:
            part, end = after, place + 2
        else:
            part, end = _PARTS_OF_YEAR.get(before, "") if self.atoms[place].glued else "", place + 1
            if part and not self._is_sure_part(place):
                return 0
        if number.value > _COUNTS_OF_PARTS.get(part, 0) or self.at(end).text in UNITS:
            return 0
        return self.add(DATE, f"{part} {number.value}", place, end)

    def _is_sure_part(self, place: int) -> bool:
        """A year stands beside it, or it ends what "in" or the like begins: "sales in Q1". Else it may be a car, or a tag."""
        after = self.at(place + 1)
        if after.text in ("of", "'", ","):
            after = self.at(place + 2)
        before = self.at(place - 2)
        if any(atom.number is not None and is_year(atom.number.value) for atom in (before, after)):
            return True
        return (
            before.text in _BEFORE_PART and self.at(place - 1).raw.isupper() and not self._is_word(place + 1)
        )

    def _goes_on(self, place: int) -> bool:
        """A word stands there, after a hyphen or none."""
        atom = self.at(place)
        return atom.text.isalpha() or (atom.text == "-" and self.at(place + 1).glued)

    def _age(self, following: Atom, unit: Unit | None, after: int) -> int:
        """Where "years old", "-year-old", "yo" behind a number ends, which says no more than the number; else 0."""
        if unit is None:
            return after + 1 if following.text == "yo" else 0
        if unit.dimension != "month" or unit.factor != UNITS["year"].factor:
            return 0
        if self.at(after).text == "-":
            after += 1
        return after + 1 if self.at(after).text in ("old", "olds") else 0

    def _says_time(self, place: int) -> bool:
        return self._half(place) != ("", place)

    def _is_negative(self, start: int) -> bool:
        sign, before = self.at(start - 1), self.at(start - 2)
        if sign.text == "-" and self.at(start).glued:
            return not sign.glued or start == 1
        return sign.text in ("minus", "negative") and before.number is None

    def _plain(self, place: int, start: int, end: int, number: Number, value: Fraction | int) -> int:
        """A number of nothing that is known here: it may be a version, or part of an identifier."""
        atom, before = self.atoms[place], self.at(place - 1)
        if before.text in _SPOKEN_SIGNS:
            self._spoken_sign(place, before.text)
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
        elif before.text == "x" and self.at(place - 2).number is not None:
            pass  # 10 x 12
        elif before.text.isalpha():
            if is_year(value):
                self._stage(start)
            self._beside(place, before, number)
        elif before.text == "-" and before.glued and atom.glued and self._is_word(place - 2):
            self._beside(place, self.at(place - 2), number, is_glued=True)
        return self.add(NUMBER, said, start, end)

    def _is_word(self, place: int) -> bool:
        """No unit of a number before it: "40k-50k"."""
        atom = self.at(place)
        return atom.text.isalpha() and not (atom.glued and self.at(place - 1).number is not None)

    def _spoken_sign(self, place: int, word: str) -> None:
        """Between two numbers: "10 plus 4", "12 divided by 4"."""
        left = place - 2
        if word == "by":
            if self.at(left).text != "divided":
                return
            left -= 1
        if self.at(left).number is not None:
            self.signs.append(_SPOKEN_SIGNS[word])

    def _beside(self, place: int, before: Atom, number: Number, *, is_glued: bool = False) -> None:
        """A word right before a number: with it, it may be one identifier ("EECS 492", "eecs492", "B12")."""
        written = number.written or str(number.value)
        if written.count(".") == 1:
            written = written.removesuffix(".0")
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
        """Letters right behind digits that are no unit: "737a", "4471-ab", "12(b)"."""
        sign, after, number = self.at(end).text, self.at(end + 1), self.atoms[place].number
        letters = sign
        if sign in ("-", "(") and after.glued:
            letters = after.text
            if sign == "(" and (len(letters) > 1 or self.at(end + 2).text != ")"):
                return
            if sign == "-" and (number is None or number.value < _SERIAL or len(letters) > len("abc")):
                return
        if letters.isalpha() and letters not in _NO_SUFFIX:
            self.names.add(f"{self.atoms[place].text}{letters}")


def _two_years(written: str) -> tuple[str, str] | None:
    """The years of a season: 2023/24."""
    first, _, second = written.partition("/")
    if len(first) != len("2023") or not first.isdigit() or int(first) not in _CENTURY_YEARS:
        return None
    following = str(int(first) + 1)
    return (first, following) if second in (following, following[2:]) else None
