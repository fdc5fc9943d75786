"""Entries and stores move: export, import, warm-up, backup, check, rebuild, re-embedding, by API and command."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import MessageToJson, Parse
from typer.testing import CliRunner, Result

import cachesvc
from cachesvc.admin_client import AdminClient
from cachesvc.app import App
from cachesvc.calls import CallError
from cachesvc.cli import app as command
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.types import Unseen
from cachesvc.observe.log import Logger
from cachesvc.scrape import scrape
from cachesvc.serve.copying import Copying
from cachesvc.settings import Settings
from cachesvc.v1 import admin_pb2 as pb
from tests.conftest import Running

QUESTIONS = [
    "How do I reset my password?",
    "Where is my parcel?",
    "What does shipping to Norway cost?",
    "Can I pay by invoice?",
    "你好吗",  # exact tier only
]


@pytest.fixture
def admin(server: Running) -> Iterator[AdminClient]:
    with AdminClient(server.app.admin_rpc_address) as client:
        yield client


@pytest.fixture
def another(start: Callable[..., Running], tmp_path: Path) -> Running:
    """A second server, with a store of its own."""
    return start(store={"path": tmp_path / "another"}, admin={"backup_dir": tmp_path / "backups-2"})


def client_of(server: Running) -> cachesvc.Client:
    return cachesvc.Client(server.app.address, timeout_s=5.0)


def fill(server: Running) -> None:
    client = client_of(server)
    for n, question in enumerate(QUESTIONS):
        client.store(
            f"answer {n}",
            [{"role": "system", "content": "be brief"}, {"role": "user", "content": question}],
            tags=["faq"],
            sources=[("doc", f"{n}")],
            metadata={"n": str(n)},
            vary={"locale": "en"},
            model="m",
            ttl_s=5000,
            input_tokens=10 + n,
            cost_usd=0.01,
            namespace="two" if n == 3 else "default",
        )
    client.store(b"\xff\x00raw", "bytes?", ttl_s=5000)


def ask(server: Running, n: int, suffix: str = "") -> cachesvc.calls.LookupReply:
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": QUESTIONS[n] + suffix}]
    return client_of(server).lookup(
        turns, vary={"locale": "en"}, model="m", namespace="two" if n == 3 else "default"
    )


def admin_records(server: Running) -> list[pb.ExportRecord]:
    with AdminClient(server.app.admin_rpc_address) as client:
        return list(client.export())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def at(server: Running) -> tuple[str, str]:
    return ("--admin-server", server.app.admin_rpc_address)


@pytest.mark.parametrize("vectors", [True, False])
def test_what_is_exported_is_imported_elsewhere(
    server: Running, another: Running, tmp_path: Path, *, vectors: bool
) -> None:
    """Every entry answers in the other store as in the first, in both tiers; done again nothing changes."""
    fill(server)
    file = tmp_path / "entries.jsonl"
    assert run("export", str(file), *(["--vectors"] if vectors else []), *at(server)).exit_code == 0
    assert file.stat().st_mode & 0o077 == 0
    lines = file.read_text().splitlines()
    assert len(lines) == 6 + 2
    for turn in ("stored", "unchanged"):
        result = run("import", str(file), "--json", *at(another))
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        assert (int(told["read"]), int(told[turn]), int(told["failed"])) == (6, 6, 0)
    for n in range(len(QUESTIONS)):
        first, second = ask(server, n), ask(another, n)
        assert first.entry is not None
        assert second.entry is not None
        for name in (
            "response",
            "content_type",
            "metadata",
            "tags",
            "sources",
            "created",
            "expires",
            "usage",
        ):
            assert getattr(first.entry, name) == getattr(second.entry, name)
    assert ask(another, 0, " ").outcome == "HIT_SEMANTIC"
    assert client_of(another).lookup("bytes?").response == b"\xff\x00raw"


def test_an_export_of_one_namespace_can_be_gone_on_with(server: Running, tmp_path: Path) -> None:
    """Only its entries are in it; a file cut off in a line is gone on with and is then the same file."""
    fill(server)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run("export", str(whole), "--namespace", "default", *at(server)).exit_code == 0
    records = [Parse(line, pb.ExportRecord()) for line in whole.read_text().splitlines()]
    assert {record.entry.namespace for record in records[1:-1]} == {"default"}
    assert records[-1].trailer.entries == 5
    cut.write_text(whole.read_text()[: whole.read_text().index("\n", 1200) + 40])
    result = run("export", str(cut), "--namespace", "default", "--resume", *at(server))
    assert result.exit_code == 0, result.output
    assert cut.read_text().splitlines()[1:] == whole.read_text().splitlines()[1:]
    assert run("export", str(cut), "--resume", *at(server)).exit_code == 2
    assert run("export", str(whole), *at(server)).exit_code == 2, "it exists"


def test_an_export_goes_on_as_it_began(server: Running, tmp_path: Path) -> None:
    """With the namespace and the vectors it began with; other options and another embedder are refused."""
    fill(server)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run("export", str(whole), "--namespace", "default", "--vectors", *at(server))
    lines = whole.read_bytes().splitlines(keepends=True)
    cut.write_bytes(b"".join(lines[:3]) + lines[3][:50])
    assert run("export", str(cut), "--resume", *at(server)).exit_code == 0
    assert cut.read_bytes() == whole.read_bytes()
    cut.write_bytes(lines[0])
    refused = run("export", str(cut), "--resume", "-n", "two", *at(server))
    assert (refused.exit_code, cut.read_bytes()) == (2, lines[0])
    assert "begun with other options" in refused.stderr
    foreign = MessageToJson(HEADER, indent=None).encode() + b"\n"
    cut.write_bytes(foreign)
    refused = run("export", str(cut), "--resume", *at(server))
    assert (refused.exit_code, cut.read_bytes()) == (2, foreign)
    assert "another embedder" in refused.stderr
    cut.write_text("my notes\n")
    refused = run("export", str(cut), "--resume", *at(server))
    assert (refused.exit_code, cut.read_text()) == (2, "my notes\n")


def test_an_export_that_cannot_be_written_leaves_nothing(server: Running, tmp_path: Path) -> None:
    """A refused call makes no file, so that the command can be repeated; what the disk says is told."""
    fill(server)
    file = tmp_path / "entries"
    assert run("export", str(file), "--admin-server", f"unix:{tmp_path}/nobody").exit_code == 4
    assert run("export", str(file), "--namespace", "A B", *at(server)).exit_code == 2
    assert not file.exists()
    result = run("export", str(tmp_path / "nowhere" / "entries"), *at(server))
    assert result.exit_code == 4
    assert "cannot be written: No such file" in result.stderr
    file.touch()
    assert run("export", str(file), "--resume", *at(server)).exit_code == 0, "cut off before its first line"
    assert len(file.read_text().splitlines()) == 6 + 2


HEADER = pb.ExportRecord(header=pb.ExportHeader(format_version=1, fingerprint="other:1"))


def entry(**fields: Any) -> pb.ExportRecord:
    made = pb.ExportRecord(
        entry=pb.ExportedEntry(namespace="n", context=b"c" * 32, exact_key=b"k" * 32, semantic=True)
    )
    made.entry.entry.response = b"r"
    made.entry.entry.prompt = "How do I reset my password?"
    made.entry.entry.create_time.GetCurrentTime()
    made.entry.entry.expire_time.FromSeconds(made.entry.entry.create_time.seconds + 1000)
    for name, value in fields.items():
        setattr(
            made.entry if name in ("namespace", "context", "exact_key", "vector") else made.entry.entry,
            name,
            value,
        )
    return made


def trailer(count: int) -> pb.ExportRecord:
    return pb.ExportRecord(trailer=pb.ExportTrailer(entries=count))


@pytest.mark.parametrize(
    ("records", "message"),
    [
        pytest.param([], "the trailer is missing", id="nothing"),
        pytest.param([HEADER], "the trailer is missing", id="cut off"),
        pytest.param([entry()], "must be a header", id="no header"),
        pytest.param([HEADER, HEADER], "must be a header, then entries", id="two headers"),
        pytest.param([HEADER, trailer(1)], "counts 1 entries, 0 came", id="an entry is missing"),
        pytest.param([HEADER, trailer(0), entry()], "then one trailer", id="more after the end"),
        pytest.param([HEADER, pb.ExportRecord()], "must be a header, an entry or a trailer", id="empty"),
        pytest.param(
            [pb.ExportRecord(header=pb.ExportHeader(format_version=2))],
            "this version reads 1",
            id="newer format",
        ),
    ],
)
def test_a_wrong_stream_is_refused(admin: AdminClient, records: list[pb.ExportRecord], message: str) -> None:
    """What is no export, or not a whole one, is INVALID_ARGUMENT; what came before is stored all the same."""
    with pytest.raises(CallError) as caught:
        list(admin.import_(iter(records)))
    assert caught.value.code == "INVALID_ARGUMENT"
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"namespace": ""}, "namespace: is missing"),
        ({"namespace": "A"}, "namespace: must be lower-case"),
        ({"context": b"short"}, "context: must have 32 bytes"),
        ({"exact_key": b""}, "exact_key: must have 32 bytes"),
        ({"vector": b"123"}, "vector: must be float32"),
        ({"response": b""}, "response: has 0 bytes"),
        ({"prompt": "x" * 300_000}, "entry.prompt: must have at most"),
        ({"prompt": ""}, "has no prompt"),
        ({"model": "\n"}, "entry.model: must have"),
        ({"cost_usd": -1.0}, "cost_usd: must be"),
    ],
)
def test_a_wrong_entry_fails_alone(admin: AdminClient, fields: dict[str, Any], message: str) -> None:
    """It is counted with its reason, and the entries beside it are stored."""
    records = [HEADER, entry(prompt="Where is my parcel?"), entry(**fields), trailer(2)]
    *_, last = admin.import_(iter(records))
    assert (last.read, last.stored, last.failed) == (2, 1, 1)
    assert last.errors[0].startswith("record 2: ")
    assert message in last.errors[0]


@pytest.mark.parametrize(
    ("create_s", "expire_s", "nanos", "message"),
    [
        pytest.param(-5, 1 << 40, 0, "entry.create_time: must be a time from 1970", id="before 1970"),
        pytest.param(5, 1 << 62, 0, "entry.expire_time: must be a time", id="after 9999"),
        pytest.param(5, 1 << 40, -1, "entry.create_time: must be a time", id="no time at all"),
        pytest.param(1 << 36, 1 << 37, 0, "entry.create_time: lies in the future", id="the future"),
    ],
)
def test_a_wrong_time_fails_alone(
    admin: AdminClient, create_s: int, expire_s: int, nanos: int, message: str
) -> None:
    """No instant of a foreign file fails its neighbours, or takes the store's time, which never goes back, with it."""
    wrong = entry()
    wrong.entry.entry.create_time.seconds = create_s
    wrong.entry.entry.create_time.nanos = nanos
    wrong.entry.entry.expire_time.seconds = expire_s
    *_, last = admin.import_(iter([HEADER, entry(prompt="Where is my parcel?"), wrong, trailer(2)]))
    assert (last.read, last.stored, last.failed) == (2, 1, 1)
    assert message in last.errors[0]


