"""Operators' commands that try a policy on prompts, without a server: what it would serve, and how often wrongly."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cachesvc.cli_common import (
    MISS,
    TRY,
    WRONG_INPUT,
    Config,
    Json,
    Namespace,
    fail,
    print_json,
    progress,
    say,
    settings_of,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("eval", rich_help_panel=TRY)(evaluate)
    app.command(rich_help_panel=TRY)(traps)


def evaluate(
    file: Annotated[Path, typer.Argument(help="Labelled prompts, JSON lines or CSV.")],
    *,
    namespace: Namespace = "default",
    plot: Annotated[
        Path | None, typer.Option(help="Draw the curve into this file (PNG); needs cachesvc[plot].")
    ] = None,
    worst: Annotated[int, typer.Option(help="How many wrong hits to list.", min=0, max=20)] = 10,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Say how often a policy would hit on labelled prompts, and how often wrongly.

    FILE holds a stream, {"prompt": "…", "answer_id": "…"} a row in order of time: serving the answer of one
    request for another is right when these are equal (answer, its text, will do instead). Or pairs, {"a": "…",
    "b": "…", "same": 1}: may the answer to a be served for b? A CSV file has these names in its first line.

    The stream is served as the server would under the namespace's policy: a miss stores the right answer. Shown are
    the policy's own threshold, others in its place, the plain cosine with the defaults of other caches, what each
    gate refused, and the wrong hits.
    """
    from cachesvc.evaluation.evaluate import evaluate as run  # noqa: PLC0415 - loads numpy
    from cachesvc.evaluation.show import draw, show  # noqa: PLC0415 - as above

    settings = settings_of(config)
    data = embedded_file(file, settings)
    with progress("serving") as bar:
        evaluation = run(data, settings.policy_book().of(namespace), bar)
    if plot is not None:
        draw(evaluation, plot)
        say(f"drawn: {plot}")
    if as_json:
        print_json(evaluation)
    else:
        show(evaluation, wide_console(), worst)


def traps(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Your prompts: a stream, or a plain text of one prompt a line; else those bundled."
        ),
    ] = None,
    *,
    namespace: Namespace = "default",
    seed: Annotated[int, typer.Option(help="Other edits of the same prompts.")] = 0,
    per_kind: Annotated[int, typer.Option(help="Edits of each kind, at most.", min=1, max=10_000)] = 80,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Edit prompts so that another answer is right, and say which a policy would serve the old answer all the same.

    A number, unit, date, name or identifier is another, a word is negated or has its opposite in its place, two change
    roles, a letter cannot be seen … Beside these are edits that keep the meaning, to show what the gates refuse in
    vain. Every one is asked for its prompt alone; nothing is sent anywhere.

    Exit 1 when one of the kinds number, unit, date, identifier, role, antonym or negation was served.
    """
    from cachesvc.evaluation import traps as of  # noqa: PLC0415 - loads numpy
    from cachesvc.evaluation.show_traps import show_traps  # noqa: PLC0415 - as above
    from cachesvc.making import make_embedder  # noqa: PLC0415 - loads the engine

    settings = settings_of(config)
    with data_errors():
        made = of.make(of.bundled() if file is None else of.prompts_of(file), seed, per_kind)
    if not made:
        fail(WRONG_INPUT, f"{file}: no edit fits any of the prompts")
    embedder = make_embedder(settings.embedder, say)
    with progress("embedding") as bar:
        sprang = of.spring(made, settings.policy_book().of(namespace), embedder, bar)
    if as_json:
        print_json(sprang)
    else:
        show_traps(sprang, wide_console())
    raise typer.Exit(MISS if sprang.failed else 0)


def embedded_file(file: Path, settings: Any) -> Any:
    """A file's stream or pairs with their vectors; what is wrong with it ends the command."""
    from cachesvc.evaluation.data import load, read  # noqa: PLC0415 - loads numpy
    from cachesvc.making import make_embedder  # noqa: PLC0415 - loads the engine

    with data_errors():
        read(file)  # before a model is loaded, or compiled, for it
        embedder = make_embedder(settings.embedder, say)
        with progress("embedding") as bar:
            return load(file, embedder, bar)


@contextmanager
def data_errors() -> Iterator[None]:
    """What is wrong with a file of prompts ends the command with a message."""
    from cachesvc.evaluation.data import DataError  # noqa: PLC0415 - loads numpy

    try:
        yield
    except DataError as error:
        fail(WRONG_INPUT, str(error))


def wide_console() -> Any:
    """Standard output for tables: as wide as the terminal; where there is none, wide enough."""
    from rich.console import Console  # noqa: PLC0415 - keeps --help fast

    return Console(width=None if sys.stdout.isatty() else 140)
