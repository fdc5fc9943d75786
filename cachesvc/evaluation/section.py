"""What ``tune`` found, as the section of a configuration to paste: its evidence stands in it as comments."""

import json
import textwrap
from collections.abc import Sequence

from cachesvc.core.policy import DEFAULT
from cachesvc.evaluation.show import percent
from cachesvc.evaluation.tune import Tuned, least_labels

_WIDTH = 110


def section(tuned: Tuned, namespace: str, labels: str) -> str:
    """TOML. ``labels`` says in words where the labels are from. Where nothing is defended it is comments alone."""
    lines = [f"Tuned for at most {tuned.max_error_rate:g} wrong hits per request, by {labels}."]
    lines += _evidence(tuned)
    if tuned.threshold is None:
        return _comments(lines)
    name = DEFAULT if namespace == DEFAULT else json.dumps(namespace)
    body = [f"[policy.{name}]", f"min_score = {tuned.threshold:g}"]
    if tuned.dropped:
        lines.append(
            f"Without the gates {', '.join(gate.label for gate in tuned.dropped)}: they refused right hits for too "
            "few wrong ones. That was chosen on the first half of the labels, the threshold on the second."
        )
        listed = ", ".join(f'"{label}"' for label in sorted(gate.label for gate in tuned.gates))
        body.append(f"gates = [{listed}]")
    if namespace == DEFAULT:
        lines.append("It counts for every namespace that has no policy of its own.")
    tail = _comments(["From here on by the namespace's own labels, min_score until there are enough:"])
    return f"{_comments(lines)}{chr(10).join(body)}\n{tail}# max_error_rate = {tuned.max_error_rate:g}\n"


def _evidence(tuned: Tuned) -> list[str]:
    if tuned.evidence is None:
        return _refusal(tuned)
    found = tuned.evidence.evidence
    of, by = f"Of {found.requests:,} requests", "Clopper-Pearson"
    if tuned.most_weight > 1:
        of = f"Of the labels, which stand for up to {tuned.most_weight:.0f} requests each and for {found.requests:,} in all,"
        by = "testing by betting"
    lines = [
        (
            f"{of} it would serve {found.served:,} by meaning, {found.wrong:,} of them wrongly: "
            f"with {found.level:.0%} confidence at most {found.error_bound:.2%} of requests like these are served wrongly "
            f"({by}, fixed-sequence testing). Other tenants and new kinds of prompts are not like these."
        )
    ]
    for what, rates in (("before", tuned.before), ("with it", tuned.after)):
        if rates is not None:
            lines.append(
                f"Served in order, {what}: {percent(rates.wrong)} wrong, {percent(rates.useful)} right (95 %)."
            )
    return lines


def _refusal(tuned: Tuned) -> list[str]:
    least = least_labels(tuned.max_error_rate)
    what = "labels" if tuned.most_weight == 1 else "requests"
    if tuned.more_needed is None:
        return [
            (
                f"No threshold is defended by {tuned.label_count:,} {what}, and more of the same would not help: what is "
                "nearest is wrong too often. Look at the worst hits (cachesvc eval): is the label fair, is a gate missing?"
            )
        ]
    return [
        (
            f"No threshold is defended by {tuned.label_count:,} {what}: needs about {tuned.more_needed:,} more. "
            + _least(least, tuned.most_weight)
        )
    ]


def _least(least: int, weight: float) -> str:
    if weight == 1:
        return f"(Without a single wrong hit it takes {least:,}.)"
    return (
        f"(A label stands for up to {weight:.0f} requests, since hits are labelled by chance: a larger hold_back_share "
        "gets there sooner.)"
    )


def _comments(lines: Sequence[str]) -> str:
    wrapped = [part for line in lines for part in textwrap.wrap(line, _WIDTH - 2)]
    return "".join(f"# {line}\n" for line in wrapped)
