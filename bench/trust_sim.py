"""``python -m bench.trust_sim``: does the audited rate cover the true one, and what does the brake save and cost?

Simulations with the service's own functions, seeded: the same numbers on every machine. With ``--publish`` the tables
go into docs/trust.md and the plots beside it. Exits 1 when coverage or false alarms miss their target.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.calls import say
from bench.prompts import ROOT
from bench.report import RESULTS
from bench.trust_drift import SCENARIOS, Days, Scenario, as_hit, candidate_label, run
from cachesvc.core.policy import TrustTerms
from cachesvc.core.trust import audit, brake
from cachesvc.core.trust.audit import NO_AUDITS
from cachesvc.core.trust.labels import Origin
from cachesvc.core.trust.rules import Rule
from cachesvc.core.trust.state import Brake, Braking

LEAST_COVERAGE = 0.95
_TERMS = TrustTerms()
_RULE = Rule(0, 0.95)
_HITS = 2_000
_BLOCK = 100  # hits between two changes of the share
_ANSWERING = 0.7
_ALARM_LABELS = 3_000
_PROCESSES = 4
_GOOD_BEFORE = 500
MOST_FALSE_ALARMS = (1 + _ALARM_LABELS / 5_000) / brake.CLOSING_BAR

_Rates = NDArray[np.float64]
_Figure = TypeVar("_Figure")


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of the runs of one true rate: how many had it inside at every audit, and how many the share of hits so far."""

    name: str
    runs: int
    rate_covered: int
    share_covered: int
    audits: float
    width: float


@dataclass(frozen=True, slots=True)
class Alarms:
    """Runs at a rate, those that closed the brake, and after how many audits (median, of those that did)."""

    rate: float
    runs: int
    closed: int
    after: float


@dataclass(frozen=True, slots=True)
class Drift:
    """A scenario with the brake on and off."""

    scenario: Scenario
    off: Sequence[Days]
    on: Sequence[Days]

    def mean(self, days: Sequence[Days], name: str) -> float:
        """Hits served wrongly (``wrong``) or rightly, over both days."""
        return float(np.mean([getattr(day, name).sum() for day in days]))


@dataclass(frozen=True, slots=True)
class TrustFigures:
    """All that is measured. ``quiet`` alarms are at the target itself, ``real`` ones at rates above it."""

    coverage: tuple[Coverage, ...]
    quiet: Alarms
    real: tuple[Alarms, ...]
    drifts: tuple[Drift, ...]

    @property
    def met(self) -> bool:
        """Whether coverage and false alarms keep to what is promised."""
        least = min(min(one.rate_covered, one.share_covered) / one.runs for one in self.coverage)
        return least >= LEAST_COVERAGE and self.quiet.closed / self.quiet.runs <= MOST_FALSE_ALARMS


def measure(runs: int = 500, seeds: int = 2) -> TrustFigures:
    """Everything, in less than three minutes of two cores. ``runs`` for each rate, ``seeds`` for each scenario."""
    target = _TERMS.max_false_hit_rate
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        covered = [pool.submit(_coverage, name, rates, runs) for name, rates in _true_rates()]
        quiet = pool.submit(_alarms, target, runs, 0)
        real = [pool.submit(_alarms, target * times, 100, _GOOD_BEFORE) for times in (2, 4, 10)]
        drifts = [
            (scenario, [pool.submit(_days, scenario, brakes, seeds) for brakes in (False, True)])
            for scenario in SCENARIOS
        ]
        return TrustFigures(
            coverage=tuple(_told(one.result()) for one in covered),
            quiet=_told(quiet.result()),
            real=tuple(_told(one.result()) for one in real),
            drifts=tuple(Drift(scenario, off.result(), on.result()) for scenario, (off, on) in drifts),
        )


def _told(figure: _Figure) -> _Figure:
    say(str(figure))
    return figure


