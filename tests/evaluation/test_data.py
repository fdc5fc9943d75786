"""Files of labelled prompts: what is read, and how what is wrong with one is told."""

import json
from pathlib import Path

import numpy as np
import pytest

from cachesvc.core.ports import Embedder
from cachesvc.evaluation import data
from cachesvc.evaluation.data import Asked, DataError, Paired, Pairs, Stream

STREAM = '{"prompt": "a?", "answer_id": "1", "source": "s"}\n{"prompt": "b?", "answer_id": 2}\n'

GOOD = {
    "jsonl": ("x.jsonl", STREAM.encode(), [("a?", "1"), ("b?", "2")]),
    "no suffix": ("x", STREAM.encode(), [("a?", "1"), ("b?", "2")]),
    "blank lines": ("x.jsonl", f"\n{STREAM}\n\n".encode(), [("a?", "1"), ("b?", "2")]),
    "byte order mark": ("x.jsonl", STREAM.encode("utf-8-sig"), [("a?", "1"), ("b?", "2")]),
    "utf-16": ("x.jsonl", STREAM.encode("utf-16"), [("a?", "1"), ("b?", "2")]),
    "windows line ends": ("x.jsonl", STREAM.replace("\n", "\r\n").encode(), [("a?", "1"), ("b?", "2")]),
    "csv": ("x.csv", b"prompt,answer_id\na?,1\nb?,2\n", [("a?", "1"), ("b?", "2")]),
    "csv without suffix": ("x", b"prompt,answer_id\na?,1\n", [("a?", "1")]),
    "tsv": ("x.tsv", b"prompt\tanswer_id\na, b?\t1\n", [("a, b?", "1")]),
    "csv of quoted lines": ("x.csv", b'answer,prompt,more\n"1 \n 2","a\nb",x\n', [("a\nb", "1 2")]),
    "answers as texts": ("x.jsonl", b'{"prompt": "a?", "answer": " yes \\n it is"}\n', [("a?", "yes it is")]),
    "other columns": ("x.jsonl", b'{"prompt": "a?", "answer_id": "1", "more": [1]}\n', [("a?", "1")]),
    "composed letters": ("x.jsonl", '{"prompt": "e\u0301", "answer_id": "1"}\n'.encode(), [("é", "1")]),
}


@pytest.mark.parametrize(("name", "content", "rows"), GOOD.values(), ids=GOOD.keys())
def test_streams_are_read(tmp_path: Path, name: str, content: bytes, rows: list[tuple[str, str]]) -> None:
    """Whatever spreadsheets and scripts write."""
    (tmp_path / name).write_bytes(content)
    assert [(row.prompt, row.answer) for row in data.read_stream(tmp_path / name)] == rows


@pytest.mark.parametrize("same", ["1", "true", "Yes", "0", "FALSE", "no"])
def test_pairs_are_read(tmp_path: Path, same: str) -> None:
    """Truth is told in any of the usual words."""
    file = tmp_path / "pairs.csv"
    file.write_text(f"a,b,same,kind\nx,y,{same},number\n")
    assert data.read(file) == [Paired("x", "y", same.lower() in ("1", "true", "yes"), "", "number")]


@pytest.mark.parametrize(
    ("time", "at_ms"),
    [
        (12.5, 12_500),
        ("12", 12_000),
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:01", 1000),
        ("", None),
    ],
)
def test_times_are_read(tmp_path: Path, time: object, at_ms: int | None) -> None:
    """As seconds or as ISO 8601; without a zone it is UTC."""
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps({"prompt": "a", "answer_id": "1", "time": time, "cost_usd": "0.5"}))
    row = data.read_stream(file)[0]
    assert (row.at_ms, row.cost_usd) == (at_ms, 0.5)


