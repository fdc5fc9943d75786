"""Commands about trust: why a lookup decides as it does, whether its hits are right, and which rule decides."""

from datetime import UTC
from typing import Annotated, Any

import typer

from cachesvc.cli_admin import AdminServer, admin_client, fields_of
from cachesvc.cli_common import (
    LOOK,
    MISS,
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
    fail,
    pairs,
    print_json,
    say,
    shortened,
    text_of,
)

_PROMPT_WIDTH = 100
_STEPS = 10
_ROUNDING = 1e-6  # of a score on the wire


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(rich_help_panel=LOOK)(explain)
    app.command(rich_help_panel=LOOK)(trust)
    app.command(rich_help_panel=USE)(feedback)


def explain(
    prompt: Prompt,
    *,
    entry: Annotated[str, typer.Option(help="Explain this entry, too, near or not.")] = "",
    namespace: Namespace = "default",
    model: Model = "",
    vary: Vary = None,
    min_score: MinScore = None,
    as_json: Json = False,
    server: Server = "",
    config: Config = None,
    timeout: Timeout = 5.0,
) -> None:
    """Show how a lookup decides: identity, candidates, scores, every gate's verdict, confidence, threshold.

    Nothing is served and nothing counted. Exit 0 when the lookup would hit, 1 when it would miss.
    """
    options: dict[str, Any] = {"model": model, "vary": pairs("--vary", vary), "timeout_s": timeout}
    if min_score is not None:
        options["min_score"] = min_score
    with client_of(server, config, namespace) as client:
        found = called(lambda: client.explain(text_of(prompt), entry_id=entry, **options))
    if as_json:
        print_json(found)
    else:
        _print_explanation(found, min_score)
    raise typer.Exit(0 if found.outcome.startswith("HIT") else MISS)


def _print_explanation(found: Any, min_score: float | None) -> None:
    typer.echo(f"outcome    {found.outcome}: {found.reason}")
    typer.echo(f"context    {found.context}\nscope      {found.scope}\nexact key  {found.exact_key}")
    typer.echo(f"text       {shortened(found.text, _PROMPT_WIDTH)}")
    if found.unseen:
        typer.echo(f"exact only {found.unseen}")
    rule = "the policy's threshold" if not found.rule_version else f"rule {found.rule_version}"
    threshold = "" if found.threshold is None else f" {found.threshold:.4f}"
    if min_score is not None and found.threshold is not None and abs(found.threshold - min_score) < _ROUNDING:
        rule = "the request's min_score"
    typer.echo(f"decided by {rule}{threshold}; mode {found.mode}, brake {found.brake}")
    for n, candidate in enumerate(found.candidates, 1):
        typer.echo(f"\n{n}. entry {candidate.entry_id}  {shortened(candidate.prompt, _PROMPT_WIDTH)}")
        figures = [f"score {candidate.score:.4f}"]
        if candidate.rule_score is not None:
            figures.append(f"rule score {candidate.rule_score:.4f}")
        if candidate.confidence is not None:
            figures.append(f"confidence {candidate.confidence:.3f}")
        if candidate.identical:
            figures.append("the identical request")
        typer.echo(f"   {', '.join(figures)} -> {candidate.outcome}")
        if candidate.differs_in:
            typer.echo(f"   out of reach: differs in {', '.join(candidate.differs_in)}")
        for gate in candidate.gates:
            state = "refuses" if gate.enforced else "would refuse, but is off"
            differing = f": {gate.ours!r} against {gate.theirs!r}" if gate.ours or gate.theirs else ""
            typer.echo(f"   gate {gate.gate} {state}: {gate.reason}{differing}")


