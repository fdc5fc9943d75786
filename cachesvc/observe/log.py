"""The structured log: what happened, as JSON lines (or for people) on standard error.

Fields are an allow-list taken from the events, which hold no prompt and no response. Lookups and
stores are logged at debug; failures and what an operator must know above that.
"""

import logging
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Literal, TextIO, TypeAlias, assert_never

import structlog

from cachesvc.core.errors import Kind
from cachesvc.core.events import (
    CallFailed,
    EntriesRemoved,
    Event,
    LookupDone,
    ScopesChanged,
    StoreDone,
    TaskFailed,
)

Logger: TypeAlias = structlog.typing.FilteringBoundLogger


def make_logger(level: str, form: Literal["json", "console"]) -> Logger:
    """A logger of its own, on standard error; nothing global is configured."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        renderer,
    ]
    logger: Logger = structlog.wrap_logger(
        structlog.PrintLogger(_Unbreakable(sys.stderr)),  # type: ignore[arg-type]  # it is asked to write only
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
    )
    return logger


class _Unbreakable:
    """A stream whose reader may go away, or whose disk may be full, without the service noticing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, or lose it."""
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, or lose it."""
        with suppress(OSError, ValueError):
            self._stream.flush()


class LogObserver:
    """``Observer`` that writes a line for each event."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._debug = logger.is_enabled_for(logging.DEBUG)

    def on(self, event: Event) -> None:
        """See ``Observer.on``."""
        match event:
            case LookupDone():
                if self._debug:
                    fields = asdict(event)
                    self._logger.debug("lookup", **{**fields, "outcome": event.outcome.label})
            case StoreDone():
                if self._debug:
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
            case _:
                assert_never(event)
