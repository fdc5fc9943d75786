"""Names that are known for what they name, so that one written small can be told from another of its kind.

The world's own lists: countries and who is from there, large cities, languages, currencies, and things of which
only one is meant at a time (programming languages, file formats, colours, seasons …). Written small, one word or two.
"""

_KINDS = {
    "country": """
    afghanistan albania algeria angola argentina armenia australia austria azerbaijan bahrain bangladesh belarus belgium
    bolivia bosnia botswana brazil bulgaria cambodia cameroon canada chile china colombia croatia cuba cyprus czechia denmark
    ecuador egypt england estonia ethiopia fiji finland france gabon georgia germany ghana greece greenland guatemala
    guyana haiti honduras hungary iceland india indonesia iran iraq ireland israel italy jamaica japan jordan kazakhstan
    kenya kuwait kyrgyzstan laos latvia lebanon liberia libya liechtenstein lithuania luxembourg madagascar malawi malaysia
    maldives mali malta mauritius mexico moldova monaco mongolia montenegro morocco mozambique myanmar namibia nepal
    netherlands holland nicaragua nigeria norway oman pakistan panama paraguay peru philippines poland portugal qatar
    romania russia rwanda scotland senegal serbia singapore slovakia slovenia somalia spain sudan sweden switzerland syria
    taiwan tajikistan tanzania thailand tunisia turkey turkmenistan uganda ukraine uruguay uzbekistan venezuela vietnam
    wales yemen zambia zimbabwe usa uk uae
    """,
    "tongue": """
    arabic bengali bulgarian cantonese catalan chinese croatian czech danish dutch english estonian finnish french german
    greek gujarati hebrew hindi hungarian icelandic indonesian irish italian japanese kannada korean latin latvian
    lithuanian malay malayalam mandarin marathi nepali norwegian persian farsi polish portuguese punjabi romanian russian
    serbian slovak slovenian spanish swahili swedish tagalog tamil telugu thai turkish ukrainian urdu vietnamese welsh
    american argentinian australian austrian belgian brazilian british canadian chilean colombian cuban egyptian ethiopian
    filipino indian iranian iraqi israeli lebanese mexican moroccan nigerian pakistani peruvian scottish syrian swiss
    taiwanese
    """,
    "currency": """
    dollar euro pound yen rupee yuan renminbi franc peso real ruble rouble won krona krone zloty lira rand baht
    ringgit dirham riyal shekel forint koruna bitcoin ethereum dogecoin litecoin usd eur gbp jpy inr cny chf aud cad
    nzd sek nok dkk pln brl mxn zar krw sgd hkd btc eth
    """,
    "city": """
    abidjan accra ahmedabad amsterdam ankara antwerp athens atlanta auckland austin baghdad baku baltimore bangalore
    bengaluru bangkok barcelona beijing beirut belfast belgrade berlin bogota bologna bombay boston bristol brussels
    bucharest budapest cairo calcutta calgary canberra caracas casablanca charlotte chennai chicago chongqing cincinnati
    cleveland cologne columbus copenhagen dallas damascus delhi denver detroit dhaka doha dubai dublin durban edinburgh
    edmonton florence frankfurt geneva genoa glasgow guangzhou hamburg hanoi havana helsinki houston hyderabad
    indianapolis islamabad istanbul jaipur jakarta jeddah jerusalem johannesburg kabul kansas karachi kathmandu kiev kyiv
    kinshasa kolkata krakow kyoto lagos lahore leeds lima lisbon liverpool ljubljana london lucknow lyon madrid
    manchester manila marseille medellin melbourne memphis miami milan milwaukee minneapolis minsk montreal moscow mumbai munich
    nagoya nairobi nanjing naples nashville newark nice oakland orlando osaka oslo ottawa paris perth philadelphia phoenix
    pittsburgh porto portland prague pune quito raleigh reykjavik riga rome rotterdam sacramento salvador santiago sapporo
    seattle seoul seville shanghai shenzhen sofia stockholm strasbourg stuttgart surat sydney taipei tampa tashkent tehran
    tianjin tokyo toronto toulouse tunis turin valencia vancouver venice vienna vilnius warsaw wuhan yokohama zagreb zurich
    """,
    "state": """
    alabama alaska arizona arkansas california colorado connecticut delaware florida hawaii idaho illinois indiana iowa
    kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri montana nebraska nevada
    ohio oklahoma oregon pennsylvania tennessee texas utah vermont virginia wisconsin wyoming ontario quebec alberta
    bavaria punjab gujarat kerala maharashtra karnataka rajasthan
    """,
    "continent": "africa antarctica asia europe oceania african asian european",
    "code": """
    python java javascript typescript ruby rust golang php perl scala kotlin swift haskell erlang elixir clojure fortran
    cobol matlab julia lua bash powershell sql html css
    """,
    "framework": "django flask rails laravel react angular vue svelte spring express tensorflow pytorch keras",
    "database": "mysql postgres postgresql sqlite mongodb redis oracle cassandra dynamodb mariadb elasticsearch snowflake bigquery",
    "cloud": "aws azure gcp heroku digitalocean",
    "format": "csv json xml yaml toml pdf docx xlsx txt markdown latex png jpg jpeg gif svg webp mp3 mp4 wav flac avi mkv mov zip rar parquet",
    "system": "windows linux macos ubuntu debian fedora centos android ios ipados chromeos",
    "browser": "chrome firefox safari opera edge brave",
    "company": """
    google microsoft apple amazon facebook meta netflix tesla samsung sony intel nvidia amd ibm oracle adobe uber lyft
    airbnb paypal stripe visa mastercard amex walmart target costco ikea nike adidas toyota honda ford bmw mercedes audi
    volkswagen nissan hyundai dell lenovo asus acer nokia huawei xiaomi infosys tcs wipro flipkart pepsi
    starbucks mcdonalds
    """,
    "service": """
    gmail yahoo hotmail outlook instagram whatsapp twitter snapchat tiktok telegram skype zoom slack youtube spotify
    linkedin pinterest reddit quora tinder wikipedia
    """,
    "airline": "lufthansa ryanair easyjet emirates qantas southwest jetblue klm aeroflot finnair iberia",
    "religion": "christian muslim hindu buddhist jewish sikh christianity islam hinduism buddhism judaism sikhism catholic protestant",
    "planet": "venus mars jupiter saturn uranus neptune pluto",
    "colour": "red blue green yellow orange purple pink brown black white gray grey violet",
    "diet": "vegan vegetarian pescatarian halal kosher",
    "size": "small medium large",
    "measure": "width height depth length weight radius diameter circumference perimeter area volume",
    "gadget": "iphone ipad macbook kindle",
    "engineering": "mechanical civil electrical chemical",
    "meal": "breakfast lunch dinner brunch supper",
    "season": "spring summer autumn fall winter",
    "period": "hourly daily nightly weekly biweekly fortnightly monthly quarterly yearly annually annual",
    "compass": "north south east west northern southern eastern western",
    "subject": """
    mathematics math maths physics chemistry biology geography geology astronomy economics psychology sociology philosophy
    anthropology linguistics
    """,
    "sport": "football soccer basketball baseball tennis cricket hockey golf rugby volleyball badminton boxing swimming chess hiking skiing snowboarding cycling surfing sailing yoga",
    "instrument": "guitar piano violin drums flute cello trumpet saxophone ukulele",
    "pet": "dog cat rabbit hamster horse cow pig sheep goat chicken duck fish bird snake turtle",
    "organ": "heart liver kidney lung brain stomach bladder pancreas spleen eye ear nose throat tongue knee elbow shoulder ankle wrist",
    "element": "hydrogen helium lithium carbon nitrogen oxygen sodium magnesium aluminum aluminium silicon sulfur chlorine potassium calcium iron copper zinc silver gold mercury lead uranium",
    "drug": "ibuprofen aspirin paracetamol acetaminophen metformin insulin amoxicillin penicillin morphine",
    "metal": "gold silver bronze platinum copper",
    "weather": "rain snow sunshine",
    "drink": "coffee tea beer wine vodka whiskey milk juice",
    "shape": "circle square triangle rectangle cube sphere cylinder cone",
    "mean": "bus train plane car bike bicycle taxi ferry boat ship tram subway metro motorcycle truck",
}  # fmt: skip

