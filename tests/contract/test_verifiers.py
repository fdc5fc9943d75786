"""The contract of the Verifier port: an HTTP judge over a real socket, a cross-encoder compiled from a real model."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cachesvc.adapters.cross_encoder import PRECISION, CrossEncoder
from cachesvc.adapters.engine_cache import CROSS_ENCODERS, compile_engine, find_engine
from cachesvc.adapters.http_judge import HttpJudge
from cachesvc.adapters.verifier_pool import VerifierPool
from cachesvc.core.errors import CacheError, Kind
from cachesvc.settings import Settings


class _Server(ThreadingHTTPServer):
    """Answers each request with the next of ``replies``: a body, a status, or what to do instead."""

    daemon_threads = True

    def __init__(self, replies: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies = replies
        self.asked: list[Any] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/judge?v=1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers.get("Authorization"), json.loads(body)))
        reply = self.server.replies[min(len(self.server.asked), len(self.server.replies)) - 1]
        if callable(reply):
            reply = reply()
        if reply is None:
            self.close_connection = True
            return
        status, content = reply if isinstance(reply, tuple) else (200, reply)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def judged() -> Iterator[Callable[..., tuple[VerifierPool, _Server]]]:
    """Makes a judge that gives these replies, and the verifier that asks it."""
    servers: list[_Server] = []
    stack = ExitStack()

    def make(*replies: Any, token: str = "", concurrency: int = 2) -> tuple[VerifierPool, _Server]:
        server = _Server(list(replies))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        judge = HttpJudge(server.url, token)
        verifier = VerifierPool(judge, concurrency=concurrency, min_probability=0.5, let_go=judge.close)
        stack.callback(verifier.close)
        return verifier, server

    with stack:
        yield make
        for server in servers:
            server.shutdown()
            server.server_close()


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        pytest.param(b'{"same": true}', True, id="the same"),
        pytest.param(b'{"same": false}', False, id="not the same"),
        pytest.param(b'{"probability": 0.5}', True, id="probable enough"),
        pytest.param(b'{"probability": 0.49}', False, id="not probable enough"),
        pytest.param(b'{"probability": 1, "why": "x"}', True, id="with more"),
    ],
)
def test_a_judge_says_yes_or_no(judged: Any, reply: bytes, *, verdict: bool) -> None:
    """The two texts go to the judge, and its opinion comes back."""
    verifier, server = judged(reply, token="secret")
    assert verifier.verify("a “question”", "another", 5.0) == verdict
    assert server.asked == [
        ("/judge?v=1", "Bearer secret", {"query": "a “question”", "candidate": "another"})
    ]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param((500, b'{"same": true}'), id="a server error"),
        pytest.param((302, b""), id="a redirect is not followed"),
        pytest.param(b"yes", id="no JSON"),
        pytest.param(b"[true]", id="no object"),
        pytest.param(b"{}", id="no opinion"),
        pytest.param(b'{"same": "true"}', id="not a boolean"),
        pytest.param(b'{"probability": 1.5}', id="no probability"),
        pytest.param(b'{"probability": "NaN"}', id="no number"),
        pytest.param(b"[" * 60_000, id="deep"),
        pytest.param(b'{"same": true}' + b" " * 70_000, id="too long"),
        pytest.param(None, id="hangs up"),
    ],
)
def test_a_judge_that_fails_is_unavailable(judged: Any, reply: Any) -> None:
    """Whatever is not an opinion is a failure, never a yes; and the next one is asked as ever."""
    verifier, server = judged(reply, reply, b'{"same": true}')
    server.replies = [reply] if reply is not None else [None]
    with pytest.raises(CacheError) as raised:
        verifier.verify("q", "c", 5.0)
    assert raised.value.kind is Kind.UNAVAILABLE
    server.replies = [b'{"same": true}'] * 10
    assert verifier.verify("q", "c", 5.0)


def test_nobody_listens() -> None:
    """A judge that is down is a failure at once."""
    verifier = VerifierPool(HttpJudge("http://127.0.0.1:9/", ""), concurrency=1, min_probability=0.5)
    with pytest.raises(CacheError) as raised:
        verifier.verify("q", "c", 5.0)
    assert raised.value.kind is Kind.UNAVAILABLE


def test_a_kept_connection_that_was_closed_is_opened_anew(judged: Any) -> None:
    """A judge that closes idle connections costs no opinion."""
    verifier, server = judged(b'{"same": true}', None, b'{"same": true}', concurrency=1)
    assert verifier.verify("q", "c", 5.0)
    assert verifier.verify("q", "c", 5.0)
    assert len(server.asked) == 3


def test_a_slow_judge_costs_the_wait_and_no_more(judged: Any) -> None:
    """A caller waits as long as it said; with all threads taken others are refused at once."""
    leave = threading.Event()

    def slow() -> bytes:
        leave.wait(10)
        return b'{"same": true}'

    verifier, _ = judged(slow, concurrency=1)
    started_s = time.monotonic()
    with pytest.raises(CacheError) as late:
        verifier.verify("q", "c", 0.05)
    with pytest.raises(CacheError) as busy:
        VerifierPool(lambda *_: leave.wait(10) or 1.0, concurrency=1, min_probability=0.5).verify("q", "c", 0)
    assert late.value.kind is Kind.DEADLINE
    assert busy.value.kind is Kind.DEADLINE
    assert time.monotonic() - started_s < 5
    leave.set()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX: ", id="its head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", id="its body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", id="a body without an end"),
    ],
)
def test_a_judge_that_drips_costs_the_wait_and_no_more(sent: bytes) -> None:
    """The wait is for the whole exchange, not for each byte: a thread that asks is free again."""
    leave = threading.Event()

    def drip(listener: socket.socket) -> None:
        with suppress(OSError), listener.accept()[0] as connection:
            connection.sendall(sent)
            while not leave.wait(0.02):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        dripping = threading.Thread(target=drip, args=(listener,), daemon=True)
        dripping.start()
        asked = HttpJudge(f"http://127.0.0.1:{listener.getsockname()[1]}/", "")
        started_s = time.monotonic()
        guard = threading.Timer(5.0, leave.set)
        guard.start()
        with pytest.raises(OSError, match="did not answer"):
            asked("q", "c", 0.3)
        took_s = time.monotonic() - started_s
        guard.cancel()
        leave.set()
        dripping.join(10)
        asked.close()
    assert took_s < 3


def test_a_judge_that_closes_after_each_reply_is_heard() -> None:
    """The connection is let go of before the body is read, and the body is there all the same."""
    said = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"same": true}'

    def say(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            heard = b""
            while not heard.endswith(b"}"):
                heard += connection.recv(65_536)
            connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        speaking = threading.Thread(target=say, args=(listener,), daemon=True)
        speaking.start()
        asked = HttpJudge(f"http://127.0.0.1:{listener.getsockname()[1]}/", "")
        assert asked("q", "c", 5.0) == 1.0
        speaking.join(10)
        asked.close()


def test_too_many_are_refused_at_once() -> None:
    """An opinion that is still being given keeps its thread; nobody waits for that one."""
    leave, begun = threading.Event(), threading.Event()

    def judge(query: str, candidate: str, wait_s: float) -> float:
        begun.set()
        leave.wait(10)
        return 1.0

    verifier = VerifierPool(judge, concurrency=1, min_probability=0.5)
    with pytest.raises(CacheError) as late:
        verifier.verify("q", "c", 0.01)
    assert begun.wait(5)
    with pytest.raises(CacheError) as busy:
        verifier.verify("q", "c", 5.0)
    assert (late.value.kind, busy.value.kind) == (Kind.DEADLINE, Kind.OVERLOADED)
    leave.set()
    verifier.close()
    for _ in iter(lambda: _kind(verifier), Kind.UNAVAILABLE):
        """Until the thread has given its place back."""


@pytest.mark.parametrize("error", [RuntimeError(), KeyError("x"), MemoryError()], ids=repr)
def test_whatever_a_judge_raises_is_a_failure(error: Exception) -> None:
    """A library may raise anything; for who asks it is UNAVAILABLE, and so a miss."""

    def judge(query: str, candidate: str, wait_s: float) -> float:
        raise error

    verifier = VerifierPool(judge, concurrency=1, min_probability=0.5)
    assert [_kind(verifier), _kind(verifier)] == [Kind.UNAVAILABLE] * 2


def test_who_waits_when_it_closes_is_told() -> None:
    """Closing ends no wait with anything but an error of ours."""
    leave, begun = threading.Event(), threading.Event()

    def judge(query: str, candidate: str, wait_s: float) -> float:
        begun.set()
        leave.wait(10)
        raise OSError

    verifier = VerifierPool(judge, concurrency=1, min_probability=0.5)
    kinds: list[Kind] = []
    waits = threading.Thread(target=lambda: kinds.append(_kind(verifier)))
    waits.start()
    assert begun.wait(5)
    verifier.close()
    leave.set()
    waits.join(10)
    assert kinds == [Kind.UNAVAILABLE]
    assert _kind(verifier) is Kind.UNAVAILABLE


_HANGS = """
import threading
from cachesvc.adapters.verifier_pool import VerifierPool
from cachesvc.core.errors import CacheError
verifier = VerifierPool(lambda *_: threading.Event().wait() or 1.0, concurrency=1, min_probability=0.5)
try:
    verifier.verify("q", "c", 0.05)
