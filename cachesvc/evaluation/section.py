"""What ``tune`` found, as the section of a configuration to paste: its evidence stands in it as comments."""

import json
import textwrap
from collections.abc import Sequence

from cachesvc.evaluation.show import percent
from cachesvc.evaluation.tune import Tuned, least_labels

_WIDTH = 110


def section(tuned: Tuned, namespace: str, labels: str) -> str:
    """TOML. ``labels`` says in words where the labels are from. Where nothing is defended it is comments alone."""
    lines = [f"Tuned for at most {tuned.max_error_rate:g} wrong hits per request, by {labels}."]
    lines += _evidence(tuned)
    if tuned.threshold is None:
        return _comments(lines)
    name = "default" if namespace == "default" else json.dumps(namespace)
    body = [f"[policy.{name}]", f"min_score = {tuned.threshold:g}"]
    if tuned.dropped:
        lines.append(
            f"Without the gates {', '.join(gate.label for gate in tuned.dropped)}: they refused right hits for too "
            "few wrong ones. That was chosen on the first half of the labels, the threshold on the second."
        )
        listed = ", ".join(f'"{label}"' for label in sorted(gate.label for gate in tuned.gates))
        body.append(f"gates = [{listed}]")
    if namespace == "default":
        lines.append("It counts for every namespace that has no policy of its own.")
    tail = _comments(["From here on by the namespace's own labels, min_score until there are enough:"])
    return f"{_comments(lines)}{chr(10).join(body)}\n{tail}# max_error_rate = {tuned.max_error_rate:g}\n"


def _evidence(tuned: Tuned) -> list[str]:
    if tuned.evidence is None:
        return _refusal(tuned)
    found = tuned.evidence.evidence
    lines = [
        (
            f"Of {found.requests:,} requests it would serve {found.served:,} by meaning, {found.wrong:,} of them wrongly: "
            f"with {found.level:.0%} confidence at most {found.error_bound:.2%} of requests like these are served wrongly "
            "(Clopper-Pearson, fixed-sequence testing). Other tenants and new kinds of prompts are not like these."
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
    if tuned.more_needed is None:
        return [
            (
                f"No threshold is defended by {tuned.label_count:,} labels, and more of the same would not help: what is "
                "nearest is wrong too often. Look at the worst hits (cachesvc eval): is the label fair, is a gate missing?"
            )
        ]
    return [
        (
            f"No threshold is defended by {tuned.label_count:,} labels: needs about {tuned.more_needed:,} more. "
            f"(Without a single wrong hit it takes {least:,}.)"
        )
    ]


def _comments(lines: Sequence[str]) -> str:
    wrapped = [part for line in lines for part in textwrap.wrap(line, _WIDTH - 2)]
    return "".join(f"# {line}\n" for line in wrapped)
