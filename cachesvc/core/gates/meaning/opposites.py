"""Words that mean the opposite of each other, and words that stand for one kind of bound or superlative.

A line is ``left | right``: each word to the left is opposed to each word to the right, in every inflection. A verb
with a particle is written ``turn+on``.
"""

from collections.abc import Iterator

from cachesvc.core.gates.meaning.stems import stem

_ANTONYMS = """
enable activate unblock unlock unmute unfreeze | disable deactivate block lock mute freeze
activate | deactivate
buy purchase | sell sale
increase raise grow rise gain | decrease reduce lower drop decline fall shrink lose
maximize maximise | minimize minimise
strengthen | weaken
upgrade | downgrade
expand | collapse shrink contract
open | close shut closed
opening | closing
start begin launch commence | stop end finish terminate quit
start | finish end
arrive arrival land inbound | depart departure leave outbound
arrival | departure
incoming inbound | outgoing outbound
upload | download
encrypt encryption encode | decrypt decryption decode
import | export
importer | exporter
credit | debit
deposit | withdraw withdrawal
lend lender loan | borrow borrower
send sender | receive receiver recipient
single unmarried divorced | married
marry | divorce
accept acceptance approve allow permit agree | reject refuse refusal decline deny forbid prohibit disapprove disagree
accept | decline
allow permit | ban block forbid prevent prohibit
legal lawful | illegal unlawful
include inclusive inclusion | exclude exclusive exclusion
add insert append attach | remove delete subtract detach
addition | subtraction removal deletion
multiply multiplication | divide division
install installation | uninstall remove
connect attach | disconnect detach
connection | disconnection
subscribe | unsubscribe
follow | unfollow
like love | dislike hate
like | unlike
push | pull
lock | unlock
block | unblock
mute | unmute
freeze | unfreeze thaw melt
pin | unpin
tie | untie
wrap | unwrap
zip compress | unzip decompress extract
compression | decompression
pack | unpack
fold | unfold
load | unload
plug | unplug
hide | show unhide reveal
save | delete discard spend
create make build | destroy delete demolish
win winner | lose loser
victory | defeat
pass | fail
success succeed successful | failure fail unsuccessful
attack offense | defend defense defence
heat warm hot | cool cold chill
boil | freeze
heating | cooling
hot warm | cold cool
hottest warmest | coldest coolest
big large huge high | small little tiny
bigger larger | smaller
biggest largest greatest | smallest
long lengthy | short brief
longer lengthen | shorter shorten
longest | shortest
tall | short
taller | shorter
tallest | shortest
high | low
higher | lower
highest | lowest
heavy | light
heavier | lighter
heaviest | lightest
fast quick rapid | slow
faster quicker | slower
fastest quickest | slowest
accelerate | decelerate
accelerate | slow
strong | weak
stronger | weaker
strongest | weakest
strength | weakness
hard difficult tough | easy simple
harder | easier
hardest toughest | easiest simplest
thick | thin
thicker | thinner
fat | thin slim skinny
wide broad | narrow
wider | narrower
deep | shallow
deeper | shallower
deepest | shallowest
rich wealthy | poor
richer wealthier | poorer
richest wealthiest | poorest
young | old elderly
younger | older elder
youngest | oldest eldest
new | old used
newer | older
newest latest | oldest earliest
modern | ancient
early | late
earlier sooner | later
earliest soonest first | latest last
near close | far
nearer closer | farther further
nearest closest | farthest furthest
full | empty
fill | empty drain
wet | dry
clean | dirty
loud noisy | quiet silent
bright | dark dim
light | dark
lighter brighter | darker
cheap inexpensive affordable | expensive costly pricey
cheaper | costlier pricier
cheapest lowest | priciest costliest dearest highest
good great | bad poor terrible awful
good | evil
better | worse
best | worst
positive | negative
optimistic | pessimistic
advantage benefit pro upside strength | disadvantage drawback downside con weakness
profit gain | loss
income revenue | expense expenditure cost
asset | liability
bull bullish | bear bearish
surplus | deficit shortage
inflation | deflation
supply | demand
boy man male husband father son brother uncle nephew king prince groom | girl woman female wife mother daughter sister aunt niece queen princess bride
guy | girl
gay homosexual | straight heterosexual
child kid | adult
parent | child
mother mom mum | father dad
grandmother grandma | grandfather grandpa
teacher professor | student pupil
employer | employee
doctor | patient
landlord owner | tenant renter
buyer customer | seller vendor
host | guest
client | server
master | slave
friend | enemy
ally | enemy
employed | unemployed
introvert | extrovert
liberal | conservative
democrat democratic | republican
guilty | innocent
safe | dangerous risky hazardous harmful
healthy | unhealthy sick ill
beneficial helpful | harmful
alive living | dead
live born birth | die death
fresh | stale rotten
raw | cooked
public | private
internal inside indoor interior inner | external outside outdoor exterior outer
import imported foreign overseas | domestic
domestic | international foreign
national | international
urban | rural
online | offline
virtual | physical
digital | analog analogue paper
manual manually | automatic automatically
static | dynamic
mutable | immutable
synchronous sync | asynchronous async
serial sequential | parallel
local | remote global
temporary temporarily | permanent permanently
optional | mandatory required compulsory obligatory
voluntary | involuntary mandatory
formal | informal casual
official | unofficial
simple | complex complicated
literal | figurative
active | passive inactive
visible | invisible hidden
possible | impossible
true | false
correct right | incorrect wrong
right | left
right | wrong
north northern | south southern
east eastern | west western
top upper | bottom lower
top | bottom
front | back rear
forward forwards ahead | backward backwards back
above over | below under beneath
ascend ascending ascent | descend descending descent
increasing ascending | decreasing descending
upstream | downstream
uphill | downhill
upstairs | downstairs
upward | downward
vertical vertically | horizontal horizontally
clockwise | counterclockwise anticlockwise
odd | even
prime | composite
plus | minus
numerator | denominator
input | output
read | write
encode | decode
serialize | deserialize
compile | decompile
commit | revert
undo | redo
check tick | uncheck untick
select | deselect
prefix | suffix
parent ancestor | descendant
predecessor previous preceding prior | successor next following subsequent
previous last past | next upcoming future
past | future
yesterday | tomorrow
today | yesterday tomorrow
day daytime | night nighttime
morning am | evening afternoon night pm
afternoon | evening
dawn sunrise | dusk sunset
summer | winter
spring | autumn fall
spring | winter summer
autumn fall | winter summer
weekday weekdays | weekend weekends
noon midday | midnight
before | after
until | since
breakfast | lunch dinner supper
lunch | dinner supper
vegetarian vegan | meat
sweet | sour bitter salty savory savoury
soft | hard
smooth | rough
rough | gentle
tight | loose
tighten | loosen
lock | open
major | minor
majority | minority
maximum max most | minimum min least
more | less fewer
most | least fewest
many | few
multiple several | single
plural | singular
always | never
always | rarely seldom
often frequently | rarely seldom
everything | nothing
everyone everybody | nobody noone
everywhere | nowhere
alone | together
same similar identical | different
similarity | difference
synonym | antonym
agree | disagree
appear | disappear vanish
approve | disapprove
trust | distrust mistrust
obey | disobey
honest | dishonest
sender from | recipient
theory theoretical | practice practical
cause | effect
question | answer
problem | solution
ask | answer reply
attract attractive | repel repulsive
cry weep | laugh
smile | frown
happy glad | sad unhappy
love | hate
interested interesting | boring bored
proud | ashamed
brave | cowardly
calm | anxious nervous
patient | impatient
polite | rude
optimism | pessimism
remember | forget
sleep asleep | wake awake
stand | sit
rise | set
sink | float
inhale | exhale
gain | lose
tense | relax
promote promotion | demote demotion
hire employ | fire dismiss
hired | fired
join enter entry entrance | leave exit
enter | exit
check-in checkin | checkout check-out
encourage | discourage
improve improvement | worsen deteriorate
repair fix | break damage
freeze | melt
prove | disprove
confirm | deny cancel
book reserve | cancel
renew | cancel expire
win | lose
gross | net
wholesale | retail
fixed | variable
prepaid | postpaid
secured | unsecured
taxable | nontaxable exempt
employer | employee
short-term | long-term
undergraduate bachelor | graduate postgraduate
freshman | senior
junior | senior
amateur | professional
beginner novice | advanced expert
theist | atheist
acid acidic | alkaline base
solid | liquid
metal | nonmetal
organic | inorganic synthetic
natural | artificial
convex | concave
proton | electron
charge charging | discharge
anode | cathode
systolic | diastolic
hypertension | hypotension
hyperglycemia | hypoglycemia
arteries artery | veins vein
carnivore | herbivore
predator | prey
supernova | nebula
ein einschalten anschalten aktivieren | aus ausschalten abschalten deaktivieren
kaufen | verkaufen
öffnen | schließen
erhöhen | verringern senken
vor | nach
größte | kleinste
acheter | vendre
ouvrir | fermer
activer | désactiver
avant | après
augmenter | diminuer réduire
comprar | vender
abrir | cerrar
activar | desactivar
antes | después
aumentar | disminuir reducir
"""

_PARTICLE_VERBS = """
turn switch put take log sign get come go shut power check move step bring keep leave set roll scale speed slow
call hand opt lock plug walk drive pull push stay look count clock tune top pick drop zoom scroll page swap fade
""".split()
_PARTICLES = {"on": "off", "in": "out", "up": "down"}

NOT_OPPOSED = frozenset({("right", "left")})

PARTICLE_VERBS = frozenset(stem(verb) for verb in _PARTICLE_VERBS)
PARTICLES = frozenset((*_PARTICLES, *_PARTICLES.values()))


def _lines() -> Iterator[tuple[list[str], list[str]]]:
    for line in _ANTONYMS.strip().splitlines():
        left, right = line.split(" | ")
        yield left.split(), right.split()
    for verb in _PARTICLE_VERBS:
        for particle, other in _PARTICLES.items():
            yield [f"{stem(verb)}+{particle}"], [f"{stem(verb)}+{other}"]


def _table() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for left, right in _lines():
        for one in {stem(word) for word in left}:
            for other in {stem(word) for word in right}:
                if one != other:
                    table.setdefault(one, set()).add(other)
                    table.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in table.items()}


OPPOSITES = _table()
"""By stem: the stems that mean the opposite."""
