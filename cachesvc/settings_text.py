"""The settings as text, made from the code: the file that ``init-config`` writes, and the README's table."""

from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from cachesvc.settings import ENV_PREFIX, is_live, sections

_HEAD = f"""\
# cachesvc configuration. Every setting at its default; remove what you do not change.
# Environment variables go over this file: {ENV_PREFIX}SERVER__LISTEN for server.listen, and so on.
# The file is watched: changes take effect at once, but for those of settings marked (restart).
# Check with: cachesvc check-config --config FILE
"""

_POLICY_EXAMPLE = """
# Policies for namespaces by name or pattern inherit from policy.default what they leave out; the most
# specific one counts.
# [policy."support-*"]
# min_score = 0.97
# ttl_s = 3600.0
"""


def config_file() -> str:
    """A commented TOML file that loads as the defaults."""
    parts = [_HEAD]
    for name, model in sections():
        parts.append(f"\n# {' '.join((model.__doc__ or '').split())}\n[{name}]\n")
        for key, field in model.model_fields.items():
            restart = "" if is_live(f"{name}.{key}") else " (restart)"
            line = f"# {key} =" if field.default is None else f"{key} = {_toml(field.default)}"
            parts.append(f"# {field.description}{restart}\n{line}\n")
    return "".join([*parts, _POLICY_EXAMPLE])


def markdown_table() -> str:
    """Every setting, its default and its meaning."""
    lines = ["| setting | default | changes | meaning |", "|---|---|---|---|"]
    for name, model in sections():
        for key, field in model.model_fields.items():
            when = "live" if is_live(f"{name}.{key}") else "restart"
            lines.append(
                f"| `{name}.{key}` | `{'unset' if field.default is None else _toml(field.default)}` | {when} | {field.description} |"
            )
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    assert value is not PydanticUndefined, "every setting has a default"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:_}" if isinstance(value, int) else repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return '"' + str(value if not isinstance(value, Path) else value.as_posix()) + '"'
