"""Dates and times of day among the atoms of a text."""

from cachesvc.core.gates.literals.atoms import Number
from cachesvc.core.gates.literals.calendar import date, is_day, is_year, time_of_day
from cachesvc.core.gates.literals.found import DATE, FULL_DECADE, NUMBER, SHORT_DECADE, TIME, Found
from cachesvc.core.gates.literals.lexicon import (
    MONTHS,
    PERIODS,
    SEASONS,
    STAGES,
    UNITS,
    UNSURE_MONTHS,
    UNSURE_WEEKDAYS,
    WEEKDAYS,
    WHICH,
)

_BEFORE_MONTH = frozenset(
    "in of until till since by last next this during early late mid before after every through from".split()
)
_BEFORE_WEEKDAY = frozenset("on every this next last by until till through -".split())
_BEFORE_SEASON = frozenset(["this", "next", "last", "in", "every", "during", "for", "of"])
_AFTER_SEASON = frozenset(["semester", "term", "quarter", "season", "break"])
_BEFORE_STAGED = frozenset(("-", "the", "in", "of"))
MAY_STAGE = frozenset((*_BEFORE_STAGED, *STAGES))
"""What stands right before that of which a stage is said."""

_BEFORE_DECADE = frozenset("the ' - early mid late his her my their your our".split())
_OF_DECADE = frozenset(("of", "from", "during", "since", "until"))
_SURE_STAGES = frozenset(("early", "late"))
_SHORT_DECADES = range(2, 10)
_SURE_DECADES = range(3, 10)
_CENTURY = 190
_STOPS = frozenset('.?!:"')
_BETWEEN = frozenset(("and", "or", "/", "-"))
_HALVES = {"morning": "am", "afternoon": "pm", "evening": "pm"}


class Moments(Found):
    """Reads what says when."""

    __slots__ = ()

    def _is_sure_season(self, place: int) -> bool:
        """It is the season and no verb or coil: by what stands around it, or written as a name within a sentence."""
        before, following = self.at(place - 1), self.at(place + 1)
        if before.text == "the":
            before = self.at(place - 2)
        if before.text in _BEFORE_SEASON or following.text in _AFTER_SEASON:
            return True
        if following.number is not None and is_year(following.number.value):
            return True
        if following.text in _BETWEEN and self.at(place + 2).text in SEASONS:
            return True
        if before.text in _BETWEEN and self.at(place - 2).text in SEASONS:
            return True
        return place > 0 and before.text not in _STOPS and self.atoms[place].raw.istitle()

    def _stage(self, place: int) -> None:
        """Early, mid or late in what stands there: "mid-May", "the end of 2020"."""
        word = self.at(place - 1).text
        for at in (place - 2, place - 3, place - 4):
            if word not in _BEFORE_STAGED:
                break
            word = self.at(at).text
        if word in STAGES:
            self.loose.add(("stage", STAGES[word]))

    def _decade(self, place: int, number: Number) -> int:
        """Where "1980s", "1980's", "the 80s" ends, if it is that; else 0. Something is glued to the number."""
        end = place + 1
        if self.at(end).text == "'" and self.at(end).glued:
            end += 1
        if self.at(end).text != "s" or not self.at(end).glued or not isinstance(number.value, int):
            return 0
        decade, unit = divmod(number.value, 10)
        if unit or not (
            is_year(number.value) or (decade in _SHORT_DECADES and self.at(place - 1).text in _BEFORE_DECADE)
        ):
            return 0
        return self._add_decade(decade, place, end + 1)

    def _add_decade(self, decade: int, start: int, end: int) -> int:
        """The twenties may be those of either century, and "in the 80s" of an age, or degrees."""
        self._stage(start)
        is_full = decade not in _SHORT_DECADES
        if is_full or self._is_sure_decade(start):
            self.loose.add(FULL_DECADE)
        if not is_full:
            self.loose.add(SHORT_DECADE)
        return self.add(
            DATE, f"decade {_CENTURY + decade if decade in _SURE_DECADES else decade}0", start, end
        )

    def _is_sure_decade(self, place: int) -> bool:
        """It is of years by what stands before it: "of the 80s", "the '80s", "the early 80s"."""
        before, word = self.at(place - 2).text, self.at(place - 1).text
        if word == "the":
            return before in _OF_DECADE
        return word == "'" or (word in _SURE_STAGES and before == "the")

    def _which(self, place: int) -> int:
        """Next week, last Friday, this year."""
        self._stage(place)
        which = WHICH[self.atoms[place].text]
        following = self.at(place + 1).text
        if following in PERIODS:
            if which == "this":
                self.loose.add((which, PERIODS[following]))
                return place + 2
            return self.add(DATE, f"{which} {PERIODS[following]}", place, place + 2)
        if following in WEEKDAYS or following in MONTHS or following in SEASONS:
            if which == "last":
                return self.add(DATE, which, place, place + 1)
            self.loose.add((following, which))
        return place + 1

    def _weekday(self, place: int) -> int:
        atom = self.atoms[place]
        following = self.at(place + 1)
        if atom.text in UNSURE_WEEKDAYS and not (
            atom.raw[0].isupper()
            and (
                following.text in (".", ",")
                or following.number is not None
                or (atom.raw.istitle() and self.at(place - 1).text in _BEFORE_WEEKDAY)
            )
        ):
            return place + 1
        if self.at(place - 1).text == "other" and self.at(place - 2).text == "every":
            self.add(NUMBER, "every 2", place - 1, place)
        return self.add(DATE, f"day {WEEKDAYS[atom.text]}", place, place + 1)

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
        if day is None:
            self._stage(start)
        self.add(DATE, date(year, month, day), start, end)
        if (
            day is not None
            and self.at(end).text in ("-", "to")
            and (last := self._plain_number(end + 1)) is not None
        ) and is_day(last.value):
            end = self.add(DATE, date(year, month, int(last.value)), end + 1, end + 2)
        return end

    def _is_sure_month(self, place: int) -> bool:
        raw, before = self.atoms[place].raw, self.at(place - 1)
        if self.atoms[place].text == "apr":
            return raw.istitle()  # else it is the rate of a year
        if before.text in _BEFORE_MONTH:
            return True
        is_inside = place > 0 and before.text not in _STOPS
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

    def _clock(self, start: int, end: int, hour: int, minute: int, *, is_padded: bool = False) -> int:
        half, end = self._half(end)
        value = time_of_day(hour, minute, half, is_padded=is_padded)
        if value is None:
            return self.add(NUMBER, f"{hour}:{minute:02}", start, end)
        return self.add(TIME, value, start, end)

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
