"""The gates of literals, by cases: what they refuse, and what they leave be though it is written otherwise."""

import pytest

from cachesvc.core.gates import Gate, analyse, verdicts
from cachesvc.core.gates.literals import literal_vetoes

_LITERAL = frozenset(
    (
        Gate.NUMBER,
        Gate.QUANTITY,
        Gate.DATE,
        Gate.TIME,
        Gate.VERSION,
        Gate.IDENTIFIER,
        Gate.EMAIL,
        Gate.URL,
        Gate.CODE,
        Gate.QUOTE,
    )
)


def _gates(ours: str, theirs: str) -> set[Gate]:
    return {veto.gate for veto in literal_vetoes(analyse(ours).literals, analyse(theirs).literals)}


DIFFERS = {
    "number": (Gate.NUMBER, "Give me 3 ideas for a party", "Give me 30 ideas for a party"),
    "number in words": (Gate.NUMBER, "Give me two ideas for a party", "Give me ten ideas for a party"),
    "number on one side": (Gate.NUMBER, "List 5 rivers of Spain", "List rivers of Spain"),
    "thousands": (Gate.NUMBER, "Is 500 users a lot?", "Is 5,000 users a lot?"),
    "scale": (Gate.NUMBER, "a city of 2 million", "a city of 2 billion"),
    "sign": (Gate.NUMBER, "the square of -5", "the square of 5"),
    "decimals": (Gate.NUMBER, "round 1.25 up", "round 12.5 up"),
    "fraction": (Gate.NUMBER, "a third of the cake", "a quarter of the cake"),
    "ordinal": (Gate.NUMBER, "the second president", "the third president"),
    "ordinal or count": (Gate.NUMBER, "the 5 largest cities", "the 5th largest city"),
    "one or two": (Gate.NUMBER, "tell me one joke", "tell me two jokes"),
    "first or second": (Gate.NUMBER, "the first chapter of Emma", "the second chapter of Emma"),
    "counted twice": (Gate.NUMBER, "is 5 more than 5", "is 5 more than 6"),
    "direction": (Gate.NUMBER, "count from 5 to 10", "count from 10 to 5"),
    "roles": (Gate.NUMBER, "I have 3 apples and 5 pears left", "I have 5 apples and 3 pears left"),
    "world wars": (Gate.NUMBER, "Who won the Second World War?", "Who won the First World War?"),
    "roman": (Gate.NUMBER, "Who won World War II?", "Who won World War III?"),
    "multiple": (Gate.NUMBER, "double the recipe for me", "triple the recipe for me"),
    "top": (Gate.NUMBER, "top 5 films", "top 10 films"),
    "long number": (Gate.NUMBER, "track 12345678901234567890", "track 12345678901234567891"),
    "leading zero": (Gate.NUMBER, "call agent 007", "call agent 7"),
    "arabic digits": (Gate.NUMBER, "كم يساوي ٥", "كم يساوي ٦"),
    "full-width digits": (Gate.NUMBER, "what is ５ squared", "what is 6 squared"),
    "chinese numerals": (Gate.NUMBER, "三个苹果多少钱", "五个苹果多少钱"),
    "german": (Gate.NUMBER, "nenne mir drei Städte", "nenne mir vier Städte"),
    "french weekday": (Gate.DATE, "ouvert le lundi", "ouvert le mardi"),
    "spanish month": (Gate.DATE, "el tiempo en enero", "el tiempo en julio"),
    "superscript": (Gate.NUMBER, "what is 10²", "what is 102"),
    "unit": (Gate.QUANTITY, "20 kg in pounds", "20 g in pounds"),
    "unit abbreviated": (Gate.QUANTITY, "take 5 mg of it", "take 5 g of it"),
    "unit or none": (Gate.QUANTITY, "run 10 km", "run 10"),
    "unit alone": (Gate.QUANTITY, "how far is Rome in miles", "how far is Rome in kilometres"),
    "currency": (Gate.QUANTITY, "send $5 to Ann", "send 5 euros to Ann"),
    "amount": (Gate.QUANTITY, "send $5 to Ann", "send $5k to Ann"),
    "dollars of countries": (Gate.QUANTITY, "is A$5 a lot", "is $5 a lot"),
    "percent": (Gate.QUANTITY, "what is 5% of 80", "what is 5 of 80"),
    "temperature": (Gate.QUANTITY, "is 40 °C hot", "is 40 °F hot"),
    "area": (Gate.QUANTITY, "a room of 20 square metres", "a room of 20 metres"),
    "rate": (Gate.QUANTITY, "it costs $5 per day", "it costs $5 per month"),
    "text measures": (Gate.QUANTITY, "write 3 words on it", "write 3 paragraphs on it"),
    "range of units": (Gate.QUANTITY, "walk 5-10 km", "walk 5-10 miles"),
    "swapped units": (Gate.QUANTITY, "how many kilos are in 10 pounds", "how many pounds are in 10 kilos"),
    "day of the month": (Gate.DATE, "Meet on March 12", "Meet on March 22"),
    "month": (Gate.DATE, "Meet on March 12", "Meet on May 12"),
    "month alone": (Gate.DATE, "weather in July", "weather in June"),
    "may": (Gate.DATE, "weather in may", "weather in april"),
    "year": (Gate.DATE, "films of 1999", "films of 2001"),
    "year of a date": (Gate.DATE, "July 4, 2023", "July 4, 2024"),
    "year said or not": (Gate.DATE, "July 4, 2023", "July 4"),
    "american or not": (Gate.DATE, "due 03/04/2024", "due April 3, 2024"),
    "day and month": (Gate.DATE, "due 03/04/2024", "due 04/03/2024"),
    "iso": (Gate.DATE, "due 2024-03-04", "due 2024-04-03"),
    "weekday": (Gate.DATE, "open on Monday", "open on Tuesday"),
    "tomorrow": (Gate.DATE, "weather today", "weather tomorrow"),
    "yesterday": (Gate.DATE, "who won yesterday", "who won"),
    "this week or month": (Gate.DATE, "what did I spend this week", "what did I spend this month"),
    "next or last": (Gate.DATE, "show next week", "show last week"),
    "this or next friday": (Gate.DATE, "free this Friday?", "free next Friday?"),
    "last friday": (Gate.DATE, "the game last Friday", "the game Friday"),
    "season": (Gate.DATE, "classes in the fall", "classes in the spring"),
    "holiday": (Gate.DATE, "open at christmas", "open at easter"),
    "from day to day": (Gate.DATE, "from Monday to Friday", "from Friday to Monday"),
    "range of days": (Gate.DATE, "off from May 3 to 9", "off from May 3 to 8"),
    "hour": (Gate.TIME, "wake me at 5pm", "wake me at 6pm"),
    "half of the day": (Gate.TIME, "wake me at 5 a.m.", "wake me at 5 p.m."),
    "minutes": (Gate.TIME, "wake me at 7:15", "wake me at 7:45"),
    "day part": (Gate.TIME, "flights in the morning", "flights in the evening"),
    "noon": (Gate.TIME, "lunch at noon", "lunch at midnight"),
    "duration": (Gate.TIME, "a timer for 2 hours", "a timer for 2 minutes"),
    "length of a trip": (Gate.TIME, "a 7-day trip", "a 20-day trip"),
    "period": (Gate.TIME, "pay per hour", "pay per week"),
    "period of a rate": (Gate.TIME, "one month has how much in a day?", "one month has how much in a month?"),
    "zone": (Gate.TIME, "is it noon EST", "is it noon PST"),
    "version": (Gate.VERSION, "install v1.2", "install v1.3"),
    "three parts": (Gate.VERSION, "upgrade to 1.2.3", "upgrade to 1.2.4"),
    "ten is not one": (Gate.NUMBER, "new in Python 3.10", "new in Python 3.1"),
    "product": (Gate.NUMBER, "battery of the iPhone 12", "battery of the iPhone 13"),
    "course": (Gate.IDENTIFIER, "who teaches EECS 492", "who teaches MATH 492"),
    "course joined": (Gate.IDENTIFIER, "who teaches eecs492", "who teaches math492"),
    "letter and number": (Gate.IDENTIFIER, "is B12 good for me", "is D12 good for me"),
    "uuid": (
        Gate.IDENTIFIER,
        "delete 6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "delete 6f9619ff-8b86-d011-b42d-00c04fc964fe",
    ),
    "order": (Gate.IDENTIFIER, "where is INV-2024-001", "where is INV-2024-002"),
    "telephone": (Gate.IDENTIFIER, "call 555-123-4567", "call 555-123-4568"),
    "variable": (Gate.IDENTIFIER, "what is MAX_SIZE", "what is MIN_SIZE"),
    "camel case": (Gate.IDENTIFIER, "what does getUser do", "what does setUser do"),
    "file": (Gate.IDENTIFIER, "open report.pdf", "open budget.pdf"),
    "c": (Gate.IDENTIFIER, "learn C++ fast", "learn C# fast"),
    "handle": (Gate.IDENTIFIER, "follow @ann now", "follow @bob now"),
    "e-mail": (Gate.EMAIL, "write to ann@example.com", "write to bob@example.com"),
    "host": (Gate.URL, "summarise https://example.com/a", "summarise https://example.org/a"),
    "path of a page": (Gate.URL, "summarise https://example.com/a", "summarise https://example.com/b"),
    "bare host": (Gate.URL, "is example.com down", "is example.org down"),
    "path": (Gate.URL, "read /etc/hosts please", "read /etc/passwd please"),
    "operator": (Gate.CODE, "is x < 5", "is x > 5"),
    "or equal": (Gate.CODE, "while i < n do", "while i <= n do"),
    "arithmetic": (Gate.CODE, "what is 8 + 2", "what is 8 - 2"),
    "times": (Gate.CODE, "what is 8 × 2", "what is 8 ÷ 2"),
    "flag": (Gate.CODE, "tar -x files", "tar -c files"),
    "long flag": (Gate.CODE, "git log --all please", "git log --graph please"),
    "backticks": (Gate.CODE, "explain `a + b`", "explain `a - b`"),
    "quoted": (Gate.QUOTE, 'translate "good morning"', 'translate "good night, sleep well"'),
    "curly": (Gate.QUOTE, "translate “see you”", "translate “thank you”"),
    "guillemets": (Gate.QUOTE, "übersetze «bonjour»", "übersetze «merci»"),
    "single": (Gate.QUOTE, "define 'sanguine' for me", "define 'saturnine' for me"),
    "doubled marks": (Gate.QUOTE, 'what does ""grey"" mean', 'what does ""gray"" mean'),
    "nothing quoted": (Gate.QUOTE, 'translate "hello"', "translate this"),
}

