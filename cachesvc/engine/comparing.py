"""Compares a fresh answer with a stored one, behind the requests: by what they say, else by their embeddings.

Embedding takes only inferences that no request wants, and rests in between, so that lookups notice nothing; what could
not be embedded in time cannot be told.
"""

import threading
from collections import OrderedDict
from contextlib import ExitStack
from hashlib import blake2b

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.identity import canonical_text
from cachesvc.core.policy import TrustTerms
from cachesvc.core.ports import Clock
from cachesvc.core.trust.compare import Judged, by_nearness, compare
from cachesvc.core.trust.labels import Comparator
from cachesvc.core.types import Unseen, Vector
from cachesvc.engine.guard import Guard

_REMEMBERED = 2048  # answers' embeddings: stored ones are compared with again and again; about 4 MB
_PAUSE_S = 0.02  # until it is asked again whether an inference is free

_CROWDED = "enough fresh answers wait to be compared (trust.max_waiting_feedback), for requests take all inferences: try again later"


class Comparing:
    """Thread-safe."""

    def __init__(self, embedder: Guard, clock: Clock, max_waiting: int) -> None:
        """``max_waiting`` calls for which somebody waits may wait for an inference at once."""
        self._seats = threading.BoundedSemaphore(max_waiting)
        self._embedder = embedder
        self._clock = clock
        self._lock = threading.Lock()  # guards what is remembered
        self._known: OrderedDict[bytes, Vector | Unseen] = OrderedDict()
        self._pause = threading.Event()  # never set: what waits here gives way to requests

    def compare(
        self, fresh: bytes, stored: bytes, terms: TrustTerms, wait_s: float, *, is_asked: bool = False
    ) -> Judged:
        """Whether both answer the same, as the policy has them compared. Takes ``wait_s`` at most, and an inference.

        ``is_asked``: a call waits for it, and keeps a thread that lookups need. Raises OVERLOADED then, and only then,
        where it would have to wait and enough others do.
        """
        judged = compare(fresh, stored, terms.compare)
        if isinstance(judged, Judged):
            return judged
        until_s = self._clock.monotonic_s() + wait_s
        vectors = [self._vector(text, until_s, is_asked=is_asked) for text in (judged.fresh, judged.stored)]
        if vectors[0] is None or vectors[1] is None:
            return Judged(None, Comparator.EMBEDDING)
        return by_nearness(judged, float(vectors[0] @ vectors[1]), terms.compare_min_score)

    def _vector(self, text: str, until_s: float, *, is_asked: bool) -> Vector | None:
        """None for what cannot be seen whole, and where no inference was free in time."""
        text = canonical_text(text)
        key = blake2b(text.encode(), digest_size=16).digest()
        with self._lock:
            found = self._known.get(key)
        if found is None:
            found = self._embedded(text, until_s, is_asked=is_asked)
        if found is None:
            return None
        with self._lock:
            self._known[key] = found
            self._known.move_to_end(key)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return None if isinstance(found, Unseen) else found

    def _embedded(self, text: str, until_s: float, *, is_asked: bool) -> Vector | Unseen | None:
        with ExitStack() as seat:
            needs_seat = is_asked
            while (left_s := until_s - self._clock.monotonic_s()) > 0:
                try:
                    return self._embedder.embed_behind(text, left_s)
                except CacheError as error:
                    if error.kind is not Kind.OVERLOADED:
                        return None
                if needs_seat:
                    if not self._seats.acquire(blocking=False):
                        raise CacheError(Kind.OVERLOADED, _CROWDED)
                    seat.callback(self._seats.release)
                    needs_seat = False
                self._pause.wait(min(_PAUSE_S, left_s))
        return None
