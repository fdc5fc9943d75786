"""Commands on many entries: list and invalidate."""

import itertools
from dataclasses import asdict
from typing import Annotated, Any

import typer

from cachesvc.cli_common import (
    USE,
    WRONG_INPUT,
    Config,
    Json,
    Namespace,
    Server,
    Timeout,
    called,
    client_of,
    fail,
    print_json,
    say,
    shortened,
)

_PROMPT_WIDTH = 60


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("list", rich_help_panel=USE)(list_entries)
    app.command(rich_help_panel=USE)(invalidate)


def list_entries(
    *,
    namespace: Namespace = "default",
    tag: Annotated[str, typer.Option(help="Only entries with this tag.")] = "",
    older_than: Annotated[float | None, typer.Option(help="Only entries older than this, seconds.")] = None,
    newer_than: Annotated[float | None, typer.Option(help="Only entries newer than this, seconds.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="Entries to list at most; 0: all.")] = 100,
    as_json: Json = False,
    server: Server = "",
    config: Config = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for each page.")] = 10.0,
) -> None:
    """List the entries of a namespace, oldest first, without their responses.

    A line each: id, when it was stored, hits, bytes, tags, prompt. With --json a JSON array.
    """
    options: dict[str, Any] = {
        "tag": tag,
        "timeout_s": timeout,
        "page_size": min(limit, 1000) if limit else 1000,
    }
    if older_than is not None:
        options["older_than_s"] = older_than
    if newer_than is not None:
        options["newer_than_s"] = newer_than
    with client_of(server, config, namespace) as client:
        entries = called(lambda: list(itertools.islice(client.list_entries(**options), limit or None)))
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    for entry in entries:
        typer.echo(_line(entry))
    say(f"{len(entries)} entries" + (" (there may be more: --limit 0)" if len(entries) == limit else ""))


def invalidate(
    *,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="The namespace; left out, the default one.")
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", help="Every namespace; needs another criterion.")
    ] = False,
    tag: Annotated[list[str] | None, typer.Option(help="Entries with this tag; with all of several.")] = None,
    source: Annotated[str | None, typer.Option(help="Entries built from this source.")] = None,
    except_version: Annotated[
        str | None, typer.Option(help="With --source: but not those built from this version of it.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Entries of this model.")] = None,
    older_than: Annotated[float | None, typer.Option(help="Entries older than this, seconds.")] = None,
    near: Annotated[
        str | None, typer.Option(help="Entries whose prompt means nearly the same as this text.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="With --near: the lowest cosine similarity; 0.9 if left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; show what would be.")] = False,
    examples: Annotated[int, typer.Option(help="Examples to show.")] = 5,
    as_json: Json = False,
    server: Server = "",
    config: Config = None,
    timeout: Timeout = 60.0,
) -> None:
    """Remove every entry that meets all criteria given.

    At least one must be; --namespace alone removes all of it. Once it returns none of them is served, and no response that was being made is stored after all.
    Start with --dry-run: it counts and shows examples.
    """
    criteria = {
        "tags": tag,
        "source_id": source,
        "except_version": except_version,
        "model": model,
        "older_than_s": older_than,
        "near": None if near is None else (near, 0.9 if min_score is None else min_score),
    }
    given = {name: value for name, value in criteria.items() if value is not None}
    if not given and namespace is None and not all_namespaces:
        fail(WRONG_INPUT, "say what is to go: give a criterion, or --namespace for all of it")
    if namespace is not None and all_namespaces:
        fail(WRONG_INPUT, "give --namespace or --all-namespaces")
    if except_version is not None and source is None:
        fail(WRONG_INPUT, "--except-version goes with --source")
    if min_score is not None and near is None:
        fail(WRONG_INPUT, "--min-score goes with --near")
    meant: dict[str, Any] = {**given, "namespace": None if all_namespaces else namespace or "default"}
    with client_of(server, config, "") as client:
        answer = called(
            lambda: client.invalidate(**meant, dry_run=dry_run, max_examples=examples, timeout_s=timeout)
        )
    if as_json:
        print_json(answer)
        return
    for entry in answer.examples:
        typer.echo(_line(entry))
    say(f"{answer.count} entries {'would be' if dry_run else 'were'} removed")


def _line(entry: Any) -> str:
    prompt = shortened(entry.prompt, _PROMPT_WIDTH)
    score = "" if entry.score is None else f"  {entry.score:.4f}"
    tags = ",".join(entry.tags) or "-"
    created = entry.created.isoformat(timespec="seconds")
    return f"{entry.id}  {created}  {entry.hits:>6}  {entry.response_bytes:>9}  {tags}{score}  {prompt}"