def test_a_store_outlives_what_it_was_given_from_the_future(
    server: Running, start: Callable[..., Running], admin: AdminClient
) -> None:
    """After a restart, which begins at the store's last time, what was stored before is still served."""
    fill(server)
    future = entry()
    future.entry.entry.create_time.seconds += 10**8
    future.entry.entry.expire_time.seconds += 10**9
    list(admin.import_(iter([HEADER, future, trailer(1)])))
    server.app.stop()
    assert ask(start(), 0).hit


def test_lifetimes_come_along_and_keep_to_the_policy(start: Callable[..., Running], tmp_path: Path) -> None:
    """A sliding lifetime slides on; none goes past the importing namespace's maximum."""
    sliding = {"default": {"sliding_ttl": True, "ttl_s": 1000.0, "max_ttl_s": 5000.0}}
    first = start(policy=sliding)
    client_of(first).store("r", "a question?", ttl_s=500)
    records = admin_records(first)
    assert records[1].entry.sliding.seconds == 500
    second = start(
        store={"path": tmp_path / "another"}, policy={"default": {"ttl_s": 100.0, "max_ttl_s": 200.0}}
    )
    with AdminClient(second.app.admin_rpc_address) as client:
        list(client.import_(iter(records)))
    (moved,) = [record.entry for record in admin_records(second) if record.HasField("entry")]
    assert moved.sliding == records[1].entry.sliding
    created_s = moved.entry.create_time.ToMilliseconds() / 1000
    assert moved.entry.expire_time.ToMilliseconds() / 1000 == pytest.approx(created_s + 200)
    assert moved.latest_time == moved.entry.expire_time


