"""Writes the documents' tables from the code and the last bench runs, or checks that they are the same.

``python docs/tables.py FILE…`` writes; ``python docs/tables.py --check FILE…`` exits 1 on a difference.
"""

import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from cachesvc.observe.metrics import catalogue
from cachesvc.settings_text import markdown_table

_RESULTS = Path(__file__).parent.parent / "bench" / "results"


def metrics_table() -> str:
    """Every metric with its labels and its help text."""
    lines = ["| metric | labels | meaning |", "|---|---|---|"]
    for doc in catalogue():
        labels = ", ".join(f"`{label}`" for label in doc.labels)
        lines.append(f"| `{doc.name}` | {labels} | {doc.help} |")
    return "\n".join(lines) + "\n"


def _result(name: str) -> str:
    file = _RESULTS / f"{name}.md"
    return file.read_text() if file.exists() else ""


TABLES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {
        "bench": partial(_result, "summary"),
        "quality": partial(_result, "quality"),
        "settings": markdown_table,
        "metrics": metrics_table,
    },
    "reliability.md": {
        name: partial(_result, name) for name in ("soak", "overload", "scopes", "scale", "stalls", "pressure")
    },
    "trust.md": {"trust_sim": partial(_result, "trust_sim")},
}


def filled(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The text with every marked table made anew."""
    for name, make in tables.items():
        table = make()
        marked = re.compile(rf"(<!-- {name}: .*?-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = marked.subn(lambda match, table=table: match[1] + table + match[2], text)
        if count != 1:
            raise SystemExit(f"the marks of the table {name} are missing")
    return text


def main() -> int:
    """See the module."""
    flags = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    different = 0
    for name in (argument for argument in sys.argv[1:] if not argument.startswith("--")):
        path = Path(name)
        text = path.read_text()
        new = filled(text, TABLES[path.name])
        if flags == ["--check"] and new != text:
            sys.stderr.write(f"{name} does not have the tables that the code gives: run make fix\n")
            different = 1
        elif flags != ["--check"]:
            path.write_text(new)
    return different


if __name__ == "__main__":
    raise SystemExit(main())
