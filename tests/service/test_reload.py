"""The configuration changes while the server runs: whole or not at all, and every way of changing a file."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from cachesvc.admin_client import AdminClient
from cachesvc.app import App
from cachesvc.calls import CallError
from cachesvc.core.errors import CacheError
from cachesvc.core.events import ConfigRead, Event
from cachesvc.core.ports import Embedder
from cachesvc.observe.log import Logger
from cachesvc.reload import Reloader
from cachesvc.settings import Settings, changes, is_live, keys, load
from cachesvc.v1 import cache_pb2 as pb
from cachesvc.v1.cache_pb2_grpc import CacheServiceStub
from tests.service.test_settings import WRONG_FILES
from tests.waiting import until

GOOD = "[reload]\nwatch_s = {watch_s}\n[policy.default]\nmin_score = {min_score}\nttl_s = {ttl_s}\n"
WAIT_S = 15.0


def good(min_score: float = 0.95, ttl_s: float = 100.0, watch_s: float = 0.02) -> str:
    return GOOD.format(min_score=min_score, ttl_s=ttl_s, watch_s=watch_s)


class Published:
    """What was published, and the events that told of it."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []
        self.events: list[ConfigRead] = []
        self.changed = threading.Condition()

    def on(self, event: Event) -> None:
        if isinstance(event, ConfigRead):
            with self.changed:
                self.events.append(event)
                self.changed.notify_all()

    def wait(self, result: str, count: int = 1) -> ConfigRead:
        """The count-th event of a result."""
        with self.changed:
            told = self.changed.wait_for(lambda: len(self._of(result)) >= count, WAIT_S)
            assert told, f"no {result}: {self.events}"
            return self._of(result)[count - 1]

    def _of(self, result: str) -> list[ConfigRead]:
        return [event for event in self.events if event.result == result]


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
def watch(published: Published) -> Iterator[Callable[[Path], Reloader]]:
    """Makes Reloaders, stopped at the end."""
    made: list[Reloader] = []

    def make(path: Path) -> Reloader:
        made.append(Reloader(path, load(path), published.settings.append, published))
        return made[-1]

    yield make
    for reloader in made:
        reloader.stop()


