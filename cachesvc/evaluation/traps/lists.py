"""Words of one class, of which any changes the question when it stands for another; and words with their opposites.

Made for testing: nothing here is shared with the gates, which must know the language by themselves.
"""

from collections.abc import Mapping

OPPOSITES: Mapping[str, str] = {
    one: other
    for pair in """
    increase decrease|raise lower|enable disable|activate deactivate|open close|opens closes|lock unlock|start stop
    upload download|encrypt decrypt|import export|incoming outgoing|deposit withdrawal|cheapest dearest
    cheaper dearer|highest lowest|longest shortest|fastest slowest|faster slower|larger smaller|bigger smaller|heavier lighter
    earliest latest|earlier later|first last|maximum minimum|ascending descending|before after|private public
    accepts rejects|accept reject|allow forbid|allowed forbidden|above below|longer shorter|higher lower|harder easier
    closest farthest|arrive depart|arrives departs|push pull|buy sell|lend borrow|arrival departure|sender recipient
    remember forget|local remote|left right|hot cold|wet dry|empty full|acquires releases|join leave|include exclude
    subscribe unsubscribe|log-in log-out|install uninstall|connect disconnect|premium basic|free paid|inner outer
    warmer colder|later earlier|bright dark|old new|up down|always never|senior junior|wide narrow|inside outside
    morning evening|day night|sunrise sunset|weekdays weekends|win lose|success failure|safe dangerous|internal external
    domestic international|internationally domestically|advance arrears|merge split|connected disconnected
    """.replace("\n", "|").split("|")
    if len(words := pair.split()) == 2
    for one, other in (words, words[::-1])
}  # fmt: skip
# Of which the opposite stands only after these words.
AFTER: Mapping[str, tuple[str, str]] = {
    "turn": ("on", "off"),
    "switch": ("on", "off"),
    "log": ("in", "out"),
}
# Where a word of OPPOSITES is part of another sense.
NOT_OPPOSITE = (
    "opening", "sort of", "right now", "all right", "left join", "inner join", "dark mode", "short message",
    "first aid", "last name", "download manager", "right away", "one stop", "the lock", "pick up",
)  # fmt: skip

UNITS = (
    ("kilometres", "miles", "metres"), ("kilometre", "mile", "metre"), ("km", "mi", "m"), ("metres", "feet", "yards"),
    ("kilograms", "pounds", "ounces"), ("kilogram", "pound", "ounce"), ("kg", "lb", "g"), ("grams", "ounces"),
    ("mg", "g", "µg"), ("ml", "cl", "oz"), ("litres", "gallons", "pints"), ("litre", "gallon"), ("cups", "spoons"),
    ("seconds", "minutes", "hours"), ("minutes", "hours", "seconds"), ("hours", "minutes", "days"), ("hour", "minute"),
    ("days", "weeks", "hours"), ("weeks", "months", "days"), ("months", "years", "weeks"), ("month", "year", "week"),
    ("week", "month", "year"), ("nights", "weeks"), ("years", "months"), ("milliseconds", "seconds"),
    ("MB", "GB", "kB"), ("GB", "TB", "MB"), ("inch", "centimetre"), ("mAh", "Wh"), ("percent", "permille"),
    ("Fahrenheit", "Kelvin"), ("Celsius", "Kelvin"), ("euros", "dollars", "pounds"), ("dollars", "euros", "yen"),
    ("pounds", "euros", "dollars"), ("cents", "euros"), ("degrees", "radians"), ("square metres", "square feet"),
)  # fmt: skip

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NEAR_DAYS = (("today", "tomorrow", "yesterday"), ("tomorrow", "today"), ("Sundays", "Saturdays", "Mondays"))