def test_a_wrong_vector_or_key_of_the_same_embedder_fails(server: Running, admin: AdminClient) -> None:
    """A vector that is not of unit norm, or too short, and a key that does not fit, are refused."""
    fill(server)
    records = list(admin.export(vectors=True))
    for spoil in ("norm", "nan", "length", "key"):
        spoilt = [pb.ExportRecord.FromString(record.SerializeToString()) for record in records]
        one = spoilt[1].entry
        one.entry.create_time.seconds += 10
        one.entry.response = b"newer"
        vector = np.frombuffer(one.vector, "<f4").copy()
        if spoil == "norm":
            one.vector = (vector * 2).tobytes()
        elif spoil == "nan":
            vector[0] = np.nan
            one.vector = vector.tobytes()
        elif spoil == "length":
            one.vector = vector[:-1].tobytes()
        else:
            one.exact_key = b"x" * 32
        *_, last = admin.import_(iter(spoilt))
        assert (last.failed, last.unchanged) == (1, len(records) - 3), spoil


def test_what_expired_is_not_imported(admin: AdminClient) -> None:
    """An entry past its end is counted as expired; an older one than there is, as unchanged."""
    old = entry()
    old.entry.entry.expire_time.FromSeconds(1000)
    older, newer = entry(), entry()
    older.entry.entry.create_time.seconds -= 100
    *_, last = admin.import_(iter([HEADER, old, newer, trailer(2)]))
    assert (last.expired, last.stored) == (1, 1)
    *_, last = admin.import_(iter([HEADER, older, trailer(1)]))
    assert (last.unchanged, last.stored) == (1, 0)


