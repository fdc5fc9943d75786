"""Operators' commands that move entries: export, import, and warming up from pairs."""

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from google.protobuf.json_format import MessageToJson, Parse, ParseError

from cachesvc.calls import CallError
from cachesvc.cli_admin import AdminServer, admin_calls, fields_of
from cachesvc.cli_common import (
    MEND,
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
    print_json,
    progress,
    say,
)
from cachesvc.pairs import Pair, pair_of

_BATCH_COUNT = 64
_BATCH_BYTES = 1 << 20
_MAX_TOLD = 20
_MAX_END_BYTES = 4096  # of a header or trailer


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("export", rich_help_panel=MEND)(export_entries)
    app.command("import", rich_help_panel=MEND)(import_entries)
    app.command(rich_help_panel=MEND)(warm)


def export_entries(
    file: Annotated[Path, typer.Argument(help="File to write, a line a record (docs/export-format.md).")],
    *,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Only this one; left out, all.")] = "",
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Vectors too: an import with the same embedder embeds nothing.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a file that was cut off, with the options it began with."),
    ] = False,
    admin_server: AdminServer = "",
    config: Config = None,
) -> None:
    """Write the entries of the running server to a file, to import them elsewhere.

    Responses and prompts are in it as they are: the file is made readable to its owner only. A file
    without its last line, the trailer, was cut off: go on with it with --resume.
    """
    if not resume and file.exists():
        fail(WRONG_INPUT, f"{file} exists; remove it, name another file, or go on with it: --resume")
    begun = _begun(file, namespace, vectors=vectors) if resume else _Begun()
    if begun.header is not None:
        namespace, vectors = begun.header.namespace, begun.header.vectors
    with admin_calls(admin_server, config) as client, progress("exporting") as show:
        total = client.stats().entries
        records = client.export(namespace=namespace, vectors=vectors, after_id=begun.last_id)
        header = next(records)  # before the file is made: a call that is refused leaves none
        if begun.header is None:
            records = itertools.chain([header], records)
        elif header.header.fingerprint != begun.header.fingerprint:
            fail(WRONG_INPUT, f"{file} is of another embedder than this server's: begin another file")
        count = begun.count
        with _appended(file, begun.end) as out:
            for record in records:
                if record.HasField("trailer"):
                    record.trailer.entries = count
                out.write(MessageToJson(record, indent=None).encode() + b"\n")
                count += record.HasField("entry")
                show(count, total)
    say(f"exported {count} entries to {file}")


@dataclass(frozen=True, slots=True)
class _Begun:
    """What there is of an export: its header, the last whole entry, how many, and where the next one belongs."""

    header: Any = None
    last_id: str = ""
    count: int = 0
    end: int = 0


def _begun(file: Path, namespace: str, *, vectors: bool) -> _Begun:
    """Read an export that was cut off. One of nothing at all is begun anew."""
    from cachesvc.v1 import admin_pb2 as pb  # noqa: PLC0415 - keeps --help fast

    header, last_id, count, end = None, "", 0, 0
    try:
        with file.open("rb") as stream:
            for line in stream:
                record = _record(line)
                if header is None:
                    header = record.header if record.HasField("header") else None
                if header is None or record == pb.ExportRecord():
                    break
                if record.HasField("trailer"):
                    fail(WRONG_INPUT, f"{file} is whole already")
                if record.HasField("entry"):
                    last_id, count = record.entry.entry.id, count + 1
                end += len(line)
            is_empty = not stream.seek(0, os.SEEK_END)
    except OSError as error:
        fail(WRONG_INPUT, f"{file} cannot be gone on with: {error.strerror}")
    if header is None and not is_empty:
        fail(WRONG_INPUT, f"{file} is not an export")
    if header is not None and (namespace not in ("", header.namespace) or vectors > header.vectors):
        fail(WRONG_INPUT, f"{file} was begun with other options: leave out --namespace and --vectors")
    return _Begun(header, last_id, count, end)


def _record(line: bytes) -> Any:
    """A line's record; an empty one for what is none, or was cut off."""
    from cachesvc.v1 import admin_pb2 as pb  # noqa: PLC0415 - keeps --help fast

    try:
        return Parse(line, pb.ExportRecord()) if line.endswith(b"\n") else pb.ExportRecord()
    except (ParseError, UnicodeDecodeError):
        return pb.ExportRecord()


