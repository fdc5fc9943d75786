"""Trains a challenger in a process of its own: ``python -m cachesvc.training``, an exercise on standard input.

Training takes a core for seconds. Beside the requests, in the same process, it would take their turns with the
interpreter; here it takes what processor time others leave, and is ended when it takes too long. ``train`` is the
side that asks, in the server.
"""

import os
import pickle
import subprocess
import sys
from contextlib import suppress

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.trust.adoption import Terms, challenge
from cachesvc.core.trust.rules import Rule
from cachesvc.engine.challenging import Exercise

MAX_S = 120.0
_NICE = 19


def train(exercise: Exercise) -> Rule | str:
    """The rule that won, or why none did. Raises UNAVAILABLE when it fails, or takes too long."""
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-m", __name__],
            input=pickle.dumps(exercise),
            capture_output=True,
            timeout=MAX_S,
            check=True,
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise CacheError(Kind.UNAVAILABLE, f"training failed: {type(error).__name__}") from None
    outcome: Rule | str = pickle.loads(done.stdout)  # noqa: S301 - of our own child
    return outcome


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


def main() -> int:
    """See the module."""
    with suppress(OSError):
        os.nice(_NICE)
    outcome = trained(pickle.load(sys.stdin.buffer))  # noqa: S301 - from the server that started this
    sys.stdout.buffer.write(pickle.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