def test_what_an_import_removes_is_counted(start: Callable[..., Running]) -> None:
    """An older entry of the same request is replaced; the quota of the namespace holds."""
    server = start(policy={"default": {"max_entries": 2}})
    records = [entry(namespace="default", prompt=f"question {n}?") for n in range(3)]
    newer = entry(namespace="default", prompt="question 2?")
    newer.entry.entry.create_time.seconds += 1
    with AdminClient(server.app.admin_rpc_address) as client:
        *_, last = client.import_(iter([HEADER, *records, newer, trailer(4)]))
        assert (last.stored, client.stats().entries) == (4, 2)
    counted = scrape(server.app.admin_address, 5.0)
    assert counted["cachesvc_entries_removed_total{reason=replaced}"] == 1
    assert counted["cachesvc_entries_removed_total{reason=evicted}"] == 1


def test_an_import_waits_for_its_turn_to_embed(start: Callable[..., Running]) -> None:
    """Where lookups may not wait for an inference at all, entries are brought over all the same."""
    server = start(embedder={"max_wait_s": 0.0})
    with AdminClient(server.app.admin_rpc_address) as client:
        *_, last = client.import_(iter([HEADER, entry(), trailer(1)]))
        assert (last.stored, last.failed) == (1, 0), last.errors
        assert next(record.entry.semantic for record in client.export() if record.HasField("entry"))


