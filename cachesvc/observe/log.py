"""The structured log: what happened, as JSON lines (or for people) on standard error.

Fields are an allow-list taken from the events, which hold no prompt and no response. Lookups and
stores are logged at debug; failures and what an operator must know above that.
"""

import logging
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal, TextIO, assert_never

import structlog

from cachesvc.core.errors import Kind
from cachesvc.core.events import (
    CallFailed,
    ConfigRead,
    EmbedderChanged,
    EntriesRemoved,
    Event,
    FeedbackDone,
    IndexSettled,
    IndexWarmed,
    Labelled,
    LabelsDropped,
    LookupDone,
    ScopesChanged,
    SnapshotDone,
    StoreDone,
    StoreMovedAside,
    TaskFailed,
    TrustChanged,
    TrustMovedAside,
    TrustStands,
)


class Logger:
    """A logger of its own, on standard error; nothing global is configured. Its level may change.
    ``always`` is said in every line.
    """

    def __init__(self, level: str, form: Literal["json", "console"], **always: Any) -> None:
        renderer: structlog.typing.Processor = (
            structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer()
        )
        processors: list[structlog.typing.Processor] = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ]
        self._bound = structlog.wrap_logger(
            structlog.PrintLogger(_Unbreakable(sys.stderr)),  # type: ignore[arg-type]  # it is asked to write only
            processors=processors,
            **always,
        )
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Write nothing below this from now on."""
        self._least = logging.getLevelNamesMapping()[level.upper()]

    @property
    def is_debug(self) -> bool:
        """Whether debug lines are written."""
        return self._least <= logging.DEBUG

    def debug(self, event: str, **fields: Any) -> None:
        """A line for who looks closely."""
        if self.is_debug:
            self._bound.debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """A line an operator needs."""
        if self._least <= logging.INFO:
            self._bound.info(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """A line an operator must see."""
        self._bound.error(event, **fields)


class _Unbreakable:
    """A stream whose reader may go away, or whose disk may be full, without the service noticing. Lines are written
    whole, for other processes of this server may write to it, too.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""

    def write(self, text: str) -> None:
        """Write what makes a line, or lose it."""
        self._begun += text
        if text.endswith("\n"):
            line, self._begun = self._begun, ""
            with suppress(OSError, ValueError):
                self._stream.write(line)

    def flush(self) -> None:
        """Flush, or lose it."""
        with suppress(OSError, ValueError):
            self._stream.flush()


class LogObserver:
    """``Observer`` that writes a line for each event."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def on(self, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915 - a case an event
        """See ``Observer.on``."""
        match event:
            case LookupDone():
                if self._logger.is_debug:
                    fields = asdict(event)
                    gate = None if event.gate is None else event.gate.label
                    self._logger.debug("lookup", **{**fields, "outcome": event.outcome.label, "gate": gate})
            case StoreDone():
                if self._logger.is_debug:
                    fields = asdict(event)
                    unseen = None if event.unseen is None else event.unseen.name.lower()
                    self._logger.debug("store", **{**fields, "unseen": unseen})
            case EntriesRemoved():
                self._logger.debug("entries_removed", why=event.why.value, count=event.count)
            case ScopesChanged():
                self._logger.debug(
                    "scopes_changed", loaded=event.loaded, unloaded=event.unloaded, load_us=event.load_us
                )
            case CallFailed():
                ours = event.kind in (Kind.INTERNAL, Kind.CORRUPT, Kind.UNAVAILABLE)
                log = self._logger.error if ours else self._logger.debug
                log(
                    "call_failed",
                    method=event.method,
                    code=event.code,
                    error_id=event.error_id,
                    cause=event.cause,
                )
            case TaskFailed():
                self._logger.error(
                    "task_failed", task=event.task, kind=event.kind.value, message=event.message
                )
            case EmbedderChanged():
                log = self._logger.info if event.healthy else self._logger.error
                log("embedder_changed", healthy=event.healthy, stuck=event.stuck)
            case SnapshotDone():
                log = self._logger.error if event.result == "rejected" else self._logger.debug
                log("snapshot", result=event.result, size_bytes=event.size_bytes)
            case IndexSettled():
                log = self._logger.error if event.result == "failed" else self._logger.info
                log("index_move", result=event.result, rows=event.rows, seconds=round(event.took_s, 3))
            case IndexWarmed():
                self._logger.info("index_warmed", **asdict(event))
            case StoreMovedAside():
                self._logger.error("store_moved_aside", path=event.path)
            case TrustMovedAside():
                self._logger.error("trust_moved_aside", path=event.path)
            case TrustChanged():
                self._logger.info("trust_changed", namespace=event.namespace, what=event.what)
            case TrustStands():
                fields = asdict(event)
                self._logger.debug("trust_stands", **{**fields, "brake": event.brake.value})
            case Labelled():
                self._logger.debug(
                    "labelled",
                    origin=event.origin.name.lower(),
                    comparator=event.comparator.name.lower(),
                    same=event.same,
                )
            case LabelsDropped():
                self._logger.debug("labels_dropped", why=event.why, count=event.count)
            case FeedbackDone():
                log = self._logger.info if event.quarantined else self._logger.debug
                log("feedback", **asdict(event))
            case ConfigRead():
                log = self._logger.error if event.result == "refused" else self._logger.info
                log(
                    "config_read",
                    result=event.result,
                    generation=event.generation,
                    changed=list(event.changed),
                    message=event.message,
                )
            case _:
                assert_never(event)
