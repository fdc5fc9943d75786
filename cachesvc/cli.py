"""The command line. Results go to standard output, messages to standard error.

Exit codes: 0 done (a hit, for lookup); 1 a miss, or no such entry; 2 wrong usage or input; 3 wrong
configuration; 4 the server, or what it needs, cannot be had; 5 the store or the address is in use;
6 the store is incompatible or damaged; 70 a fault of ours.
"""

import json
import os
import sys
import traceback
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from cachesvc import __version__
from cachesvc.core.errors import CacheError, Kind

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
_MISS = 1
_WRONG_INPUT = 2
_UNREACHABLE = 4

app = typer.Typer(
    name="cachesvc",
    help="A semantic response cache that runs beside an LLM application.",
    epilog=__doc__.partition("\n\n")[2].replace("\n", " ") if __doc__ else None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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
Vary = Annotated[
    list[str] | None,
    typer.Option("--vary", help="KEY=VALUE that must match exactly, for example temperature=0. Repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for the server.")]


@app.command()
def serve(config: Config = None) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    The store is opened (one server per store), the model is compiled if it has not been, and health
    says SERVING once calls are answered. On SIGTERM calls under way finish within server.drain_s.
    """
    from cachesvc.app import serve as run  # noqa: PLC0415 - loads the engine

    run(_settings(config))


@app.command()
def lookup(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    *,
    namespace: Namespace = "default",
    model: Model = "",
    vary: Vary = None,
    min_score: Annotated[float | None, typer.Option(help="Lowest score to accept; only tightens.")] = None,
    exact_only: Annotated[bool, typer.Option("--exact-only", help="Ask the exact tier only.")] = False,
    as_json: Json = False,
    server: Server = "",
    config: Config = None,
    timeout: Timeout = 5.0,
) -> None:
    """Ask the cache. Prints the stored response; exit 0 for a hit, 1 for a miss."""
    options: dict[str, Any] = {"model": model, "vary": _pairs("--vary", vary), "exact_only": exact_only}
    if min_score is not None:
        options["min_score"] = min_score
    with _client(server, config, namespace) as client:
        reply = client.lookup(_text(prompt), timeout_s=timeout, **options)
    if as_json:
        _print_json(reply)
    elif reply.entry is not None:
        sys.stdout.buffer.write(reply.entry.response)
        sys.stdout.buffer.flush()
    detail = (
        "" if reply.best_score is None else f" (nearest {reply.best_score:.4f}, needed {reply.threshold})"
    )
    detail = detail if reply.score is None else f" (score {reply.score:.4f})"
    _say(f"\n{reply.outcome}: {reply.reason}{detail}")
    if reply.outcome in ("BYPASS_UNREACHABLE", "BYPASS_TIMEOUT"):
        raise typer.Exit(_UNREACHABLE)
    if reply.outcome == "BYPASS_ERROR":
        raise typer.Exit(_WRONG_INPUT)
    raise typer.Exit(0 if reply.hit else _MISS)


@app.command()
def store(
    prompt: Annotated[
        str, typer.Argument(help="The prompt that was answered; - reads it from standard input.")
    ],
    response: Annotated[str, typer.Argument(help="The response; @FILE reads it from a file.")],
    *,
    namespace: Namespace = "default",
    model: Model = "",
    vary: Vary = None,
    content_type: Annotated[
        str, typer.Option(help="Media type of the response.")
    ] = "text/plain; charset=utf-8",
    tag: Annotated[list[str] | None, typer.Option(help="A tag. Repeatable.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE kept with the entry. Repeatable.")
    ] = None,
    ttl: Annotated[float | None, typer.Option(help="Seconds to serve it; else the policy's ttl_s.")] = None,
    as_json: Json = False,
    server: Server = "",
    config: Config = None,
    timeout: Timeout = 5.0,
) -> None:
    """Store a response. Prints the id of the entry."""
    options: dict[str, Any] = {
        "model": model,
        "vary": _pairs("--vary", vary),
        "metadata": _pairs("--metadata", metadata),
        "content_type": content_type,
        "tags": tag or [],
    }
    if ttl is not None:
        options["ttl_s"] = ttl
    body = _bytes(response)
    with _client(server, config, namespace) as client:
        reply = client.store(body, _text(prompt), timeout_s=timeout, **options)
    if not reply.stored:
        _fail(
            _UNREACHABLE if "UNAVAILABLE" in reply.reason or "DEADLINE" in reply.reason else _WRONG_INPUT,
            reply.reason,
        )
    if as_json:
        _print_json(reply)
    else:
        typer.echo(reply.entry_id)
        if not reply.semantic:
            _say(f"exact tier only: {reply.reason}")


@app.command()
def get(
    entry_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the entry.")],
    *,
    namespace: Namespace = "default",
    as_json: Json = False,
    server: Server = "",
    config: Config = None,
    timeout: Timeout = 5.0,
) -> None:
    """Print an entry's response, or with --json all of it. Exit 1 when there is none."""
    with _client(server, config, namespace) as client:
        entry = _call(lambda: client.get(entry_id, timeout_s=timeout))
    if entry is None:
        _fail(_MISS, f"no entry {entry_id} in namespace {namespace}")
    if as_json:
        _print_json(entry)
    else:
        sys.stdout.buffer.write(entry.response)
        sys.stdout.buffer.flush()


@app.command()
def delete(
    entry_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the entry.")],
    *,
    namespace: Namespace = "default",
    server: Server = "",
    config: Config = None,
    timeout: Timeout = 5.0,
) -> None:
    """Delete an entry. Exit 1 when there was none."""
    with _client(server, config, namespace) as client:
        if not _call(lambda: client.delete(entry_id, timeout_s=timeout)):
            _fail(_MISS, f"no entry {entry_id} in namespace {namespace}")


@app.command()
def stats(
    *,
    as_json: Json = False,
    admin: Annotated[str, typer.Option("--admin", help="Address of the admin port; else admin.listen.")] = "",
    config: Config = None,
    timeout: Timeout = 5.0,
) -> None:
    """Show what the running server counts: its metrics, without histogram buckets."""
    from cachesvc.scrape import scrape  # noqa: PLC0415 - loads what only this command needs

    address = admin or _settings(config).admin.listen
    try:
        values = scrape(address, timeout)
    except ValueError:
        _fail(_WRONG_INPUT, f"--admin {address}: must be host:port")
    except (OSError, HTTPException) as error:
        _fail(_UNREACHABLE, f"no answer from the admin port {address}: {error}")
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    width = max(map(len, values))
    for name, value in values.items():
        typer.echo(f"{name:<{width}}  {value:g}")


@app.command("compile-model")
def compile_model(config: Config = None) -> None:
    """Compile the configured model ahead of time, for example when an image is built.

    Prints the directory of the engine. embedder.model may name that directory where neither the
    model nor torch is installed.
    """
    from rich.console import Console  # noqa: PLC0415 - loads what only this command needs

    from cachesvc.adapters.engine_cache import find_engine  # noqa: PLC0415 - as above
    from cachesvc.app import compile_model as run  # noqa: PLC0415 - as above

    embedder = _settings(config).embedder
    console = Console(stderr=True)
    with console.status("looking for the engine") as status:
        engine = find_engine(embedder.model, embedder.precision, embedder.cache_dir.expanduser())
        if engine is None:

            def progress(step: str) -> None:
                status.update(step)
                console.print(f"  {step}")

            engine = run(embedder, progress)
    console.print(f"compiled: {engine.manifest.fingerprint}, {engine.manifest.dimension} dimensions")
    typer.echo(engine.path)


@app.command("check-config")
def check_config(config: Config = None) -> None:
    """Validate the configuration as the server would, environment included. Exit 3 when it is wrong."""
    settings = _settings(config)
    typer.echo(
        f"ok: {len(settings.policy)} policies, store {settings.store.path}, listening on {settings.server.listen}"
    )


@app.command("init-config")
def init_config(
    path: Annotated[Path | None, typer.Argument(help="File to write; else standard output.")] = None,
) -> None:
    """Write a commented configuration file with every setting at its default."""
    from cachesvc.settings_text import config_file  # noqa: PLC0415 - loads the settings

    if path is None:
        typer.echo(config_file(), nl=False)
        return
    try:
        with path.open("x") as file:
            file.write(config_file())
    except FileExistsError:
        _fail(_WRONG_INPUT, f"{path} exists; remove it or name another file")
    except OSError as error:
        _fail(_WRONG_INPUT, f"{path} cannot be written: {error.strerror}")


@app.command()
def version(*, as_json: Json = False) -> None:
    """Print the version."""
    typer.echo(json.dumps({"version": __version__}) if as_json else __version__)


def main() -> None:
    """``cachesvc``."""
    try:
        app()
    except CacheError as error:
        _say(f"cachesvc: {error.message}")
        sys.exit(EXIT_CODES[error.kind])
    except Exception as error:  # noqa: BLE001 - the edge of the process
        if isinstance(error, BrokenPipeError):  # whoever read the output has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at exit
            return
        traceback.print_exc()
        sys.exit(EXIT_CODES[Kind.INTERNAL])


def _settings(path: Path | None) -> Any:
    from cachesvc.settings import default_config_path, load  # noqa: PLC0415 - keeps --help fast

    return load(path or default_config_path())


def _client(server: str, config: Path | None, namespace: str) -> Any:
    from cachesvc.client import Client  # noqa: PLC0415 - keeps --help fast

    return Client(server or _settings(config).server.listen, namespace=namespace)


def _call(call: Callable[[], Any]) -> Any:
    from cachesvc.calls import CallError  # noqa: PLC0415 - keeps --help fast

    try:
        return call()
    except CallError as error:
        unreachable = error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        _fail(_UNREACHABLE if unreachable else _WRONG_INPUT, str(error))


def _pairs(option: str, values: list[str] | None) -> dict[str, str]:
    pairs = {}
    for value in values or []:
        key, equals, rest = value.partition("=")
        if not equals:
            raise typer.BadParameter(f"{value!r} must be KEY=VALUE", param_hint=option)
        pairs[key] = rest
    return pairs


def _text(argument: str) -> str:
    return sys.stdin.read() if argument == "-" else argument


def _bytes(argument: str) -> bytes:
    if not argument.startswith("@"):
        return argument.encode()
    try:
        return Path(argument[1:]).read_bytes()
    except OSError as error:
        _fail(_WRONG_INPUT, f"{argument[1:]} cannot be read: {error.strerror}")


def _print_json(value: Any) -> None:
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


def _say(message: str) -> None:
    typer.echo(message, err=True)


def _fail(code: int, message: str) -> NoReturn:
    _say(f"cachesvc: {message}")
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