def write_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def rename_over(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


@pytest.mark.parametrize("change", [write_in_place, rename_over])
def test_a_changed_file_is_taken(
    tmp_path: Path,
    watch: Callable[[Path], Reloader],
    published: Published,
    change: Callable[[Path, str], None],
) -> None:
    """Written in place or renamed over, the new content is in force soon, as the next generation."""
    path = tmp_path / "config.toml"
    path.write_text(good())
    reloader = watch(path)
    change(path, good(min_score=0.99))
    event = published.wait("applied")
    assert (event.generation, event.changed) == (2, ("policy.default.min_score",))
    assert reloader.now.settings.policy["default"].min_score == 0.99
    assert published.settings[-1] is reloader.now.settings


@pytest.mark.parametrize(
    ("text", "result"), [(good(min_score=0.99), "applied"), ("[server\n", "refused"), (good(), None)]
)
def test_a_file_that_changed_while_the_process_started_is_taken(
    tmp_path: Path, published: Published, text: str, result: str | None
) -> None:
    """Between the reading of the file and the first look at it no change is lost, and none is made up."""
    path = tmp_path / "config.toml"
    path.write_text(good())
    settings = load(path)
    path.write_text(text)
    reloader = Reloader(path, settings, published.settings.append, published)
    try:
        if result is not None:
            published.wait(result)
        else:
            path.write_text(good(ttl_s=7.0))
            published.wait("applied")
            assert len(published.events) == 1
    finally:
        reloader.stop()


def test_a_pipe_is_read_once(tmp_path: Path, published: Published) -> None:
    """Of a configuration that comes through a pipe, as from a shell's <(…), nothing more is expected."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    Reloader(path, Settings(), published.settings.append, published).stop()
    assert published.events == []


def test_a_configmap_that_swaps_its_link_is_taken(
    tmp_path: Path, watch: Callable[[Path], Reloader], published: Published
) -> None:
    """As Kubernetes does it: the file is a link through ..data, which is renamed to another directory."""
    for name, score in (("one", 0.95), ("two", 0.98)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text(good(min_score=score))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "config.toml").symlink_to("..data/config.toml")
    reloader = watch(tmp_path / "config.toml")
    (tmp_path / "..data_tmp").symlink_to("two")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    published.wait("applied")
    assert reloader.now.settings.policy["default"].min_score == 0.98


@pytest.mark.parametrize(("text", "message"), WRONG_FILES)
def test_a_wrong_file_keeps_the_last_good_one(
    tmp_path: Path, watch: Callable[[Path], Reloader], published: Published, text: str, message: str
) -> None:
    """Every mistake is told with its message, nothing is published, and the next good file is taken."""
    path = tmp_path / "config.toml"
    path.write_text(good())
    reloader = watch(path)
    before = reloader.now
    path.write_text(text)
    assert message in published.wait("refused").message
    assert reloader.now.settings is before.settings
    assert (reloader.now.generation, published.settings) == (1, [])
    assert message in reloader.now.last_error
    path.write_text(good(min_score=0.97))
    published.wait("applied")
    assert reloader.now.last_error == ""


def test_a_half_written_file_waits_for_its_rest(
    tmp_path: Path, watch: Callable[[Path], Reloader], published: Published
) -> None:
    """A file seen in the middle of being written is refused, and taken once it is whole."""
    path = tmp_path / "config.toml"
    path.write_text(good())
    reloader = watch(path)
    whole = good(min_score=0.96, ttl_s=7.0)
    with path.open("w") as file:
        file.write(whole[:-8])
        file.flush()
        published.wait("refused")
        file.write(whole[-8:])
    published.wait("applied")
    assert reloader.now.settings.policy["default"].ttl_s == 7.0


def test_a_file_that_goes_is_told_once(
    tmp_path: Path, watch: Callable[[Path], Reloader], published: Published
) -> None:
    """Removed, the last good one stays; back again, it is read again."""
    path = tmp_path / "config.toml"
    path.write_text(good())
    reloader = watch(path)
    path.unlink()
    assert "cannot be read" in published.wait("refused").message
    path.write_text(good())
    published.wait("unchanged")
    assert reloader.now.generation == 1
    assert len(published.events) == 2


def test_what_takes_a_restart_is_refused_whole(tmp_path: Path, watch: Callable[[Path], Reloader]) -> None:
    """A start-only setting that changed is named; the live settings of the same file are not taken either."""
    path = tmp_path / "config.toml"
    path.write_text(good(watch_s=0))
    reloader = watch(path)
    path.write_text(
        good(min_score=0.99, watch_s=0) + "[server]\nthreads = 3\n[store]\nmax_bytes = 9_000_000\n"
    )
    with pytest.raises(CacheError) as caught:
        reloader.reload()
    assert {violation.field for violation in caught.value.violations} == {"server.threads", "store.max_bytes"}
    assert "restart" in caught.value.message
    assert reloader.now.settings.policy["default"].min_score == 0.95


def test_a_fault_of_ours_ends_no_watching(tmp_path: Path, published: Published) -> None:
    """Whatever goes wrong with a new file is told as a refusal; the next one is taken."""
    path = tmp_path / "config.toml"
    path.write_text(good())
    faults = [ZeroDivisionError("a fault")]

    def publish(settings: Settings) -> None:
        if faults:
            raise faults.pop()

    reloader = Reloader(path, load(path), publish, published)
    try:
        path.write_text(good(min_score=0.99))
        assert published.wait("refused").message == "the configuration could not be read: ZeroDivisionError"
        assert (reloader.now.generation, reloader.now.settings.policy["default"].min_score) == (1, 0.95)
        path.write_text(good(min_score=0.98))
        assert published.wait("applied").generation == 2
    finally:
        reloader.stop()


def test_every_setting_is_live_or_not() -> None:
    """The marks name settings that exist, and what changes is told by path."""
    assert {key.partition(".")[0] for key in keys() if is_live(key)} == {
        *("embedder", "limits", "log", "policy", "store"),
    }
    before, after = Settings(), Settings.model_validate({"limits": {"tags": 3}, "policy": {"a-*": {}}})
    changed = changes(before, after)
    assert "limits.tags" in changed
    assert "policy.a-*.min_score" in changed
    assert all(is_live(path) for path in changed)


@pytest.fixture
def running(embedder: Embedder, tmp_path: Path) -> Iterator[tuple[App, CacheServiceStub, AdminClient, Path]]:
    """A server whose configuration is a file, watched closely."""
    path = tmp_path / "config.toml"
    write(path)
    app = App(load(path), lambda: embedder, Logger("error", "json"), path)
    with grpc.insecure_channel(app.address) as channel, AdminClient(app.admin_rpc_address) as admin:
        yield app, CacheServiceStub(channel), admin, path
    app.stop()


def write(path: Path, **sections: dict[str, Any]) -> None:
    """A whole configuration in one rename."""
    directory = path.parent
    merged: dict[str, dict[str, Any]] = {
        "server": {"listen": "127.0.0.1:0"},
        "admin": {"listen": "127.0.0.1:0", "rpc_listen": "127.0.0.1:0"},
        "store": {"path": f"{directory}/store", **sections.pop("store", {})},
        "reload": {"watch_s": 0},
        **sections,
    }
    lines = []
    for name, values in merged.items():
        lines.append(f"[{name}]")
        lines += [
            f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
            for key, value in values.items()
        ]
    rename_over(path, "\n".join(lines))


def test_live_settings_take_effect(running: tuple[App, CacheServiceStub, AdminClient, Path]) -> None:
    """Policies, limits, quotas, budgets and the store's watermarks of a running server change by a reload."""
    _, stub, admin, path = running
    stub.Store(pb.StoreRequest(prompt="How do I reset my password?", response=b"r"), timeout=10)
    near = pb.LookupRequest(prompt="How do I reset my password")
    assert stub.Lookup(near, timeout=10).outcome == pb.OUTCOME_HIT_SEMANTIC
    write(path, **{"policy.default": {"min_score": 1.0}})
    assert list(admin.reload().changed) == ["policy.default.min_score"] or admin.config().generation == 2
    assert stub.Lookup(near, timeout=10).outcome == pb.OUTCOME_MISS_BELOW_THRESHOLD
    write(path, **{"policy.default": {"mode": "off"}})
    admin.reload()
    assert stub.Lookup(near, timeout=10).outcome == pb.OUTCOME_BYPASS_DISABLED
    write(path, limits={"prompt_bytes": 10})
    admin.reload()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Lookup(near, timeout=10)
    assert "limits.prompt_bytes" in (caught.value.details() or "")
    write(path, embedder={"max_wait_s": 0.0})
    admin.reload()
    assert stub.Lookup(near, timeout=10).outcome in (
        pb.OUTCOME_BYPASS_DEADLINE,
        pb.OUTCOME_BYPASS_EMBEDDER_BUSY,
    )
    write(path, **{"policy.default": {"max_entries": 2}})
    admin.reload()
    for n in range(5):
        stub.Store(pb.StoreRequest(prompt=f"{n}", response=b"r"), timeout=10)
    assert admin.stats().namespaces[0].entries == 2


def test_the_operator_s_api_tells_and_reloads(
    running: tuple[App, CacheServiceStub, AdminClient, Path],
) -> None:
    """GetStats, GetConfig and ReloadConfig say what is in force, what changed, and what was refused."""
    app, stub, admin, path = running
    stub.Store(pb.StoreRequest(namespace="n", prompt="q", response=b"r" * 1000), timeout=10)
    stats = admin.stats()
    assert stats.entries == 1
    assert dict(stats.components) == dict.fromkeys(
        ("grpc", "store", "housekeeping", "embedder", "config", "index", "trust"), True
    )
    assert [(one.namespace, one.entries) for one in stats.namespaces] == [("n", 1)]
    assert stats.namespaces[0].bytes > 1000
    assert '"threads": 64' in admin.config().json
    assert (admin.config().generation, admin.config().path) == (1, str(path))
    assert list(admin.reload().changed) == []
    path.write_text("[server]\nthreads = 0")
    with pytest.raises(CallError) as caught:
        admin.reload()
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "server.threads" in caught.value.message
    assert "server.threads" in admin.config().last_error
    assert not admin.stats().components["config"]
    assert app._is_ready(), "a refused configuration takes no server out of service"
    write(path, server={"listen": "127.0.0.1:0", "threads": 3})
    with pytest.raises(CallError) as caught:
        admin.reload()
    assert caught.value.code == "FAILED_PRECONDITION"
    assert "server.threads takes a restart" in caught.value.message


def test_the_applications_port_has_no_operator_s_api(
    running: tuple[App, CacheServiceStub, AdminClient, Path],
) -> None:
    """AdminService is not implemented where applications call."""
    app = running[0]
    with AdminClient(app.address) as wrong, pytest.raises(CallError) as caught:
        wrong.stats()
    assert caught.value.code == "UNIMPLEMENTED"


def test_no_request_sees_half_a_configuration(
    running: tuple[App, CacheServiceStub, AdminClient, Path],
) -> None:
    """While two settings flip together fifty times, every answer is by both of one generation."""
    _, stub, admin, path = running
    stub.Store(pb.StoreRequest(prompt="How do I reset my password?", response=b"r"), timeout=10)
    near = pb.LookupRequest(prompt="How do I reset my password")
    done = threading.Event()
    seen: set[tuple[int, float]] = set()

    def ask() -> None:
        while not done.is_set():
            reply = stub.Lookup(near, timeout=10)
            seen.add((reply.outcome, round(reply.threshold, 3)))

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            for n in range(50):
                strict = {"min_score": 0.999, "semantic": True}
                write(path, **{"policy.default": {"semantic": False} if n % 2 else strict})
                admin.reload()
        finally:
            done.set()
        for one in asking:
            one.result()
    assert seen <= {
        (pb.OUTCOME_HIT_SEMANTIC, 0.95),
        (pb.OUTCOME_MISS_BELOW_THRESHOLD, 0.999),
        (pb.OUTCOME_MISS_EXACT_ONLY, 0.0),
        (pb.OUTCOME_BYPASS_EMBEDDER_BUSY, 0.0),
    }
    assert (pb.OUTCOME_MISS_BELOW_THRESHOLD, 0.999) in seen
    assert (pb.OUTCOME_MISS_EXACT_ONLY, 0.0) in seen


def test_sighup_and_the_watch_reload_a_real_process(embedder: Embedder, tmp_path: Path) -> None:
    """A process reads its file again on SIGHUP, and by itself; the command line tells what is in force."""
    path = tmp_path / "config.toml"
    write(path, reload={"watch_s": 0})
    log = tmp_path / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "cachesvc.cli", "serve", "--config", str(path)], stderr=stream
        )
    try:
        until(lambda: '"serving"' in log.read_text())
        rename_over(path, path.read_text() + "\n[limits]\ntags = 5\n")
        os.kill(process.pid, signal.SIGHUP)
        until(lambda: '"result": "applied"' in log.read_text())
        rename_over(path, path.read_text() + "\n[limits]\n")
        os.kill(process.pid, signal.SIGHUP)
        until(lambda: '"result": "refused"' in log.read_text())
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(30) == 0
