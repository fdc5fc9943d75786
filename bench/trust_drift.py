"""Two days of a made-up namespace whose answers drift at noon of the first, with the brake on and off.

Requests are about topics by Zipf's law; what is cached of a topic is right until its answer changes and wrong from then
until a miss stores a fresh one. A new template is wrong by chance, whatever is stored. Audits, rounds and brake are
those of the service; which hits are wrong is known here. Called by ``bench.trust_sim``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.policy import TrustTerms
from cachesvc.core.trust import audit, brake
from cachesvc.core.trust.audit import NO_AUDITS, Audits
from cachesvc.core.trust.labels import Comparator, Label, LabelledCandidate, Origin
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import Brake, Braking, Stance, Step

HOURS = 48
NOON = 12
_REQUESTS_PER_HOUR = 840
_ROUND = 7  # requests: thirty seconds
_SHARE_FOR_MS = 300_000
_TOPICS = 2_000
_ZIPF = 1.0
_TTL_HOURS = 24
_ANSWERING = 0.8
_EVER_WRONG = 0.005
_MS_PER_REQUEST = 3_600_000 // _REQUESTS_PER_HOUR

_RULE = Rule(0, 0.95)
_SCORES = (0.98, 0.96, 0.94)  # served when tight, served when open, never served
_CHANCES = (0.6, 0.25, 0.15)
_NO_FEATURES = np.zeros(1, np.float32)


@dataclass(frozen=True, slots=True)
class Scenario:
    """At noon a share of the topics gets other answers; and from noon to ``template_until`` a share of the requests is
    of a new template, whose hits are wrong with ``template_wrong``.
    """

    name: str
    changed_topics: float = 0.0
    template_share: float = 0.0
    template_wrong: float = 0.5
    template_until: int = HOURS


SCENARIOS = (
    Scenario("nothing changes"),
    Scenario("all answers change at noon", changed_topics=1.0),
    Scenario("one answer in five changes at noon", changed_topics=0.2),
    Scenario("a new template, half of its hits wrong", template_share=0.3),
    Scenario("the same template, gone after six hours", template_share=0.3, template_until=NOON + 6),
)


@dataclass(frozen=True, slots=True)
class Days:
    """By hour: hits that were served wrongly and rightly, and the share of the time that the brake was not open."""

    wrong: NDArray[np.float64]
    right: NDArray[np.float64]
    braked: NDArray[np.float64]
    audited: int
    steps: tuple[Step, ...]


def run(scenario: Scenario, *, brakes: bool, seed: int, terms: TrustTerms) -> Days:
    """Two days of it. The same seed brings the same requests, with the brake on or off."""
    world = _World(scenario, seed)
    service = _Service(terms, brakes=brakes)
    wrong, right, braked = np.zeros(HOURS), np.zeros(HOURS), np.zeros(HOURS)
    for place in range(HOURS * _REQUESTS_PER_HOUR):
        hour = place // _REQUESTS_PER_HOUR
        if place % _ROUND == 0:
            service.round(place * _MS_PER_REQUEST)
        braked[hour] += service.stance.brake is not Brake.OPEN
        is_wrong = world.candidate(place)
        served = is_wrong is not None and service.lookup(
            world.scores[place], world.coins[place], is_wrong=is_wrong, at_ms=place * _MS_PER_REQUEST
        )
        if served:
            (wrong if is_wrong else right)[hour] += 1
        else:
            world.store(place)
    return Days(wrong, right, braked / _REQUESTS_PER_HOUR, service.audits.answered, tuple(service.steps))


class _World:
    """What is asked, what is cached and what is right."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        rng = np.random.default_rng(seed)
        count = HOURS * _REQUESTS_PER_HOUR
        popularity = 1.0 / np.arange(1, _TOPICS + 1) ** _ZIPF
        self._topics = rng.choice(_TOPICS, count, p=popularity / popularity.sum()).tolist()
        self.scores = rng.choice(_SCORES, count, p=_CHANCES).tolist()
        self.coins = rng.random((count, 2)).tolist()
        hours = np.arange(count) // _REQUESTS_PER_HOUR
        shown = (hours >= NOON) & (hours < scenario.template_until)
        self._template = (shown & (rng.random(count) < scenario.template_share)).tolist()
        self._template_wrong = (rng.random(count) < scenario.template_wrong).tolist()
        self._ever_wrong = (rng.random(count) < _EVER_WRONG).tolist()
        self._changes = (rng.random(_TOPICS) < scenario.changed_topics).tolist()
        self._stored: list[int | None] = [None] * _TOPICS

    def candidate(self, place: int) -> bool | None:
        """Whether what is cached would be wrong; None when nothing is."""
        topic = self._topics[place]
        stored = self._stored[topic]
        if stored is None or place - stored >= _TTL_HOURS * _REQUESTS_PER_HOUR:
            return None
        if self._template[place]:
            return bool(self._template_wrong[place])
        noon = NOON * _REQUESTS_PER_HOUR
        return bool(self._ever_wrong[place] or (self._changes[topic] and stored < noon <= place))

    def store(self, place: int) -> None:
        """A miss was answered."""
        self._stored[self._topics[place]] = place