def test_a_wrong_line_is_named(server: Running, tmp_path: Path) -> None:
    """The command says which line of which file; exit 2."""
    file = tmp_path / "x"
    records = [HEADER, *(entry(prompt=f"question {n}?") for n in range(70)), trailer(71)]
    lines = [MessageToJson(record, indent=None) + "\n" for record in records]
    file.write_text("".join([*lines[:-1], "{nonsense\n", lines[-1]]))
    result = run("import", str(file), *at(server))
    assert result.exit_code == 2
    assert "line 72 is not a record" in result.stderr
    assert "64 entries were stored before" in result.stderr
    assert "trailer is missing" not in result.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "cannot be read", id="missing"),
        pytest.param(b"", "is not an export", id="empty"),
        pytest.param(b"\x1f\x8b\x00\xff" * 2000, "is not an export", id="binary"),
        pytest.param(b'{"prompt": "x", "response": "y"}\n', "cachesvc warm", id="pairs"),
        pytest.param(
            MessageToJson(HEADER, indent=None).encode() + b"\n", "--resume goes on", id="header only"
        ),
        pytest.param(MessageToJson(HEADER, indent=None).encode(), "is not an export", id="half a header"),
    ],
)
def test_what_is_no_whole_export_is_not_begun(
    server: Running, tmp_path: Path, content: bytes | None, message: str
) -> None:
    """It is told by its ends, before anything of it is stored; exit 2, naming what to do."""
    file = tmp_path / "x"
    if content is not None:
        file.write_bytes(content)
    result = run("import", str(file), *at(server))
    assert result.exit_code == 2
    assert message in result.stderr


def test_warming_up_from_pairs(server: Running, tmp_path: Path) -> None:
    """JSON lines of prompts and responses are stored, with options where given; a bad line is named."""
    file = tmp_path / "pairs.jsonl"
    pairs = [{"prompt": q, "response": f"answer to {q}", "tags": ["warm"]} for q in QUESTIONS]
    file.write_text("\n".join(map(json.dumps, pairs)) + "\n\n")
    result = run("warm", str(file), "--server", server.app.address, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"stored": 5, "exact_only": 1, "failed": 0})
    assert client_of(server).lookup("Where is my parcel").text == "answer to Where is my parcel?"
    file.write_text(
        '\n{"prompt": "x", "response": "y"}\n\n{"prompt": "z", "response": "z", "namespace": "A"}'
    )
    result = run("warm", str(file), "--server", server.app.address)
    assert result.exit_code == 1
    assert "line 4: namespace: must be lower-case" in result.stderr
    assert "1 stored (0 in the exact tier only), 1 failed" in result.stderr
    assert client_of(server).lookup("x").hit


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "x"}', "missing required field `response`"),
        ('{"prompt": "x", "response": 5}', "Expected `str`, got `int` - at `$.response`"),
        ('{"prompt": 5, "response": "y"}', "at `$.prompt`"),
        ('{"prompt": "x", "response": ""}', "at `$.response`"),
        ('{"prompt": "x", "response": "y", "ttl": 5}', "unknown field `ttl`"),
        ('{"prompt": "x", "response": "y", "ttl_s": "5"}', "at `$.ttl_s`"),
        ('{"prompt": "x", "response": "y", "ttl_s": -1}', "at `$.ttl_s`"),
        ('{"prompt": "x", "response": "y", "tags": "abc"}', "at `$.tags`"),
        ('{"prompt": "x", "response": "y", "vary": [1]}', "at `$.vary`"),
        ('{"prompt": "x", "response": "y", "sources": [["a"]]}', "at `$.sources[0]`"),
        ('{"prompt": [{"content": "x"}], "response": "y"}', "prompt[0].role"),
        ("[1]", "Expected `object`"),
        ("{nonsense", "JSON is malformed"),
        ('{"prompt": "\\ud800", "response": "y"}', "surrogate"),
    ],
)
def test_a_wrong_pair_is_named_and_nothing_is_stored(
    server: Running, tmp_path: Path, line: str, message: str
) -> None:
    """The line and the field, exit 2; a misspelt option is not passed over, nor the pairs around it stored."""
    file = tmp_path / "pairs.jsonl"
    file.write_text(f'{{"prompt": "good", "response": "r"}}\n\n{line}\n')
    result = run("warm", str(file), "--server", server.app.address)
    assert result.exit_code == 2
    assert "line 3: " in result.stderr
    assert message in result.stderr
    assert "1 lines are wrong; nothing was stored" in result.stderr
    assert not client_of(server).lookup("good").hit


