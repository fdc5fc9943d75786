"""``TrustStore`` in plain Python: reference for the contract suite, and the double of the engine's tests."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from cachesvc.core.trust.labels import NOTHING, Label, News, Origin, Tally, VetoPair
from cachesvc.core.trust.state import TrustState


class MemoryTrust:
    """``TrustStore`` that nothing survives."""

    def __init__(
        self, max_labels: int = 20_000, max_vetoes: int = 1000, max_namespaces: int = 10_000
    ) -> None:
        self._lock = threading.Lock()
        self._max_labels = max_labels
        self._max_vetoes = max_vetoes
        self._max_namespaces = max_namespaces
        self._sequence = 0
        self._labels: dict[str, list[tuple[int, Label]]] = {}
        self._tallies: dict[str, Tally] = {}
        self._vetoes: list[VetoPair] = []
        self._veto_sequences: dict[bytes, int] = {}
        self._veto_counts: Counter[str] = Counter()
        self._last_vetoes: dict[bytes, int] = {}
        self._states: dict[str, TrustState] = {}

    def add(self, namespace: str, labels: Sequence[Label], tally: Tally) -> int:
        """See ``TrustStore.add``."""
        with self._lock:
            self._sequence += 1
            self._tallies[namespace] = self._tallies.get(namespace, NOTHING).plus(tally)
            added = sum(self._append(namespace, label) for label in labels)
            self._keep_bound()
            return added

    def add_all(self, news: Sequence[News]) -> None:
        """See ``TrustStore.add_all``."""
        for one in news:
            self.add(one.namespace, one.labels, one.tally)

    def labels(self, namespace: str, after: int, limit: int) -> list[tuple[int, Label]]:
        """See ``TrustStore.labels``."""
        with self._lock:
            return [held for held in self._labels.get(namespace, []) if held[0] > after][:limit]

    def label_counts(self, namespace: str) -> Mapping[Origin, int]:
        """See ``TrustStore.label_counts``."""
        with self._lock:
            return Counter(label.origin for _, label in self._labels.get(namespace, []))

    def tally(self, namespace: str) -> Tally:
        """See ``TrustStore.tally``."""
        return self._tallies.get(namespace, NOTHING)

    def namespaces(self) -> list[str]:
        """See ``TrustStore.namespaces``."""
        with self._lock:
            return self._names()

    def add_veto(self, namespace: str, veto: VetoPair, label: Label | None, since_ms: int = 0) -> bool:
        """See ``TrustStore.add_veto``."""
        with self._lock:
            known = [held for held in self._vetoes if _pair(held) == _pair(veto)]
            if known and known[0].at_ms >= since_ms:
                return False
            self._vetoes = [held for held in self._vetoes if _pair(held) != _pair(veto)]
            self._sequence += 1
            self._vetoes.append(veto)
            self._veto_counts[namespace] += 1
            self._last_vetoes[veto.scope] = self._veto_sequences[_pair(veto)] = self._sequence
            of_scope = [held for held in self._vetoes if held.scope == veto.scope]
            if len(of_scope) > self._max_vetoes:
                self._vetoes = [held for held in self._vetoes if held is not of_scope[0]]
            if label is not None:
                self._append(namespace, label)
            return True

    def vetoes(self, scope: bytes, after: int = 0) -> list[VetoPair]:
        """See ``TrustStore.vetoes``."""
        with self._lock:
            return [
                veto
                for veto in self._vetoes
                if veto.scope == scope and self._veto_sequences[_pair(veto)] > after
            ]

    def veto_count(self, namespace: str) -> int:
        """See ``TrustStore.veto_count``."""
        return self._veto_counts[namespace]

    def last_veto(self, scope: bytes) -> int:
        """See ``TrustStore.last_veto``."""
        return self._last_vetoes.get(scope, 0)

    def sequence(self) -> int:
        """See ``TrustStore.sequence``."""
        return self._sequence

    def state(self, namespace: str) -> TrustState | None:
        """See ``TrustStore.state``."""
        return self._states.get(namespace)

    def generation(self, namespace: str) -> int:
        """See ``TrustStore.generation``."""
        state = self.state(namespace)
        return 0 if state is None else state.generation

    def put_state(self, state: TrustState) -> bool:
        """See ``TrustStore.put_state``."""
        with self._lock:
            kept = self._states.get(state.namespace)
            if kept is not None and kept.generation >= state.generation:
                return False
            self._sequence += 1
            self._states[state.namespace] = state
            return True

    def _keep_bound(self) -> None:
        while len(names := self._names()) > self._max_namespaces:
            least = min(
                names,
                key=lambda name: (
                    name in self._states,
                    len(self._labels.get(name, ())),
                    self._tallies.get(name, NOTHING).searched,
                ),
            )
            for held in (self._labels, self._tallies, self._states, self._veto_counts):
                held.pop(least, None)

    def _names(self) -> list[str]:
        return sorted({*self._tallies, *self._states, *self._labels, *self._veto_counts})

    def _append(self, namespace: str, label: Label) -> bool:
        held = self._labels.setdefault(namespace, [])
        known = next((one for one in held if one[1].key == label.key), None)
        if known is not None:
            if label.verdict is None or known[1].verdict is not None:
                return False
            held.remove(known)
        self._sequence += 1
        held.append((self._sequence, label))
        del held[: -self._max_labels]
        return True


def _pair(veto: VetoPair) -> bytes:
    return veto.scope + veto.theirs_key + veto.ours_key
