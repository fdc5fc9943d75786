"""Labelled prompts from a file: a stream of requests, or pairs of texts, as JSON lines or CSV.

A stream has ``prompt`` and ``answer_id`` (or ``answer``, its text) a row, in order of time: serving the answer of one
request for another is right iff these are equal. ``namespace``, ``model``, ``time`` and ``cost_usd`` are optional.
Pairs have ``a``, ``b`` and ``same``, and optionally ``kind``. Other columns are ignored. What is wrong is a
``DataError`` that names line and field.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.identity import canonical_text
from cachesvc.core.ports import Embedder
from cachesvc.core.types import Unseen, Vector

MAX_LINE_BYTES = 8 << 20
MAX_FILE_BYTES = 1 << 30
_WAIT_S = 60.0
_EMBED_BATCH = 256
_TRUTHS: Mapping[Any, bool] = {
    "1": True, "true": True, "yes": True,
    "0": False, "false": False, "no": False,
}  # fmt: skip
_STREAM = "a stream has prompt and answer_id (or answer), pairs have a, b and same"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


class DataError(ValueError):
    """A file of labelled prompts is not one; the message says where and what would be right."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A row of a stream: what was asked, and which answer is right. ``at_ms`` None: no time is known."""

    prompt: str
    answer: str
    source: str = ""
    namespace: str = ""
    model: str = ""
    at_ms: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Paired:
    """A row of pairs: whether the answer to ``a`` may be served for ``b``."""

    a: str
    b: str
    same: bool
    source: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests in order, with vectors of unit norm (n, dimension). Where ``seen`` is false the embedder cannot fully see
    a text: the service serves it by the exact tier alone, and its vector is zeros.
    """

    name: str
    rows: Sequence[Asked]
    vectors: NDArray[np.float32]
    seen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def texts(self) -> list[str]:
        """What was asked."""
        return [row.prompt for row in self.rows]

    @property
    def answers(self) -> list[str]:
        """The right answers, by name."""
        return [row.answer for row in self.rows]

    @property
    def sources(self) -> list[str]:
        """Where the rows are from."""
        return [row.source for row in self.rows]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs with the cosines of their vectors; 0 where the embedder cannot fully see either text (``seen``)."""

    name: str
    rows: Sequence[Paired]
    scores: NDArray[np.float32]
    seen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)


def read(file: Path) -> list[Asked | Paired]:
    """All rows of a file, of one kind: of a stream, or pairs, as its first row tells. Raises DataError."""
    rows: list[Asked | Paired] = []
    make: Callable[[Mapping[str, Any], str], Asked | Paired] | None = None
    for place, fields in _records(file):
        make = make or _kind_of(fields, place)
        rows.append(make(fields, place))
    if not rows:
        raise DataError(f"{file} holds no rows: {_STREAM}")
    return rows


def read_stream(file: Path) -> list[Asked]:
    """The rows of a stream. Raises DataError for pairs, too."""
    rows = [row for row in read(file) if isinstance(row, Asked)]
    if not rows:
        raise DataError(f"{file} holds pairs; a stream is needed: prompt and answer_id (or answer) a row")
    return rows


def load(
    file: Path, embedder: Embedder, progress: Callable[[int, int], None] = lambda done, total: None
) -> Stream | Pairs:
    """What a file holds, with its vectors. Raises DataError."""
    rows = read(file)
    asked = [row for row in rows if isinstance(row, Asked)]
    paired = [row for row in rows if isinstance(row, Paired)]
    texts = [row.prompt for row in asked] + [text for row in paired for text in (row.a, row.b)]
    vectors = embedded(embedder, texts, progress)
    if paired:
        return pairs_of(file.stem, paired, vectors)
    return stream_of(file.stem, asked, vectors, embedder.dimension)


def embedded(
    embedder: Embedder, texts: Sequence[str], progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Vector]:
    """Vectors by text, each text embedded once; those that the embedder cannot fully see are not in it."""
    wanted = list(dict.fromkeys(texts))
    held: dict[str, Vector] = {}
    with ThreadPoolExecutor(max_workers=4) as threads:  # the embedder bounds what runs at once
        for start in range(0, len(wanted), _EMBED_BATCH):
            batch = wanted[start : start + _EMBED_BATCH]
            rows = threads.map(lambda text: embedder.embed(text, _WAIT_S), batch)
            held |= {t: row for t, row in zip(batch, rows, strict=True) if not isinstance(row, Unseen)}
            progress(start + len(batch), len(wanted))
    return held


def stream_of(name: str, rows: Sequence[Asked], vectors: Mapping[str, Vector], dimension: int) -> Stream:
    """Rows with their vectors."""
    seen = np.array([row.prompt in vectors for row in rows])
    zeros = np.zeros(dimension, np.float32)
    return Stream(name, rows, np.stack([vectors.get(row.prompt, zeros) for row in rows]), seen)


def pairs_of(name: str, rows: Sequence[Paired], vectors: Mapping[str, Vector]) -> Pairs:
    """Rows with the cosines of their vectors."""
    seen = np.array([row.a in vectors and row.b in vectors for row in rows])
    scores = [
        float(vectors[row.a] @ vectors[row.b]) if both else 0.0 for row, both in zip(rows, seen, strict=True)
    ]
    return Pairs(name, rows, np.array(scores, np.float32), seen)