LANGUAGES = (
    "English", "Spanish", "French", "German", "Portuguese", "Italian", "Dutch", "Polish", "Swedish", "Turkish",
    "Japanese", "Korean", "Russian", "Arabic", "Hindi",
)  # fmt: skip
PROGRAMMING = ("Python", "Java", "JavaScript", "Rust", "Go", "Kotlin", "C#", "Ruby", "Node", "Swift")
CLASSES = (
    (
        "Oslo", "Madrid", "Vienna", "Prague", "Rome", "Athens", "Santorini", "Kyoto", "Lisbon", "Boston", "Denver",
        "Milan", "Nairobi", "Dublin", "Zurich", "Hamburg", "Chicago", "Paris", "Heathrow", "Leeds", "Cork",
        "Manchester", "Berlin", "Cairo", "Helsinki", "Lima", "Seoul", "Toronto",
    ),
    (
        "Spain", "Germany", "Canada", "India", "Brazil", "Japan", "Kenya", "Poland", "Norway", "Portugal", "France",
        "Chile", "Vietnam", "Austria",
    ),
    (
        "Maria Keller", "Thomas Brandt", "Peter Novak", "Laura", "Daniel", "Priya", "Susan", "Clara", "Julia", "Hanna",
        "Victor", "Emma", "Nina Larsen", "Olga Ruiz", "Samuel",
    ),
    ("Patel", "Romero", "Okafor", "Lindqvist", "Schmidt", "Yamada"),
    ("Windows", "Ubuntu", "Debian", "macOS"),
    ("Postgres", "MongoDB", "MySQL", "SQLite"),
    ("History", "Biology", "Chemistry", "Physics"),
    ("Napoleon", "Wellington", "Caesar"),
    ("Finance", "Sales"),
    ("Oak Road", "Elm Road", "Mill Street", "King Street"),
)  # fmt: skip
THINGS = (
    ("debit card", "credit card", "gift card"), ("savings account", "checking account", "joint account"),
    ("dogs", "cats", "birds"), ("flights", "trains", "ferries"), ("flight", "train", "ferry"), ("hotel", "hostel"),
    ("breakfast", "dinner"), ("jacket", "dress"), ("washing machines", "dishwashers"), ("laptops", "tablets"),
    ("television", "projector"), ("blender", "toaster"), ("sofa", "armchair"), ("milk", "butter"), ("bread", "cheese"),
    ("flour", "sugar"), ("eggs", "potatoes"), ("iron", "copper"), ("wool", "cotton"), ("passport", "licence"),
    ("knee", "elbow"), ("dental", "hearing"), ("surgery", "vaccination"), ("pharmacy", "laboratory"),
    ("photosynthesis", "fermentation"), ("essay", "lab report"), ("maths", "music"), ("printer", "scanner"),
    ("headset", "keyboard"), ("router", "modem"), ("password", "username"), ("kitchen", "bedroom"), ("beach", "castle"),
    ("museum", "theatre"), ("mortgage", "car loan"), ("groceries", "clothes"), ("running shoes", "hiking boots"),
    ("blinds", "windows"), ("photos", "messages"), ("contacts", "calendars"), ("husband", "sister"), ("wife", "brother"),
    ("black", "white", "red"), ("blue", "yellow"), ("green", "grey"),
)  # fmt: skip

COMPARISONS = (
    ("at least", "at most"), ("at most", "at least"), ("more than", "less than"), ("less than", "more than"),
    ("less than", "at least"), ("more than", "at most"), ("no more than", "no less than"), ("longer than", "shorter than"),
    ("shorter than", "longer than"), ("larger than", "smaller than"), ("higher than", "lower than"),
    ("under", "over"), ("over", "under"), ("above", "below"), ("cheaper than", "as cheap as"),
    ("faster than", "as fast as"), ("below", "at most"), ("up to", "from"),
)  # fmt: skip
QUANTIFIERS = (
    ("all", "none"), ("every", "no"), ("everyone", "no one"), ("each", "no"), ("any", "no"), ("both", "neither"),
    ("half", "a third"), ("half", "all"), ("only", "not only"), ("single", "double"), ("several", "two"),
    ("nothing", "everything"),
)  # fmt: skip
QUESTIONS = (
    ("How do I", "Why do I"), ("How long", "How often"), ("How many", "Which"), ("How much", "How often"),
    ("When", "Where"), ("When", "Why"), ("Where", "When"), ("Who", "Why"), ("Why does", "When does"), ("How far", "How old"),
    ("What time does", "Why does"), ("What happens if", "What happened when"), ("How can I", "When can I"),
    ("Which", "How many"), ("Where can I", "When can I"), ("Why is", "Since when is"),
)  # fmt: skip
# A narrower question: this word more before that one.
NARROWER = (
    ("flights", "nonstop"), ("hotels", "five-star"), ("account", "business"), ("fee", "annual"), ("train", "night"),
    ("phones", "refurbished"), ("laptops", "used"), ("visa", "student"), ("refund", "partial"), ("payments", "recurring"),
    ("transfer", "instant"), ("documents", "notarised"), ("courses", "online"), ("patients", "private"),
    ("exam", "oral"), ("customers", "inactive"), ("appointment", "urgent"), ("photos", "blurred"), ("order", "cancelled"),
    ("jacket", "children's"), ("restaurant", "vegan"), ("card", "lost"), ("file", "hidden"), ("users", "former"),
    ("students", "exchange"), ("seats", "reclining"), ("trips", "guided"), ("bus", "school"), ("query", "recursive"),
    ("updates", "driver"), ("clinics", "veterinary"), ("results", "preliminary"), ("meeting", "confidential"),
)  # fmt: skip
NUMBER_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
CONTRACTIONS = (
    ("do not", "don't"), ("does not", "doesn't"), ("can not", "can't"), ("cannot", "can't"), ("I am", "I'm"),
    ("What is", "What's"), ("Where is", "Where's"), ("I would", "I'd"), ("it is", "it's"), ("is not", "isn't"),
    ("Who is", "Who's"),
)  # fmt: skip
SPELLED_UNITS = (
    ("kilometres", "km"), ("kilograms", "kg"), ("minutes", "min"), ("hours", "h"), ("GB", "gigabytes"),
    ("MB", "megabytes"), ("percent", "%"), ("ml", "millilitres"), ("litres", "l"), ("euros", "EUR"), ("mg", "milligrams"),
    ("metres", "m"), ("seconds", "s"), ("milliseconds", "ms"), ("grams", "g"),
)  # fmt: skip