@contextmanager
def _appended(file: Path, end: int) -> Iterator[BinaryIO]:
    """A private file to write, from a place on. What the disk says against it ends the command."""
    try:
        file.touch(mode=0o600)
        with file.open("r+b") as out:
            out.truncate(end)
            out.seek(end)
            yield out
    except OSError as error:
        fail(UNREACHABLE, f"{file} cannot be written: {error.strerror}")


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

    count = _whole_count(file)
    records = _Records(file)
    last = pb.ImportResponse()
    with admin_calls(admin_server, config) as client, progress("importing") as show:
        try:
            for last in client.import_(records.read()):
                show(last.read, count)
        except CallError:
            if last.stored:
                say(f"{last.stored} entries were stored before it failed; done again, it leaves them alone")
            if records.wrong:  # what the server says then is only that the rest is missing
                fail(WRONG_INPUT, records.wrong)
            raise
    if as_json:
        print_json(fields_of(last))
    else:
        for reason in last.errors:
            say(reason)
        say(
            f"{last.read} read: {last.stored} stored, {last.unchanged} there already, "
            f"{last.expired} expired, {last.failed} failed"
        )
    raise typer.Exit(MISS if last.failed else 0)


def _whole_count(file: Path) -> int:
    """How many entries an export says it has. One that has no header or trailer ends the command at once."""
    try:
        with file.open("rb") as stream:
            header = _record(stream.readline(_MAX_END_BYTES))
            stream.seek(max(stream.seek(0, os.SEEK_END) - _MAX_END_BYTES, 0))
            last = (
                _record(stream.read().splitlines(keepends=True)[-1]) if header.HasField("header") else header
            )
    except OSError as error:
        fail(WRONG_INPUT, f"{file} cannot be read: {error.strerror}")
    if not header.HasField("header"):
        fail(WRONG_INPUT, f"{file} is not an export (pairs of prompt and response: cachesvc warm)")
    if not last.HasField("trailer"):
        fail(WRONG_INPUT, f"{file} was cut off: cachesvc export {file} --resume goes on with it")
    return int(last.trailer.entries)


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


def warm(
    file: Annotated[Path, typer.Argument(help="A file of JSON objects, one a line, as above.")],
    *,
    namespace: Namespace = "default",
    model: Model = "",
    as_json: Json = False,
    server: Server = "",
    config: Config = None,
) -> None:
    """Fill the cache from pairs of prompt and response, one JSON object a line.

    {"prompt": "How do I …?", "response": "You …"}

    The prompt is a text, or a list of turns with role and content. A line may have more: namespace,
    model, vary, tags, metadata, sources, content_type, ttl_s, input_tokens, output_tokens, cost_usd.

    The file is read through first. When a line is wrong the line and the field are named, nothing is
    stored, and the exit code is 2. Exit 1 when the server refused some. Done again it replaces what it
    stored.
    """
    count = _checked_count(file)
    stored, exact_only, failed = 0, 0, 0
    with client_of(server, config, namespace) as client, progress("storing") as show:
        for batch in _batches(file):
            items = [(pair.prompt, pair.response, {"model": model, **pair.options()}) for _, pair in batch]
            replies = client.store_many(items, timeout_s=60.0)
            for n, ((number, _), reply) in enumerate(zip(batch, replies, strict=True)):
                if reply.reason.startswith(("UNAVAILABLE", "DEADLINE_EXCEEDED")) and not reply.stored:
                    fail(UNREACHABLE, f"{stored} were stored, then: {reply.reason}; do it again")
                if not reply.stored:
                    say(f"line {number}: {reply.reason.replace(f'items[{n}].', '')}")
                stored, failed = stored + reply.stored, failed + (not reply.stored)
                exact_only += reply.stored and not reply.semantic
            show(stored + failed, count)
    if as_json:
        typer.echo(json.dumps({"stored": stored, "exact_only": exact_only, "failed": failed}))
    else:
        say(f"{stored} stored ({exact_only} in the exact tier only), {failed} failed")
    raise typer.Exit(MISS if failed else 0)


def _checked_count(file: Path) -> int:
    """How many pairs there are. Ends the command when one is wrong, naming the first few."""
    count, wrong = 0, 0
    for number, line in _lines(file):
        try:
            pair_of(line)
            count += 1
        except ValueError as error:
            wrong += 1
            if wrong <= _MAX_TOLD:
                say(f"line {number}: {error}")
    if wrong:
        fail(WRONG_INPUT, f"{file}: {wrong} lines are wrong; nothing was stored")
    return count


def _batches(file: Path) -> Iterator[list[tuple[int, Pair]]]:
    """Pairs with the numbers of their lines, as many as fit a message."""
    batch: list[tuple[int, Pair]] = []
    size_bytes = 0
    for number, line in _lines(file):
        if batch and (len(batch) == _BATCH_COUNT or size_bytes + len(line) > _BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append((number, pair_of(line)))
        size_bytes += len(line)
    if batch:
        yield batch


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, and their numbers."""
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        fail(WRONG_INPUT, f"{file} cannot be read: {error.strerror}")