def _true_rates() -> list[tuple[str, _Rates]]:
    constant = [(f"{rate:.1%}", np.full(_HITS, rate)) for rate in (0.0, 0.002, 0.01, 0.05)]
    peak = np.repeat([0.005, 0.1, 0.005], (_HITS // 2, _HITS // 4, _HITS // 4))
    return [*constant, ("0.5% → 10% → 0.5%", peak), ("rising, 0% to 8%", np.linspace(0.0, 0.08, _HITS))]


def _days(scenario: Scenario, brakes: bool, seeds: int) -> list[Days]:  # noqa: FBT001 - by place, for a pool
    return [run(scenario, brakes=brakes, seed=seed, terms=_TERMS) for seed in range(seeds)]


def _coverage(name: str, true_rates: _Rates, runs: int) -> Coverage:
    rng = np.random.default_rng(31)
    rates_so_far = np.cumsum(true_rates) / np.arange(1, _HITS + 1)
    by_rate = by_share = 0
    audits, widths = [], []
    for _ in range(runs):
        wrong = rng.random(_HITS) < true_rates
        shares_so_far = np.cumsum(wrong) / np.arange(1, _HITS + 1)
        rate_inside = share_inside = True
        state, share = NO_AUDITS, _TERMS.max_audit_share
        for first in range(0, _HITS, _BLOCK):
            drawn = rng.random(_BLOCK) < share * _ANSWERING
            for place in (first + np.flatnonzero(drawn)).tolist():
                label = as_hit(candidate_label(0.98, place, same=not wrong[place]), Origin.AUDIT, share)
                state = audit.fold(state, label)
                rate_inside = rate_inside and audit.covers(state, float(rates_so_far[place]))
                share_inside = share_inside and audit.covers(state, float(shares_so_far[place]))
            share = audit.audit_share(state, _TERMS, first + _BLOCK)
        by_rate += rate_inside
        by_share += share_inside
        low, high = audit.interval(state)
        audits.append(state.answered)
        widths.append(high - low)
    return Coverage(name, runs, by_rate, by_share, median(audits), median(widths))


def _alarms(rate: float, runs: int, good_before: int) -> Alarms:
    rng = np.random.default_rng(32)
    labels = {
        same: as_hit(candidate_label(0.98, 0, same=same), Origin.AUDIT, _TERMS.audit_share)
        for same in (True, False)
    }
    after = []
    for _ in range(runs):
        braking = Braking()
        rates = np.full(good_before + _ALARM_LABELS, rate)
        rates[:good_before] = _TERMS.max_false_hit_rate / 10
        for place, wrong in enumerate((rng.random(len(rates)) < rates).tolist()):
            braking = brake.fold(braking, labels[not wrong], _RULE, _TERMS).braking
            if braking.level is not Brake.OPEN:
                after.append(place + 1 - good_before)
                break
    return Alarms(rate, runs, len(after), median(after) if after else 0.0)


def tables(figures: TrustFigures) -> str:
    """As markdown."""
    lines = [
        "| true false-hit rate | runs | rate covered at every audit | share of the hits so far | audits | width |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} | {one.runs} | {one.rate_covered / one.runs:.1%} | {one.share_covered / one.runs:.1%} "
        f"| {one.audits:.0f} | {one.width:.2%} |"
        for one in figures.coverage
    ]
    lines += ["", "| audits | wrong | interval |", "|---|---|---|"]
    for seen, wrong in ((30, 0), (30, 1), (100, 0), (100, 5), (300, 0), (300, 3), (1_000, 10)):
        low, high = audit.interval_of(wrong, seen)
        lines.append(f"| {seen:,} | {wrong} | {low:.2%} to {high:.2%} |")
    lines += [
        "",
        f"| rate of wrong hits (the target is {_TERMS.max_false_hit_rate:.0%}) | runs | brake closed | after (median) |",
        "|---|---|---|---|",
    ]
    quiet = figures.quiet
    start = f"{quiet.rate:.0%} from the start, {_ALARM_LABELS:,} audits"
    lines.append(f"| {start} | {quiet.runs} | {quiet.closed / quiet.runs:.1%} | – |")
    lines += [
        f"| {one.rate:.0%} after {_GOOD_BEFORE} audits at a tenth of the target | {one.runs} "
        f"| {one.closed / one.runs:.0%} | {one.after:.0f} audits |"
        for one in figures.real
    ]
    lines += [
        "",
        "| two days, 40,320 requests (means) | wrong, brake off | wrong, on | right, off | right, on | steps, by seed |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {drift.scenario.name} | {drift.mean(drift.off, 'wrong'):,.0f} | {drift.mean(drift.on, 'wrong'):,.0f} "
        f"| {drift.mean(drift.off, 'right'):,.0f} | {drift.mean(drift.on, 'right'):,.0f} "
        f"| {', '.join(str(len(days.steps)) for days in drift.on)} |"
        for drift in figures.drifts
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--publish", action="store_true", help="write docs/trust.md's tables and the plots")
    publish = parser.parse_args().publish
    figures = measure()
    text = tables(figures)
    print(text)
    for drift in figures.drifts:
        for step in drift.on[0].steps:
            print(f"{drift.scenario.name}, {step.at_ms / 3_600_000:.1f} h: {step.what}")
    if publish:
        from bench.trust_plots import draw  # noqa: PLC0415 - matplotlib is wanted for this alone

        (RESULTS / "trust_sim.md").write_text(text)
        draw(figures, ROOT / "docs")
        subprocess.run([sys.executable, "docs/tables.py", "docs/trust.md"], cwd=ROOT, check=True)
    return 0 if figures.met else 1


if __name__ == "__main__":
    raise SystemExit(main())
