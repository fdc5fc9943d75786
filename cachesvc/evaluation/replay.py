"""Requests replayed under two configurations: which hits the second one gains and loses, and whether they are right.

Of a stream with prompts and answers all can be told. Of the service's own log, which holds no prompts, only what
follows from the scores and gates that were logged; the rest is named as what cannot be told.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.policy import DEFAULT, Mode, Policy, PolicyBook
from cachesvc.core.types import Outcome
from cachesvc.evaluation.data import Stream
from cachesvc.evaluation.serving import Served, Shop

_MAX_EXAMPLES = 50
_OF_LOG: Mapping[str, Outcome] = {outcome.label: outcome for outcome in Outcome}
# Misses of what would have hit, but for the mode or for chance.
_WOULD_HIT = (Outcome.MISS_SHADOW, Outcome.MISS_HELD_BACK, Outcome.MISS_BRAKED)


@dataclass(slots=True)
class Side:
    """What one configuration makes of it. ``right`` and ``wrong`` None where that cannot be told."""

    hits_exact: int = 0
    hits_semantic: int = 0
    right: int | None = None
    wrong: int | None = None
    saved_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A request that the configurations treat differently. Texts are empty where they are not known."""

    number: int
    what: Literal["gained", "lost", "another answer"]
    right: bool | None
    score: float | None
    asked: str
    before: str
    after: str


@dataclass(slots=True)
class Replayed:
    """All of it. ``possible`` counts requests that may hit under the second configuration: what is logged does not tell."""

    request_count: int
    before: Side
    after: Side
    gained_right: int = 0
    gained_wrong: int = 0
    gained_unknown: int = 0
    lost_right: int = 0
    lost_wrong: int = 0
    lost_unknown: int = 0
    possible: int = 0
    changes: list[Change] = field(default_factory=list)
    cannot_tell: list[str] = field(default_factory=list)

    def note(self, change: Change) -> None:
        """Count a change, and keep the first few of its kind."""
        if change.what != "another answer":
            known = "unknown" if change.right is None else "right" if change.right else "wrong"
            name = f"{change.what}_{known}"
            setattr(self, name, getattr(self, name) + 1)
        if sum(one.what == change.what and one.right == change.right for one in self.changes) < _MAX_EXAMPLES:
            self.changes.append(change)


def replay_stream(
    before: Stream, after: Stream, books: tuple[PolicyBook, PolicyBook], namespace: str
) -> Replayed:
    """The stream under both; ``after`` has the second configuration's vectors. ``namespace`` is that of rows without."""
    old_shop, new_shop = Shop(before), Shop(after) if after is not before else None
    old, old_side = _served(old_shop, books[0], namespace)
    new, new_side = _served(new_shop or old_shop, books[1], namespace)
    replayed = Replayed(len(before), old_side, new_side)
    for place in np.flatnonzero(old.places != new.places).tolist():
        was, now = int(old.places[place]), int(new.places[place])
        what: Literal["gained", "lost", "another answer"] = "another answer"
        if was < 0 or now < 0:
            what = "gained" if was < 0 else "lost"
        of = old if what == "lost" else new
        replayed.note(
            Change(
                place + 1,
                what,
                bool(of.right[place]),
                round(float(of.scores[place]), 4),
                old_shop.asked(place),
                "" if was < 0 else old_shop.answered(was),
                "" if now < 0 else old_shop.answered(now),
            )
        )
    if any(row.at_ms is None for row in before.rows):
        replayed.cannot_tell.append("requests without a time: nothing expires between them")
    if any(
        one.trust.max_error_rate is not None
        for book in books
        for one in (book.default, *book.by_pattern.values())
    ):
        replayed.cannot_tell.append(
            "max_error_rate: rules that namespaces learn are not replayed, min_score is"
        )
    return replayed


def _served(shop: Shop, book: PolicyBook, namespace: str) -> tuple[Served, Side]:
    rows = shop.stream.rows
    policies = [book.of(row.namespace or namespace) for row in rows]
    missed = np.array([_is_missed(policy, place) for place, policy in enumerate(policies)])
    served = shop.serve(policies, missed=missed)
    side = Side(
        hits_exact=int(served.exact.sum()),
        hits_semantic=int(((served.places >= 0) & ~served.exact).sum()),
        right=served.useful,
        wrong=served.wrong,
        saved_usd=_saved_usd([row.cost_usd for row in rows], served.places),
    )
    return served, side


