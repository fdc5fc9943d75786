"""eval, tune, replay and traps, as an operator uses them: no server, the real model, a few prompts."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from cachesvc.settings import load
from cachesvc.v1 import admin_pb2, admin_pb2_grpc, cache_pb2

CLI = [sys.executable, "-m", "cachesvc.cli"]
QUESTIONS = ("How do I reset my password", "Where is my parcel", "Which card has no yearly fee")


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(env or {})},
    )


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """Each question three times, a little different each time; and one that is like another but not the same."""
    rows = [(f"{text}{mark}", n) for mark in ("?", "", "?") for n, text in enumerate(QUESTIONS)]
    rows += [("How do I reset my passwords?", 9)]
    file = tmp_path / "stream.jsonl"
    file.write_text("".join(json.dumps({"prompt": text, "answer_id": n}) + "\n" for text, n in rows))
    return file


def test_eval_tells_tiers_and_worst_hits(stream: Path) -> None:
    """As tables, wrong hits first."""
    told = run("eval", stream)
    assert told.returncode == 0, told.stderr
    assert "10 requests" in told.stdout
    assert "exact tier, hits" in told.stdout
    assert "of caches by default" in told.stdout
    assert "GPTCache" in told.stdout


def test_eval_as_json_goes_by_the_policy_of_the_namespace(stream: Path, tmp_path: Path) -> None:
    """The configuration's policy decides, and every figure has its interval."""
    config = tmp_path / "config.toml"
    config.write_text('[policy.default]\nmin_score = 0.6\n[policy."strict"]\nsemantic = false\n')
    lax = json.loads(run("eval", stream, "--json", "--config", config).stdout)
    strict = json.loads(run("eval", stream, "--json", "--config", config, "--namespace", "strict").stdout)
    assert lax["threshold"] == 0.6
    assert lax["policy"]["wrong"]["count"] == 1
    assert lax["worst"][0]["asked"] == "How do I reset my passwords?"
    assert [tier["right"] for tier in strict["tiers"]] == [3, 0]
    assert strict["policy"]["wrong"]["low"] == 0


def test_eval_reads_pairs_and_draws(tmp_path: Path) -> None:
    """CSV in, PNG out."""
    file, picture = tmp_path / "pairs.csv", tmp_path / "curve.png"
    file.write_text("a,b,same,kind\nPay 5 euros,Pay 7 euros,0,number\nPay 5 euros,Pay 5 euros!,1,mark\n")
    told = run("eval", file, "--plot", picture, env={"MPLCONFIGDIR": str(tmp_path)})
    assert told.returncode == 0, told.stderr
    assert "2 pairs" in told.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_without_matplotlib_says_what_to_install(stream: Path, tmp_path: Path) -> None:
    """And leaves with the code of what cannot be had."""
    (tmp_path / "matplotlib.py").write_text("raise ImportError\n")
    told = run("eval", stream, "--plot", tmp_path / "x.png", env={"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"})
    assert told.returncode == 4
    assert "pip install 'cachesvc[plot]'" in told.stderr


@pytest.mark.parametrize("command", ["eval", "tune", "traps"])
def test_a_file_that_is_wrong_ends_with_its_place(tmp_path: Path, command: str) -> None:
    """Exit 2, and no model was loaded for it."""
    file = tmp_path / "x.jsonl"
    file.write_text('{"prompt": "a", "answer_id": "1"}\n{"prompt": ""}\n')
    told = run(command, file)
    assert told.returncode == 2
    assert "line 2: " in told.stderr
    assert "Traceback" not in told.stderr


def test_tune_prints_a_section_that_loads(tmp_path: Path) -> None:
    """With enough labels; what is printed is the configuration."""
    file, config = tmp_path / "x.jsonl", tmp_path / "config.toml"
    rows = [(f"{text}{'!' * count}", n) for count in range(40) for n, text in enumerate(QUESTIONS)]
    file.write_text("".join(json.dumps({"prompt": text, "answer_id": n}) + "\n" for text, n in rows))
    told = run("tune", file, "--max-error-rate", "0.05", "--namespace", "shop")
    assert told.returncode == 0, told.stderr
    config.write_text(told.stdout)
    policy = load(config).policy_book().of("shop")
    assert 0.6 <= policy.min_score < 1
    assert f"Of {len(rows)} requests" in told.stdout


def test_tune_says_how_many_labels_are_missing(stream: Path) -> None:
    """Exit 1, and nothing but comments. The three that are asked again word for word are none."""
    told = run("tune", stream)
    assert told.returncode == 1
    assert "needs about 292 more" in told.stdout
    assert all(line.startswith("#") for line in told.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a FILE"),
        (("x.jsonl", "--from-labels"), "name a FILE"),
        (("--from-labels", "--gates"), "--gates needs a FILE"),
    ],
)
def test_tune_is_asked_one_way_or_the_other(arguments: tuple[str, ...], said: str) -> None:
    """Exit 2."""
    told = run("tune", *arguments)
    assert told.returncode == 2
    assert said in told.stderr


