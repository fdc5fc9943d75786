"""What traps came to, for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from cachesvc.evaluation.show import clipped
from cachesvc.evaluation.traps import Sprang, Sprung

_MAX_LISTED = 30


def show_traps(sprang: Sprang, console: Console) -> None:
    """Print them: what slipped through first, then by kind, then what was refused in vain."""
    _list(console, sprang.slipped, "served, though the edit turns the answer")
    table = Table(
        "edit", "count", "cosine ≥ 0.8", f"cosine ≥ {sprang.threshold:g}", "refused by gates or sight", "served",
        title="traps: edits that turn the answer",
    )  # fmt: skip
    kept = Table(
        "edit", "count", f"cosine ≥ {sprang.threshold:g}", "refused by gates or sight", "served",
        title="edits that keep the meaning",
    )  # fmt: skip
    for kind in sprang.kinds:
        cells = [f"{kind.cosine:,}", f"{kind.refused:,}", f"{kind.served:,}"]
        if kind.changes:
            style = "red" if kind.guarded and kind.served else ""
            name = f"{kind.kind}{' *' if kind.guarded else ''}"
            table.add_row(name, f"{kind.count:,}", f"{kind.cosine_at_08:,}", *cells, style=style)
        else:
            kept.add_row(kind.kind, f"{kind.count:,}", *cells)
    console.print(table)
    console.print("* none of these may be served", highlight=False, markup=False)
    console.print(kept)
    _list(console, sprang.lost, "refused, though the edit keeps the meaning")


def _list(console: Console, found: Sequence[Sprung], title: str) -> None:
    if not found:
        return
    shown = f", the first {_MAX_LISTED} of {len(found)}" if len(found) > _MAX_LISTED else ""
    table = Table("edit", "score", "gate", "stored", "asked", title=f"{title}{shown}")
    for one in found[:_MAX_LISTED]:
        table.add_row(one.kind, f"{one.score:.4f}", one.gate, clipped(one.stored), clipped(one.asked))
    console.print(table)
