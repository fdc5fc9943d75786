"""A worker: one of the processes that share a port and a store. ``python -m cachesvc.worker DESCRIPTOR``

Started by ``supervisor`` alone, which says over the link what to do. It reads no configuration, and ends when the link
does. SIGTERM ends it in order as well, and another one takes its place; SIGINT, which a terminal sends to all
processes, and SIGHUP are its supervisor's.
"""

import gc
import os
import signal
import socket
import sys
from types import FrameType
from typing import assert_never

from prometheus_client import CollectorRegistry

from cachesvc.app import App
from cachesvc.core.errors import CacheError, Kind
from cachesvc.link import Ask, Begin, Failed, Family, Link, Message, Publish, Report, Sample, Serving
from cachesvc.making import make_embedder
from cachesvc.observe.log import Logger
from cachesvc.settings import Settings


def main() -> int:
    """Serve until the link ends. Never a word to standard output."""
    os.umask(0o077)
    link = Link(socket.socket(fileno=int(sys.argv[1])))

    def on_term(number: int, frame: FrameType | None) -> None:
        link.stop_listening()

    signal.signal(signal.SIGTERM, on_term)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    begin = link.receive()
    if not isinstance(begin, Begin):
        return 0  # its supervisor is gone already
    try:
        app = _app(begin)
    except CacheError as error:
        link.send(Failed(error.kind.value, error.message))
        return 1
    except Exception as error:  # noqa: BLE001 - the edge of the process: its supervisor says it
        link.send(Failed(Kind.INTERNAL.value, f"a worker could not start: {type(error).__name__}"))
        return 1
    gc.freeze()  # as ``app.serve`` does
    link.send(Serving())
    while (message := link.receive()) is not None:
        _heed(message, app, link)
    app.stop(lambda: _say_report(app, link, 0))
    return 0


def _app(begin: Begin) -> App:
    settings = Settings.model_validate(begin.settings)
    logger = Logger(settings.log.level, settings.log.format, worker=begin.seat.number)
    return App(
        settings,
        lambda: make_embedder(settings.embedder, lambda step: logger.info("compiling", step=step)),
        logger,
        seat=begin.seat,
    )


def _heed(message: Message, app: App, link: Link) -> None:
    match message:
        case Ask():
            _say_report(app, link, message.number)
        case Publish():
            app.publish(Settings.model_validate(message.settings))
        case Begin() | Serving() | Failed() | Report():
            raise AssertionError("not said to a worker that serves")
        case _:
            assert_never(message)


def _say_report(app: App, link: Link, number: int) -> None:
    pages = app.pages
    pages.flush()
    link.send(
        Report(
            number,
            alive=pages.alive(),
            ready=pages.ready(),
            components=dict(pages.components()),
            warming=pages.warming(),
            families=_families(pages.registry),
        )
    )


def _families(registry: CollectorRegistry) -> list[Family]:
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(sample.name, dict(sample.labels), sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


if __name__ == "__main__":
    sys.exit(main())