class Labels(admin_pb2_grpc.AdminServiceServicer):
    """A server that has two thousand requests' labels, right from .9 on."""

    def ListLabels(  # noqa: N802 - as in the proto
        self, request: admin_pb2.ListLabelsRequest, context: grpc.ServicerContext
    ) -> Iterator[admin_pb2.ListLabelsResponse]:
        assert request.namespace == "shop"
        yield admin_pb2.ListLabelsResponse(tally=admin_pb2.LookupTally(searched=2000, near=500))
        for n in range(500):
            score = 0.7 + 0.0005 * n
            verdict = cache_pb2.VERDICT_RIGHT if score >= 0.9 else cache_pb2.VERDICT_WRONG
            near = admin_pb2.ListedCandidate(score=score, verdict=verdict)
            label = admin_pb2.ListedLabel(origin="miss", comparator="text", share=1, candidates=[near])
            yield admin_pb2.ListLabelsResponse(labels=[label])


@contextmanager
def served(servicer: admin_pb2_grpc.AdminServiceServicer) -> Iterator[str]:
    """An AdminService on a free port."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    admin_pb2_grpc.add_AdminServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_tune_goes_by_the_labels_of_a_server() -> None:
    """Those of the namespace, as ListLabels streams them."""
    with served(Labels()) as address:  # type: ignore[abstract]  # its other methods are UNIMPLEMENTED
        told = run("tune", "--from-labels", "--namespace", "shop", "--admin-server", address, "--json")
    assert told.returncode == 0, told.stderr
    tuned = json.loads(told.stdout)
    assert tuned["label_count"] == 2000
    assert tuned["threshold"] == pytest.approx(0.9, abs=0.01)
    assert tuned["evidence"]["error_bound"] <= 0.01


def test_tune_needs_the_server_for_its_labels() -> None:
    """Exit 4 where there is none."""
    told = run("tune", "--from-labels", "--admin-server", "127.0.0.1:1")
    assert told.returncode == 4


def test_replay_of_a_stream_tells_what_changes(stream: Path, tmp_path: Path) -> None:
    """Hits gained, and whether they are right."""
    config = tmp_path / "other.toml"
    config.write_text("[policy.default]\nmin_score = 0.6\n")
    told = run("replay", stream, "--config", config, "--json")
    assert told.returncode == 0, told.stderr
    replayed = json.loads(told.stdout)
    assert replayed["request_count"] == 10
    assert replayed["gained_wrong"] + replayed["before"]["wrong"] == replayed["after"]["wrong"] == 1


def test_replay_of_the_log_says_what_it_cannot_tell(tmp_path: Path) -> None:
    """The log has no prompts."""
    log, config = tmp_path / "log.jsonl", tmp_path / "other.toml"
    config.write_text("[policy.default]\nmin_score = 0.98\n")
    lines = [
        {"event": "serving", "level": "info"},
        {
            "event": "lookup",
            "outcome": "hit_semantic",
            "namespace": "default",
            "score": 0.97,
            "saved_cost_usd": 0.25,
        },
    ]
    log.write_text("Starting …\n" + "".join(json.dumps(line) + "\n" for line in lines))
    told = run("replay", log, "--config", config, "--json")
    assert told.returncode == 0, told.stderr
    replayed = json.loads(told.stdout)
    assert (replayed["lost_unknown"], replayed["before"]["saved_usd"]) == (1, 0.25)
    assert any("no texts are logged" in line for line in replayed["cannot_tell"])


def test_a_log_without_lookups_says_how_to_get_them(tmp_path: Path) -> None:
    """Exit 2."""
    log = tmp_path / "log.jsonl"
    log.write_text('{"event": "serving"}\n')
    told = run("replay", log, "--config", log)
    assert told.returncode in (2, 3)
    (tmp_path / "other.toml").write_text("")
    told = run("replay", log, "--config", tmp_path / "other.toml")
    assert told.returncode == 2
    assert "log.level is debug" in told.stderr


def test_traps_of_own_prompts(tmp_path: Path) -> None:
    """Exit 1 when a guarded kind was served: without gates it is; told by kind and pair."""
    prompts, config = tmp_path / "prompts.txt", tmp_path / "config.toml"
    prompts.write_text("How do I transfer 250 euros from Rome to Oslo?\n\nIs the shop open on 3 May?\n")
    config.write_text("[policy.default]\ngates = []\n")
    told = run("traps", prompts, "--config", config, "--json")
    assert told.returncode == 1, told.stderr
    sprang = json.loads(told.stdout)
    assert sprang["slipped"]
    assert {kind["kind"] for kind in sprang["kinds"]} >= {"number", "date", "role"}