def feedback(
    verdict: Annotated[str, typer.Argument(help="right or wrong; or with --fresh left out.")] = "",
    *,
    lookup: Annotated[str, typer.Option(help="The lookup_id of the hit.")] = "",
    entry: Annotated[str, typer.Option(help="The entry that was served; with --prompt.")] = "",
    prompt: Annotated[
        str | None, typer.Option(help="What was asked; - reads it from standard input.")
    ] = None,
    fresh: Annotated[
        str | None,
        typer.Option(help="A fresh answer to compare with the entry's; @FILE reads it from a file."),
    ] = None,
    source: Annotated[str, typer.Option(help="Who says so, for the records.")] = "operator",
    namespace: Namespace = "default",
    model: Model = "",
    vary: Vary = None,
    as_json: Json = False,
    server: Server = "",
    config: Config = None,
    timeout: Timeout = 5.0,
) -> None:
    """Say of a hit that it was right or wrong. What was wrong is not served for such a request again."""
    if bool(verdict) == (fresh is not None) or verdict not in ("", "right", "wrong"):
        fail(WRONG_INPUT, "give right or wrong, or --fresh, and not both")
    options: dict[str, Any] = {"source": source, "timeout_s": timeout, "model": model}
    options |= {"lookup_id": lookup, "entry_id": entry, "vary": pairs("--vary", vary)}
    if prompt is not None:
        options["prompt"] = text_of(prompt)
    answer = None if fresh is None else bytes_of(fresh)
    with client_of(server, config, namespace) as client:
        reply = called(lambda: client.feedback(verdict=verdict or None, fresh=answer, **options))
    if as_json:
        print_json(reply)
        return
    said = reply.verdict or "cannot be told from the entry's answer"
    then = ", said before" if reply.known else ""
    then += ", this reuse is refused from now on" if reply.vetoed else ""
    then += ", the entry is served no more" if reply.quarantined else ""
    typer.echo(f"{said}{then}")


def trust(
    namespace: Annotated[str, typer.Argument(help="One namespace; else all.")] = "",
    *,
    revert: Annotated[
        int | None,
        typer.Option(
            help="Put this version of its rule in force and keep it; 0: the policy's threshold, 1: score and votes."
        ),
    ] = None,
    unpin: Annotated[bool, typer.Option("--unpin", help="Let it adopt rules again.")] = False,
    as_json: Json = False,
    admin_server: AdminServer = "",
    config: Config = None,
    timeout: Timeout = 10.0,
) -> None:
    """Show how right the hits of each namespace are, what that is known from, and which rule decides."""
    if (revert is not None or unpin) and not namespace:
        fail(WRONG_INPUT, "--revert and --unpin need a namespace")
    if revert is not None and unpin:
        fail(WRONG_INPUT, "give --revert or --unpin, and not both")
    with admin_client(admin_server, config, timeout) as client:
        if revert is not None:
            rule = called(lambda: client.revert_rule(namespace, revert)).rule
            say(f"{namespace} goes by rule {rule.version} ({rule.kind}, {rule.threshold:.4f}), and keeps it")
        if unpin:
            called(lambda: client.unpin_rule(namespace))
            say(f"{namespace} may adopt rules again")
        answer = called(lambda: client.trust(namespace))
    if as_json:
        print_json(fields_of(answer)["namespaces"])
        return
    for known in answer.namespaces:
        _print_trust(known)
    if not answer.namespaces:
        say("nothing is known yet: no label, no audit")


def _print_trust(known: Any) -> None:
    rule, tally = known.rule, known.tally
    typer.echo(f"{known.namespace}  mode {known.mode}, brake {known.brake}")
    pinned = ", kept by an operator" if known.pinned else ""
    bound = f", defends {rule.error_bound:.2%} errors a request" if rule.HasField("error_bound") else ""
    typer.echo(f"  rule        {rule.version} ({rule.kind}), threshold {rule.threshold:.4f}{bound}{pinned}")
    if rule.evidence:
        typer.echo(f"  evidence    {rule.evidence}")
    if known.challenger:
        typer.echo(f"  challenger  {known.challenger}")
    if known.HasField("false_hit_rate"):
        typer.echo(
            f"  wrong hits  {known.false_hit_rate:.2%} of the semantic hits "
            f"(95 %: {known.false_hit_rate_low:.2%} to {known.false_hit_rate_high:.2%}), "
            f"{known.audited_wrong} of {known.audited} audited; {known.audit_share:.1%} are audited now"
        )
    else:
        typer.echo("  wrong hits  not known: no audit yet")
    if known.HasField("calibration_error"):
        typer.echo(
            f"  confidence  of rule {rule.version}, off by {known.calibration_error:.3f} in the mean on labels that came later"
        )
    else:
        typer.echo("  confidence  absent: too few labels of what this rule picks")
    labels = ", ".join(f"{count} {origin}" for origin, count in sorted(known.labels.items()) if count)
    typer.echo(f"  labels      {labels or 'none'}; {known.vetoes} vetoed reuses")
    typer.echo(
        f"  lookups     {tally.searched} searched, {tally.near} near, {tally.would_hit} would hit, "
        f"{tally.served} served, {tally.held_back} held back, {tally.vetoed} refused by a gate or veto"
    )
    for step in known.steps[:_STEPS]:
        when = step.time.ToDatetime(tzinfo=UTC).isoformat(timespec="seconds")
        typer.echo(f"  {when}  {step.what}")
