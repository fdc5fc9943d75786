"""What the commands share: options, exit codes, how results and failures are told."""

import json
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from cachesvc.core.errors import Kind

EXIT_CODES: Mapping[Kind, int] = {
    Kind.INVALID: 3,
    Kind.NOT_FOUND: 1,
    Kind.REFUSED: 2,
    Kind.OVERLOADED: 4,
    Kind.FULL: 4,
    Kind.DEADLINE: 4,
    Kind.UNAVAILABLE: 4,
    Kind.LOCKED: 5,
    Kind.CORRUPT: 6,
    Kind.INCOMPATIBLE: 6,
    Kind.INTERNAL: 70,
}
# Headings of the list of commands.
RUN, USE, LOOK, TRY, MEND = (
    "Run a server",
    "Use the cache",
    "Look after a running server",
    "Try and tune a policy",
    "Move and mend the store",
)
MISS = 1
WRONG_INPUT = 2
UNREACHABLE = 4
_NO_TEXT = "what is given is not text: it must be UTF-8"
# What a server says by gRPC's codes; all others are WRONG_INPUT.
_EXIT_CODES_OF_CALLS: Mapping[str, int] = {
    "NOT_FOUND": MISS,
    "UNAVAILABLE": UNREACHABLE,
    "DEADLINE_EXCEEDED": UNREACHABLE,
    "RESOURCE_EXHAUSTED": UNREACHABLE,
    "DATA_LOSS": EXIT_CODES[Kind.CORRUPT],
    "INTERNAL": EXIT_CODES[Kind.INTERNAL],
    "UNKNOWN": EXIT_CODES[Kind.INTERNAL],
}

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="Configuration file (TOML); else what CACHESVC_CONFIG names, else defaults."
    ),
]
Server = Annotated[
    str,
    typer.Option("--server", "-s", help="Address of the server; else server.listen of the configuration."),
]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The namespace.")]
Model = Annotated[str, typer.Option("--model", "-m", help="The model that answers; must match exactly.")]
Prompt = Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")]
MinScore = Annotated[float | None, typer.Option(help="Lowest score to accept; only tightens.")]
Vary = Annotated[
    list[str] | None,
    typer.Option("--vary", help="KEY=VALUE that must match exactly, for example temperature=0. Repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the server.")]


def settings_of(path: Path | None) -> Any:
    """The configuration: of a file, of what CACHESVC_CONFIG names, or the defaults."""
    from cachesvc.settings import load  # noqa: PLC0415 - keeps --help fast

    return load(path_of(path))


def path_of(path: Path | None) -> Path | None:
    """Where the configuration is read from."""
    from cachesvc.settings import default_config_path  # noqa: PLC0415 - keeps --help fast

    return path or default_config_path()


def client_of(server: str, config: Path | None, namespace: str) -> Any:
    """A client for the server that is meant."""
    from cachesvc.client import Client  # noqa: PLC0415 - keeps --help fast

    return Client(server or settings_of(config).server.listen, namespace=namespace)


def exit_code(code: str, message: str) -> int:
    """Of a call that failed with a gRPC code."""
    if "larger than max" in message:  # RESOURCE_EXHAUSTED as well, and no room will help
        return WRONG_INPUT
    return _EXIT_CODES_OF_CALLS.get(code, WRONG_INPUT)


def called(call: Callable[[], Any]) -> Any:
    """What a call gives; its failure ends the command with a message."""
    from cachesvc.calls import CallError  # noqa: PLC0415 - keeps --help fast

    try:
        return call()
    except CallError as error:
        fail(exit_code(error.code, error.message), str(error))
    except UnicodeError:
        fail(WRONG_INPUT, _NO_TEXT)
    except ValueError as error:  # what cannot be sent
        fail(WRONG_INPUT, str(error))


def pairs(option: str, values: list[str] | None) -> dict[str, str]:
    """KEY=VALUE options as a map."""
    pairs = {}
    for value in values or []:
        key, equals, rest = value.partition("=")
        if not equals:
            raise typer.BadParameter(f"{value!r} must be KEY=VALUE", param_hint=option)
        pairs[key] = rest
    return pairs


def text_of(argument: str) -> str:
    """An argument, or standard input for -."""
    try:
        return sys.stdin.read() if argument == "-" else argument
    except UnicodeError:
        fail(WRONG_INPUT, _NO_TEXT)


def bytes_of(argument: str) -> bytes:
    """An argument as bytes, or the file that @FILE names."""
    if not argument.startswith("@"):
        return argument.encode(errors="surrogateescape")  # whatever was typed
    try:
        return Path(argument[1:]).read_bytes()
    except OSError as error:
        fail(WRONG_INPUT, f"{argument[1:]} cannot be read: {error.strerror}")


def shortened(text: str, width: int) -> str:
    """A text on one line, not wider than that."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def print_json(value: Any) -> None:
    """A result as JSON."""
    typer.echo(
        json.dumps(
            asdict(value) if is_dataclass(value) and not isinstance(value, type) else value,
            indent=2,
            default=_as_json,
        )
    )


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


@contextmanager
def progress(what: str) -> Iterator[Any]:
    """A bar on standard error; nothing where that is no terminal."""
    from rich.console import Console  # noqa: PLC0415 - keeps --help fast
    from rich.progress import Progress  # noqa: PLC0415 - as above

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        yield lambda done, total: bar.update(task, completed=done, total=total)


def say(message: str) -> None:
    """A message to standard error."""
    typer.echo(message, err=True)


def fail(code: int, message: str) -> NoReturn:
    """End with a message and an exit code."""
    say(f"cachesvc: {message}")
    raise typer.Exit(code)
