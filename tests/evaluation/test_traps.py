"""Traps: edits that turn the answer, and those that keep it; the same for the same seed."""

from collections import Counter

import pytest

from cachesvc.core.policy import Policy
from cachesvc.core.ports import Embedder
from cachesvc.evaluation.traps import GUARDED, Trap, bundled, make, spring
from cachesvc.evaluation.traps.changing import EDITS, Pick
from cachesvc.evaluation.traps.keeping import KEEPING

CASES = {
    "number": ("Pay 250 euros for 3 days.", {"Pay 2500 euros for 3 days.", "Pay 250 euros for 4 days."}),
    "unit": ("Wait 20 minutes.", {"Wait 20 hours.", "Wait 20 seconds."}),
    "date": ("Is it open on 3 May?", {"Is it open on 4 May?", "Is it open on 3 June?"}),
    "time": ("Call me at 5:45 pm.", {"Call me at 6:45 pm.", "Call me at 5:45 am.", "Call me at 5:0 pm."}),
    "version": ("Install version 2.4.", {"Install version 2.5.", "Install version 3.4."}),
    "identifier": ("Where is order SH-20418?", {"Where is order SH-20481?"}),
    "email": ("Write to al@shop.example.", {"Write to al2@shop.example.", "Write to al@mail.shop.example."}),
    "url": ("Open https://a.example/x.", {"Open https://a.example/x2.", "Open https://a.example/archive."}),
    "operator": ("Is a > 0?", {"Is a >= 0?", "Is a < 0?"}),
    "case in code": ("Run `ls -r`.", {"Run `ls -R`."}),
    "quote": ('Print "done" twice.', {'Print "good evening" twice.'}),
    "negation": ("Send the letter.", {"Do not send the letter.", "Never send the letter."}),
    "antonym": ("Increase the volume.", {"Decrease the volume."}),
    "role": ("Fly from Rome to Oslo.", {"Fly from Oslo to Rome."}),
    "comparison": ("Show at least five.", {"Show at most five."}),
    "quantifier": ("Delete all files.", {"Delete none files."}),
    "question": ("When is it open?", {"Where is it open?", "Why is it open?"}),
    "thing": ("Block my debit card.", {"Block my credit card.", "Block my gift card."}),
    "qualifier": ("Which hotels are near?", {"Which five-star hotels are near?"}),
}


@pytest.mark.parametrize(("kind", "text", "some"), [(kind, *case) for kind, case in CASES.items()], ids=CASES)
def test_edits_change_the_meaning(kind: str, text: str, some: set[str]) -> None:
    """Each of these is among the edits of its kind."""
    assert some - {"Call me at 5:0 pm."} <= set(EDITS[kind](text, Pick(0)))


NOT_FITTING = {
    "a distance is the same both ways": ("role", "What is the distance from Rome to Oslo?"),
    "a list of names has no order": ("role", "Do Emma and Victor come?"),
    "what is negated is not negated again": ("negation", "Why is it not open?"),
    "a date's number is no number of things": ("number", "Is it open on 3 May?"),
    "a version is no number of things": ("number", "Install version 2."),
    "the difference of two is that of either": (
        "quantifier",
        "What is the difference between tea and coffee?",
    ),
    "a dark mode is no light one": ("antonym", "Is there a dark mode?"),
}


@pytest.mark.parametrize(("kind", "text"), NOT_FITTING.values(), ids=NOT_FITTING.keys())
def test_edits_leave_what_does_not_fit(kind: str, text: str) -> None:
    """No accidental paraphrase, no nonsense."""
    assert list(EDITS[kind](text, Pick(0))) == []


KEPT = {
    "letter case": ("Is it open in May?", {"is it open in may?"}),
    "punctuation": ("Is it open?", {"Is it open", "Is it open??"}),
    "contraction": ("What is new?", {"What's new?"}),
    "number in words": (
        "Wait 3 days for two cats.",
        {"Wait three days for two cats.", "Wait 3 days for 2 cats."},
    ),
    "unit written out": ("Lift 3 kilograms.", {"Lift 3 kg."}),
}


@pytest.mark.parametrize(("kind", "text", "edited"), [(kind, *case) for kind, case in KEPT.items()], ids=KEPT)
def test_edits_keep_the_meaning(kind: str, text: str, edited: set[str]) -> None:
    """Exactly these."""
    assert set(KEEPING[kind](text, Pick(0))) == edited


def test_bundled_prompts_make_a_thousand() -> None:
    """Of every kind, each another text than its prompt, and some that keep the meaning."""
    traps = make(bundled())
    kinds = Counter(trap.kind for trap in traps if trap.changes)
    assert kinds.keys() == EDITS.keys()
    assert kinds.total() >= 1000
    assert all(kinds[kind] >= 30 for kind in GUARDED)
    assert sum(not trap.changes for trap in traps) >= 200
    assert all(trap.stored != trap.asked for trap in traps)


def test_the_seed_says_all() -> None:
    """The same seed the same traps, another seed others."""
    assert make(bundled(), seed=3) == make(bundled(), seed=3)
    assert make(bundled(), seed=3) != make(bundled(), seed=4)


@pytest.mark.parametrize(
    "text", ["", "?", "1", "a" * 5000, "\ud800", "from to", "Is  than ?", '"', "`", "é\u0301", "💥 7"]
)
def test_no_text_is_too_odd(text: str) -> None:
    """An operator's prompts are whatever they are."""
    for edit in (*EDITS.values(), *KEEPING.values()):
        if text or edit is not KEEPING["punctuation"]:
            list(edit(text, Pick(0)))


def test_traps_are_sprung_as_the_server_would(embedder: Embedder) -> None:
    """What gates refuse is not served; what they let through is told with the pair; a kept meaning may be lost."""
    traps = [
        Trap("number", True, "How do I pay 250 euros?", "How do I pay 260 euros?"),
        Trap("date", True, "Is the shop open today?", "Is the shop open today ?"),
        Trap("look-alike letter", True, "Is the shop open today?", "Is the shоp open today?"),
        Trap("punctuation", False, "Is the shop open today?", "Is the shop open today"),
    ]
    sprang = spring(traps, Policy(min_score=0.9), embedder)
    assert [(kind.kind, kind.served) for kind in sprang.kinds] == [
        ("number", 0),
        ("date", 1),
        ("look-alike letter", 0),
        ("punctuation", 1),
    ]
    assert [one.kind for one in sprang.slipped] == ["date"]
    assert sprang.failed
    assert sprang.kinds[2].refused == 1
