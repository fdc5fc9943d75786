"""Evaluations for people: tables and a curve in the terminal, and a picture."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cachesvc.core.errors import CacheError, Kind
from cachesvc.evaluation.evaluate import Evaluation, Rates
from cachesvc.evaluation.intervals import Share

_BAR = 30
_MAX_TEXT = 160


def show(evaluation: Evaluation, console: Console, worst_count: int) -> None:
    """Print it, wrong hits first."""
    per = "requests" if evaluation.kind == "stream" else "pairs"
    console.print(_heading(evaluation, per), highlight=False)
    console.print(_own(evaluation, per))
    console.print(_curve(evaluation))
    if evaluation.gates:
        console.print(_gates(evaluation))
    if evaluation.worst and worst_count:
        console.print(_worst(evaluation, worst_count))


def percent(share: Share) -> str:
    """A share with its interval."""
    return f"{share.share * 100:.2f} % ({share.low * 100:.2f}–{share.high * 100:.2f})"


def clipped(text: str) -> str:
    """A text on one line, not too long."""
    line = " ".join(text.split())
    return escape(line if len(line) <= _MAX_TEXT else f"{line[: _MAX_TEXT - 1]}…")


def draw(evaluation: Evaluation, file: Path) -> None:
    """The curve as a picture. Raises UNAVAILABLE where matplotlib is missing, REFUSED where it cannot be written."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import

        mpl.use("agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415 - as above
    except ImportError:
        raise CacheError(
            Kind.UNAVAILABLE, "a picture needs matplotlib: pip install 'cachesvc[plot]'"
        ) from None
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    for name, colour, rates in (
        ("plain cosine", "#999999", [point.cosine for point in evaluation.curve]),
        ("this policy, other thresholds", "#1f6fb4", [point.policy for point in evaluation.curve]),
    ):
        _line(axes, name, colour, rates)
    own = evaluation.policy
    axes.plot(
        *_place(own), "o", color="#d1492e", markersize=9, label=f"this policy: {evaluation.threshold:g}"
    )
    marked: dict[float, list[str]] = {}
    for peer in evaluation.peers:
        marked.setdefault(peer.threshold, []).append(peer.name)
    for threshold, names in marked.items():
        place = next(_place(peer.cosine) for peer in evaluation.peers if peer.threshold == threshold)
        axes.plot(*place, "x", color="#555555")
        axes.annotate(
            f"{', '.join(names)}: {threshold:g}",
            place,
            xytext=(6, -10),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_xlabel("wrong hits, % of all")
    axes.set_ylabel("right hits, % of all")
    axes.set_title(
        f"{evaluation.name}: {evaluation.request_count:,} {'requests' if evaluation.kind == 'stream' else 'pairs'}"
    )
    axes.legend()
    axes.grid(alpha=0.3)
    try:
        figure.savefig(file, dpi=120, format="png")
    except OSError as error:
        raise CacheError(Kind.REFUSED, f"{file} cannot be written: {error.strerror}") from None
    finally:
        plt.close(figure)


def _line(axes: "object", name: str, colour: str, rates: Sequence[Rates]) -> None:
    wrong = [rate.wrong.share * 100 for rate in rates]
    useful = [rate.useful.share * 100 for rate in rates]
    axes.plot(wrong, useful, ".-", color=colour, label=name)  # type: ignore[attr-defined]  # matplotlib has no types
    axes.fill_betweenx(  # type: ignore[attr-defined]  # as above
        useful,
        [rate.wrong.low * 100 for rate in rates],
        [rate.wrong.high * 100 for rate in rates],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )


def _place(rates: Rates) -> tuple[float, float]:
    return rates.wrong.share * 100, rates.useful.share * 100


def _heading(evaluation: Evaluation, per: str) -> str:
    lines = [f"{escape(evaluation.name)}: {evaluation.request_count:,} {per}"]
    if evaluation.unseen_count:
        lines.append(
            f"{evaluation.unseen_count:,} of them the embedder cannot fully see: the exact tier alone serves these"
        )
    if evaluation.mode in ("off", "shadow", "canary"):
        lines.append(f"the mode of this namespace is {evaluation.mode}; below is what mode on would serve")
    return "\n".join(lines)


def _own(evaluation: Evaluation, per: str) -> Table:
    table = Table(
        "",
        "wrong",
        "right",
        title=f"this policy: threshold {evaluation.threshold:g}, {len(evaluation.gates_on)} gates",
    )
    for tier in evaluation.tiers:
        table.add_row(f"{tier.tier} tier, hits", f"{tier.wrong:,}", f"{tier.right:,}")
    table.add_row(
        f"share of {per} (95 %)", percent(evaluation.policy.wrong), percent(evaluation.policy.useful)
    )
    return table


def _curve(evaluation: Evaluation) -> Table:
    table = Table(
        "threshold", "wrong", "right", "", "wrong", "right", "of caches by default",
        title="thresholds: this policy with its gates, and beside it the plain cosine",
    )  # fmt: skip
    top = (
        max((point.policy.useful.share + point.policy.wrong.share for point in evaluation.curve), default=0.0)
        or 1.0
    )
    for point in evaluation.curve:
        own = abs(point.threshold - evaluation.threshold) < 1e-6
        names = [peer.name for peer in evaluation.peers if peer.threshold == point.threshold]
        ours, plain = point.policy, point.cosine
        wrong, right = (round(rate.share / top * _BAR) for rate in (ours.wrong, ours.useful))
        table.add_row(
            f"{point.threshold:g}{' ←' if own else ''}",
            f"{ours.wrong.share * 100:.2f} %",
            f"{ours.useful.share * 100:.2f} %",
            f"[red]{'━' * wrong}[/red][green]{'━' * right}[/green]",
            f"{plain.wrong.share * 100:.2f} %",
            f"{plain.useful.share * 100:.2f} %",
            ", ".join(names),
            style="bold" if own else "",
        )
    return table


def _gates(evaluation: Evaluation) -> Table:
    table = Table(
        "gate", "wrong removed", "right removed", "only it: wrong", "right",
        title="gates: candidates over the threshold that they refuse",
    )  # fmt: skip
    for effect in evaluation.gates:
        table.add_row(
            effect.gate,
            f"{effect.wrong_removed:,}",
            f"{effect.right_removed:,}",
            f"{effect.only_wrong_removed:,}",
            f"{effect.only_right_removed:,}",
        )
    return table


def _worst(evaluation: Evaluation, count: int) -> Table:
    table = Table("score", "asked", "served the answer to", title="wrong hits, the likest first")
    for hit in evaluation.worst[:count]:
        score = "exact" if hit.tier == "exact" else f"{hit.score:.4f}"
        table.add_row(score, clipped(hit.asked), clipped(hit.served))
    return table