WRONG = {
    "empty": (b"", "holds no rows"),
    "blank": (b"\n \n", "holds no rows"),
    "only a header": (b"prompt,answer_id\n", "holds no rows"),
    "no json": (b'{"prompt": "a", "answer_id": "1"}\n{"prompt": \n', "line 2 is not a JSON object"),
    "a list": (b"[1]", "line 1 must be a JSON object"),
    "other fields": (b'{"question": "a"}', "line 1 has the fields question"),
    "blank prompt": (b'{"prompt": " ", "answer_id": "1"}', "line 1: prompt must be a text"),
    "prompt a number": (b'{"prompt": 7, "answer_id": "1"}', "prompt must be a text that is not blank, got 7"),
    "no answer": (b'{"prompt": "a", "answer_id": "1"}\n{"prompt": "b"}', "line 2: answer must be a text"),
    "same unclear": (b'{"a": "x", "b": "y", "same": "maybe"}', "same must be 1 or 0"),
    "kinds mixed": (b'{"prompt": "a", "answer_id": "1"}\n{"a": "x", "b": "y", "same": 1}', "line 2: answer"),
    "time unclear": (b'{"prompt": "a", "answer_id": "1", "time": "noon"}', "time must be seconds since 1970"),
    "cost below zero": (b'{"prompt": "a", "answer_id": "1", "cost_usd": -1}', "cost_usd must be a number"),
    "latin-1": (b'{"prompt": "a", "answer_id": "1"}\n{"prompt": "\xe9"}', "line 2 is not UTF-8"),
    "nested too deeply": (b'{"prompt":' + b"[" * 100_000, "line 1 is not a JSON object"),
    "header twice": (b"prompt,answer_id,prompt\na,1,b\n", "the header names prompt twice"),
    "header of others": (b"question,answer_id\na,1\n", "(the header) has the fields question"),
    "too many fields": (b"prompt,answer_id\na,1\nb,c,2\n", "line 3 has 3 fields, the header has 2"),
    "quote not closed": (b'prompt,answer_id\n"a,1\n', "is not CSV"),
}


@pytest.mark.parametrize(("content", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, content: bytes, said: str) -> None:
    """By line and field, with what would be right."""
    file = tmp_path / "labelled"
    file.write_bytes(content)
    with pytest.raises(DataError, match="labelled") as told:
        data.read(file)
    assert said in str(told.value)


def test_a_huge_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not parsed."""
    monkeypatch.setattr(data, "MAX_LINE_BYTES", 100)
    (tmp_path / "x.jsonl").write_text(json.dumps({"prompt": "a" * 200, "answer_id": "1"}))
    with pytest.raises(DataError, match=r"line 1 has \d+ characters; at most 100"):
        data.read(tmp_path / "x.jsonl")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(DataError, match="cannot be read: No such file"):
        data.read(tmp_path / "none.jsonl")


def test_pairs_are_no_stream(tmp_path: Path) -> None:
    """Where requests in order are needed."""
    (tmp_path / "x.csv").write_text("a,b,same\nx,y,1\n")
    with pytest.raises(DataError, match="holds pairs"):
        data.read_stream(tmp_path / "x.csv")


def test_vectors_are_made_once_a_text(tmp_path: Path, embedder: Embedder) -> None:
    """Progress is told, and what cannot be seen has zeros and is not seen."""
    file = tmp_path / "x.jsonl"
    rows = [("a cat", 1), ("a\u200bcat", 1), ("a cat", 2)]
    file.write_text("".join(json.dumps({"prompt": text, "answer_id": n}) + "\n" for text, n in rows))
    told: list[tuple[int, int]] = []
    loaded = data.load(file, embedder, lambda done, total: told.append((done, total)))
    assert isinstance(loaded, Stream)
    assert loaded.rows[0] == Asked("a cat", "1")
    assert loaded.seen.tolist() == [True, False, True]
    assert not loaded.vectors[1].any()
    assert np.isclose(loaded.vectors[0] @ loaded.vectors[2], 1.0, atol=1e-5)
    assert told[-1] == (2, 2)


def test_pairs_have_cosines(tmp_path: Path, embedder: Embedder) -> None:
    """0 where either text cannot be seen."""
    file = tmp_path / "x.csv"
    file.write_text("a,b,same\na cat,a cat!,1\na cat,a\u200bcat,0\n")
    loaded = data.load(file, embedder)
    assert isinstance(loaded, Pairs)
    assert loaded.scores[0] > 0.8
    assert loaded.scores[1] == 0
    assert loaded.seen.tolist() == [True, False]
