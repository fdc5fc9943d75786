"""Operators' commands on the store as a whole: check, back up, rebuild, re-embed.

Those that ask a running server go through AdminService; ``rebuild``, ``reembed`` and ``check --offline``
open the store themselves and refuse while a server runs on it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cachesvc.cli_admin import AdminServer, admin_calls
from cachesvc.cli_common import MEND, MISS, Config, Json, print_json, progress, say, settings_of


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(rich_help_panel=MEND)(check)
    app.command(rich_help_panel=MEND)(backup)
    app.command(rich_help_panel=MEND)(rebuild)
    app.command(rich_help_panel=MEND)(reembed)


def check(
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="Open the store of the configuration; no server may run on it.")
    ] = False,
    as_json: Json = False,
    admin_server: AdminServer = "",
    config: Config = None,
) -> None:
    """Read every record, key, vector and account, and the indexes, and say where they disagree.

    Exit 0 when clean, 1 when not: then cachesvc rebuild mends the store.
    """
    problems: list[str] = []
    with progress("checking") as show:
        for checked, total, found in _checked(admin_server, config, offline=offline):
            show(checked, total)
            problems += found
    if as_json:
        print_json({"clean": not problems, "problems": problems})
    else:
        for problem in problems:
            typer.echo(problem)
        say(
            "clean" if not problems else f"{len(problems)} problems: stop the server and run cachesvc rebuild"
        )
    raise typer.Exit(MISS if problems else 0)


def _checked(
    admin_server: str, config: Path | None, *, offline: bool
) -> Iterator[tuple[int, int, list[str]]]:
    if offline:
        from cachesvc.offline import check_store  # noqa: PLC0415 - loads the engine

        for step in check_store(settings_of(config)):
            yield step.checked, step.total, list(step.problems)
        return
    with admin_calls(admin_server, config) as client:
        for response in client.check():
            yield response.checked, response.total, list(response.problems)


def backup(
    name: Annotated[str, typer.Argument(help="Name of the copy, below admin.backup_dir of the server.")],
    *,
    admin_server: AdminServer = "",
    config: Config = None,
) -> None:
    """Write a compacted, consistent copy of the store while the server goes on. Prints where it is.

    To restore it: stop the server, put the copy in the place of store.path, start the server.
    """
    path = ""
    with admin_calls(admin_server, config) as client, progress("copying") as show:
        for response in client.backup(name):
            show(response.written_bytes, max(response.total_bytes, 1))
            path = response.path
    typer.echo(path)


def rebuild(*, config: Config = None) -> None:
    """Write the store anew from its intact records, mending everything else. No server may run on it.

    Until the new store is whole the old one is in place; it stays beside as data.mdb.before.
    """
    from cachesvc.offline import rebuild_store  # noqa: PLC0415 - loads the engine

    with progress("rebuilding") as show:
        told = rebuild_store(settings_of(config), lambda told: show(told.read, told.total))
    say(f"{told.carried} entries carried over, {told.damaged} damaged ones left out")


def reembed(*, config: Config = None) -> None:
    """Bring the store to the embedder of the configuration, from the stored prompts.

    For a change of embedder.model, engine or precision. No server may run on it. One that was cut off
    goes on where it was; the switch at the end is one step, and the old store stays beside as
    data.mdb.before.
    """
    from cachesvc.offline import reembed_store  # noqa: PLC0415 - loads the engine

    with progress("embedding") as show:
        told = reembed_store(settings_of(config), lambda told: show(told.read, told.total), say)
    if told is None:
        say("the store is of this embedder already")
        return
    say(
        f"{told.carried} entries carried over; left out: {told.without_prompt} whose prompts are not kept, "
        f"{told.damaged} damaged"
    )
