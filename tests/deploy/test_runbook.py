"""docs/operations.md: no alert, metric or exit code is missing, and what it names exists."""

import re

import yaml

from cachesvc import cli
from cachesvc.cli_common import EXIT_CODES, MISS, UNREACHABLE, WRONG_INPUT
from cachesvc.observe.metrics import catalogue
from cachesvc.settings import keys
from tests.deploy.places import ALERTS, DEPLOY, PROCESS, RUNBOOK


def test_every_alert_is_in_the_runbook() -> None:
    """Each has its heading, and the runbook has no alert that does not exist."""
    alerts = yaml.safe_load(ALERTS.read_text())
    names = {rule["alert"] for group in alerts["groups"] for rule in group["rules"]}
    runbook = RUNBOOK.read_text()
    assert set(re.findall(r"^### (Cachesvc\w+)$", runbook, re.MULTILINE)) == names
    for group in alerts["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")


def test_every_metric_is_in_the_runbook() -> None:
    """Each has its line, with something to do; no line is of a metric that does not exist."""
    runbook = RUNBOOK.read_text().partition("\n## Metrics\n")[2]
    lines = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", runbook.partition("\n## ")[0], re.MULTILINE))
    documented = {name for name in lines if not name.startswith("process_")}
    assert documented == {doc.name for doc in catalogue()}
    assert lines.keys() - documented == PROCESS


def test_every_exit_code_is_in_the_runbook_and_in_the_help() -> None:
    """None is missing, and those of signals aside none is made up."""
    runbook = RUNBOOK.read_text().partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    listed = {
        int(code)
        for cell in re.findall(r"^\| ([0-9, ]+) \|", runbook, re.MULTILINE)
        for code in cell.split(",")
    }
    used = {0, MISS, WRONG_INPUT, UNREACHABLE, *EXIT_CODES.values()}
    assert listed == used | {137, 143}
    told = re.findall(r"(?:: |; )(\d+) ", cli.__doc__.partition("Exit codes")[2].replace("\n", " "))
    assert {int(code) for code in told} == used


def test_the_runbook_names_what_exists() -> None:
    """Every command and every setting of it, and of the deployment's page, is one."""
    commands = {command.name or command.callback.__name__.replace("_", "-") for command in cli.app.registered_commands
                if command.callback is not None}  # fmt: skip
    sections = {key.partition(".")[0] for key in keys()}
    for page in (RUNBOOK, DEPLOY / "README.md"):
        text = page.read_text()
        for command in re.findall(r"(?:`|-- |bin/)cachesvc ([a-z][a-z-]*)", text):
            assert command in commands, f"{command} in {page.name}"
        for name in re.findall(r"`([a-z]+\.[a-z_]+)\b(?!\.)", text):
            if (
                name.partition(".")[0] in sections
                and name != "server.lock"
                and not name.startswith("policy.")
            ):
                assert name in set(keys()), f"{name} in {page.name}"
