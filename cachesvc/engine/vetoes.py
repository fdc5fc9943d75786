"""Reuses that feedback said were wrong: refused from then on, and those much like them.

Asked by every lookup whose candidate is good enough. What other processes were told is known at once: the store says
by one number whether a scope has more vetoes than are held here. Where the store of trust fails, those that are held
go on to count, and that is told.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cachesvc.core.errors import CacheError
from cachesvc.core.ports import ResponseStore, TrustStore
from cachesvc.core.trust.labels import VetoPair
from cachesvc.core.types import Entry, Vector

NEAR = 0.95
"""Request and entry both this near to those of a veto: the same mistake. Of such reuses 70 to 100 % were wrong in every
stream that was measured, at .90 only 30 % in the worst: see ADR 0033.
"""

_ROUNDING = 1e-3  # vetoes are kept in half precision


@dataclass(frozen=True, slots=True)
class _Held:
    """A scope's vetoes as of ``last`` at least. ``told``: when, by the exact keys of request and entry. ``ours`` and
    ``theirs`` (n, dimension) are of those that reach further than the identical request.
    """

    last: int
    told: Mapping[tuple[bytes, bytes], int]
    ours: NDArray[np.float32]
    theirs: NDArray[np.float32]
    theirs_keys: Sequence[bytes]


_NOTHING = np.zeros((0, 0), np.float32)


class Vetoes:
    """Thread-safe; raises nothing. ``failed`` is told when the store of trust could not be read."""

    def __init__(
        self, trust: TrustStore, store: ResponseStore, max_held: int, failed: Callable[[CacheError], None]
    ) -> None:
        """At most ``max_held`` vetoes are in memory, of the scopes that were asked for last."""
        self._trust = trust
        self._store = store
        self._max_held = max_held
        self._failed = failed
        self._lock = threading.Lock()  # guards the map; nothing is read while it is held
        self._held: OrderedDict[bytes, _Held] = OrderedDict()  # least recently used first
        self._count = 0  # of the vetoes in it

    def refuses(self, scope: bytes, query_key: bytes, query: Vector, entry: Entry) -> bool:
        """Whether serving this entry for that request, an exact key and its vector, is vetoed."""
        held = self._of(scope)
        if held is None or not held.theirs_keys:
            return False
        if (query_key, entry.exact_key) in held.told and query_key != entry.exact_key:
            return True
        (near,) = np.nonzero(held.ours @ query >= NEAR - _ROUNDING)
        return bool(len(near)) and self._is_near_entry(scope, entry, held, near)

    def accusers(self, scope: bytes, entry: Entry) -> int:
        """How many requests this entry was said to be wrong for, since it was stored."""
        held = self._of(scope)
        if held is None:
            return 0
        return sum(
            theirs_key == entry.exact_key and at_ms >= entry.created_ms
            for (_, theirs_key), at_ms in held.told.items()
        )

    def count(self) -> int:
        """Vetoes in memory."""
        with self._lock:
            return self._count

    def _is_near_entry(self, scope: bytes, entry: Entry, held: _Held, near: NDArray[np.int64]) -> bool:
        if any(held.theirs_keys[place] == entry.exact_key for place in near):
            return True
        try:
            (vector,) = self._store.vectors(scope, [entry.id])
        except CacheError:
            return True  # rather a miss than a wrong answer
        return vector is None or bool((held.theirs[near] @ vector >= NEAR - _ROUNDING).any())

    def _of(self, scope: bytes) -> _Held | None:
        held = self._held.get(scope)
        try:
            last = self._trust.last_veto(scope)
            if held is not None and held.last == last:
                with self._lock:
                    if scope in self._held:
                        self._held.move_to_end(scope)
                return held
            if not last:
                return None
            held = self._read(scope, held, last)
        except CacheError as error:
            self._failed(error)
            return held
        with self._lock:
            before = self._held.pop(scope, None)
            self._held[scope] = held
            self._count += len(held.told) - (0 if before is None else len(before.told))
            while self._count > self._max_held and len(self._held) > 1:
                self._count -= len(self._held.popitem(last=False)[1].told)
        return held

    def _read(self, scope: bytes, held: _Held | None, last: int) -> _Held:
        """What is new, or all anew where too many are held that the store has pushed out since."""
        if held is not None:
            held = _with(held, last, self._trust.vetoes(scope, held.last))
            if len(held.told) <= self._max_held:
                return held
        return _with(_Held(0, {}, _NOTHING, _NOTHING, ()), last, self._trust.vetoes(scope))


def _with(held: _Held, last: int, vetoes: Sequence[VetoPair]) -> _Held:
    """With more vetoes, of which some may be known: others go on to tell while they are read, or tell of another answer.

    An identical request that was answered wrongly says nothing of others: the entry is wrong, not the reuse. Those that
    the store has pushed out go on to count here, until the scope is read anew.
    """
    reuses = [
        veto
        for veto in vetoes
        if veto.ours_key != veto.theirs_key and (veto.ours_key, veto.theirs_key) not in held.told
    ]
    return _Held(
        last,
        {**held.told, **{(veto.ours_key, veto.theirs_key): veto.at_ms for veto in vetoes}},
        _stacked([*held.ours, *(veto.ours for veto in reuses)]),
        _stacked([*held.theirs, *(veto.theirs for veto in reuses)]),
        (*held.theirs_keys, *(veto.theirs_key for veto in reuses)),
    )


def _stacked(vectors: Sequence[Vector]) -> NDArray[np.float32]:
    return np.array(vectors, np.float32).reshape(len(vectors), len(vectors[0]) if vectors else 0)