SAME = {
    "digits and words": ("Give me 3 ideas", "Give me three ideas"),
    "tens": ("Give me 25 ideas", "Give me twenty-five ideas"),
    "tens apart": ("Give me 25 ideas", "give me twenty five ideas"),
    "hundreds": ("the next 105 pages of it", "the next one hundred and five pages of it"),
    "thousands": ("is 1,500 enough", "is 1500 enough"),
    "thousands in words": ("is 1500 enough", "is one thousand five hundred enough"),
    "millions": ("a city of 1.5 million", "a city of 1,500,000"),
    "k": ("is 5k followers a lot", "is 5,000 followers a lot"),
    "lakh": ("is 2 lakh enough", "is 200,000 enough"),
    "dozen": ("buy a dozen eggs", "buy 12 eggs"),
    "half a million": ("half a million people", "500,000 people"),
    "half": ("half of 80", "1/2 of 80"),
    "half in decimals": ("0.5 of 80", "1/2 of 80"),
    "half in one sign": ("½ of 80", "half of 80"),
    "two and a half": ("2.5 cakes", "two and a half cakes"),
    "mixed": ("2 1/2 cakes", "2½ cakes"),
    "thirds": ("two thirds of it", "2/3 of it"),
    "percent": ("60% of 60", "60 percent of 60"),
    "negative": ("the square of -5", "the square of minus 5"),
    "point": ("is three point five good", "is 3.5 good"),
    "ordinals": ("the 3rd chapter", "the third chapter"),
    "ordinal tens": ("the 23rd chapter", "the twenty-third chapter"),
    "world war": ("who won World War II", "who won the 2nd world war"),
    "year in words": ("the book nineteen eighty-four", "the book 1984"),
    "pronoun": ("which one is best", "which is best"),
    "one way": ("a one way flight", "a flight"),
    "no one": ("why does no one care", "why does nobody care"),
    "one in digits": ("give me 1 idea", "give me one idea"),
    "first of all": ("first, what is a cell", "what is a cell"),
    "wait a second": ("wait a second, who is that", "who is that"),
    "listed": ("compare 5 and 10", "compare 10 and 5"),
    "numbers move with their nouns": ("with 3 apples and 5 pears what", "what with 5 pears and 3 apples"),
    "top or not": ("top 10 films of all time", "best films of all time"),
    "full-width": ("what is ５ squared", "what is 5 squared"),
    "arabic": ("what is ٥ squared", "what is 5 squared"),
    "unseen": ("what is 5\u200b00 squared", "what is 500 squared"),
    "spanish": ("dame 20 ideas", "dame veinte ideas"),
    "unit spelt": ("100 km in miles", "100 kilometres in miles"),
    "american spelling": ("100 kilometers away", "100 kilometres away"),
    "units convert": ("walk 1 km further, 5 km in all", "walk 1000 m further, 5000 m in all"),
    "weight converts": ("a bag of 2 kg", "a bag of 2000 grams"),
    "hyphen": ("a 4-inch heel", "a 4 inch heel"),
    "one of a unit": ("what can I do in 1 week", "what can I do in a week"),
    "money": ("send $5 to Ann", "send 5 dollars to Ann"),
    "money by code": ("send USD 5 to Ann", "send 5 USD to Ann"),
    "money in thousands": ("invest $5k", "invest 5,000 dollars"),
    "money in millions": ("a $2 million house", "a $2M house"),
    "cents": ("it costs 50 cents", "it costs $0.50"),
    "rupees": ("under Rs. 500", "under ₹500"),
    "feet and inches": (
        "I am 5 feet 6 inches",
        ["I am 5 ft 6 in tall", "5 feet and 6 inches"][1],
    ),
    "range": ("walk 5-10 km", "walk 5 km to 10 km"),
    "mph": ("at 55 mph", "at 55 miles per hour"),
    "per hour": ("earn $15/hour", "earn 15 dollars an hour"),
    "month abbreviated": ("Meet on March 12", "Meet on Mar. 12"),
    "day first": ("the 4th of July", "July 4"),
    "day and month": ("4 July", "July 4th"),
    "date": ("July 4th, 2024", "4 July 2024"),
    "iso": ("due 2024-07-04", "due July 4, 2024"),
    "iso without zeros": ("due 2024-07-04", "due 2024-7-4"),
    "day beyond twelve": ("due 07/14/2024", "due 14 July 2024"),
    "dots": ("due 4.7.2024", "due 4 July 2024"),
    "weekday": ("open on Mondays", "open on Monday"),
    "next weekday": ("free next Friday?", "free Friday?"),
    "today": ("what is the weather today", "what is the weather"),
    "autumn": ("autumn classes", "classes in the fall"),
    "term": ("classes next term", "classes next semester"),
    "may": ("may I ask about it", "can I ask about it"),
    "march": ("how to march in step", "how to walk in step"),
    "hour": ("wake me at 5pm", "wake me at 5 p.m."),
    "24 hours": ("wake me at 5 pm", "wake me at 17:00"),
    "minutes": ("wake me at 5:30pm", "wake me at 17:30"),
    "half past": ("wake me at half past five", "wake me at 5:30"),
    "quarter": ("wake me at quarter past five", "wake me at 5:15"),
    "o'clock": ("wake me at 5 o'clock", "wake me at 5:00"),
    "in the evening": ("dinner at 7 in the evening", "dinner at 7pm"),
    "noon": ("lunch at noon", "lunch at 12:00 pm"),
    "duration": ("a timer for 2 hours", "a timer for 120 minutes"),
    "hour and a half": ("a nap of 90 minutes", "a nap of 1.5 hours"),
    "hours and minutes": ("a film of 1 hour 30 minutes", "a film of 90 minutes"),
    "greeting": ("good morning, who are you", "who are you"),
    "version": ("install v2", "install version 2"),
    "version zero": ("web 2.0 sites", "web 2 sites"),
    "course": ("who teaches EECS 492", "who teaches eecs492"),
    "course in lower case": ("who teaches EECS492", "who teaches eecs 492"),
    "phone model": ("the iPhone 12 battery", "the iphone12 battery"),
    "hyphenated id": ("apply for an H-1B", "apply for an h1b"),
    "disease": ("is COVID-19 over", "is covid 19 over"),
    "bits": ("32-bit or 64-bit", "32 bit or 64 bit"),
    "camel case": ("what does getUser do", "what does getuser do"),
    "framework": ("learn Node.js", "learn NodeJS"),
    "brand": ("open YouTube", "open youtube"),
    "e-mail": ("write to Ann@Example.com", "write to ann@example.com."),
    "scheme": ("summarise https://www.example.com/", "summarise example.com"),
    "spaces": ("what is 8+2", "what is 8 + 2"),
    "dash": ("my phone - is it lost", "my phone, is it lost"),
    "arrow of typing": ("is my card lost>", "is my card lost"),
    "word in backticks": ("what does `map` do", "what does map do"),
    "quoted or not": ('what does "ennui" mean', "what does ennui mean"),
    "quoted freely": (
        'how do I answer "why should we hire you"',
        "how do I answer why they should hire me, you ask",
    ),
    "marks": ('translate "see you"', "translate «see you»"),
    "quote ends": ('translate "see you."', "translate 'see you'"),
    "apostrophes": ("don't say it isn't so", "do not say it is not so"),
    "possessive": ("my parents' house and the dogs' food", "my parents house and the dogs food"),
    "inches": ('a 12" pizza and a 14" pizza', "a pizza of 12 and a pizza of 14"),
    "symmetric": ("is 5 or 10 better", "is 10 or 5 better"),
}