except CacheError as error:
    print(error.kind.name)
verifier.close()
"""


def test_a_judge_that_hangs_does_not_keep_the_process() -> None:
    """The server ends when it is told to, whatever a second opinion is doing."""
    done = subprocess.run(
        [sys.executable, "-c", _HANGS], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "DEADLINE\n"


def _kind(verifier: VerifierPool) -> Kind:
    with pytest.raises(CacheError) as raised:
        verifier.verify("q", "c", 5.0)
    return raised.value.kind


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of one small layer with weights that mean nothing."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("cross-encoder")
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    pieces = [
        *special.values(),
        *"abcdefghijklmnopqrstuvwxyz?",
        *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    torch.manual_seed(7)
    config = BertConfig.from_dict(
        {
            "vocab_size": len(pieces),
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
            "num_labels": 1,
        }
    )
    BertForSequenceClassification(config).save_pretrained(directory)
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # the library's
        tokenizer_object=tokenizer,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **special,
    ).save_pretrained(directory)
    return directory


@pytest.mark.slow
def test_a_cross_encoder_is_compiled_and_judges_as_the_model_does(tiny_model: Path, tmp_path: Path) -> None:
    """The compiled engine gives what sentence-transformers gives, and is found again."""
    import numpy as np
    import torch
    from sentence_transformers import CrossEncoder as Original

    engine = compile_engine(str(tiny_model), PRECISION, tmp_path, lambda _: None, CROSS_ENCODERS)
    found = find_engine(str(tiny_model), PRECISION, tmp_path)
    assert found is not None
    assert found.path == engine.path
    ours = CrossEncoder(engine)
    original = Original(str(tiny_model), device="cpu")
    for pair in (("abc def", "abd?"), ("a", "b"), ("hello there", "hello there")):
        logit = original.predict([pair], activation_fn=torch.nn.Identity())[0]
        assert ours(*pair, 1.0) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-3)
    with pytest.raises(ValueError, match="longer"):
        ours("a " * 40, "b " * 40, 1.0)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        pytest.param({"kind": "http"}, "url must be", id="no url"),
        pytest.param({"kind": "http", "url": "judge.example"}, "url must be", id="no scheme"),
        pytest.param({"kind": "cross-encoder"}, "model must name", id="no model"),
        pytest.param({"kind": "llm"}, "kind", id="no such kind"),
    ],
)
def test_half_a_verifier_is_refused(section: dict[str, Any], message: str) -> None:
    """A verifier that could never answer is a mistake in the configuration."""
    with pytest.raises(ValueError, match=message):
        Settings.model_validate({"verifier": section})


def test_the_token_is_not_shown() -> None:
    """The page of the configuration hides secrets."""
    settings = Settings.model_validate(
        {"verifier": {"kind": "http", "url": "http://127.0.0.1/", "token": "hush"}}
    )
    assert "hush" not in json.dumps(settings.redacted())