def _is_missed(policy: Policy, place: int) -> bool:
    """Whether the mode answers it as a miss; by chance with canary, the same chance in each replay."""
    drawn = int.from_bytes(blake2b(str(place).encode(), digest_size=8).digest(), "big") / 2**64
    return policy.mode is Mode.SHADOW or (policy.mode is Mode.CANARY and drawn >= policy.canary_share)


def _saved_usd(costs: Sequence[float | None], places: NDArray[np.int64]) -> float | None:
    """What the requests that hit would have cost; None where no cost is known."""
    if all(cost is None for cost in costs):
        return None
    return sum(
        cost for cost, served in zip(costs, places.tolist(), strict=True) if served >= 0 and cost is not None
    )


def replay_log(lines: Iterable[Mapping[str, Any]], books: tuple[PolicyBook, PolicyBook]) -> Replayed:
    """Lookups as they were logged, under the second configuration; the first is what the log itself tells."""
    replayed = Replayed(0, Side(), Side())
    unknown: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        outcome = _OF_LOG.get(str(line.get("outcome")))
        if outcome is None:
            continue
        replayed.request_count += 1
        namespace = str(line.get("namespace") or DEFAULT)
        policies = books[0].of(namespace), books[1].of(namespace)
        will, why = _outlook(outcome, line, *policies)
        if why:
            unknown[why] = unknown.get(why, 0) + 1
        _count(replayed, number, outcome, line, will=will)
    replayed.cannot_tell += [f"{count:,} requests: {why}" for why, count in sorted(unknown.items())]
    replayed.cannot_tell.append(
        "whether hits are right, and what hits would have been stored otherwise: no texts are logged"
    )
    return replayed


def _outlook(outcome: Outcome, line: Mapping[str, Any], old: Policy, new: Policy) -> tuple[bool | None, str]:
    """Whether it would hit under the new policy; None for perhaps, and why that cannot be told."""
    would = outcome.is_hit or outcome in _WOULD_HIT
    if not new.enabled or new.mode is Mode.SHADOW:
        return False, ""
    if new.mode is Mode.CANARY and would and old.mode is not Mode.CANARY:
        return None, f"mode canary serves {new.canary_share:.0%} of them"
    if outcome is Outcome.HIT_EXACT:
        return True, ""
    score = line.get("score")
    if not new.embeds or not isinstance(score, (int, float)) or score < new.min_score:
        return False, ""
    if would:
        why = "a gate that was off then may refuse them" if new.gates - old.gates else ""
        return None if why else True, why
    why = _why_perhaps(outcome, str(line.get("gate") or ""), old, new)
    return None if why else False, why


def _why_perhaps(outcome: Outcome, gate: str, old: Policy, new: Policy) -> str:
    """Why a miss whose score reaches the new threshold may be a hit; empty where it will not."""
    if outcome is Outcome.MISS_BELOW_THRESHOLD:
        return "their nearest reaches the new threshold; whether a gate refuses it is not logged"
    if (
        outcome is Outcome.MISS_GATED
        and old.gates - new.gates
        and gate not in {one.label for one in new.gates}
    ):
        return "the gate that refused them is off now; another may refuse them as well"
    return ""


def _count(
    replayed: Replayed, number: int, outcome: Outcome, line: Mapping[str, Any], *, will: bool | None
) -> None:
    score = line.get("score")
    score = float(score) if isinstance(score, (int, float)) else None
    saved_usd = float(line.get("saved_cost_usd") or 0.0)
    for side, hits in ((replayed.before, outcome.is_hit), (replayed.after, will is True)):
        side.hits_exact += hits and outcome is Outcome.HIT_EXACT
        side.hits_semantic += hits and outcome is not Outcome.HIT_EXACT
        side.saved_usd = (side.saved_usd or 0.0) + (saved_usd if hits else 0.0)
    replayed.possible += will is None
    if will is not None and will != outcome.is_hit:
        what: Literal["gained", "lost"] = "gained" if will else "lost"
        entry = str(line.get("entry_id") or "")
        replayed.note(
            Change(number, what, None, score, str(line.get("lookup_id") or ""), entry, entry if will else "")
        )