def test_lines_end_where_json_lines_end(server: Running, tmp_path: Path) -> None:
    """A line separator of Unicode inside a text is no end of a line; batches keep within a message's size."""
    file = tmp_path / "pairs.jsonl"
    pairs = [{"prompt": f"page {n}\u2028two", "response": "x" * 900_000} for n in range(6)]
    file.write_text("\n".join(json.dumps(pair, ensure_ascii=False) for pair in pairs))
    result = run("warm", str(file), "--server", server.app.address, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"stored": 6, "exact_only": 0, "failed": 0})


def test_warming_up_ends_when_the_server_does(tmp_path: Path) -> None:
    """It does not try every line of a long file against a server that is not there; exit 4."""
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "x", "response": "y"}\n' * 200)
    result = run("warm", str(file), "--server", f"unix:{tmp_path}/nobody")
    assert result.exit_code == 4
    assert result.stderr.count("UNAVAILABLE") == 1


def test_a_backup_can_be_served_from(server: Running, start: Callable[..., Running], tmp_path: Path) -> None:
    """The copy is written while the server goes on, private and whole, and a server starts on it."""
    fill(server)
    result = run("backup", "monday", *at(server))
    assert result.exit_code == 0, result.output
    path = Path(result.stdout.strip())
    assert path == tmp_path / "backups" / "monday"
    assert path.stat().st_mode & 0o077 == 0
    client_of(server).store("later", "later?")
    shutil.copytree(path, tmp_path / "restored")
    restored = start(store={"path": tmp_path / "restored"}, admin={"backup_dir": tmp_path / "b3"})
    assert ask(restored, 0).hit
    assert not client_of(restored).lookup("later?").hit
    again = run("backup", "monday", *at(server))
    assert again.exit_code == 2
    assert "exists" in again.stderr


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "x\n", "/tmp/x", "é", "x.part"])
def test_a_backup_s_name_is_only_a_name(admin: AdminClient, name: str) -> None:
    """Nothing is written outside the backup directory."""
    with pytest.raises(CallError) as caught:
        list(admin.backup(name))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Its failure is told, its part is removed, and the name is free again; a part that was left is named."""

    def full(part: Path) -> None:
        (part / "data.mdb").write_bytes(b"half")
        raise CacheError(Kind.FULL, "the copy failed: no room")

    def whole(part: Path) -> None:
        (part / "data.mdb").write_bytes(b"whole")

    failed = Copying(full, tmp_path / "backups", "monday")
    assert failed.wait(10)
    with pytest.raises(CacheError, match="no room"):
        failed.result()
    assert list((tmp_path / "backups").iterdir()) == []
    copied = Copying(whole, tmp_path / "backups", "monday")
    assert copied.wait(10)
    assert copied.result() == tmp_path / "backups" / "monday"
    (tmp_path / "backups" / "tuesday.part").mkdir()
    with pytest.raises(CacheError, match="one was cut off; remove it then"):
        Copying(whole, tmp_path / "backups", "tuesday")
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"admin\.backup_dir .* cannot be written"):
        Copying(whole, tmp_path / "file", "monday")


def test_stats_as_json_have_every_number(server: Running) -> None:
    """Those that are 0 too, for scripts."""
    told = json.loads(run("stats", "--json", *at(server)).stdout)
    assert (told["entries"], told["sequence"], told["index_scopes"]) == ("0", "0", "0")


def test_check_reads_everything_beside_the_traffic(server: Running, admin: AdminClient) -> None:
    """A clean store is said to be clean, by API and command; a vector too many in an index is named."""
    fill(server)
    assert ask(server, 0, " ").hit  # loads the scope
    steps = list(admin.check())
    assert [problem for step in steps for problem in step.problems] == []
    assert steps[-1].total == 6
    assert run("check", *at(server)).exit_code == 0
    views = server.app._views
    (index,) = [view.index for view in views._views.values() if view.index is not None][:1]
    index.add(np.array([999]), np.eye(1, 384, dtype=np.float32))
    result = run("check", "--json", *at(server))
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == ["index: entry 999 is there for nothing"]


def test_a_check_of_an_older_store_leaves_it_as_it_is(tmp_path: Path) -> None:
    """What only reads does not migrate: it names the commands that do."""
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    shutil.copy(Path(__file__).parents[1] / "golden" / "schema-1" / "data.mdb", store)
    before = (store / "data.mdb").read_bytes()
    config = tmp_path / "config.toml"
    config.write_text(f"[store]\npath = '{store}'\n")
    result = run("check", "--offline", "--config", str(config))
    assert isinstance(result.exception, CacheError)
    assert result.exception.kind is Kind.INCOMPATIBLE
    assert "cachesvc rebuild" in result.exception.message
    assert (store / "data.mdb").read_bytes() == before
    assert run("rebuild", "--config", str(config)).exit_code == 0
    assert run("check", "--offline", "--config", str(config)).exit_code == 0


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (["check", "--offline"], "run cachesvc rebuild"),
        (["rebuild"], "cannot be read: restore a backup"),
        (["reembed"], "cannot be read: restore a backup"),
    ],
    ids=["check", "rebuild", "reembed"],
)
def test_offline_commands_look_before_they_read(tmp_path: Path, command: list[str], advice: str) -> None:
    """A store whose pages make no sense is damaged: not a full disk, nor one that cannot be had."""
    data = tmp_path / "data.mdb"
    whole = (Path(__file__).parents[1] / "golden" / "schema-2" / "data.mdb").read_bytes()
    data.write_bytes(whole[: 3 * 4096] + bytes(len(whole) - 3 * 4096))
    damaged = data.read_bytes()
    config = tmp_path / "config.toml"
    config.write_text(f"[store]\npath = '{tmp_path}'\non_corruption = 'quarantine'\n")
    result = run(*command, "--config", str(config))
    assert isinstance(result.exception, CacheError)
    assert result.exception.kind is Kind.CORRUPT
    assert advice in result.exception.message
    assert data.read_bytes() == damaged


class GoldenEmbedder:
    """Of the golden stores."""

    fingerprint = "golden:1"
    dimension = 4

    def embed(self, text: str, wait_s: float) -> Unseen:
        return Unseen.UNKNOWN_TOKENS


def test_a_server_tells_of_a_migration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An older store is brought over before anything listens: the log says from where to where it came."""
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    shutil.copy(Path(__file__).parents[1] / "golden" / "schema-1" / "data.mdb", store)
    listen = {"listen": "127.0.0.1:0"}
    settings = Settings.model_validate(
        {"server": listen, "admin": {**listen, "rpc_listen": "127.0.0.1:0"}, "store": {"path": store}}
    )
    App(settings, GoldenEmbedder, Logger("info", "json")).stop()
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [event for event in events if event["event"] == "migrating"]
    assert told[0]["read"] == 0
    assert told[-1]["read"] == told[-1]["total"] > 0
    assert events.index(told[-1]) < [event["event"] for event in events].index("serving")


