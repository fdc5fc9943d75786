"""Listing and invalidation as applications and operators call them: clients, command line, raw gRPC."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from typer.testing import CliRunner

import cachesvc
import cachesvc.aio
from cachesvc.calls import CallError
from cachesvc.cli import app
from cachesvc.v1 import cache_pb2 as pb
from tests.conftest import Running

PROMPT = "How do I reset my password?"
VARIANT = "How do I reset my password"


@pytest.fixture
def client(server: Running) -> cachesvc.Client:
    return cachesvc.Client(server.app.address, timeout_s=5.0)


def fill(client: cachesvc.Client) -> None:
    client.store("a", PROMPT, tags=["faq"], sources=[("doc", "1")])
    client.store("b", "Where is my parcel?", tags=["faq", "parcel"], sources=[("doc", "2")])
    client.store("c", "What does shipping cost?", model="other")
    client.store("d", PROMPT, namespace="elsewhere", tags=["faq"])


def test_entries_are_listed_page_by_page(client: cachesvc.Client) -> None:
    """Pages of any size hold each entry of the namespace once, with all but the response."""
    fill(client)
    listed = list(client.list_entries(page_size=2))
    assert [entry.prompt for entry in listed] == [PROMPT, "Where is my parcel?", "What does shipping cost?"]
    assert listed[1].tags == ("faq", "parcel")
    assert listed[1].sources == (("doc", "2"),)
    assert (listed[0].namespace, listed[0].response_bytes, listed[0].semantic) == ("default", 1, True)
    assert [entry.prompt for entry in client.list_entries(tag="parcel")] == ["Where is my parcel?"]
    assert list(client.list_entries(older_than_s=3600)) == []
    assert len(list(client.list_entries(newer_than_s=3600))) == 3


def test_a_page_token_is_good_for_its_own_question_only(server: Running, client: cachesvc.Client) -> None:
    """Another filter with the token of a page is a wrong page_token, as is any other text."""
    fill(client)
    page = server.stub.ListEntries(pb.ListEntriesRequest(page_size=1), timeout=10)
    token = page.next_page_token
    assert server.stub.ListEntries(pb.ListEntriesRequest(page_size=2, page_token=token), timeout=10).entries
    for wrong in (
        pb.ListEntriesRequest(page_token=token, tag="faq"),
        pb.ListEntriesRequest(page_token=token, namespace="elsewhere"),
        pb.ListEntriesRequest(page_token="nonsense"),
        pb.ListEntriesRequest(page_token="é"),
        pb.ListEntriesRequest(page_token=token[:-4]),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            server.stub.ListEntries(wrong, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (caught.value.details() or "").startswith("page_token: ")


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        pytest.param({"tags": ["faq"]}, 2, id="tag"),
        pytest.param({"tags": ["faq"], "namespace": None}, 3, id="tag in every namespace"),
        pytest.param({"source_id": "doc"}, 2, id="source"),
        pytest.param({"source_id": "doc", "except_version": "2"}, 1, id="source but one version"),
        pytest.param({"model": "other"}, 1, id="model"),
        pytest.param({"near": ("how can I reset my password", 0.9)}, 1, id="meaning"),
        pytest.param({"older_than_s": 3600}, 0, id="age"),
        pytest.param({}, 3, id="the whole namespace"),
        pytest.param({"namespace": "elsewhere"}, 1, id="another namespace"),
    ],
)
def test_invalidation_by_every_criterion(
    client: cachesvc.Client, options: dict[str, object], gone: int
) -> None:
    """A dry run tells what then goes; afterwards it is not there, and everything else is."""
    fill(client)
    told = client.invalidate(**options, dry_run=True, max_examples=100)  # type: ignore[arg-type]  # by name
    assert (told.count, len(told.examples)) == (gone, gone)
    assert client.invalidate(**options).count == gone  # type: ignore[arg-type]  # by name
    assert client.invalidate(**options).count == 0  # type: ignore[arg-type]  # by name
    left = [*client.list_entries(), *client.list_entries(namespace="elsewhere")]
    assert len(left) == 4 - gone
    assert not {entry.id for entry in left} & {entry.id for entry in told.examples}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(pb.InvalidateRequest(), "namespace", id="nothing given"),
        pytest.param(pb.InvalidateRequest(dry_run=True, max_examples=3), "namespace", id="still nothing"),
        pytest.param(pb.InvalidateRequest(namespace="*"), "namespace", id="a pattern"),
        pytest.param(pb.InvalidateRequest(namespace="A"), "namespace", id="upper case"),
        pytest.param(pb.InvalidateRequest(tags=[""]), "tags[0]", id="empty tag"),
        pytest.param(pb.InvalidateRequest(tags=["t"] * 33), "tags", id="too many tags"),
        pytest.param(pb.InvalidateRequest(source_id="s" * 20_000), "source_id", id="long source"),
        pytest.param(
            pb.InvalidateRequest(tags=["t"], except_version="1"), "except_version", id="version alone"
        ),
        pytest.param(pb.InvalidateRequest(model="\n"), "model", id="unprintable model"),
        pytest.param(pb.InvalidateRequest(older_than=Duration(seconds=-1)), "older_than", id="negative age"),
        pytest.param(
            pb.InvalidateRequest(near=pb.Nearness(text=" ", min_score=0.9)), "near.text", id="blank"
        ),
        pytest.param(pb.InvalidateRequest(near=pb.Nearness(text="x")), "near.min_score", id="no score"),
        pytest.param(
            pb.InvalidateRequest(near=pb.Nearness(text="x", min_score=float("nan"))),
            "near.min_score",
            id="NaN",
        ),
        pytest.param(
            pb.InvalidateRequest(near=pb.Nearness(text="你好", min_score=0.9)), "near.text", id="unseen"
        ),
        pytest.param(pb.InvalidateRequest(tags=["t"], max_examples=101), "max_examples", id="examples"),
        pytest.param(pb.ListEntriesRequest(namespace="a/b"), "namespace", id="list: namespace"),
        pytest.param(pb.ListEntriesRequest(tag="\x00"), "tag", id="list: tag"),
        pytest.param(pb.ListEntriesRequest(page_size=-1), "page_size", id="list: page size"),
        pytest.param(
            pb.ListEntriesRequest(newer_than=Duration(seconds=1, nanos=-5)), "newer_than", id="list: duration"
        ),
    ],
)
def test_what_is_wrong_is_named(
    server: Running,
    client: cachesvc.Client,
    request_: pb.InvalidateRequest | pb.ListEntriesRequest,
    field: str,
) -> None:
    """A request that is wrong names its field and removes nothing."""
    fill(client)
    method = "Invalidate" if isinstance(request_, pb.InvalidateRequest) else "ListEntries"
    with pytest.raises(grpc.RpcError) as caught:
        getattr(server.stub, method)(request_, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(f"{field}: ")
    assert len(list(client.list_entries())) == 3


def test_a_lookup_with_current_versions_is_not_served_old_ones(client: cachesvc.Client) -> None:
    """Neither tier serves what was built from another version; sources it does not name do not matter."""
    fill(client)
    for prompt in (PROMPT, VARIANT):
        assert client.lookup(prompt, current_sources={"doc": "2"}).outcome == "MISS_SOURCE_CHANGED"
        assert client.lookup(prompt, current_sources={"doc": "1"}).hit
        assert client.lookup(prompt, current_sources={"other": "9"}).hit
        assert client.lookup(prompt).hit


def test_a_decorated_call_may_state_current_versions(client: cachesvc.Client) -> None:
    """The answer is made anew once the source has changed, and stored with its version."""
    calls: list[str] = []

    def answered(version: str) -> str:
        @client.cached(current_sources={"doc": version}, sources=[("doc", version)], name="ask")
        def ask(prompt: str) -> str:
            calls.append(version)
            return f"{prompt} by {version}"

        return ask(PROMPT)

    for version in ("1", "1", "2", "2"):
        assert answered(version) == f"{PROMPT} by {version}"
    assert calls == ["1", "2"]


def test_the_command_line_states_sources(server: Running) -> None:
    """``store --source`` says what an answer is made of, ``lookup --current-source`` what is current."""
    run, at = CliRunner().invoke, ["--server", server.app.address]
    assert run(app, ["store", PROMPT, "a", "--source", "doc=1", *at]).exit_code == 0
    assert run(app, ["lookup", PROMPT, "--current-source", "doc=1", *at]).exit_code == 0
    changed = run(app, ["lookup", PROMPT, "--current-source", "doc=2", *at])
    assert changed.exit_code == 1
    assert "MISS_SOURCE_CHANGED" in changed.stderr
    assert run(app, ["lookup", PROMPT, "--current-source", "doc", *at]).exit_code == 2


def test_a_source_has_one_current_version(server: Running) -> None:
    """Two versions of one source in a lookup are refused; the same twice is not."""
    one, two = pb.Source(id="doc", version="1"), pb.Source(id="doc", version="2")
    server.stub.Lookup(pb.LookupRequest(prompt=PROMPT, sources=[one, one]), timeout=10)
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.Lookup(pb.LookupRequest(prompt=PROMPT, sources=[one, two]), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith("sources[1].version: ")


def test_a_model_is_the_same_however_it_is_composed(client: cachesvc.Client) -> None:
    """A model that was stored in one Unicode form is invalidated by the other."""
    client.store("a", PROMPT, model="cafe\u0301")
    assert client.invalidate(model="caf\u00e9", dry_run=True).count == 1
    assert client.invalidate(model="cafe\u0301").count == 1


def test_nothing_outruns_an_invalidation(server: Running, client: cachesvc.Client) -> None:
    """Under concurrent answers made before and after, none that was begun before one is there after it."""
    rounds, writers = 15, 4
    stop = threading.Event()
    version = [0]

    def work(n: int) -> None:
        mine = cachesvc.Client(server.app.address, timeout_s=5.0)
        while not stop.is_set():
            prompt = f"question {n}"
            reply = mine.lookup(prompt, exact_only=True, bypass=True)
            made_from = version[0]
            mine.store(str(made_from), lookup_id=reply.lookup_id, tags=["v"])

    with ThreadPoolExecutor(writers) as pool:
        workers = [pool.submit(work, n) for n in range(writers)]
        try:
            for _ in range(rounds):
                version[0] += 1
                newest = version[0]
                client.invalidate(tags=["v"])
                for n in range(writers):
                    text = client.lookup(f"question {n}", exact_only=True).text
                    assert text is None or int(text) >= newest
        finally:
            stop.set()
        for worker in workers:
            worker.result()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"tags": []}, id="no tags"),
        pytest.param({"source_id": ""}, id="no source"),
        pytest.param({"near": ("", 0.9)}, id="no text"),
        pytest.param({"older_than_s": float("nan")}, id="no age"),
    ],
)
def test_an_empty_criterion_removes_nothing(client: cachesvc.Client, options: dict[str, object]) -> None:
    """What is given and empty is refused, not left out: that would remove more than was meant."""
    fill(client)
    with pytest.raises((ValueError, CallError)):
        client.invalidate(**options)  # type: ignore[arg-type]  # by name
    assert len(list(client.list_entries())) == 3


def test_an_empty_namespace_is_the_default_one(client: cachesvc.Client) -> None:
    """As in every other call; every namespace is None."""
    fill(client)
    assert client.invalidate(namespace="", tags=["faq"], dry_run=True).count == 2
    assert client.invalidate(namespace=None, tags=["faq"], dry_run=True).count == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "say what is to go", id="nothing given"),
        pytest.param(["--tag", ""], "tags[0]", id="empty tag"),
        pytest.param(["--source", ""], "source_id is empty", id="empty source"),
        pytest.param(["--near", ""], "near.text", id="empty text"),
        pytest.param(["--older-than", "nan"], "no number of seconds", id="NaN"),
        pytest.param(["--tag", "faq", "--min-score", "0.8"], "--near", id="score of nothing"),
        pytest.param(["--tag", "faq", "--except-version", "1"], "--source", id="version of nothing"),
        pytest.param(["--tag", "faq", "--all-namespaces", "-n", "elsewhere"], "--all-namespaces", id="both"),
        pytest.param(["--all-namespaces"], "another criterion", id="everything"),
    ],
)
def test_a_slip_on_the_command_line_removes_nothing(
    server: Running, client: cachesvc.Client, arguments: list[str], message: str
) -> None:
    """As an empty variable in a script: the command says what is wrong, with exit code 2."""
    fill(client)
    slip = CliRunner().invoke(app, ["invalidate", *arguments, "--server", server.app.address])
    assert slip.exit_code == 2
    assert message in slip.stderr
    assert len([*client.list_entries(), *client.list_entries(namespace="elsewhere")]) == 4


def test_aio_does_the_same(server: Running, client: cachesvc.Client) -> None:
    """The asyncio client lists and invalidates as the other one."""
    fill(client)

    async def run() -> None:
        async with cachesvc.aio.Client(server.app.address) as aio:
            assert len([entry async for entry in aio.list_entries(page_size=1)]) == 3
            assert (await aio.invalidate(tags=["faq"])).count == 2
            with pytest.raises(CallError):
                await aio.invalidate(namespace="A")

    asyncio.run(run())


def test_the_command_line_lists_and_invalidates(server: Running, client: cachesvc.Client) -> None:
    """``cachesvc list`` and ``cachesvc invalidate`` say in lines or JSON what they found and removed."""
    fill(client)
    run = CliRunner().invoke
    at = ["--server", server.app.address]
    listed = run(app, ["list", *at])
    assert listed.exit_code == 0
    assert len(listed.stdout.splitlines()) == 3
    assert PROMPT in listed.stdout
    as_json = run(app, ["list", "--json", "--limit", "2", *at])
    assert [entry["tags"] for entry in json.loads(as_json.stdout)] == [["faq"], ["faq", "parcel"]]
    dry = run(app, ["invalidate", "--tag", "faq", "--dry-run", *at])
    assert "2 entries would be removed" in dry.stderr
    gone = run(app, ["invalidate", "--tag", "faq", "--json", *at])
    assert json.loads(gone.stdout)["count"] == 2
    wrong = run(app, ["invalidate", "--all-namespaces", *at])
    assert wrong.exit_code == 2
    assert "another criterion" in wrong.stderr
