"""Operators' commands on the store: check, export, import, warm up, back up, rebuild, re-embed.

Those that ask a running server go through AdminService; ``rebuild``, ``reembed`` and ``check --offline``
open the store themselves and refuse while a server runs on it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToJson, Parse, ParseError

from cachesvc.calls import CallError
from cachesvc.cli_admin import AdminServer, admin_client
from cachesvc.cli_common import (
    MISS,
    UNREACHABLE,
    WRONG_INPUT,
    Config,
    Json,
    Model,
    Namespace,
    Server,
    client_of,
    fail,
    say,
    settings_of,
)

_BATCH_COUNT = 64


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(check)
    app.command("export")(export_entries)
    app.command("import")(import_entries)
    app.command()(warm)
    app.command()(backup)
    app.command()(rebuild)
    app.command()(reembed)


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
    with _progress("checking") as show:
        for checked, total, found in _checked(admin_server, config, offline=offline):
            show(checked, total)
            problems += found
    if as_json:
        typer.echo(json.dumps({"clean": not problems, "problems": problems}, indent=2))
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
    with _admin(admin_server, config) as client:
        for response in client.check():
            yield response.checked, response.total, list(response.problems)


def export_entries(
    file: Annotated[Path, typer.Argument(help="File to write, a line a record (docs/export-format.md).")],
    *,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Only this one; left out, all.")] = "",
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Vectors too: an import with the same embedder embeds nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a file that was cut off.")] = False,
    admin_server: AdminServer = "",
    config: Config = None,
) -> None:
    """Write the entries of the running server to a file, to import them elsewhere.

    Responses and prompts are in it as they are: the file is made readable to its owner only.
    """
    after_id, count = _resumed(file) if resume else ("", 0)
    if not resume and file.exists():
        fail(WRONG_INPUT, f"{file} exists; remove it, name another file, or go on with it: --resume")
    file.touch(mode=0o600)
    with _admin(admin_server, config) as client, _progress("exporting") as show, file.open("a") as out:
        total = client.stats().entries
        for record in client.export(namespace=namespace, vectors=vectors, after_id=after_id):
            if record.HasField("header") and resume:
                continue  # the file has its own
            if record.HasField("trailer"):
                record.trailer.entries += count
            out.write(MessageToJson(record, indent=None) + "\n")
            show(record.HasField("entry"), total, advance=True)
    say(f"exported to {file}")


def _resumed(file: Path) -> tuple[str, int]:
    """Cut a file that was cut off after its last whole entry. The id of that, and how many there are."""
    from cachesvc.v1 import admin_pb2 as pb  # noqa: PLC0415 - keeps --help fast

    try:
        stream = file.open("r+b")
    except OSError as error:
        fail(WRONG_INPUT, f"{file} cannot be gone on with: {error.strerror}")
    last_id, count, end = "", 0, 0
    with stream:
        for line in stream:
            try:
                record = Parse(line, pb.ExportRecord()) if line.endswith(b"\n") else None
            except ParseError:
                record = None
            if record is None:
                break
            if record.HasField("trailer"):
                fail(WRONG_INPUT, f"{file} is whole already")
            if record.HasField("entry"):
                last_id, count = record.entry.entry.id, count + 1
            end += len(line)
        if not end:
            fail(WRONG_INPUT, f"{file} is not an export")
        stream.truncate(end)
    return last_id, count


def import_entries(
    file: Annotated[Path, typer.Argument(help="A file that cachesvc export wrote.")],
    *,
    as_json: Json = False,
    admin_server: AdminServer = "",
    config: Config = None,
) -> None:
    """Store exported entries in the running server.

    What is there already, as new or newer, is left alone, so an import that was cut off is simply done
    again. Exit 1 when some entries could not be stored.
    """
    from cachesvc.v1 import admin_pb2 as pb  # noqa: PLC0415 - keeps --help fast

    records = _Records(file)
    last = pb.ImportResponse()
    try:
        with _admin(admin_server, config) as client, _progress("importing") as show:
            for last in client.import_(records.read()):
                show(last.read, None)
    finally:
        if records.wrong:  # what the server says then is only that the rest is missing
            fail(WRONG_INPUT, records.wrong)
    if as_json:
        typer.echo(
            MessageToJson(last, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        )
    else:
        for reason in last.errors:
            say(reason)
        say(
            f"{last.read} read: {last.stored} stored, {last.unchanged} there already, "
            f"{last.expired} expired, {last.failed} failed"
        )
    raise typer.Exit(MISS if last.failed else 0)


class _Records:
    """The records of a file. gRPC reads them on a thread of its own, so what is wrong is told afterwards."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.wrong = ""

    def read(self) -> Iterator[Any]:
        """Parsed, in order; ends where something is wrong."""
        from cachesvc.v1 import admin_pb2 as pb  # noqa: PLC0415 - keeps --help fast

        number = 0
        try:
            with self._file.open("rb") as stream:
                for number, line in enumerate(stream, 1):  # noqa: B007 - for the message
                    yield Parse(line, pb.ExportRecord())
        except OSError as error:
            self.wrong = f"{self._file} cannot be read: {error.strerror}"
        except (ParseError, UnicodeDecodeError) as error:
            self.wrong = f"{self._file}: line {number} is not a record: {error}"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fail(WRONG_INPUT, f"{file} cannot be read: {error}")