@pytest.mark.slow
def test_offline_commands_mend_and_bring_over(server: Running, tmp_path: Path) -> None:
    """check --offline and rebuild refuse beside a server; on a stopped one they check, mend and re-embed."""
    fill(server)
    config = tmp_path / "config.toml"
    config.write_text(f"[store]\npath = '{tmp_path}/copy'\n")
    assert run("check", "--offline", "--config", str(config)).exit_code != 0, "there is no store"
    copied = Path(run("backup", "copy", *at(server)).stdout.strip())
    shutil.copytree(copied, tmp_path / "copy")
    assert run("check", "--offline", "--config", str(config)).exit_code == 0
    rebuilt = run("rebuild", "--config", str(config))
    assert "6 entries carried over, 0 damaged" in rebuilt.stderr
    assert "of this embedder already" in run("reembed", "--config", str(config)).stderr
    config.write_text(config.read_text() + "[embedder]\nprecision = 'fp32'\n")
    moved = run("reembed", "--config", str(config))
    assert moved.exit_code == 0, moved.output
    assert "6 entries carried over" in moved.stderr
    assert run("check", "--offline", "--config", str(config)).exit_code == 0
    config.write_text(f"[store]\npath = '{server.app._store._options.path}'\n")
    for arguments in (["check", "--offline"], ["rebuild"]):
        result = run(*arguments, "--config", str(config))
        assert isinstance(result.exception, CacheError)
        assert result.exception.kind is Kind.LOCKED
    assert (tmp_path / "copy" / "data.mdb.before").exists()
