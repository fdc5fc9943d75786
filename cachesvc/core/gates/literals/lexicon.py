"""The words that literals are written with in English: numbers, units, months, times of day. From the language alone.

A unit is known by its dimension and by how much of the dimension's base it is; two units of one dimension convert.
What does not convert by a factor (temperatures, currencies) is a dimension of its own.
"""

from dataclasses import dataclass
from fractions import Fraction

from cachesvc.core.gates.literals import foreign
from cachesvc.core.gates.spelling import SLIPS


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit. ``stands_alone``: it means something without a number before it; ``is_count``: it only counts things."""

    dimension: str
    factor: Fraction
    stands_alone: bool = False
    is_count: bool = False


SMALL = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
} | foreign.NUMBERS
TENS = {
    word: 10 * value
    for value, word in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
} | {"fourty": 40}
SCALES = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "lakh": 10**5,
    "lakhs": 10**5,
    "crore": 10**7,
    "crores": 10**7,
    "mn": 10**6,
    "bn": 10**9,
    "mln": 10**6,
    "bln": 10**9,
}
MANY = {
    "hundreds": "hundreds",
    "thousands": "thousands",
    "millions": "millions",
    "billions": "billions",
    "trillions": "trillions",
    "dozens": "dozens",
}
ORDINALS = {
    word: value
    for value, word in enumerate(
        [
            "first",
            "second",
            "third",
            "fourth",
            "fifth",
            "sixth",
            "seventh",
            "eighth",
            "ninth",
            "tenth",
            "eleventh",
            "twelfth",
            "thirteenth",
            "fourteenth",
            "fifteenth",
            "sixteenth",
            "seventeenth",
            "eighteenth",
            "nineteenth",
        ],
        start=1,
    )
} | {"twentieth": 20, "thirtieth": 30, "fortieth": 40, "fiftieth": 50, "hundredth": 100, "thousandth": 1000}
PARTS = {f"{word}s": value for word, value in ORDINALS.items() if value > 2} | {
    "halves": 2,
    "quarters": 4,
    "quarter": 4,
    "half": 2,
}
"""What a numerator is followed by in a fraction, but for the ordinals themselves."""

MULTIPLES = {
    word: value
    for value, words in (
        ("2", "twice double doubled doubles doubling"),
        ("3", "thrice triple tripled triples tripling"),
        ("4", "quadruple quadrupled"),
        ("1/2", "halve halved halving"),
    )
    for word in words.split()
}
ORDINAL_ENDINGS = frozenset(("st", "nd", "rd", "th"))

MONTHS = {
    name: place
    for place, names in enumerate(
        (
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sep sept",
            "october oct",
            "november nov",
            "december dec",
        ),
        start=1,
    )
    for name in names.split()
} | foreign.MONTHS
UNSURE_MONTHS = frozenset(["may", "march", "mar", "apr", "jan", "sep", "dec"])
"""Words of other meanings as well: months beside a day or a year, or where no other word could stand."""

WEEKDAYS = {
    name: place
    for place, names in enumerate(
        (
            "monday mondays mon",
            "tuesday tuesdays tue tues",
            "wednesday wednesdays wed",
            "thursday thursdays thu thur thurs",
            "friday fridays fri",
            "saturday saturdays sat",
            "sunday sundays sun",
        ),
        start=1,
    )
    for name in names.split()
} | foreign.WEEKDAYS
UNSURE_WEEKDAYS = frozenset(["mon", "wed", "sat", "sun"])
SEASONS = {"summer": "summer", "winter": "winter", "autumn": "fall", "fall": "fall", "spring": "spring"} | {
    "summers": "summer",
    "winters": "winter",
}
UNSURE_SEASONS = frozenset(("fall", "spring"))
HOLIDAYS = {
    "christmas": "christmas",
    "xmas": "christmas",
    "easter": "easter",
    "thanksgiving": "thanksgiving",
    "halloween": "halloween",
    "hanukkah": "hanukkah",
    "ramadan": "ramadan",
    "diwali": "diwali",
    "passover": "passover",
    "valentine's": "valentine",
    "valentines": "valentine",
}
DAYS = {
    "tomorrow": "tomorrow",
    "tomorrow's": "tomorrow",
    "yesterday": "yesterday",
    "yesterday's": "yesterday",
} | foreign.DAYS
"""``today`` is not among them: it is what is meant where no day is said."""

DECADES = {
    word: value
    for value, word in enumerate(
        "twenties thirties forties fifties sixties seventies eighties nineties".split(), start=2
    )
}
STAGES = {
    word: stage
    for stage, words in (("early", "early beginning start"), ("mid", "mid middle"), ("late", "late end"))
    for word in words.split()
}
"""How far a month, a year or the like is gone."""

WHICH = {
    "next": "next",
    "coming": "next",
    "upcoming": "next",
    "following": "next",
    "last": "last",
    "previous": "last",
    "past": "last",
    "this": "this",
    "current": "this",
}
PERIODS = {
    name: name
    for name in [
        "week",
        "month",
        "year",
        "semester",
        "quarter",
        "weekend",
        "weekday",
        "season",
        "night",
        "decade",
        "century",
    ]
} | {"term": "semester"}
ROMAN = {
    name: value
    for value, name in enumerate(
        [
            "ii",
            "iii",
            "iv",
            "v",
            "vi",
            "vii",
            "viii",
            "ix",
            "x",
            "xi",
            "xii",
            "xiii",
            "xiv",
            "xv",
            "xvi",
            "xvii",
            "xviii",
            "xix",
            "xx",
        ],
        start=2,
    )
    if len(name) > 1
}
"""Those of one letter are letters."""

DAY_PARTS = {
    "morning": "morning",
    "mornings": "morning",
    "afternoon": "afternoon",
    "afternoons": "afternoon",
    "evening": "evening",
    "evenings": "evening",
    "tonight": "night",
    "overnight": "night",
    "midday": "12:00",
    "noon": "12:00",
    "midnight": "0:00",
}
ZONES = frozenset(
    [
        "utc",
        "gmt",
        "est",
        "edt",
        "cst",
        "cdt",
        "mst",
        "mdt",
        "pst",
        "pdt",
        "cet",
        "cest",
        "bst",
        "ist",
        "jst",
        "aest",
    ]
)

_LENGTH, _MASS, _VOLUME, _TIME, _DATA = "m", "g", "l", "s", "byte"


def _units() -> dict[str, Unit]:  # noqa: C901, PLR0915 - a table
    units: dict[str, Unit] = {}

    def add(
        dimension: str, factor: str | int, names: str, signs: str = "", *, is_count: bool = False
    ) -> None:
        for name in names.split():
            units[name] = Unit(dimension, Fraction(factor), stands_alone=not is_count, is_count=is_count)
        for sign in signs.split():
            units[sign] = Unit(dimension, Fraction(factor))

    add(_LENGTH, "1/1000000", "micrometre micrometer micrometres micrometers", "µm μm")
    add(_LENGTH, "1/1000", "millimetre millimeter millimetres millimeters mm")
    add(_LENGTH, "1/100", "centimetre centimeter centimetres centimeters cm cms")
    add(_LENGTH, 1, "metre meter metres meters", "m mtr")
    add(_LENGTH, 1000, "kilometre kilometer kilometres kilometers km kms", "")
    add(_LENGTH, "0.0254", "inch inches")
    add(_LENGTH, "0.3048", "foot feet ft")
    add(_LENGTH, "0.9144", "yard yards", "yd yds")
    add(_LENGTH, "1609.344", "mile miles", "mi")
    add("nmi", 1, "nmi")
    add("lightyear", 1, "lightyear lightyears")
    add(_MASS, "1/1000000", "microgram micrograms mcg", "µg μg")
    add(_MASS, "1/1000", "milligram milligrams mg mgs")
    add(_MASS, 1, "gram grams gramme grammes", "g gm gms gr")
    add(_MASS, 1000, "kilogram kilograms kilo kilos kg kgs")
    add("pound", 1, "pound pounds lb lbs")
    add("pound", "1/16", "ounce ounces oz")
    add("ton", 1, "ton tons")
    add(_MASS, 10**6, "tonne tonnes")
    add("carat", 1, "carat carats")
    add(_VOLUME, "1/1000", "millilitre milliliter millilitres milliliters ml mls", "cc")
    add(_VOLUME, "1/100", "centilitre centiliter centilitres centiliters", "cl")
    add(_VOLUME, "1/10", "decilitre deciliter decilitres deciliters", "dl")
    add(_VOLUME, 1, "litre liter litres liters", "l ltr")
    add("gallon", 1, "gallon gallons", "gal")
    add("gallon", "1/4", "quart quarts", "qt")
    add("gallon", "1/8", "pint pints")
    add("spoon", 3, "tablespoon tablespoons tbsp")
    add("spoon", 1, "teaspoon teaspoons tsp")
    add("cup", 1, "", "cup cups")
    add("acre", 1, "acre acres")
    add("hectare", 1, "hectare hectares", "ha")
    add("sqm", 1, "sqm")
    add("sqft", 1, "sqft")
    add(_TIME, "1/1000", "millisecond milliseconds", "ms msec")
    add(_TIME, 1, "seconds", "second sec secs s")
    add(_TIME, 60, "minute minutes", "min mins")
    add(_TIME, 3600, "hour hours", "h hr hrs")
    add(_TIME, 86400, "day days", "d")
    add(_TIME, 7 * 86400, "week weeks", "wk wks")
    add(_TIME, 14 * 86400, "fortnight fortnights")
    add("night", 1, "", "night nights")
    add("month", 1, "month months", "mo mos")
    add("month", 12, "year years", "yr yrs")
    add("month", 120, "decade decades")
    add("month", 1200, "century centuries")
    for names, power in (
        ("byte bytes", 0),
        ("kilobyte kilobytes kb", 1),
        ("megabyte megabytes mb", 2),
        ("gigabyte gigabytes gb gbs gigs", 3),
        ("terabyte terabytes tb tbs", 4),
        ("petabyte petabytes pb", 5),
    ):
        add(_DATA, 1000**power, names)
    for names, power in (("kib", 1), ("mib", 2), ("gib", 3), ("tib", 4)):
        add(_DATA, 1024**power, names)
    for names, power in (
        ("bit bits", 0),
        ("kilobit kilobits kbit", 1),
        ("megabit megabits mbit", 2),
        ("gigabit gigabits gbit", 3),
    ):
        add("bit", 1000**power, "", names)
    for names, power in (("bps", 0), ("kbps", 1), ("mbps", 2), ("gbps", 3)):
        add("bit/s", 1000**power, names)
    add("m/s", "0.44704", "mph")
    add("m/s", "5/18", "kph kmph kmh")
    add("knot", 1, "knot knots")
    for names, power in (("hz hertz", 0), ("khz kilohertz", 3), ("mhz megahertz", 6), ("ghz gigahertz", 9)):
        add("hz", 10**power, names)
    for names, power in (("watt watts w", 0), ("kilowatt kilowatts kw", 3), ("megawatt megawatts", 6)):
        add("w", 10**power, names)
    add("wh", 1, "wh")
    add("wh", 1000, "kwh")
    add("mah", 1, "mah")
    add("horsepower", 1, "horsepower", "hp bhp")
    for names, power in (("volt volts v", 0), ("millivolt millivolts mv", -3), ("kilovolt kilovolts kv", 3)):
        add("v", str(Fraction(10) ** power), names)
    add("amp", 1, "amp amps ampere amperes")
    add("ohm", 1, "ohm ohms")
    for names, power in (("joule joules", 0), ("kilojoule kilojoules kj", 3)):
        add("j", 10**power, names)
    add("kcal", 1, "calorie calories kcal kcals cal cals kilocalorie kilocalories")
    for names, power in (("pascal pascals", 0), ("kilopascal kilopascals kpa", 3)):
        add("pa", 10**power, names)
    add("psi", 1, "psi")
    add("newton", 1, "newtons")
    add("decibel", 1, "decibel decibels db")
    add("dpi", 1, "dpi ppi")
    add("pixel", 1, "pixel pixels", "px")
    add("celsius", 1, "celsius centigrade", "°c c")
    add("fahrenheit", 1, "fahrenheit", "°f f")
    add("kelvin", 1, "kelvin kelvins")
    add("degree", 1, "", "degree degrees ° deg degs")
    add("percent", 1, "", "% percent pct percents")
    add("usd", 1, "usd dollar dollars bucks", "$ buck us$")
    add("usd", "1/100", "", "cent cents ¢")
    add("eur", 1, "eur euro euros", "€")
    add("gbp", 1, "gbp quid sterling", "£")
    add("gbp", "1/100", "", "pence")
    add("jpy", 1, "jpy yen", "¥")
    add("inr", 1, "inr rupee rupees", "₹ rs")
    for names in (
        "cny yuan rmb",
        "chf francs",
        "aud",
        "cad",
        "nzd",
        "sgd",
        "hkd",
        "krw won",
        "brl",
        "mxn pesos peso",
        "zar",
        "rub roubles rubles",
        "try lira",
        "sek",
        "nok",
        "dkk",
        "pln",
        "btc bitcoin bitcoins",
        "eth",
    ):
        spoken = " ".join(name for name in names.split() if name not in {"won", "try"})
        add(names.split(maxsplit=1)[0], 1, "", spoken)
    for names in (
        "word words",
        "paragraph paragraphs",
        "sentence sentences",
        "line lines",
        "page pages",
        "character characters chars",
        "bullet bullets",
        "stanza stanzas",
        "verse verses",
        "slide slides",
        "letter letters",
        "syllable syllables",
        "token tokens",
    ):
        add(names.split(maxsplit=1)[0], 1, names, is_count=True)
    return units


UNITS = _units()
EVERY = {
    "hourly": UNITS["hour"],
    "daily": UNITS["day"],
    "weekly": UNITS["week"],
    "monthly": UNITS["month"],
    "yearly": UNITS["year"],
    "annual": UNITS["year"],
    "annually": UNITS["year"],
}
"""Periods that take no number."""

BITS = {"Mb": UNITS["mbit"], "Gb": UNITS["gbit"]}
"""Units that only their case tells from others."""

GLUED_UNITS = {"in": UNITS["inch"], "'": UNITS["foot"]}
"""Units only where nothing stands between the number and them."""

GLUED_ONLY = frozenset(["d", "c", "f", "w", "v", "'"])
CAPITALS = frozenset("CFWV")
"""Units with a gap before them too, where they are capitals and no word follows that they may belong to."""

TIME_DIMENSIONS = frozenset((_TIME, "month", "night"))
MONEY_SIGNS = frozenset(["$", "£", "€", "¥", "₹", "¢"])
MONEY_BEFORE = frozenset(
    ["usd", "eur", "gbp", "jpy", "inr", "cny", "rmb", "chf", "aud", "cad", "nzd", "sgd", "hkd", "rs"]
)
DOLLARS = {
    "australian": "aud",
    "canadian": "cad",
    "a": "aud",
    "c": "cad",
    "hk": "hkd",
    "nz": "nzd",
    "us": "usd",
}
SUFFIX_SCALES = {"k": 1000, "bn": 10**9, "mn": 10**6, "mm": 10**6, "m": 10**6, "b": 10**9, "tn": 10**12}
PLAIN_SUFFIX_SCALES = {"k": 1000, "bn": 10**9, "mn": 10**6}

NUMBER_WORDS = frozenset(SMALL) | frozenset(TENS) | frozenset(SCALES)
SPOKEN = (
    NUMBER_WORDS
    | frozenset(MANY)
    | frozenset(ORDINALS)
    | frozenset(PARTS)
    | frozenset(MULTIPLES)
    | frozenset(MONTHS)
    | frozenset(WEEKDAYS)
    | frozenset(SEASONS)
    | frozenset(HOLIDAYS)
    | frozenset(DAYS)
    | frozenset(WHICH)
    | frozenset(DAY_PARTS)
    | frozenset(ZONES)
    | frozenset(ROMAN)
    | frozenset(EVERY)
    | frozenset(name for name, unit in UNITS.items() if unit.stands_alone)
    | frozenset(DECADES)
    | frozenset(("ago", "night", "nights"))
    | frozenset(SLIPS)
)
"""A text without digits that has none of these has no number, quantity, date or time."""
