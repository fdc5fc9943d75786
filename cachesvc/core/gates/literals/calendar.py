"""Dates and times of day in one form. What may mean two days is neither of them: it equals only what is written alike."""

from fractions import Fraction

_MONTHS = 12
_DAYS = 31
_YEARS = range(1000, 3000)
_SHORT_YEAR = 100
_HALF_DAY = 12
_DAY = 24
_MINUTES = 60


def date(year: int | None, month: int, day: int | None) -> str:
    """A date of which parts may not be said."""
    return f"{year or ''}-{month}-{day or ''}"


def is_day(value: Fraction | int) -> bool:
    """It may be the day of a month."""
    return isinstance(value, int) and 1 <= value <= _DAYS


def is_year(value: Fraction | int) -> bool:
    """It may be a year."""
    return isinstance(value, int) and value in _YEARS


def written_date(text: str) -> str | None:
    """The date that digits say: 2024-07-04, 4.7.2024, 7/4/2024; None where no day is that."""
    for sign in "-./":
        parts = text.split(sign)
        if len(parts) == 3 and all(part.isascii() and part.isdigit() for part in parts):
            first, second, third = (int(part) for part in parts)
            if sign == "-":
                return date(first, second, third) if second <= _MONTHS and third <= _DAYS else None
            if sign == ".":
                return (
                    date(third, second, first)
                    if is_year(third) and second <= _MONTHS and first <= _DAYS
                    else None
                )
            return _slashed(first, second, third)
    return None


def _slashed(first: int, second: int, year: int) -> str | None:
    """Americans write the month first, others the day: sure only where one of them can be no month, or both are one."""
    if year < _SHORT_YEAR or (first <= _MONTHS and second <= _MONTHS and first != second):
        return f"{first}/{second}/{year}"
    if first <= _MONTHS and second <= _DAYS:
        return date(year, first, second)
    if second <= _MONTHS and first <= _DAYS:
        return date(year, second, first)
    return None


def time_of_day(hour: int, minute: int, half: str, *, is_padded: bool = False) -> str | None:
    """``half`` is "am", "pm" or empty: then hours up to twelve may be either, unless they are written with a zero."""
    if minute >= _MINUTES or hour > _DAY:
        return None
    if half and 1 <= hour <= _HALF_DAY:
        hour = hour % _HALF_DAY + (_HALF_DAY if half == "pm" else 0)
    elif not is_padded and 1 <= hour <= _HALF_DAY:
        return f"{hour}:{minute:02} or later"
    return f"{hour}:{minute:02}"