def _kind_of(fields: Mapping[str, Any], place: str) -> Callable[[Mapping[str, Any], str], Asked | Paired]:
    if "prompt" in fields and ("answer_id" in fields or "answer" in fields):
        return _asked
    if {"a", "b", "same"} <= fields.keys():
        return _paired
    raise DataError(f"{place} has the fields {_named(fields)}; {_STREAM}")


def _asked(fields: Mapping[str, Any], place: str) -> Asked:
    if fields.get("answer_id") not in (None, ""):
        answer = _word(fields, "answer_id", place)
    else:
        answer = " ".join(_text(fields, "answer", place).split())
    return Asked(
        prompt=canonical_text(_text(fields, "prompt", place)),
        answer=answer,
        source=_optional(fields, "source", place),
        namespace=_optional(fields, "namespace", place),
        model=_optional(fields, "model", place),
        at_ms=_time_ms(fields, place),
        cost_usd=_cost_usd(fields, place),
    )


def _paired(fields: Mapping[str, Any], place: str) -> Paired:
    return Paired(
        a=canonical_text(_text(fields, "a", place)),
        b=canonical_text(_text(fields, "b", place)),
        same=_truth(fields, place),
        source=_optional(fields, "source", place),
        kind=_optional(fields, "kind", place),
    )


def _text(fields: Mapping[str, Any], name: str, place: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {name} must be a text that is not blank, got {_shown(value)}")
    return value


def _word(fields: Mapping[str, Any], name: str, place: str) -> str:
    """A text, or a number taken as one."""
    value = fields.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(fields, name, place)


def _optional(fields: Mapping[str, Any], name: str, place: str) -> str:
    return "" if fields.get(name) in (None, "") else _word(fields, name, place)


def _truth(fields: Mapping[str, Any], place: str) -> bool:
    value = fields.get("same")
    truth = _TRUTHS.get(str(value).strip().lower())
    if truth is None:
        raise DataError(f"{place}: same must be 1 or 0 (or true or false), got {_shown(value)}")
    return truth


def _time_ms(fields: Mapping[str, Any], place: str) -> int | None:
    value = fields.get("time")
    if value in (None, ""):
        return None
    try:
        return int(float(value) * 1000)
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        time = datetime.fromisoformat(str(value))
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise DataError(
            f"{place}: time must be seconds since 1970 or like 2026-03-01T12:00:00Z, got {_shown(value)}"
        ) from None


def _cost_usd(fields: Mapping[str, Any], place: str) -> float | None:
    value = fields.get("cost_usd")
    if value in (None, ""):
        return None
    try:
        cost_usd = float(str(value))
    except ValueError:
        cost_usd = -1.0
    if not 0 <= cost_usd < float("inf"):
        raise DataError(f"{place}: cost_usd must be a number, 0 or more, got {_shown(value)}")
    return cost_usd


def _records(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows as maps, each with its place for messages."""
    text = decoded(file)
    delimiter = _DELIMITERS.get(file.suffix.lower())
    if delimiter is None and file.suffix.lower() not in (".jsonl", ".ndjson", ".json"):
        delimiter = None if text.lstrip()[:1] in ("{", "[", "") else ","
    if delimiter is None:
        yield from _json_records(file, text)
    else:
        yield from _csv_records(file, text, delimiter)


def decoded(file: Path) -> str:
    """A file's text. Raises DataError for what is no UTF-8 (or, marked so, UTF-16), or too large."""
    try:
        size_bytes = file.stat().st_size
        if size_bytes > MAX_FILE_BYTES:
            raise DataError(
                f"{file} has {size_bytes >> 20} MiB; at most {MAX_FILE_BYTES >> 20} are read: take a part of it"
            )
        raw = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{file} line {line} is not {'UTF-16' if encoding == 'utf-16' else 'UTF-8'}: save the file as UTF-8"
        ) from None


def _json_records(file: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{file} line {number}"
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"{place} has {len(line):,} characters; at most {MAX_LINE_BYTES:,} are read")
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            said = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
            raise DataError(f"{place} is not a JSON object: {said}") from None
        if not isinstance(fields, dict):
            raise DataError(f"{place} must be a JSON object, got {_shown(fields)}")
        yield place, fields


def _csv_records(file: Path, text: str, delimiter: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        place = f"{file} line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{place} is not CSV: {error}") from None
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise DataError(f"{place}: the header names {', '.join(twice)} twice")
            _kind_of(dict.fromkeys(header), f"{place} (the header)")
            continue
        if len(cells) != len(header):
            raise DataError(
                f"{place} has {len(cells)} fields, the header has {len(header)}: quote fields that hold a {'comma' if delimiter == ',' else 'tab'}"
            )
        yield place, dict(zip(header, cells, strict=True))


def _named(fields: Mapping[str, Any]) -> str:
    return ", ".join(list(map(str, fields))[:10]) or "none"


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"
