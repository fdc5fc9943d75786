"""Trains a challenger in a process of its own: ``python -m cachesvc.training PARENT``, an exercise on standard input.

Training takes a core for seconds. Beside the requests, in the same process, it would take their turns with the
interpreter; here it takes what processor time others leave, and is ended when it takes too long, or when the server
that asked ends, however it does. ``Trainer`` is the side that asks, in the server.
"""

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from typing import BinaryIO

import numpy as np

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.gates import Gate
from cachesvc.core.trust.adoption import Terms, challenge
from cachesvc.core.trust.labels import Comparator, Label, LabelledCandidate, Origin
from cachesvc.core.trust.rules import Rule
from cachesvc.engine.challenging import Exercise

MAX_S = 120.0
_NICE = 19
_LOOK_S = 0.5
_TOGETHER = 200  # labels: pickling one by one takes ten times as long, and all at once keeps requests from their turns


class Trainer:
    """Calls one such process after the other. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __call__(self, exercise: Exercise) -> Rule | str:
        """The rule that won, or why none did. Raises UNAVAILABLE when it fails, takes too long, or is stopped."""
        sent = packed(exercise)
        try:
            with self._begun() as child:
                answer = _answer(child, sent)
        except (subprocess.SubprocessError, OSError) as error:
            raise CacheError(Kind.UNAVAILABLE, f"training failed: {type(error).__name__}") from None
        outcome: Rule | str = pickle.loads(answer)  # noqa: S301 - of our own child
        return outcome

    def stop(self) -> None:
        """End the process that trains, if any; from then on none is begun."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.kill()

    @contextmanager
    def _begun(self) -> "Iterator[subprocess.Popen[bytes]]":
        with self._lock:
            if self._stopped:
                raise CacheError(Kind.UNAVAILABLE, "training was stopped")
            child = self._child = subprocess.Popen(  # noqa: S603 - our own program
                # -P: a file of such a name where the server was started is not taken for a module
                [sys.executable, "-P", "-m", __name__, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        try:
            with child:
                yield child
        finally:
            with self._lock:
                self._child = None


def _answer(child: "subprocess.Popen[bytes]", sent: bytes) -> bytes:
    try:
        answer, _ = child.communicate(sent, timeout=MAX_S)
    except BaseException:
        child.kill()
        raise
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, child.args)
    return answer


def trained(exercise: Exercise) -> Rule | str:
    """The same in this process."""
    terms = Terms(
        max_error_rate=exercise.max_error_rate,
        floor_score=exercise.floor_score,
        requests=exercise.requests,
        now_ms=exercise.now_ms,
        version=exercise.version,
    )
    return challenge(exercise.labels, exercise.current, terms)


def packed(exercise: Exercise) -> bytes:
    """An exercise on its way to the process that trains."""
    stream, labels = BytesIO(), exercise.labels
    pickle.dump(replace(exercise, labels=()), stream)
    pickle.dump(-(-len(labels) // _TOGETHER), stream)
    for first in range(0, len(labels), _TOGETHER):
        pickle.dump(_columns(labels[first : first + _TOGETHER]), stream)
    return stream.getvalue()


def unpacked(stream: BinaryIO) -> Exercise:
    """What ``packed`` made, in the process that trains."""
    exercise: Exercise = pickle.load(stream)  # noqa: S301 - from the server that started this
    labels: list[Label] = []
    for _ in range(pickle.load(stream)):  # noqa: S301 - as above
        labels += _labels(*pickle.load(stream))  # noqa: S301 - as above
    return replace(exercise, labels=labels)


def _columns(labels: Sequence[Label]) -> tuple[object, object, object]:
    """Labels as plain values, their candidates as such, and all features in one array."""
    candidates = [candidate for label in labels for candidate in label.candidates]
    return (
        [
            (
                *(label.key, label.at_ms, label.origin.name, label.comparator.name, label.share),
                *(label.rule_version, label.features_version, label.served, len(label.candidates)),
            )
            for label in labels
        ],
        [
            (len(one.features), one.score, None if one.gate is None else one.gate.name, one.same)
            for one in candidates
        ],
        np.concatenate([np.zeros(0, np.float32), *(candidate.features for candidate in candidates)]),
    )


def _labels(
    labels: list[tuple[bytes, int, str, str, float, int, int, int | None, int]],
    candidates: list[tuple[int, float, str | None, bool | None]],
    values: "np.typing.NDArray[np.float32]",
) -> Iterator[Label]:
    ends = np.cumsum([count for count, *_ in candidates])[:-1]
    made = iter(
        LabelledCandidate(row, score, None if gate is None else Gate[gate], same)
        for row, (_, score, gate, same) in zip(np.split(values, ends), candidates, strict=False)
    )
    for key, at_ms, origin, comparator, share, rule, version, served, count in labels:
        yield Label(
            *(key, at_ms, Origin[origin], Comparator[comparator], share, rule, version, served),
            tuple(next(made) for _ in range(count)),
        )


def _end_with(parent: int) -> None:
    """A server that is killed ends nobody: whoever works for it has to look."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def main(parent: int) -> int:
    """See the module."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with suppress(OSError):
        os.nice(_NICE)
    outcome = trained(unpacked(sys.stdin.buffer))
    sys.stdout.buffer.write(pickle.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
