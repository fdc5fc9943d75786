"""A word brought to the form that its inflections share. English; other words come out whole or a little shorter.

Light on purpose: what counts is that "enables", "enabled" and "enabling" meet, not that a stem is a word.
"""

_IRREGULAR = {
    form: base
    for line in """
    be am is are was were been being; have has had having; do does did done doing; go goes went gone; buy bought;
    sell sold; send sent; lend lent; spend spent; get got gotten; give gave given; take took taken; make made;
    win won; lose lost; find found; forbid forbade forbidden; forgive forgave forgiven; hit; hurt; cut; let; put; set; shut; spread; ring rang rung; sink sank sunk; shake shook shaken; strike struck; swear swore sworn; tear tore torn; overcome overcame; mistake mistook mistaken; seek sought; slide slid; spin spun; stick stuck; sweep swept; undo undid undone; withdraw withdrew withdrawn; bleed bled; breed bred; dig dug; feed fed; flee fled; hang hung; kneel knelt; lay laid; leap leapt; light lit; shine shone; weave wove woven; wind wound; begin began begun; rise rose risen; fall fell fallen; leave left; lead led;
    pay paid; say said; see saw seen; know knew known; think thought; come came; become became; bring brought;
    teach taught; learn learnt; build built; break broke broken; choose chose chosen; draw drew drawn; drive drove driven;
    eat ate eaten; fly flew flown; forget forgot forgotten; freeze froze frozen; hold held; keep kept; meet met;
    ride rode ridden; run ran; sing sang sung; sit sat; sleep slept; speak spoke spoken; stand stood; steal stole stolen;
    swim swam swum; tell told; throw threw thrown; understand understood; wake woke woken; wear wore worn;
    write wrote written; beat beaten; bite bit bitten; catch caught; fight fought; feel felt; grow grew grown;
    hear heard; hide hid hidden; shrink shrank shrunk; mean meant; shoot shot; show shown; child children;
    man men; woman women; foot feet; tooth teeth; mouse mice; person people persons; life lives; wife wives;
    knife knives; leaf leaves; half halves; datum data; good better best; bad worse worst; city cities; die died dying;
    lie lied lying; tie tied tying; use used using uses; bus buses; gas gases; news; series; species
    """.replace("\n", " ").split(";")
    for base, *forms in [line.split()]
    for form in (base, *forms)
}  # fmt: skip
# "leaves" is more often what trains do, "better" and "best" are compared elsewhere.
for _form in ("leaves", "better", "best", "worse", "worst"):
    del _IRREGULAR[_form]

_VOWELS = frozenset("aeiouy")
_DOUBLED = frozenset(("bb", "dd", "gg", "mm", "nn", "pp", "rr", "tt", "ll"))
_KEPT_S = ("ss", "us", "is")


def stem(word: str) -> str:
    """The stem of a casefolded word."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4:
        return word
    bare = _without_plural(word)
    if bare.endswith("ing") and len(bare) > 5 and not _VOWELS.isdisjoint(bare[:-3]):
        bare = _undoubled(bare[:-3])
    elif bare.endswith("ied") and len(bare) > 4:
        bare = bare[:-3] + "y"
    elif bare.endswith("ed") and len(bare) > 4 and not _VOWELS.isdisjoint(bare[:-2]) and bare[-3] != "e":
        bare = _undoubled(bare[:-2])
    if bare.endswith("e") and len(bare) > 3:
        return bare[:-1]
    return bare


def _without_plural(word: str) -> str:
    if not word.endswith("s") or word.endswith(_KEPT_S):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-1]


def _undoubled(word: str) -> str:
    return word[:-1] if word[-2:] in _DOUBLED and len(word) > 3 else word
