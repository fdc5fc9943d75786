"""The configuration in force, and how another one comes to be: read, validate, publish, or keep the last good.

The file is looked at every ``reload.watch_s`` by its content, which sees every way of changing it: writing
in place, renaming over it, a ConfigMap's symbolic link that swaps a directory. ``reload`` does the same on
SIGHUP and by RPC. A configuration is taken whole or not at all. Made and stopped by ``app``.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from cachesvc.core.errors import CacheError, Kind, Violation
from cachesvc.core.events import ConfigRead
from cachesvc.core.ports import Observer
from cachesvc.settings import Settings, changes, is_live, load


@dataclass(frozen=True, slots=True)
class InForce:
    """A configuration and the how-manyth it is, from 1. ``last_error`` is why a later one was refused."""

    settings: Settings
    generation: int
    last_error: str = ""


class Reloader:
    """Holds the configuration in force. Thread-safe; a request takes ``now`` once."""

    def __init__(
        self, path: Path | None, settings: Settings, publish: Callable[[Settings], None], observer: Observer
    ) -> None:
        """``publish`` is called with each new configuration before it counts as in force; it must not fail."""
        self.path = path
        self._publish = publish
        self._observer = observer
        self._in_force = InForce(settings, 1)
        self._lock = threading.Lock()  # one reload at a time
        self._can_watch = path is not None and not path.is_fifo()  # a pipe can be read once only
        self._seen = self._digest()
        if not self._is_in(settings):  # the file changed while the process was starting: look again at once
            self._seen = b""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cachesvc-config", daemon=True)
        self._thread.start()

    @property
    def now(self) -> InForce:
        """What is in force."""
        return self._in_force

    def reload(self) -> list[str]:
        """Read the configuration again. The settings that changed.

        Raises INVALID naming every mistake, REFUSED naming every changed setting that takes a restart, or
        INTERNAL; what was in force stays so.
        """
        with self._lock:
            self._seen = self._digest()
            try:
                return self._take(load(self.path))
            except CacheError as error:
                self._refuse(error)
                raise
            except Exception as error:  # noqa: BLE001 - the edge: whatever a file brings about, serving goes on
                fault = f"the configuration could not be read: {type(error).__name__}"
                raise self._refuse(CacheError(Kind.INTERNAL, fault)) from None

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _refuse(self, error: CacheError) -> CacheError:
        before = self._in_force
        self._in_force = InForce(before.settings, before.generation, error.message)
        self._observer.on(ConfigRead("refused", before.generation, (), error.message))
        return error

    def _take(self, settings: Settings) -> list[str]:
        before = self._in_force
        changed = changes(before.settings, settings)
        fixed = [path for path in changed if not is_live(path)]
        if fixed:
            violations = tuple(Violation(path, "takes a restart to change") for path in fixed)
            listed = ", ".join(fixed)
            raise CacheError(
                Kind.REFUSED, f"nothing was changed: {listed} takes a restart to change", violations
            )
        if not changed:
            self._in_force = InForce(before.settings, before.generation)
            self._observer.on(ConfigRead("unchanged", before.generation, (), ""))
            return []
        self._publish(settings)
        self._in_force = InForce(settings, before.generation + 1)
        self._observer.on(ConfigRead("applied", before.generation + 1, tuple(changed), ""))
        return changed

    def _watch(self) -> None:
        interval_s = self._in_force.settings.reload.watch_s
        if not self._can_watch or not interval_s:
            return
        while not self._stop.wait(interval_s):
            if self._digest() != self._seen:
                try:
                    self.reload()
                except CacheError:
                    continue  # told by its event; tried again when the file changes again

    def _is_in(self, settings: Settings) -> bool:
        try:
            return not self._can_watch or load(self.path) == settings
        except CacheError:
            return False

    def _digest(self) -> bytes | None:
        """Of the file's content; None when it cannot be read."""
        try:
            return blake2b(self.path.read_bytes()).digest() if self.path and self._can_watch else None
        except OSError:
            return None
