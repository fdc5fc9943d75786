"""Writes what values.schema.json says of ``config`` from the settings: ``python deploy/helm/make_schema.py [--check]``.

So a setting that does not exist, or a value that cannot be, is refused by Helm and not by the server, which would then
be down. The rest of the schema is written by hand.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cachesvc.settings import sections
from cachesvc.settings_policy import PolicySettings

_FILE = Path(__file__).parent / "cachesvc" / "values.schema.json"
DECIDED_BY_THE_CHART = (
    "server.listen",
    "server.insecure_bind",
    "admin.listen",
    "admin.insecure_bind",
    "admin.backup_dir",
    "store.path",
)


def config_schema() -> dict[str, Any]:
    """Every section with the settings that are the operator's."""
    properties = {name: _section(name, model) for name, model in sections() if name != "policy.default"}
    properties["policy"] = {"type": "object", "additionalProperties": _section("policy", PolicySettings)}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _section(name: str, model: type[BaseModel]) -> dict[str, Any]:
    fields = model.model_json_schema()["properties"]
    left = {key: field for key, field in fields.items() if f"{name}.{key}" not in DECIDED_BY_THE_CHART}
    for field in left.values():
        for word in ("title", "default", "format"):
            field.pop(word, None)
    return {"type": "object", "additionalProperties": False, "properties": left}


def main() -> int:
    """See the module."""
    schema = json.loads(_FILE.read_text())
    schema["properties"]["config"] = config_schema()
    text = json.dumps(schema, indent=2) + "\n"
    if sys.argv[1:] == ["--check"]:
        return int(_FILE.read_text() != text)
    _FILE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