_SAME = (
    ("uk", "england"), ("netherlands", "holland"), ("bangalore", "bengaluru"), ("mumbai", "bombay"), ("kolkata", "calcutta"),
    ("kiev", "kyiv"), ("postgres", "postgresql"), ("jpg", "jpeg"), ("gray", "grey"), ("math", "mathematics"),
    ("math", "maths"), ("maths", "mathematics"), ("autumn", "fall"), ("persian", "farsi"), ("mandarin", "chinese"),
    ("football", "soccer"), ("dinner", "supper"), ("aluminum", "aluminium"), ("yuan", "renminbi"), ("bike", "bicycle"),
    ("bike", "motorcycle"), ("paracetamol", "acetaminophen"), ("ruble", "rouble"), ("subway", "metro"), ("boat", "ship"),
    ("dollar", "usd"), ("euro", "eur"), ("pound", "gbp"), ("yen", "jpy"), ("rupee", "inr"), ("yuan", "cny"), ("bitcoin", "btc"),
    ("ethereum", "eth"), ("uk", "scotland"), ("uk", "wales"), ("sql", "html"), ("purple", "violet"), ("facebook", "meta"),
    ("windows", "ubuntu"), ("hindi", "indian"), ("british", "english"), ("american", "english"),
    ("frankfurt", "germany"), ("linux", "ubuntu"), ("linux", "debian"), ("linux", "fedora"), ("linux", "centos"),
    ("ios", "ipados"), ("yearly", "annually"), ("yearly", "annual"), ("annually", "annual"), ("biweekly", "fortnightly"),
    ("daily", "nightly"),
)  # fmt: skip
"""Of one kind and yet no contradiction: other names of the same, or one that is part of the other."""


def _table() -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for kind, names in _KINDS.items():
        for name in names.split():
            table[name] = (*table.get(name, ()), kind)
    return table


KINDS_OF = _table()
"""By name: the kinds of thing that it names."""

SAME_NAMES = frozenset(frozenset(pair) for pair in _SAME)
