"""Words that mean the opposite of each other, and words that stand for one kind of bound or superlative.

A line is ``left | right``: each word to the left is opposed to each word to the right, in every inflection. A verb
with a particle is written ``turn+on``.
"""

from collections.abc import Iterable
from itertools import product

from cachesvc.core.gates.meaning.stems import stem

_ANTONYMS = """
enable activate unblock unlock unmute unfreeze | disable deactivate block lock mute freeze
activate | deactivate
buy purchase | sell
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
add insert append attach | remove delete subtract detach erase
addition | subtraction removal deletion
multiply multiplication | divide division
install installation | uninstall remove
connect attach | disconnect detach
connection | disconnection
subscribe | unsubscribe
follow | unfollow
like | dislike hate
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
big large huge high | small little tiny
long lengthy | short brief
tall | short
high | low
highest | lowest
heavy | light
fast quick rapid | slow
accelerate | decelerate
accelerate | slow
strong | weak
strength | weakness
hard difficult tough | easy simple
thick | thin
fat | thin slim skinny
wide broad | narrow
deep | shallow
rich wealthy | poor
young | old elderly
new | old
modern | ancient
early | late
near close | far
full | empty
fill | empty drain
wet moist damp humid | dry
clean | dirty
loud noisy | quiet silent
bright | dark dim
light | dark
cheap inexpensive affordable | expensive costly pricey
good great | bad poor terrible awful
good | evil
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
boy | girl
man | woman
male | female
husband | wife
father | mother
son | daughter
brother | sister
uncle | aunt
nephew | niece
king | queen
prince | princess
groom | bride
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
pay paid | unpaid
plaintiff claimant prosecution prosecutor | defendant accused
thicken | thin dilute
asc | desc
conscious | unconscious
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
right | wrong
north northern | south southern
east eastern | west western
top upper | bottom lower
top | bottom
front | back rear
forward forwards ahead | backward backwards back
ascend ascending ascent | descend descending descent
increasing ascending | decreasing descending
upstream | downstream
uphill | downhill
upstairs | downstairs
upward | downward
vertical vertically | horizontal horizontally
clockwise | counterclockwise anticlockwise
odd | even
primary | secondary
inflow | outflow
inpatient | outpatient
inward | outward
insource | outsource
uptime | downtime
prenatal antenatal | postnatal
preoperative | postoperative
prewar | postwar
subset | superset
intranet | internet
interstate | intrastate
minimal | maximal
minor | adult
many | few
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
spring | autumn
spring | winter summer
autumn | winter summer
weekday weekdays | weekend weekends
noon midday | midnight
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
multiple double | single
plural | singular
always | never
always | rarely seldom
often frequently | rarely seldom
everything | nothing
everyone everybody | nobody noone
everywhere | nowhere
alone | together
similarity | difference
synonym | antonym
agree | disagree
show | vanish
approve | disapprove
trust | distrust mistrust
obey | disobey
honest | dishonest
sender | recipient
miss | meet catch
joy happiness | sorrow grief sadness
sign+up | sign+in sign+out
log+in log+on | log+out log+off
sign+in sign+on | sign+out sign+off
theory theoretical | practice practical
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
cation | anion
endothermic | exothermic
ionic | covalent
kinetic | potential
mitosis | meiosis
prokaryote prokaryotic | eukaryote eukaryotic
viral virus | bacterial bacteria
benign | malignant
acute | chronic
mild | severe
maternal maternity | paternal paternity
qualitative | quantitative
objective | subjective
nominal | real
sparse | dense
scarce | abundant
stable | volatile
transparent | opaque
vacant | occupied
sunny | cloudy rainy
literally | figuratively
fully completely entirely | partially partly
full | part partial
extend prolong | shorten terminate
former ex | current present
future | present
recent | past
fresh | dried frozen canned
uppercase | lowercase
vowel | consonant
median | mode
stack | queue
merge | rebase
cpu | gpu
bullish | bearish
payable | receivable
creditor lender | debtor borrower
donor | recipient
lessor | lessee
trainer mentor | trainee mentee
interviewer | interviewee
payer | payee
producer | consumer
author writer | reader
speaker | listener
victim | offender perpetrator attacker
freehold | leasehold
felony | misdemeanor
civil | criminal
libel | slander
copyright | trademark patent
boyfriend | girlfriend
waiter | waitress
grandson | granddaughter
landing | takeoff
outbound | return
ascent climb | descent
pause | resume continue unpause
continue proceed | stop cancel
appear | disappear
appreciate appreciation | depreciate depreciation
assemble | disassemble
rent lease | buy purchase
cause trigger worsen | cure relieve treat alleviate soothe
require mandatory compulsory | recommend
require | allow permit
tachycardia | bradycardia
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

_DEGREES = """
maximum max | minimum min
most | least fewest
more | less fewer
best | worst
better | worse
first earliest soonest | last latest
highest | lowest cheapest
lowest cheapest | highest priciest costliest dearest
biggest largest greatest | smallest
longest | shortest
tallest | shortest
heaviest | lightest
fastest quickest | slowest
strongest | weakest
hardest toughest | easiest simplest
widest | narrowest
deepest | shallowest
richest wealthiest | poorest
youngest | oldest eldest
newest latest | oldest earliest
hottest warmest | coldest coolest
nearest closest | farthest furthest
thickest | thinnest
loudest | quietest
brightest | darkest
cleanest | dirtiest
safest | deadliest riskiest
happiest | saddest
before | after
bigger larger greater | smaller
longer | shorter
taller | shorter
higher | lower
heavier | lighter
faster quicker | slower
stronger | weaker
harder | easier
harder | softer
older | younger
older | newer
earlier sooner | later
above over | below under
nearer closer | farther further
cheaper | costlier pricier
hotter warmer | colder cooler
"""

_PARTICLE_VERBS = """
be turn switch put take log sign get come go shut power check move step bring keep leave set roll scale speed slow
call hand opt lock plug walk drive pull push stay look count clock tune top pick drop zoom scroll page swap fade
""".split()
_PARTICLES = {"on": "off", "in": "out", "up": "down"}

PARTICLE_VERBS = frozenset(stem(verb) for verb in _PARTICLE_VERBS)
PARTICLES = frozenset((*_PARTICLES, *_PARTICLES.values()))


def _table(lines: Iterable[str]) -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for line in lines:
        left, right = ({stem(word) for word in side.split()} for side in line.split(" | "))
        for one, other in product(left, right):
            if one != other:
                table.setdefault(one, set()).add(other)
                table.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in table.items()}


OPPOSED_WORDS = {
    frozenset((one, other))
    for line in """
    up | down
    on | off
    in into inside within | out outside
    over above | under below
    left | right
    free | paid
    with | without
    than | as
    both | neither either
    all every each both any | none neither
    all every each | some few
    always | never
    ever | never
    must | may
    show | hide
    give | take
    find | lose
    found | lost
    new | used
    even | odd
    anything something everything | nothing
    anyone anybody someone somebody everyone everybody | nobody
    only | all
    before | after
    during | before after
    toward towards | from
    and | or
    """.strip().splitlines()
    for left, right in (line.split("|"),)
    for one, other in product(left.split(), right.split())
}
"""As written, and mostly words that carry no content: where two texts differ in hardly any other word, these turn the sense."""

OPPOSITES = _table(
    (
        *_ANTONYMS.strip().splitlines(),
        *(
            f"{stem(verb)}+{particle} | {stem(verb)}+{other}"
            for verb in _PARTICLE_VERBS
            for particle, other in _PARTICLES.items()
        ),
    )
)
"""By stem: the stems that mean the opposite."""

OPPOSED_DEGREES = _table(_DEGREES.strip().splitlines())
"""The same for the words of comparisons and bounds: more, least, earliest, before …"""