def warm(
    file: Annotated[
        Path, typer.Argument(help="JSON lines with prompt and response, and tags, ttl_s, model where needed.")
    ],
    *,
    namespace: Namespace = "default",
    model: Model = "",
    as_json: Json = False,
    server: Server = "",
    config: Config = None,
) -> None:
    """Fill the cache from pairs of prompt and response, one JSON object a line.

    {"prompt": "…", "response": "…"}; further keys are options of a store: model, vary, tags, metadata,
    content_type, ttl_s, input_tokens, output_tokens, cost_usd. Exit 1 when some were not stored.
    """
    items = [_pair(n, line) for n, line in enumerate(_lines(file), 1) if line.strip()]
    stored, failed = 0, 0
    with client_of(server, config, namespace) as client, _progress("storing") as show:
        for first in range(0, len(items), _BATCH_COUNT):
            batch = [
                (prompt, response, {"model": model, **options})
                for prompt, response, options in items[first : first + _BATCH_COUNT]
            ]
            for n, reply in enumerate(client.store_many(batch, timeout_s=60.0), first + 1):
                stored, failed = stored + reply.stored, failed + (not reply.stored)
                if not reply.stored:
                    say(f"item {n}: {reply.reason}")
            show(min(first + _BATCH_COUNT, len(items)), len(items))
    if as_json:
        typer.echo(json.dumps({"stored": stored, "failed": failed}))
    else:
        say(f"{stored} stored, {failed} failed")
    raise typer.Exit(MISS if failed else 0)


def _pair(n: int, line: str) -> tuple[Any, str, dict[str, Any]]:
    try:
        item = json.loads(line)
        return item.pop("prompt"), item.pop("response"), item
    except (ValueError, KeyError, AttributeError, TypeError):
        fail(WRONG_INPUT, f"line {n} must be a JSON object with prompt and response")


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
    with _admin(admin_server, config) as client, _progress("copying") as show:
        for response in client.backup(name):
            show(response.written_bytes, max(response.total_bytes, 1))
            path = response.path
    typer.echo(path)


def rebuild(*, config: Config = None) -> None:
    """Write the store anew from its intact records, mending everything else. No server may run on it.

    Until the new store is whole the old one is in place; it stays beside as data.mdb.before.
    """
    from cachesvc.offline import rebuild_store  # noqa: PLC0415 - loads the engine

    with _progress("rebuilding") as show:
        told = rebuild_store(settings_of(config), lambda told: show(told.read, told.total))
    say(f"{told.carried} entries carried over, {told.damaged} damaged ones left out")


def reembed(*, config: Config = None) -> None:
    """Bring the store to the embedder of the configuration, from the stored prompts.

    For a change of embedder.model, engine or precision. No server may run on it. One that was cut off
    goes on where it was; the switch at the end is one step, and the old store stays beside as
    data.mdb.before.
    """
    from cachesvc.offline import reembed_store  # noqa: PLC0415 - loads the engine

    with _progress("embedding") as show:
        told = reembed_store(settings_of(config), lambda told: show(told.read, told.total), say)
    if told is None:
        say("the store is of this embedder already")
        return
    say(
        f"{told.carried} entries carried over; left out: {told.without_prompt} whose prompts are not kept, "
        f"{told.damaged} damaged"
    )


@contextmanager
def _admin(address: str, config: Path | None) -> Iterator[Any]:
    """A client whose failures, streams' included, end the command with a message."""
    try:
        with admin_client(address, config, 10.0) as client:
            yield client
    except CallError as error:
        unreachable = error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        fail(UNREACHABLE if unreachable else WRONG_INPUT, str(error))


@contextmanager
def _progress(what: str) -> Iterator[Any]:
    """A bar on standard error; nothing where that is no terminal."""
    from rich.console import Console  # noqa: PLC0415 - keeps --help fast
    from rich.progress import Progress  # noqa: PLC0415 - as above

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int | None, *, advance: bool = False) -> None:
            if advance:
                bar.update(task, advance=done, total=total)
            else:
                bar.update(task, completed=done, total=total)

        yield show
