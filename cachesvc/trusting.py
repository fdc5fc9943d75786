"""Trust, put together: its store, what lookups go by, what learns behind them, and what takes feedback.

Made by ``app``, which starts it when the ports are open and stops it when no more is answered.
"""

from collections.abc import Callable
from dataclasses import dataclass

from cachesvc.core.errors import CacheError
from cachesvc.core.events import TaskFailed
from cachesvc.core.policy import PolicyBook
from cachesvc.core.ports import Clock, Observer, ResponseStore, TicketBook
from cachesvc.engine.analyses import Analyses
from cachesvc.engine.calibrating import Calibrator
from cachesvc.engine.challenging import Challenger
from cachesvc.engine.comparing import Comparing
from cachesvc.engine.feedback import Feedback
from cachesvc.engine.guard import Guard
from cachesvc.engine.labelling import Labeller, LabelOptions
from cachesvc.engine.trust import Errands, Life, Trust, TrustOptions
from cachesvc.engine.trust_desk import TrustDesk
from cachesvc.engine.trust_parts import TrustParts
from cachesvc.engine.vetoes import Vetoes
from cachesvc.making import open_trust
from cachesvc.settings import Settings
from cachesvc.training import Trainer

_ROUND_LABELS = 1000


@dataclass(frozen=True, slots=True)
class TrustNeeds:
    """What trust is made on. ``leads`` says whether this process does the rounds, ``step_back`` lets a thread give way,
    ``is_doubtful`` that its store may be what the server keeps dying of.
    """

    store: ResponseStore
    embedder: Guard
    tickets: TicketBook
    analyses: Analyses
    policies: Callable[[], PolicyBook]
    leads: Callable[[], bool]
    clock: Clock
    observer: Observer
    step_back: Callable[[], None]
    is_doubtful: bool


class Trusting:
    """All of it, complete when constructed; ``start`` and ``stop`` once."""

    def __init__(self, settings: Settings, needs: TrustNeeds, life: Life) -> None:
        """Open the store of trust. Raises FULL or UNAVAILABLE; what is damaged is moved aside."""
        given = settings.trust
        self.store = open_trust(
            settings, needs.embedder.fingerprint, needs.observer, is_doubtful=needs.is_doubtful
        )
        parts = TrustParts(
            trust=self.store,
            store=needs.store,
            policies=needs.policies,
            analyses=needs.analyses,
            clock=needs.clock,
            observer=needs.observer,
        )
        trainer = Trainer()
        self._challenger = Challenger(parts, trainer, given.max_labels, trainer.stop)
        self._calibrator = Calibrator(parts, needs.step_back)
        self.trust = Trust(
            parts,
            life,
            TrustOptions(given.round_interval_s, _ROUND_LABELS, given.max_namespaces),
            needs.leads,
            Errands(self._challenger.challenge, self._calibrator.calibrate),
        )
        self.vetoes = Vetoes(
            self.store, needs.store, given.max_held_vetoes, lambda error: _tell(needs.observer, error)
        )
        self.labeller = Labeller(
            parts,
            Comparing(needs.embedder, needs.clock, given.max_waiting_feedback),
            self.vetoes,
            LabelOptions(given.max_queue, given.max_queue_bytes, given.compare_wait_s),
            needs.step_back,
        )
        self.feedback = Feedback(
            parts, needs.tickets, needs.embedder, self.labeller, self.vetoes, self.trust.count
        )

        self.desk = TrustDesk(parts, self.trust, life)

    def start(self) -> None:
        """Begin to learn."""
        self.labeller.start()
        self.trust.start()

    def stop(self) -> None:
        """Keep what was learned, and close the store, which nobody may touch from then on."""
        self.labeller.stop()
        self.trust.stop()
        self._challenger.stop()
        self._calibrator.stop()
        self.store.close()


def _tell(observer: Observer, error: CacheError) -> None:
    observer.on(TaskFailed.of("vetoes", error))
