"""``python -m bench.online_drift``: what a namespace lets through when what its labels said is true no more.

Two things happen in the midst of a stream. Answers change: all that was stored until then is wrong from then on, and nobody
says so. Or a new template appears among the requests, of which prompts are near to each other and answers differ.
Beside the control runs one that stands still from then on, with the threshold that it had reached.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench import labelled
from bench.calls import say
from bench.online import MAX_ERROR_RATE
from bench.online_sim import Course, Near, Play, play, shuffled
from cachesvc.core.trust.control import ControlTerms
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

Kind: TypeAlias = Literal["answers", "template"]

_SEEDS = 5
_LENIENT, _STRICT = "stream_banking77", "stream_gsmplus"


@dataclass(frozen=True, slots=True)
class Drift:
    """One stream that changes before request ``at``, served under control and by what stands still from then on."""

    kind: Kind
    at: int
    controlled: Course
    still: Course

    @property
    def wrong_after(self) -> int:
        """Wrong hits after the change, under control."""
        return int(self.controlled.wrong[self.at :].sum())

    @property
    def wrong_after_still(self) -> int:
        """The same where nothing was learned any more."""
        return int(self.still.wrong[self.at :].sum())

    @property
    def closed_after(self) -> int | None:
        """Requests from the change until the threshold was first raised; None if it never was."""
        before = self.controlled.thresholds[self.at]
        raised = np.flatnonzero(self.controlled.thresholds[self.at :] > before)
        return int(raised[0]) if len(raised) else None


def main() -> int:
    """Print a table."""
    embedder = make_embedder(EmbedderSettings(), say)
    files = [labelled.find(_LENIENT), labelled.find(_STRICT)]
    lenient, strict = (labelled.stream(embedder, file) for file in files if file is not None)
    table = Table("what changes", "run", "closed after", "wrong hits", "standing still", "of requests")
    for column in table.columns[1:]:
        column.justify = "right"
    for drift in [*drifts(lenient, strict, "answers", _SEEDS), *drifts(lenient, strict, "template", _SEEDS)]:
        table.add_row(
            drift.kind,
            str(drift.at),
            "never" if drift.closed_after is None else f"{drift.closed_after} requests",
            str(drift.wrong_after),
            str(drift.wrong_after_still),
            f"{len(drift.controlled.wrong) - drift.at:,}",
        )
    Console(width=120).print(table)
    return 0


def drifts(lenient: labelled.Stream, strict: labelled.Stream, kind: Kind, seeds: int) -> Sequence[Drift]:
    """The lenient stream in so many orders, in the midst of which its answers change, or the strict one joins it."""
    if kind == "answers":
        near = Near(lenient)
        return [_answers_change(near, seed) for seed in range(seeds)]
    near = Near(_joined(lenient, strict))
    return [_template_appears(near, len(lenient), seed) for seed in range(seeds)]


def _answers_change(near: Near, seed: int) -> Drift:
    order = shuffled(near, seed)
    at = len(order) // 2
    answers = list(near.answers)
    for row in order[at:]:
        answers[row] += " from now on"
    return _drift("answers", near, order, at, answers, seed)


def _template_appears(near: Near, lenient: int, seed: int) -> Drift:
    """Every other request is of the new template, until there are no more."""
    order = shuffled(near, seed)
    at = lenient // 2
    known, new = order[order < lenient], order[order >= lenient]
    by_turns = np.stack([known[at : at + len(new)], new], axis=1).ravel()
    order = np.concatenate([known[:at], by_turns, known[at + len(new) :]])
    return _drift("template", near, order, at, near.answers, seed)


def _drift(
    kind: Kind, near: Near, order: NDArray[np.int64], at: int, answers: Sequence[str], seed: int
) -> Drift:
    terms = ControlTerms(MAX_ERROR_RATE)
    controlled = play(near, Play(order, terms, seed, answers))
    return Drift(kind, at, controlled, play(near, Play(order, terms, seed, answers, frozen_at=at)))


def _joined(first: labelled.Stream, second: labelled.Stream) -> labelled.Stream:
    return labelled.Stream(
        f"{first.name}+{second.name}",
        [*first.texts, *second.texts],
        [*first.answers, *second.answers],
        [*first.sources, *second.sources],
        np.concatenate([first.vectors, second.vectors]),
    )


if __name__ == "__main__":
    raise SystemExit(main())
