"""Prompts → traps: so many of each kind, the same for the same seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from cachesvc.core.identity import canonical_text
from cachesvc.evaluation.data import Asked, decoded, read
from cachesvc.evaluation.traps.changing import EDITS, Edit, Pick
from cachesvc.evaluation.traps.keeping import KEEPING

PER_KIND = 80
PER_KEPT_KIND = 40


@dataclass(frozen=True, slots=True)
class Trap:
    """A prompt that is stored, and the edited one that is asked. ``changes``: whether the edit turns the answer."""

    kind: str
    changes: bool
    stored: str
    asked: str


def bundled() -> list[str]:
    """The prompts that come with the package: 201, of eight walks of life, written for this."""
    lines = files("cachesvc.evaluation.traps").joinpath("prompts.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["prompt"] for line in lines]


def prompts_of(file: Path) -> list[str]:
    """The prompts of a file: of a stream, else every line that is not blank. Raises DataError."""
    if file.suffix.lower() in (".jsonl", ".ndjson", ".json", ".csv", ".tsv"):
        return [row.prompt if isinstance(row, Asked) else row.a for row in read(file)]
    return [line.strip() for line in decoded(file).splitlines() if line.strip()]


def make(prompts: Sequence[str], seed: int = 0, per_kind: int = PER_KIND) -> list[Trap]:
    """Edits of the prompts, those that turn the answer first; at most ``per_kind`` of each kind, of as many prompts as
    there are.
    """
    pick = Pick(seed)
    return [
        *_of(prompts, EDITS, pick, per_kind, changes=True),
        *_of(prompts, KEEPING, pick, min(per_kind, PER_KEPT_KIND), changes=False),
    ]


def _of(
    prompts: Sequence[str], edits: Mapping[str, Edit], pick: Pick, count: int, *, changes: bool
) -> list[Trap]:
    traps: list[Trap] = []
    for kind, edit in edits.items():
        found: list[tuple[int, int, Trap]] = []
        for prompt in dict.fromkeys(canonical_text(prompt) for prompt in prompts):
            edited = dict.fromkeys(canonical_text(text) for text in edit(prompt, pick))
            edited.pop(prompt, None)
            found += [
                (turn, pick.number(f"{kind}{prompt}", 1 << 30), Trap(kind, changes, prompt, text))
                for turn, text in enumerate(edited)
            ]
        # One of each prompt before a second one of any.
        traps += [trap for _, _, trap in sorted(found, key=lambda one: one[:2])[:count]]
    return traps
