"""Writes the README's tables from the code and the last bench run, or checks that they are the same.

``python docs/tables.py README.md`` writes; ``python docs/tables.py --check README.md`` exits 1 on a difference.
"""

import re
import sys
from pathlib import Path

from cachesvc.observe.metrics import catalogue
from cachesvc.settings_text import markdown_table

_BENCH = Path(__file__).parent.parent / "bench" / "results" / "latest.md"


def metrics_table() -> str:
    """Every metric with its labels and its help text."""
    lines = ["| metric | labels | meaning |", "|---|---|---|"]
    for doc in catalogue():
        labels = ", ".join(f"`{label}`" for label in doc.labels)
        lines.append(f"| `{doc.name}` | {labels} | {doc.help} |")
    return "\n".join(lines) + "\n"


def filled(text: str) -> str:
    """The text with every marked table made anew."""
    bench = _BENCH.read_text() if _BENCH.exists() else ""
    for name, table in (("bench", bench), ("settings", markdown_table()), ("metrics", metrics_table())):
        marked = re.compile(rf"(<!-- {name}: .*?-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = marked.subn(lambda match, table=table: match[1] + table + match[2], text)
        if count != 1:
            raise SystemExit(f"the marks of the table {name} are missing")
    return text


def main() -> int:
    """See the module."""
    *flags, name = sys.argv[1:]
    path = Path(name)
    text = path.read_text()
    new = filled(text)
    if flags == ["--check"]:
        if new != text:
            sys.stderr.write(f"{name} does not have the tables that the code gives: run make fix\n")
        return int(new != text)
    path.write_text(new)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
