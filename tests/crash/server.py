"""A server that kills itself at a failpoint: ``python server.py CONFIG NAME NTH``. As ``serve``, otherwise."""

import os
import signal
import sys
import threading
from itertools import count
from pathlib import Path

from cachesvc.app import App
from cachesvc.making import make_embedder
from cachesvc.observe.log import Logger
from cachesvc.settings import load


def main() -> None:
    path, name, nth = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    settings = load(path)
    passed = count(1)

    def failpoint(reached: str) -> None:
        if reached == name and next(passed) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    App(
        settings,
        lambda: make_embedder(settings.embedder, lambda _: None),
        Logger(settings.log.level, settings.log.format),
        path,
        failpoint,
    )
    threading.Event().wait()


if __name__ == "__main__":
    main()