class _Service:
    """What lookups, labels and rounds come to, as in the service."""

    def __init__(self, terms: TrustTerms, *, brakes: bool) -> None:
        self._terms = terms
        self._brakes = brakes
        self._braking = Braking()
        self._labels: list[Label] = []
        self._served = 0
        self._share = 0.0
        self._share_until_ms = 0
        self.audits: Audits = NO_AUDITS
        self.steps: list[Step] = []
        self.stance = Stance(_RULE)

    def lookup(self, score: float, coins: Sequence[float], *, is_wrong: bool, at_ms: int) -> bool:
        """Whether the candidate is served."""
        stance = self.stance
        label = candidate_label(score, at_ms, same=not is_wrong)
        if score < stance.rule.threshold:
            self._labels.append(label)
            return False
        if stance.brake is Brake.EXACT_ONLY:
            self._labels.append(as_hit(label, Origin.SHADOW, 1.0))
            return False
        held_back = 0.0 if stance.brake is Brake.OPEN else self._terms.hold_back_share
        if coins[0] < held_back:
            self._labels.append(as_hit(label, Origin.HELD_BACK, held_back))
            return False
        self._served += 1
        if coins[0] > 1.0 - stance.audit_share and coins[1] < _ANSWERING:
            self._labels.append(as_hit(label, Origin.AUDIT, stance.audit_share))
        return True

    def round(self, now_ms: int) -> None:
        """Fold what became known, and take the stance that follows."""
        for label in self._labels:
            self.audits = audit.fold(self.audits, label)
            self._take(brake.fold(self._braking, label, _RULE, self._terms))
        self._take(brake.tick(self._braking, self._terms, now_ms))
        if now_ms >= self._share_until_ms:
            self._share_until_ms = now_ms + _SHARE_FOR_MS
            worried = brake.worried(self._braking)
            self._share = audit.audit_share(self.audits, self._terms, self._served, worried=worried)
        stance = Stance(_RULE, audit_share=self._share)
        self.stance = brake.braked(stance, self._braking, self._terms) if self._brakes else stance
        self._labels.clear()

    def _take(self, turn: brake.Turn) -> None:
        self._braking = turn.braking
        if turn.step is not None:
            self.steps.append(turn.step)


def candidate_label(score: float, at_ms: int, *, same: bool) -> Label:
    """Of a miss with one candidate."""
    candidate = LabelledCandidate(_NO_FEATURES, score, None, same)
    return Label(bytes(16), at_ms, Origin.MISS, Comparator.TEXT, 1.0, 0, 0, None, (candidate,))


def as_hit(label: Label, origin: Origin, share: float) -> Label:
    """The same, but the candidate was served, or would have been."""
    return Label(
        key=label.key,
        at_ms=label.at_ms,
        origin=origin,
        comparator=label.comparator,
        share=share,
        rule_version=label.rule_version,
        features_version=label.features_version,
        served=0,
        candidates=label.candidates,
    )