@pytest.mark.parametrize(("gate", "ours", "theirs"), DIFFERS.values(), ids=DIFFERS)
def test_differs(gate: Gate, ours: str, theirs: str) -> None:
    """What differs in a literal is refused by its gate, both ways."""
    assert gate in _gates(ours, theirs)
    assert gate in _gates(theirs, ours)


@pytest.mark.parametrize(("ours", "theirs"), SAME.values(), ids=SAME)
def test_same(ours: str, theirs: str) -> None:
    """What is only written otherwise is not refused, either way."""
    assert _gates(ours, theirs) == set()
    assert _gates(theirs, ours) == set()


def test_each_gate_refuses_once() -> None:
    """However much differs, a gate gives one veto, and every gate of literals has cases here."""
    vetoes = verdicts(
        analyse("send 5 or 6 to ann@example.com on May 3"), analyse("send 7 or 8 to bob@x.org on June 4")
    )
    gates = [veto.gate for veto in vetoes]
    assert len(gates) == len(set(gates))
    assert {gate for gate, _, _ in DIFFERS.values()} == _LITERAL


@pytest.mark.parametrize(
    ("ours", "theirs", "shown"),
    [
        ("release v1.2 of it", "release v1.3 of it", ("1.2", "1.3")),
        ("pay $1.50", "pay $1.60", ("usd:1.5", "usd:1.6")),
        ("pi is 3.14159265", "pi is 3.14159266", ("3.14159265", "3.14159266")),
        ("a ratio of 1/3", "a ratio of 2/3", ("1/3", "2/3")),
        ("on 5/6/2020", "on 6/5/2020", ("5/6/2020", "6/5/2020")),
    ],
    ids=["version", "money", "long", "third", "date"],
)
def test_what_differs_is_shown_as_people_write_it(ours: str, theirs: str, shown: tuple[str, str]) -> None:
    """Numbers are compared as fractions, and shown as decimals where they are some."""
    (veto,) = literal_vetoes(analyse(ours).literals, analyse(theirs).literals)
    assert (veto.ours, veto.theirs) == shown
