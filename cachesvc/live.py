"""What of the settings changes while the service runs. ``app`` replaces it whole when they are read again."""

from dataclasses import dataclass

from cachesvc.engine.janitor import JanitorOptions
from cachesvc.engine.parts import EmbedBudget, Tuning
from cachesvc.making import janitor_options
from cachesvc.serve.requests import Limits
from cachesvc.settings import Settings


@dataclass(frozen=True, slots=True)
class Live:
    """As its users take it."""

    tuning: Tuning
    janitor: JanitorOptions
    limits: Limits

    @classmethod
    def of(cls, settings: Settings) -> "Live":
        """What these settings mean."""
        budget = EmbedBudget(settings.embedder.max_wait_s, settings.embedder.min_left_s)
        return cls(
            Tuning(settings.policy_book(), budget),
            janitor_options(settings),
            Limits(**settings.limits.model_dump()),
        )
