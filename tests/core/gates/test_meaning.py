"""What each gate of meaning refuses, and what it must let pass."""

import pytest

from cachesvc.core.gates import Gate, analyse, verdicts
from cachesvc.core.gates.meaning import meaning


def _refusing(ours: str, theirs: str) -> set[Gate]:
    return {veto.gate for veto in verdicts(analyse(ours), analyse(theirs))}


def _table(*rows: tuple[str, str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("ours", "theirs"), [pytest.param(ours, theirs, id=name) for name, ours, theirs in rows]
    )


@_table(
    ("turn on, off", "How do I turn on the heating?", "How do I turn off the heating?"),
    ("object between", "turn the lights on", "turn the lights off"),
    ("particle moved", "switch the lamp off please", "switch on the lamp please"),
    ("log in, out", "How do I log in on my phone?", "How do I log out on my phone?"),
    ("sign in, out", "I want to sign in", "I want to sign out"),
    ("be on, off", "Is the radiator on?", "Is the radiator off?"),
    ("into, out", "How do I log into the shop?", "How do I log out of the shop?"),
    ("up, down", "turn the volume up", "turn the volume down"),
    ("scale up, down", "How do I scale up the cluster?", "How do I scale down the cluster?"),
    ("opt in, out", "How do I opt in to emails?", "How do I opt out of emails?"),
    ("enable, disable", "Enable dark mode", "Disable dark mode"),
    ("enabling, disabling", "Is enabling logging safe?", "Is disabling logging safe?"),
    ("enabled, disabled", "What if cookies are enabled?", "What if cookies are disabled?"),
    ("buy, sell", "When should I buy bonds?", "When should I sell bonds?"),
    ("bought, sold", "I bought a house last year", "I sold a house last year"),
    ("increase, decrease", "How to increase blood pressure", "How to decrease blood pressure"),
    ("increase, reduce", "ways to increase my screen time", "ways to reduce my screen time"),
    ("raise, lower", "raise the thermostat", "lower the thermostat"),
    ("open, close", "How do I open an account?", "How do I close an account?"),
    ("start, stop", "start the engine", "stop the engine"),
    ("begin, end", "When does term begin?", "When does term end?"),
    ("arrival, departure", "What is the arrival time?", "What is the departure time?"),
    ("arrives, departs", "When the train arrives", "When the train departs"),
    ("upload, download", "How do I upload my files?", "How do I download my files?"),
    ("encrypt, decrypt", "Encrypt this folder", "Decrypt this folder"),
    ("import, export", "import my contacts", "export my contacts"),
    ("credit, debit", "credit card fees", "debit card fees"),
    ("single, married", "tax rates if I am single", "tax rates if I am married"),
    ("accept, reject", "accept the invitation", "reject the invitation"),
    ("accept, refuse", "accepting an offer politely", "refusing an offer politely"),
    ("allow, block", "allow cookies", "block cookies"),
    ("legal, illegal", "Is it legal to park here?", "Is it illegal to park here?"),
    ("safe, dangerous", "Is it safe to swim here?", "Is it dangerous to swim here?"),
    ("safe, unsafe", "Which mushrooms are safe?", "Which mushrooms are unsafe?"),
    ("possible, impossible", "Is it possible to unsend a mail?", "Is it impossible to unsend a mail?"),
    ("available, unavailable", "rooms that are available", "rooms that are unavailable"),
    ("like, dislike", "foods that cats like", "foods that cats dislike"),
    ("connect, disconnect", "connect my printer", "disconnect my printer"),
    ("install, uninstall", "How do I install the driver?", "How do I uninstall the driver?"),
    ("subscribe", "How do I subscribe?", "How do I unsubscribe?"),
    ("lock, unlock", "lock my screen", "unlock my screen"),
    ("hot, cold", "hot drinks for winter", "cold drinks for winter"),
    ("win, lose", "Did we win the match?", "Did we lose the match?"),
    ("profit, loss", "quarterly profit of the firm", "quarterly loss of the firm"),
    ("deposit, withdraw", "deposit 50 euros", "withdraw 50 euros"),
    ("lend, borrow", "Can I lend a library book?", "Can I borrow a library book?"),
    ("push, pull", "git push to main", "git pull to main"),
    ("ascending, descending", "sort it ascending", "sort it descending"),
    ("north, south", "flights north of the border", "flights south of the border"),
    ("public, private", "make the repo public", "make the repo private"),
    ("male, female", "male names", "female names"),
    ("advantages, disadvantages", "advantages of solar", "disadvantages of solar"),
    ("pros, cons", "pros of renting", "cons of renting"),
    ("expand, collapse", "expand all rows", "collapse all rows"),
    ("expensive, cheap", "expensive hotels in Rome", "cheap hotels in Rome"),
    ("gain, lose", "How can I gain weight?", "How can I lose weight?"),
    ("promote, demote", "promote a user to admin", "demote a user to admin"),
    ("internal, external", "internal network", "external network"),
    ("input, output", "input voltage of the adapter", "output voltage of the adapter"),
    ("object before up", "Round the sum up", "Round the sum down"),
    ("left, right", "a cut on my left thumb", "a cut on my right thumb"),
    ("free, paid", "the best free editors", "the best paid editors"),
    ("inside, outside", "Is it quieter inside the hall?", "Is it quieter outside the hall?"),
    ("above, below", "the flat above the bakery", "the flat below the bakery"),
    ("all, none", "Are all of the seats taken?", "Are none of the seats taken?"),
    ("all, any", "Are all seats taken?", "Are any seats taken?"),
    ("all, some", "Do all tenants have to vote?", "Do some tenants have to vote?"),
    ("both, neither", "Have both heirs signed?", "Have neither heirs signed?"),
    ("and, or, apart", "clubs that allow guests and have courts", "clubs that allow guests or have courts"),
    ("than, as", "Is zinc harder than lead?", "Is zinc as hard as lead?"),
    ("rise in summer", "Do prices rise in summer?", "Do prices fall in summer?"),
    ("fresh, dried", "How long does fresh pasta keep?", "How long does dried pasta keep?"),
    ("during", "leave during probation", "leave after probation"),
    ("for, against", "reasons for the tax", "reasons against the tax"),
    ("nothing", "Is there anything to pay?", "Is there nothing to pay?"),
    ("any of", "any of these symptoms", "all of these symptoms"),
    ("if any", "stop if any test fails", "stop if every test fails"),
    ("new, used", "new cars under 20k", "used cars under 20k"),
    ("odd, even", "an even number of rows", "an odd number of rows"),
    ("show, hide", "How do I show hidden files?", "How do I hide hidden files?"),
    ("lost, found", "I just lost my keys", "I just found my keys"),
    ("only, all", "List all my meetings", "List only my meetings"),
    ("uppercase", "convert it to uppercase", "convert it to lowercase"),
    ("creditor, debtor", "rights of the creditor", "rights of the debtor"),
    ("cause, cure", "Does caffeine cause headaches?", "Does caffeine cure headaches?"),
    ("required, allowed", "Is tipping required?", "Is tipping allowed?"),
    ("former, current", "the former name of the firm", "the current name of the firm"),
    ("rent, buy", "Should I rent a flat in Ulm?", "Should I buy a flat in Ulm?"),
    ("over, under", "the risks of overfitting", "the risks of underfitting"),
    ("hyper, hypo", "what is hypertonic saline", "what is hypotonic saline"),
    ("bound", "northbound trains", "southbound trains"),
    ("ful, less", "Are daddy longlegs harmful?", "Are daddy longlegs harmless?"),
    ("plaintiff, defendant", "what the plaintiff must show", "what the defendant must show"),
    ("paid, unpaid", "rules for paid leave", "rules for unpaid leave"),
    ("German", "Wo kann ich Gold kaufen?", "Wo kann ich Gold verkaufen?"),
    ("can, must", "Can landlords enter the flat?", "Must landlords enter the flat?"),
    ("should, can", "Should I take the tablets?", "Can I take the tablets?"),
    ("who holds it", "Who is the CEO of Acme?", "Who was the CEO of Acme?"),
    ("who's", "who's the ceo", "who was the ceo"),
    ("can and before", "Can I take zinc before iron?", "Must I take iron after zinc?"),
    ("can I before", "can I eat before I run", "must I run after I eat"),
    ("left and before", "turn left before the church", "after the church turn right"),
    ("French", "Comment activer le mode sombre ?", "Comment désactiver le mode sombre ?"),
    ("Spanish", "¿Dónde puedo comprar oro?", "¿Dónde puedo vender oro?"),
)
def test_opposites_are_refused(ours: str, theirs: str) -> None:
    """A word whose opposite stands in the other text refuses the reuse, whatever its inflection."""
    assert Gate.ANTONYM in _refusing(ours, theirs)


@_table(
    ("not", "Which plants are poisonous?", "Which plants are not poisonous?"),
    ("n't", "Do bats see well?", "Don't bats see well?"),
    ("doesn't", "a phone that supports 5G", "a phone that doesn't support 5G"),
    ("split n't", "courses that have exams", "courses that do n't have exams"),
    ("can't", "What can I eat on this diet?", "What can't I eat on this diet?"),
    ("cannot", "Who can vote?", "Who cannot vote?"),
    ("never", "countries that have hosted the games", "countries that have never hosted the games"),
    ("no", "hotels with pets", "hotels with no pets"),
    ("without", "pasta with cheese", "pasta without cheese"),
    ("unable", "Why am I able to edit this page?", "Why am I unable to edit this page?"),
    ("fail to", "builds that deploy", "builds that fail to deploy"),
    ("instead of", "Use tabs and spaces", "Use tabs instead of spaces"),
    ("rather than", "Pay with cash", "Pay rather than cash"),
    ("except", "all countries and France", "all countries except France"),
    ("avoid", "How do I pay customs duty?", "How do I avoid customs duty?"),
    ("avoid, get", "How do I get malaria?", "How do I avoid malaria?"),
    ("prevent", "What causes rust?", "What prevents rust?"),
    ("should not", "Why should I invest?", "Why should I not invest?"),
    ("shouldn't", "Should I reboot during the update?", "Shouldn't I reboot during the update?"),
    ("no apostrophe", "Why does it work", "why doesnt it work"),
    ("isn't", "Why is my screen working?", "Why isn't my screen working?"),
    ("one more", "How do I join them without a seam?", "How do I not join them without a seam?"),
    ("another one", "Explain it in no more than 9 words", "Do not explain it in no more than 9 words"),
    ("not only", "It lasts only a day, why?", "It lasts not only a day, why?"),
    ("stop", "How do I make him bark?", "How do I stop him barking?"),
    ("neither", "tools that support macros", "tools that neither support macros"),
    ("German", "Darf ich hier parken?", "Darf ich hier nicht parken?"),
    ("not to", "Is it a sin to lie?", "Is it a sin not to lie?"),
    ("remember", "I remember my PIN", "I don't remember my PIN"),
    ("swapped", "Use oil and not butter", "Use butter instead of oil"),
    ("rid without", "how do I get rid of mice without killing them", "how do I kill mice"),
    ("rid and lose", "get rid of fat without losing muscle", "lose fat and muscle"),
    ("rid of one", "get rid of a virus without deleting files", "delete virus files"),
    ("rid of and keep", "get rid of bees but keep wasps", "kill bees and wasps"),
    ("rid of other", "get rid of ants to save bees", "kill bees to save ants"),
    ("free", "free parking without ticket", "ticket free parking"),
    ("French", "Puis-je fumer ici ?", "Puis-je ne pas fumer ici ?"),
)
def test_negations_are_refused(ours: str, theirs: str) -> None:
    """What one denies and the other says refuses the reuse."""
    assert Gate.NEGATION in _refusing(ours, theirs)


@_table(
    ("from, to", "flights from Lima to Quito", "flights from Quito to Lima"),
    ("without from", "flights Lima to Quito", "flights Quito to Lima"),
    ("to first", "a train to Bern from Basel", "a train to Basel from Bern"),
    ("one end alone", "buses from Porto", "buses to Porto"),
    ("lower case", "how far is it from bergen to turku", "how far is it from turku to bergen"),
    ("two words", "from Los Angeles to Boston", "from Boston to Los Angeles"),
    ("between and from", "fares between Oslo and Malmo", "fares from Malmo to Oslo"),
    ("journeys between", "trains between Oslo and Malmo", "trains between Malmo and Oslo"),
    ("who did", "Who did Anna call?", "Who called Anna?"),
    ("via", "a train to Bern from Basel via Olten", "a train to Olten from Basel via Bern"),
    ("into", "translate the text from Welsh into Dutch", "translate the text from Dutch into Welsh"),
    ("convert", "convert feet to metres", "convert metres to feet"),
    ("subject and object", "Did Arsenal beat Everton?", "Did Everton beat Arsenal?"),
    ("small names", "did anna call ben", "did ben call anna"),
    ("than", "Is copper harder than tin?", "Is tin harder than copper?"),
    ("by", "a film about Welles by Bogart", "a film about Bogart by Welles"),
    ("passive", "Was Anna called by Ben?", "Was Ben called by Anna?"),
    ("before", "Should I eat before I run?", "Should I run before I eat?"),
    ("before and after", "Should I stretch before running?", "Should I stretch after running?"),
    ("over", "Why prefer tea over coffee?", "Why prefer coffee over tea?"),
    ("owner", "How does my boss see my neighbour?", "How does my neighbour see my boss?"),
    ("adjectives", "Can a poor man become a happy man?", "Can a happy man become a poor man?"),
    ("nested", "mail the file that Ann sent Bob to Eve", "mail the file that Bob sent Ann to Eve"),
    ("both persons", "Can she fire him?", "Can he fire her?"),
    ("I, me", "Can my tenant sue me?", "Can I sue my tenant?"),
    ("they, them", "Can the guests ask them to leave?", "Can they ask the guests to leave?"),
    ("names of two lengths", "Can a baker sue a shop's owner?", "Can a shop's owner sue a baker?"),
    ("all round", "Why does Ann like Ben if Cem likes Dora?", "Why does Cem like Dora if Ann likes Ben?"),
    (
        "than with a clause",
        "Is the night bus from Ulm to Bonn cheaper than the train?",
        "Is the train cheaper than the night bus from Ulm to Bonn?",
    ),
    ("leaving", "flights leaving Cork", "flights to Cork"),
    (
        "stopping in",
        "trains from Bern to Ulm with a stop in Bonn",
        "trains from Bern to Bonn with a stop in Ulm",
    ),
    ("which did", "Which firm did Acme buy?", "Which firm bought Acme?"),
    ("what does", "What do owls eat?", "What eats owls?"),
    ("does and a preposition", "Which jobs depend on cron?", "Which jobs does cron depend on?"),
    ("by whom", "Who taught Plato?", "Who was taught by Plato?"),
    ("passive in the same order", "Was Ann invited by Bo?", "Did Ann invite Bo?"),
    ("phrases of two lengths", "turn a text file into a photo", "turn a photo into a text file"),
    ("around a verb", "Can I use my gift card to buy stamps?", "Can I use my stamps to buy a gift card?"),
    ("is one the other", "Is a square a rectangle?", "Is a rectangle a square?"),
    ("are all", "Are all developers engineers?", "Are all engineers developers?"),
    ("told apart before", "Ajax meets Porto, did Ajax win?", "Ajax meets Porto, did Porto win?"),
    ("me alone", "My boss sued me, what can I do?", "I sued my boss, what can I do?"),
    (
        "throughout",
        "Did the firm sue the bank as the bank lied?",
        "Did the bank sue the firm as the firm lied?",
    ),
    (
        "on, off",
        "Turn on the heating when the lamp turns off",
        "Turn off the heating when the lamp turns on",
    ),
    (
        "takes and gives",
        "a map that takes a name and adds a street",
        "a map that takes a street and adds a name",
    ),
    ("a list", "convert a list to a tuple", "convert a tuple to a list"),
    ("you and I", "Can I see your file?", "Can you see my file?"),
    ("lent", "My aunt lent me a drill, is it late?", "I lent my aunt a drill, is it late?"),
    ("wants to", "My aunt wants to sue me, what now?", "I want to sue my aunt, what now?"),
    ("he, me", "He scares me, what should I do?", "I scare him, what should I do?"),
    ("told of", "Tell Ann that Bo is late", "Tell Bo that Ann is late"),
    ("nothing but I, me", "Can I give my doctor my notes?", "Can my doctor give me my notes?"),
)
def test_changed_roles_are_refused(ours: str, theirs: str) -> None:
    """The same words in other roles are another question."""
    assert _refusing(ours, theirs) & {Gate.ROLE, Gate.COMPARISON}


@_table(
    ("at least, at most", "rooms for at least 4 people", "rooms for at most 4 people"),
    ("more, less than", "laptops with more than 8 cores", "laptops with less than 8 cores"),
    ("at least, more than", "at least 10 votes", "more than 10 votes"),
    ("over, under", "wines over 20 euros", "wines under 20 euros"),
    ("minimum, maximum", "What is the minimum deposit?", "What is the maximum deposit?"),
    ("min, max", "min of the column", "max of the column"),
    ("best, worst", "best films of the year", "worst films of the year"),
    ("first, last", "Who was the first emperor?", "Who was the last emperor?"),
    ("earliest, latest", "the earliest bus to town", "the latest bus to town"),
    ("most, least", "the most reliable car", "the least reliable car"),
    ("before, after", "arriving before 9 pm", "arriving after 9 pm"),
    ("highest, lowest", "the highest interest rate", "the lowest interest rate"),
    ("faster, slower", "Is it faster by bus?", "Is it slower by bus?"),
    ("more expensive", "Is it cheaper by bus?", "Is it more expensive by bus?"),
    ("than a letter", "values less than n", "values less than or equal to n"),
    ("from, up to", "hotels from 100 euros", "hotels up to 100 euros"),
    ("or equal to", "rows greater than 5", "rows greater than or equal to 5"),
    ("largest, smallest", "the largest lake in Asia", "the smallest lake in Asia"),
    (
        "one of two degrees",
        "Is a Ferrari faster and cheaper than a Porsche?",
        "Is a Porsche slower and cheaper than a Ferrari?",
    ),
    (
        "a degree apart",
        "Why is gold heavier than iron but softer?",
        "Why is iron lighter than gold but softer?",
    ),
    ("not its degree", "Is my bigger dog rounder than a cat?", "Is my smaller cat rounder than a dog?"),
    ("denied degree", "Is the moon not bigger than the sun?", "Is the sun smaller than the moon?"),
    ("left and before", "turn left before the church", "church after turn right"),
    ("can, the and before", "Can I take the zinc before iron?", "Must I take iron after zinc?"),
    ("two befores", "tea before rice and jam before milk", "rice after tea and jam after milk"),
)
def test_opposed_degrees_and_bounds_are_refused(ours: str, theirs: str) -> None:
    """More is not less, and at least is not at most."""
    assert Gate.COMPARISON in _refusing(ours, theirs)


@_table(
    ("and, or", "papers by Ng and Hinton", "papers by Ng or Hinton"),
    ("verbs", "Can I bake and freeze it?", "Can I bake or freeze it?"),
    ("both, either", "both Go and Rust", "either Go or Rust"),
    ("one name of two", "tours of Ulm and Bonn", "tours of Bonn"),
)
def test_and_is_not_or(ours: str, theirs: str) -> None:
    """What one joins by *and* the other must not join by *or*."""
    assert Gate.CONNECTIVE in _refusing(ours, theirs)


@_table(
    ("who, when", "Who discovered radium?", "When was radium discovered?"),
    ("where, when", "Where is the next meeting?", "When is the next meeting?"),
    ("why, when", "Why did the empire fall?", "When did the empire fall?"),
    ("how long, how far", "How long is the drive?", "How far is the drive?"),
    ("how old, how many", "How old are the players?", "How many are the players?"),
    ("how many, which", "How many rivers cross Spain?", "Which rivers cross Spain?"),
    ("number of, list", "list the number of votes", "list the votes"),
    ("how, why", "How do deer make sounds?", "Why do deer make sounds?"),
    ("how, when", "How do I take the tablets?", "When do I take the tablets?"),
    ("who, where from", "Who is Cem?", "Where is Cem from?"),
    ("from where", "When did she come?", "From where did she come?"),
    ("embedded", "Tell me where the office is", "Tell me when the office opens"),
)
def test_other_kinds_of_question_are_refused(ours: str, theirs: str) -> None:
    """A person is no answer to a question for a time."""
    assert Gate.QUESTION in _refusing(ours, theirs)


@_table(
    ("US and UK", "jobs in the US", "jobs in the UK"),
    ("the us", "jobs in the us", "jobs in the uk"),
    ("US in capitals", "WHAT IS THE US CAPITAL", "WHAT IS THE UK CAPITAL"),
    ("capitalised", "What does Anders earn?", "What does Birgit earn?"),
    ("countries", "What is the capital of Chad?", "What is the capital of Togo?"),
    ("lower-case countries", "population of kenya", "population of ghana"),
    ("lower-case cities", "weather in tokyo", "weather in berlin"),
    ("currencies", "convert 5 euros", "convert 5 rupees"),
    ("languages of code", "sort a list in python", "sort a list in rust"),
    ("formats", "parse a json file", "parse a yaml file"),
    ("systems", "install it on windows", "install it on linux"),
    ("acronyms", "Explain the role of NATO", "Explain the role of OPEC"),
    ("seasons", "courses in the spring", "courses in the autumn"),
    ("meals", "ideas for breakfast", "ideas for brunch"),
    ("diets", "vegan places near me", "vegetarian places near me"),
    ("sizes", "the price of a medium pizza", "the price of a large pizza"),
    ("measures", "the width of the shelf", "the depth of the shelf"),
    ("similar names", "holidays in Iran", "holidays in Iraq"),
    ("similar long names", "visas for Austria", "visas for Australia"),
    ("browsers", "clear the cache in chrome", "clear the cache in firefox"),
)
def test_other_names_are_refused(ours: str, theirs: str) -> None:
    """Each has a name that the other has not."""
    assert _refusing(ours, theirs) & {Gate.ENTITY, Gate.ANTONYM}


@_table(
    ("nonstop", "flights to Perth", "nonstop flights to Perth"),
    ("hyphen", "flights to Perth", "non-stop flights to Perth"),
    ("round trip", "a ticket to Perth", "a round trip ticket to Perth"),
    ("one way", "a fare to Perth", "a one way fare to Perth"),
    ("one way, round trip", "one-way fares to Perth", "round-trip fares to Perth"),
    ("cheapest", "hotels in Ghent", "the cheapest hotels in Ghent"),
    ("latest", "papers on sparsity", "the latest papers on sparsity"),
    ("first class", "seats to Perth", "first class seats to Perth"),
    ("daily", "flights to Perth", "daily flights to Perth"),
    ("diet", "places to eat in Ghent", "vegan places to eat in Ghent"),
    ("kind of account", "How do I close my account?", "How do I close my joint account?"),
    ("state", "When will my refund arrive?", "When will my partial refund arrive?"),
    ("time of day", "a train from Ulm to Bonn", "a night train from Ulm to Bonn"),
    ("early", "trains on Monday morning", "trains early Monday morning"),
    ("only", "Can students use the lab?", "Can only students use the lab?"),
    ("without", "Which plans do you offer?", "Which plans without contract do you offer?"),
    ("for whom", "What is the dose of aspirin?", "What is the dose of aspirin for children?"),
    ("place", "Delete a branch in git", "Delete a remote branch in git"),
    ("document", "Which papers do I need?", "Which notarised papers do I need?"),
    ("name", "flights from Oslo on Monday", "Lufthansa flights from Oslo on Monday, on KLM"),
    ("country", "tell us about the capital", "tell me about the US capital"),
    ("country for us", "tell us about laws", "tell us about US laws"),
    (
        "clause",
        "A farmer has pigs and hens. How many legs are there?",
        "A farmer has pigs and hens. His neighbour lends him a wounded goose. How many legs are there?",
    ),
    ("condition", "How do I get a visa?", "How do I get a visa if my passport was stolen abroad?"),
)
def test_what_narrows_is_refused(ours: str, theirs: str) -> None:
    """A word that narrows and stands in one alone makes the answer too wide or too narrow."""
    assert Gate.QUALIFIER in _refusing(ours, theirs)


@_table(
    ("German", "How do I bake bread?", "Wie backe ich ein Brot?"),
    ("French", "What is the weather in the north?", "Quel est le temps dans le nord ?"),
    ("Spanish", "How can I learn to swim?", "¿Cómo puedo aprender a nadar con mi hijo?"),
    ("Russian", "How do I bake bread?", "Как испечь хлеб?"),
    ("Japanese", "How do I bake bread?", "パンの焼き方を教えてください"),
    ("asked for", "Answer in French: what is rain?", "Answer in Dutch: what is rain?"),
    ("translation", "Translate this to Italian", "Translate this to Polish"),
)
def test_other_languages_are_refused(ours: str, theirs: str) -> None:
    """An answer in another language than the question's, or than the one asked for, is none."""
    assert Gate.LANGUAGE in _refusing(ours, theirs)


@_table(
    ("case", "How do I reset my password?", "how do i reset my password"),
    ("politeness", "Hi! How do I bake bread? Thanks!", "how do i bake bread please"),
    ("inflection", "How do I cancel my orders?", "How can I cancel an order?"),
    ("how and steps", "How do I bake bread?", "What are the steps to bake bread?"),
    ("difference", "difference between tea and coffee", "difference between coffee and tea"),
    ("distance", "the distance between Ulm and Bonn", "the distance between Bonn and Ulm"),
    ("compare", "Compare Ubuntu and Fedora", "Compare Fedora and Ubuntu"),
    ("or", "tea or coffee", "coffee or tea"),
    ("shared head", "Is veal white meat or red meat?", "Is veal red meat or white meat?"),
    ("vs", "React vs Vue", "Vue vs React"),
    (
        "war between",
        "Who won the war between Rome and Carthage?",
        "Who won the war between Carthage and Rome?",
    ),
    ("between and from", "fares between Oslo and Malmo", "fares from Oslo to Malmo"),
    ("phrases moved", "flights from Bonn to Ulm on Monday", "on Monday flights from Bonn to Ulm"),
    ("passive", "Did Ben call Anna?", "Was Anna called by Ben?"),
    ("two denials", "cars that are not unsafe", "cars that are safe"),
    ("denied opposite", "The rate is wrong", "The rate is not right"),
    ("unhappy", "I am unhappy with the service", "I am not happy with the service"),
    ("not sure", "I am not sure how to bake bread", "how to bake bread"),
    ("no idea", "I have no idea where my bag is", "where is my bag"),
    ("or not", "Is tin a metal or not?", "Is tin a metal?"),
    ("stop over", "flights that stop in Doha", "flights with a stop in Doha"),
    ("both denied", "Which hotels do not have a pool?", "Which hotels have no pool?"),
    ("can't", "Why can't I log in?", "Why am I not able to log in?"),
    ("scale", "How hard is chess?", "How easy is chess?"),
    ("derived name", "What do Israelis eat?", "What do Israeli people eat?"),
    ("continent", "the best European museums", "the best museums in Europe"),
    ("both opposites", "when trains arrive and depart", "arrivals and departures of trains"),
    ("typo in a joined name", "songs by Simon and Garfunkel", "songs by Simon and Garfunkle"),
    ("typo in a name", "films by Kurosawa", "films by Kurosowa"),
    ("what time", "When does the shop open?", "What time does the shop open?"),
    ("how many, how much", "How many pesos is a euro?", "How much pesos is a euro?"),
    ("earliest and first", "the earliest bus to Ulm", "the first bus to Ulm"),
    ("least expensive", "the cheapest hotel", "the least expensive hotel"),
    ("list, show", "list the flights to Perth", "show me the flights to Perth"),
    ("which, what", "Which rivers cross Spain?", "What rivers cross Spain?"),
    ("when as a clause", "When I paid it failed, why?", "Why did it fail when I paid?"),
    ("one question more", "Who is your favourite poet?", "Who is your favourite poet and why?"),
    ("same language", "Wie backe ich ein Brot?", "Wie kann ich ein Brot backen?"),
    ("months are dates", "Plan it for October", "Plan it for Oct."),
    ("number of", "the total no. of votes", "the total number of votes"),
    ("or to", "Is it better to rent or to buy?", "Is it better to buy or to rent?"),
    ("all and any as one", "buses to all suburbs", "buses to any suburb"),
    ("words of asking", "the fee for a visa", "I would like to know what the fee for a visa is"),
    ("help", "file a claim", "I need some help, what are the steps to file a claim?"),
    ("name in full", "songs by Bowie", "songs by David Bowie"),
    ("new", "How do I order a card?", "How do I order a new card?"),
    ("adverb moved", "How do I permanently mute a group?", "How do I mute a group permanently?"),
    ("compound", "opening hours of the shop", "the shop opening hours"),
    ("with a slip", "a car without a driver", "a car wihtout a driver"),
    ("number in words", "hikes longer than 5 days", "hikes longer than five days"),
    ("phrases of three", "trips by bus to Ulm with lunch", "trips with lunch to Ulm by bus"),
    ("same person", "Can my tenant sue me?", "Could my tenant sue me?"),
    ("noun of a verb", "What does a transfer cost?", "What is the cost of a transfer?"),
    ("pending", "What does a pending payment mean?", "What does it mean when a payment is pending?"),
    ("by and no passive", "How do I travel by night?", "How do I travel at night?"),
    ("clause moved", "Since I travel a lot, can I get points?", "Can I get points, since I travel a lot?"),
    ("for me", "report a lost card", "report a card lost for me"),
    ("passive, both named", "Was Ann invited by Bo?", "Did Bo invite Ann?"),
    ("avoid and not", "What should I avoid with gout?", "What should I not eat with gout?"),
    ("do not and don't", "I do not want a window seat", "I don't want a window seat"),
    ("imperative", "Do not play music at night", "Don't play music at night"),
    ("refuse and not", "I refuse to verify my name", "I do not wish to verify my name"),
    ("free of", "Recipes without nuts", "Nut-free recipes"),
    ("free of, free", "a cake free of nuts", "a nut-free cake"),
    ("best way to be rid", "What is the best way to get rid of pet hair?", "How can I remove pet hair?"),
    ("forgot", "I forgot my PIN", "I don't remember my PIN"),
    ("smaller and bigger", "Is the moon smaller than the sun?", "Is the sun bigger than the moon?"),
    ("after and before", "Add the eggs after the milk", "Add the milk before the eggs"),
    ("before and after I", "Should I eat before I run?", "Should I run after I eat?"),
    ("dearer and cheaper", "Is gold more expensive than tin?", "Is tin cheaper than gold?"),
    ("more and less", "Is a wasp more dangerous than a bee?", "Is a bee less dangerous than a wasp?"),
    ("less expensive", "Is it cheaper by bus?", "Is it less expensive by bus?"),
    ("highest and maximum", "the maximum dose of aspirin", "the highest dose of aspirin"),
    ("US and USA", "I live in the US", "I live in the USA"),
    ("us in capitals", "CONTACT US NOW", "contact us now"),
    ("the US in small letters", "minimum wage in the us", "minimum wage in the US"),
    ("the US in a year", "population of the us in 2020", "population of the US in 2020"),
    ("its president", "who is the president of the us", "Who is the president of the US?"),
    ("without the", "a visa for us citizens", "a visa for US citizens"),
    ("us told", "tell us about tea", "tell me about tea"),
    ("who's", "who's the ceo", "Who is the CEO?"),
    ("US and America", "jobs in the US", "jobs in America"),
    ("UK and United Kingdom", "jobs in the UK", "jobs in the United Kingdom"),
    ("for a vaccine", "Is there a vaccine for flu?", "Is there a vaccine against flu?"),
    ("to and to", "a train from Bern to Bonn to Ulm", "a train from Bern to Ulm with a stop in Bonn"),
    ("to list", "list the flights to Bonn", "show me a list of the flights to Bonn"),
    ("you and I as one", "Can you reset my PIN?", "Can I reset my PIN?"),
    ("quit", "How do I stop smoking?", "How do I quit smoking?"),
    ("a sin", "Is it a sin to lie?", "Is lying a sin?"),
    ("by", "Is it better by bus or by train?", "Is it better by train or by bus?"),
    ("list of three", "mail the box, the bag and the book", "mail the book, the box and the bag"),
    ("rid of", "How do I get rid of ants?", "How do I eliminate ants?"),
    ("stop from", "How do I stop my dog from barking?", "How do I prevent my dog from barking?"),
    ("from, to", "shops open from 9 to 5 on Monday", "shops open 9 to 5 on Monday"),
    ("change it for me", "How can I change my PIN?", "Please help me change my PIN"),
    ("how can I, should I", "How can I learn to swim?", "How should I learn to swim?"),
    ("can, may", "Can I park here?", "May I park here?"),
    ("who, where", "Who do I report a loss to?", "Where do I report a loss?"),
    ("who wrote it", "Who is the author of the novel?", "Who was the author of the novel?"),
    ("without in both", "How do I live without money?", "How do I live without any money?"),
    ("given and received", "I was given the wrong change", "I received the wrong change"),
    ("find what is lost", "help me find my bag", "my bag is lost, help me"),
    ("St. and Saint", "When is St. Patrick's Day?", "When is Saint Patrick's Day?"),
    ("using", "Can I pay with the app?", "Can I pay using the app?"),
)
def test_the_same_passes(ours: str, theirs: str) -> None:
    """What asks the same is refused by no gate of meaning."""
    assert not _refusing(ours, theirs) - _OF_LITERALS


_OF_LITERALS = {
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
}


@pytest.mark.parametrize(
    ("text", "count"),
    [("more expensive", 1), ("more ! expensive", 1), ("moer expensive", 0), ("less costly , more pricey", 2)],
)
def test_what_is_more_expensive_is_dearer(text: str, count: int) -> None:
    """It is read so whatever stands before, and never raises."""
    assert len(meaning(text, text.split()).degrees) == count
