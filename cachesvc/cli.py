"""The command line. Results go to standard output, messages to standard error.

Exit codes: 0 done (a hit, for lookup); 1 a miss, or no such entry; 2 wrong usage or input; 3 wrong
configuration; 4 the server, or what it needs, cannot be had; 5 the store or the address is in use;
6 the store is incompatible or damaged; 70 a fault of ours.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from cachesvc import __version__, cli_admin, cli_curate, cli_move, cli_store, cli_trial, cli_trust, cli_tune
from cachesvc.cli_common import (
    EXIT_CODES,
    MISS,
    RUN,
    UNREACHABLE,
    USE,
    WRONG_INPUT,
    Config,
    Json,
    MinScore,
    Model,
    Namespace,
    Prompt,
    Server,
    Timeout,
    Vary,
    bytes_of,
    called,
    client_of,
    exit_code,
    fail,
    pairs,
    path_of,
    print_json,
    say,
    settings_of,
    text_of,
)
from cachesvc.core.errors import CacheError, Kind

app = typer.Typer(
    name="cachesvc",
    help="""A semantic response cache that runs beside an LLM application.

    To begin: cachesvc serve, and in another terminal cachesvc store "a question" "an answer" and cachesvc
    lookup "a question". Every command has --help; docs/operations.md is the runbook.""",
    epilog=__doc__.partition("\n\n")[2].replace("\n", " ") if __doc__ else None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command(rich_help_panel=RUN)
def serve(config: Config = None) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    The store is opened (one server per store), the model is compiled if it has not been, and health
    says SERVING once calls are answered. On SIGTERM calls under way finish within server.drain_s.
    With server.workers above 1 this process keeps that many others, which do the serving.
    """
    settings = settings_of(config)
    if settings.server.workers > 1:
        from cachesvc.supervisor import supervise as run  # noqa: PLC0415 - keeps --help fast
    else:
        from cachesvc.app import serve as run  # noqa: PLC0415 - loads the engine
    run(settings, path_of(config))


@app.command(rich_help_panel=USE)
def lookup(
    prompt: Prompt,
    *,
    namespace: Namespace = "default",
    model: Model = "",
    vary: Vary = None,
    min_score: MinScore = None,
    exact_only: Annotated[bool, typer.Option("--exact-only", help="Ask the exact tier only.")] = False,
    current_source: Annotated[
        list[str] | None,
        typer.Option(help="SOURCE=VERSION: serve nothing that was built from another version. Repeatable."),
    ] = None,
    as_json: Json = False,
    server: Server = "",
    config: Config = None,
    timeout: Timeout = 5.0,
) -> None:
    """Ask the cache. Prints the stored response; exit 0 for a hit, 1 for a miss."""
    options: dict[str, Any] = {
        "model": model,
        "vary": pairs("--vary", vary),
        "exact_only": exact_only,
        "current_sources": pairs("--current-source", current_source),
    }
    if min_score is not None:
        options["min_score"] = min_score
    with client_of(server, config, namespace) as client:
        reply = client.lookup(text_of(prompt), timeout_s=timeout, **options)
    if as_json:
        print_json(reply)
    elif reply.entry is not None:
        sys.stdout.buffer.write(reply.entry.response)
        sys.stdout.buffer.flush()
    detail = (
        "" if reply.best_score is None else f" (nearest {reply.best_score:.4f}, needed {reply.threshold})"
    )
    detail = detail if reply.score is None else f" (score {reply.score:.4f})"
    detail += f" (gate {reply.gate})" if reply.gate else ""
    detail += "" if reply.confidence is None else f" (confidence {reply.confidence:.3f})"
    say(f"\n{reply.outcome}: {reply.reason}{detail}")
    if reply.outcome in ("BYPASS_UNREACHABLE", "BYPASS_TIMEOUT", "BYPASS_OVERLOADED"):
        raise typer.Exit(UNREACHABLE)
    if reply.outcome == "BYPASS_ERROR":
        raise typer.Exit(WRONG_INPUT)
    raise typer.Exit(0 if reply.hit else MISS)


