"""What a replay found, for people."""

from rich.console import Console
from rich.table import Table

from cachesvc.evaluation.replay import Replayed, Side
from cachesvc.evaluation.show import clipped


def show_replay(replayed: Replayed, console: Console, count: int) -> None:
    """Print it: wrong hits first, then what changes, then what cannot be told."""
    table = Table("", "now", "with the other", title=f"{replayed.request_count:,} requests")
    rows = zip(_rows(replayed.before), _rows(replayed.after), strict=True)
    for (name, before), (_, after) in rows:
        table.add_row(name, before, after)
    console.print(table)
    changes = Table("hits", "wrong", "right", "not known")
    changes.add_row(
        "gained", f"{replayed.gained_wrong:,}", f"{replayed.gained_right:,}", f"{replayed.gained_unknown:,}"
    )
    changes.add_row(
        "lost", f"{replayed.lost_wrong:,}", f"{replayed.lost_right:,}", f"{replayed.lost_unknown:,}"
    )
    console.print(changes)
    if replayed.possible:
        console.print(f"{replayed.possible:,} requests may hit, or may not: see below")
    _examples(replayed, console, count)
    for line in replayed.cannot_tell:
        console.print(f"cannot be told: {line}", markup=False, highlight=False)


def _rows(side: Side) -> list[tuple[str, str]]:
    return [
        ("wrong hits", "not known" if side.wrong is None else f"{side.wrong:,}"),
        ("right hits", "not known" if side.right is None else f"{side.right:,}"),
        ("hits, exact tier", f"{side.hits_exact:,}"),
        ("hits, semantic tier", f"{side.hits_semantic:,}"),
        ("saved, USD", "not known" if side.saved_usd is None else f"{side.saved_usd:,.4f}"),
    ]


def _examples(replayed: Replayed, console: Console, count: int) -> None:
    if not replayed.changes or not count:
        return
    table = Table("request", "hit", "is", "score", "asked", "answered now", "with the other")
    # What would newly be wrong first.
    ordered = sorted(
        replayed.changes, key=lambda one: (one.right is not False, one.what != "gained", one.number)
    )
    for one in ordered[:count]:
        known = "" if one.right is None else "right" if one.right else "wrong"
        score = "" if one.score is None else f"{one.score:.4f}"
        table.add_row(
            f"{one.number:,}",
            one.what,
            known,
            score,
            clipped(one.asked),
            clipped(one.before),
            clipped(one.after),
        )
    console.print(table)
