"""Operators' commands: what the running server says of itself, and its configuration."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from cachesvc.calls import CallError
from cachesvc.cli_common import (
    LOOK,
    MISS,
    UNREACHABLE,
    WRONG_INPUT,
    Config,
    Json,
    Server,
    Timeout,
    called,
    exit_code,
    fail,
    print_json,
    say,
    settings_of,
)

AdminServer = Annotated[
    str, typer.Option("--admin-server", help="Address of AdminService; else admin.rpc_listen.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(rich_help_panel=LOOK)(stats)
    app.command(rich_help_panel=LOOK)(metrics)
    app.command(rich_help_panel=LOOK)(health)
    app.command("config", rich_help_panel=LOOK)(show_config)
    app.command("reload", rich_help_panel=LOOK)(reload_config)


def stats(
    *,
    as_json: Json = False,
    admin_server: AdminServer = "",
    config: Config = None,
    timeout: Timeout = 10.0,
) -> None:
    """Show how full the running server is, whether its parts work, and what each namespace holds."""
    with admin_client(admin_server, config, timeout) as client:
        answer = called(client.stats)
    if as_json:
        print_json(fields_of(answer))
        return
    typer.echo(f"version      {answer.version}, serving since {answer.start_time.ToJsonString()}")
    typer.echo(
        f"store        {answer.entries} entries, {_mib(answer.used_bytes)} of {_mib(answer.max_bytes)}"
    )
    typer.echo(f"index        {answer.index_scopes} scopes in memory, {_mib(answer.index_bytes)}")
    warming = answer.warming
    if not warming.done:
        typer.echo(
            f"  loading    {warming.scopes} of {warming.scopes_total} scopes, "
            f"{warming.rows} of {warming.rows_total} vectors; exact hits are served meanwhile"
        )
    typer.echo(f"sequence     {answer.sequence}")
    typer.echo(f"config       generation {answer.config_generation}")
    broken = [name for name, works in answer.components.items() if not works and name != "index"]
    typer.echo(f"components   {'all work' if not broken else 'failing: ' + ', '.join(sorted(broken))}")
    for usage in answer.namespaces:
        typer.echo(f"  {usage.namespace:<40} {usage.entries:>9} entries  {_mib(usage.bytes):>12}")


def metrics(
    *,
    as_json: Json = False,
    admin: Annotated[str, typer.Option("--admin", help="Address of the admin port; else admin.listen.")] = "",
    config: Config = None,
    timeout: Timeout = 5.0,
) -> None:
    """Show what the running server counts: its metrics, without histogram buckets."""
    from cachesvc.scrape import scrape  # noqa: PLC0415 - loads what only this command needs

    address = admin or settings_of(config).admin.listen
    try:
        values = scrape(address, timeout)
    except ValueError:
        fail(WRONG_INPUT, f"--admin {address}: must be host:port")
    except (OSError, HTTPException) as error:
        fail(UNREACHABLE, f"no answer from the admin port {address}: {error}")
    if as_json:
        print_json(values)
        return
    width = max(map(len, values))
    for name, value in values.items():
        typer.echo(f"{name:<{width}}  {value:g}")


def health(
    *,
    server: Server = "",
    config: Config = None,
    timeout: Timeout = 2.0,
) -> None:
    """Ask the server whether it serves: exit 0 if it does, 1 if it says not, 4 without an answer.

    For container health checks and exec probes: it needs no other tool in the image.
    """
    import grpc  # noqa: PLC0415 - keeps --help fast
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415 - as above

    address = server or settings_of(config).server.listen
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout
            )
        except grpc.RpcError as error:
            fail(UNREACHABLE, f"no answer from {address}: {error.code().name}")
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    say(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    raise typer.Exit(0 if serving else MISS)


def show_config(
    *,
    admin_server: AdminServer = "",
    config: Config = None,
    timeout: Timeout = 10.0,
) -> None:
    """Print the configuration that the running server goes by, as JSON.

    Its generation, the file it came from and, if there was one, the mistake that a later file was
    refused for go to standard error.
    """
    with admin_client(admin_server, config, timeout) as client:
        answer = called(client.config)
    typer.echo(answer.json)
    say(f"generation {answer.generation}, from {answer.path or 'defaults and environment'}")
    if answer.last_error:
        say(f"the last reload was refused: {answer.last_error}")


def reload_config(
    *,
    admin_server: AdminServer = "",
    config: Config = None,
    timeout: Timeout = 10.0,
) -> None:
    """Have the running server read its configuration again; exit 2 and the reason when it refuses."""
    with admin_client(admin_server, config, timeout) as client:
        answer = called(client.reload)
    for path in answer.changed:
        typer.echo(path)
    say(f"generation {answer.generation}: {len(answer.changed)} settings changed")


def admin_client(address: str, config: Path | None, timeout_s: float) -> Any:
    """A client for the AdminService that is meant."""
    from cachesvc.admin_client import AdminClient  # noqa: PLC0415 - keeps --help fast

    return AdminClient(address or settings_of(config).admin.rpc_listen, timeout_s=timeout_s)


@contextmanager
def admin_calls(address: str, config: Path | None) -> Iterator[Any]:
    """A client whose failures, streams' included, end the command with a message."""
    try:
        with admin_client(address, config, 10.0) as client:
            yield client
    except CallError as error:
        fail(exit_code(error.code, error.message), str(error))


def fields_of(answer: Message) -> dict[str, Any]:
    """A server's answer for --json: every field, by its name in protos/."""
    return MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.1f} MiB"