@app.command(rich_help_panel=USE)
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
    source: Annotated[
        list[str] | None,
        typer.Option(help="SOURCE=VERSION that the response was built from. Repeatable."),
    ] = None,
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
        "vary": pairs("--vary", vary),
        "metadata": pairs("--metadata", metadata),
        "content_type": content_type,
        "tags": tag or [],
        "sources": list(pairs("--source", source).items()),
    }
    if ttl is not None:
        options["ttl_s"] = ttl
    body = bytes_of(response)
    with client_of(server, config, namespace) as client:
        reply = client.store(body, text_of(prompt), timeout_s=timeout, **options)
    if not reply.stored:
        fail(exit_code(reply.reason.partition(":")[0], reply.reason), reply.reason)
    if as_json:
        print_json(reply)
    else:
        typer.echo(reply.entry_id)
        if not reply.semantic:
            say(f"exact tier only: {reply.reason}")


@app.command(rich_help_panel=USE)
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
    with client_of(server, config, namespace) as client:
        entry = called(lambda: client.get(entry_id, timeout_s=timeout))
    if entry is None:
        fail(MISS, f"no entry {entry_id} in namespace {namespace}")
    if as_json:
        print_json(entry)
    else:
        sys.stdout.buffer.write(entry.response)
        sys.stdout.buffer.flush()


@app.command(rich_help_panel=USE)
def delete(
    entry_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the entry.")],
    *,
    namespace: Namespace = "default",
    server: Server = "",
    config: Config = None,
    timeout: Timeout = 5.0,
) -> None:
    """Delete an entry. Exit 1 when there was none."""
    with client_of(server, config, namespace) as client:
        if not called(lambda: client.delete(entry_id, timeout_s=timeout)):
            fail(MISS, f"no entry {entry_id} in namespace {namespace}")


@app.command("compile-model", rich_help_panel=RUN)
def compile_model(config: Config = None) -> None:
    """Compile the configured model ahead of time, for example when an image is built.

    Prints the directory of the engine. embedder.model may name that directory where neither the
    model nor torch is installed.
    """
    from rich.console import Console  # noqa: PLC0415 - loads what only this command needs

    from cachesvc.adapters.engine_cache import find_engine  # noqa: PLC0415 - as above
    from cachesvc.making import compile_model as run  # noqa: PLC0415 - as above

    embedder = settings_of(config).embedder
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


@app.command("check-config", rich_help_panel=RUN)
def check_config(config: Config = None) -> None:
    """Validate the configuration as the server would, environment included. Exit 3 when it is wrong."""
    settings = settings_of(config)
    typer.echo(
        f"ok: {len(settings.policy)} policies, store {settings.store.path}, listening on {settings.server.listen}"
    )


@app.command("init-config", rich_help_panel=RUN)
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
        fail(WRONG_INPUT, f"{path} exists; remove it or name another file")
    except OSError as error:
        fail(WRONG_INPUT, f"{path} cannot be written: {error.strerror}")


@app.command(rich_help_panel=RUN)
def version(*, as_json: Json = False) -> None:
    """Print the version."""
    typer.echo(json.dumps({"version": __version__}) if as_json else __version__)


cli_curate.register(app)
cli_admin.register(app)
cli_trust.register(app)
cli_trial.register(app)
cli_tune.register(app)
cli_move.register(app)
cli_store.register(app)


def main() -> None:
    """``cachesvc``."""
    try:
        app()
    except CacheError as error:
        say(f"cachesvc: {error.message}")
        sys.exit(EXIT_CODES[error.kind])
    except Exception as error:  # noqa: BLE001 - the edge of the process
        if isinstance(error, BrokenPipeError):  # whoever read the output has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at exit
            return
        traceback.print_exc()
        sys.exit(EXIT_CODES[Kind.INTERNAL])


if __name__ == "__main__":
    main()
