"""Operators' commands that choose a policy by labels, and that compare one configuration with another."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cachesvc.cli_admin import AdminServer, admin_calls
from cachesvc.cli_common import (
    MISS,
    TRY,
    WRONG_INPUT,
    Config,
    Json,
    Namespace,
    fail,
    print_json,
    settings_of,
)
from cachesvc.cli_trial import data_errors, embedded_file, wide_console


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(rich_help_panel=TRY)(tune)
    app.command(rich_help_panel=TRY)(replay)


def tune(
    file: Annotated[Path | None, typer.Argument(help="Labelled prompts, as for eval.")] = None,
    *,
    max_error_rate: Annotated[
        float, typer.Option(help="Wrong hits per request that are allowed.", min=1e-6, max=0.5)
    ] = 0.01,
    from_labels: Annotated[
        bool,
        typer.Option("--from-labels", help="By the labels that the running server has of the namespace."),
    ] = False,
    gates: Annotated[
        bool, typer.Option("--gates", help="Choose the gates, too; takes half of the labels. With FILE only.")
    ] = False,
    namespace: Namespace = "default",
    as_json: Json = False,
    admin_server: AdminServer = "",
    config: Config = None,
) -> None:
    """Print the section of a configuration whose wrong hits per request stay below a rate, and what speaks for it.

    The loosest threshold is chosen that the labels defend with 95 % confidence (Clopper-Pearson with fixed-sequence
    testing). That holds for requests like the labelled ones, and for no others.

    Exit 1 when no threshold is defended: then it says about how many more labels that takes.
    """
    from cachesvc.evaluation.section import section  # noqa: PLC0415 - loads numpy
    from cachesvc.evaluation.tune import decide_threshold  # noqa: PLC0415 - as above
    from cachesvc.evaluation.tune import tune as run  # noqa: PLC0415 - as above

    if (file is None) != from_labels:
        fail(WRONG_INPUT, "name a FILE of labelled prompts, or --from-labels")
    if from_labels and gates:
        fail(
            WRONG_INPUT, "--gates needs a FILE: labels say which gate refused, not what the others would have"
        )
    settings = settings_of(config)
    policy = settings.policy_book().of(namespace)
    if file is not None:
        data = embedded_file(file, settings)
        tuned = run(data, policy, max_error_rate, choose_gates=gates)
        labels = f"{len(data):,} {'pairs' if hasattr(data, 'scores') else 'requests'} of {file.name}"
    else:
        judged = _listed(admin_server, config, namespace)
        tuned = decide_threshold(judged, policy, max_error_rate)
        labels = (
            f"{len(judged.values):,} labels of {judged.request_count:,} requests of namespace {namespace}"
        )
    if as_json:
        print_json(_as_json(tuned, section(tuned, namespace, labels)))
    else:
        typer.echo(section(tuned, namespace, labels), nl=False)
    raise typer.Exit(MISS if tuned.threshold is None else 0)


def _as_json(tuned: Any, text: str) -> dict[str, Any]:
    evidence = None if tuned.evidence is None else asdict(tuned.evidence.evidence)
    return {
        "max_error_rate": tuned.max_error_rate,
        "label_count": tuned.label_count,
        "threshold": tuned.threshold,
        "evidence": evidence,
        "gates": sorted(gate.label for gate in tuned.gates),
        "dropped": [gate.label for gate in tuned.dropped],
        "more_needed": tuned.more_needed,
        "before": None if tuned.before is None else asdict(tuned.before),
        "after": None if tuned.after is None else asdict(tuned.after),
        "section": text,
    }


def replay(
    log: Annotated[
        Path, typer.Argument(help="Requests in order: a stream as for eval, or the server's log.")
    ],
    *,
    other: Annotated[
        Path, typer.Option("--config", "-c", help="The configuration that is tried.", show_default=False)
    ],
    current: Annotated[
        Path | None,
        typer.Option("--current", help="The one in force; else what CACHESVC_CONFIG names, else defaults."),
    ] = None,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Of the requests that name none.")
    ] = "default",
    examples: Annotated[int, typer.Option(help="How many changes to list.", min=0, max=200)] = 20,
    as_json: Json = False,
) -> None:
    """Say which hits another configuration would gain and lose.

    LOG holds a stream, {"prompt": "…", "answer": "…"} a row in order of time, with namespace, model, time and cost_usd
    where they are known: it is served under both configurations. Or it is the log of the server (log.level debug, JSON):
    that holds no prompts, so only what follows from scores and gates is told, and what cannot be told is said.
    """
    from cachesvc.evaluation.replay import replay_log, replay_stream  # noqa: PLC0415 - loads numpy
    from cachesvc.evaluation.show_replay import show_replay  # noqa: PLC0415 - as above

    old, new = settings_of(current), settings_of(other)
    books = old.policy_book(), new.policy_book()
    lines = _logged(log)
    if lines is not None:
        replayed = replay_log(lines, books)
    else:
        before = embedded_file(log, old)
        if hasattr(before, "scores"):
            fail(WRONG_INPUT, f"{log} holds pairs; requests in order are needed: prompt and answer a row")
        same = old.embedder == new.embedder
        replayed = replay_stream(before, before if same else embedded_file(log, new), books, namespace)
    if as_json:
        print_json(replayed)
    else:
        show_replay(replayed, wide_console(), examples)


def _logged(file: Path) -> list[Mapping[str, Any]] | None:
    """The lookups of a server's log; None when the file is none."""
    from cachesvc.evaluation.data import decoded  # noqa: PLC0415 - loads numpy

    with data_errors():
        lines = [line for line in decoded(file).splitlines() if line.strip()]
    events: list[Mapping[str, Any]] = []
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue  # what others wrote to the same stream
        if isinstance(event, dict) and isinstance(event.get("event"), str) and "prompt" not in event:
            events.append(event)
    if not events:
        return None
    lookups = [event for event in events if event["event"] == "lookup"]
    if not lookups:
        fail(WRONG_INPUT, f"{file} is a log without lookups: they are logged where log.level is debug")
    return lookups


def _listed(admin_server: str, config: Path | None, namespace: str) -> Any:
    """The labels of a running server, judged."""
    from cachesvc.evaluation.labelled import judged, received  # noqa: PLC0415 - loads numpy

    with admin_calls(admin_server, config) as client:
        return judged(*received(client.labels(namespace)))
