"""The sections on how namespaces are served and what is learned of them: policies, trust, the second opinion.

Values only, as in ``settings_sections``.
"""

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from cachesvc.core.gates import DEFAULT_GATES, Gate
from cachesvc.core.policy import Mode, Policy, TrustTerms
from cachesvc.core.types import Quota
from cachesvc.settings_sections import MIB, Section


class VerifierSettings(Section):
    """The second opinion on candidates between policy.*.verify_min_score and the threshold."""

    kind: Literal["", "cross-encoder", "http"] = Field(
        "", description="cross-encoder: a model of verifier.model. http: a judge at verifier.url. Empty: none"
    )
    model: str = Field(
        "",
        description="A cross-encoder's name or directory, compiled at the first start, or the directory of a compiled one; "
        "with one label, or two of which the second is yes",
    )
    url: str = Field(
        "",
        description='Where prompts are sent, for {"query", "candidate"}; the answer is {"probability"} or {"same"}',
    )
    token: SecretStr = Field(SecretStr(""), description="Bearer token for verifier.url")
    timeout_s: float = Field(
        0.25, gt=0, le=60, description="How long a second opinion may take; later, or failed, it is a miss"
    )
    min_probability: float = Field(0.9, ge=0, le=1, description="Probability from which it is a yes")
    concurrency: int = Field(
        2, ge=1, le=256, description="Second opinions at once; further candidates get none"
    )

    @model_validator(mode="after")
    def _is_complete(self) -> "VerifierSettings":
        if self.kind == "cross-encoder" and not self.model:
            raise ValueError("model must name a cross-encoder where kind is 'cross-encoder'")
        if self.kind == "http" and not re.match(r"https?://[^/\s]+", self.url):
            raise ValueError("url must be an http:// or https:// address where kind is 'http'")
        return self


class TrustSettings(Section):
    """What is learned of the reuse, in a store of its own beside the entries."""

    round_interval_s: float = Field(
        5.0, gt=0, le=3600, description="How often new labels are made into what lookups go by"
    )
    max_labels: int = Field(
        20_000,
        ge=100,
        le=10_000_000,
        description="Labels kept of each namespace, the newest; about 1 KB each",
    )
    max_vetoes: int = Field(
        1000, ge=1, le=100_000, description="Vetoed reuses kept of each scope, the newest; about 2 KB each"
    )
    max_held_vetoes: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Of these in memory, of the scopes asked last; about 3 KB each",
    )
    max_bytes: int = Field(
        256 * MIB,
        ge=8 * MIB,
        le=1 << 40,
        description="Bound on the store of trust; the oldest labels go first, and the oldest vetoes where they take half of it",
    )
    max_namespaces: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Namespaces whose rules, counts and labels are kept; where there are more, those go of which least is known",
    )
    max_queue: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Fresh answers that wait to be compared; further ones are dropped",
    )
    max_queue_bytes: int = Field(
        32 * MIB, ge=64 << 10, le=1 << 40, description="Memory for them; further ones are dropped"
    )
    compare_wait_s: float = Field(
        2.0,
        ge=0,
        le=60,
        description="How long a comparison of answers may wait for inferences that no request wants; what could not be "
        "embedded by then counts as not told",
    )
    max_waiting_feedback: int = Field(
        4,
        ge=0,
        le=10_000,
        description="Calls of SubmitFeedback that wait so at once, each of which keeps one of server.threads; further ones get "
        "RESOURCE_EXHAUSTED at once, with RetryInfo",
    )


class PolicySettings(Section):
    """How a namespace is served. In [policy.default]; other policies inherit what they leave out."""

    mode: Literal["off", "shadow", "canary", "on"] = Field(
        "on",
        description="off: every lookup is a bypass, every store is refused. shadow: nothing is served, what would be is "
        "recorded and learned from. canary: canary_share of the lookups are served as with on, the others as with shadow",
    )
    canary_share: float = Field(0.1, ge=0, le=1, description="With mode canary: the share that is served")
    semantic: bool = Field(True, description="false: the exact tier only")
    store_prompts: bool = Field(
        True,
        description="false: prompts are not kept; matching by meaning needs them, so the exact tier only",
    )
    min_score: float = Field(
        0.95,
        ge=-1,
        le=1,
        description="Lowest cosine similarity of a semantic hit; requests may only tighten it",
    )
    candidate_count: int = Field(5, ge=1, le=100, description="Nearest entries considered")
    ttl_s: float = Field(86_400.0, gt=0, le=315_360_000, description="Lifetime of entries that state none")
    max_ttl_s: float = Field(2_592_000.0, gt=0, le=315_360_000, description="Longest lifetime of any entry")
    sliding_ttl: bool = Field(
        False, description="true: each use lets an entry live for its ttl again, never past max_ttl_s"
    )
    max_entries: int = Field(
        0, ge=0, le=1 << 40, description="Bound on the entries of each namespace by itself; 0: none"
    )
    max_bytes: int = Field(
        0,
        ge=0,
        le=1 << 44,
        description="Bound on prompts, responses and vectors of each namespace by itself; 0: none",
    )
    gates: list[str] = Field(
        [gate.label for gate in Gate if gate in DEFAULT_GATES],
        description="Checks that refuse a semantic hit whose prompt differs in what turns the answer",
    )
    max_error_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Wrong hits per request that are allowed: the threshold, and a learned rule, are then chosen by the "
        "namespace's own labels; until there are enough, min_score decides. Unset: min_score decides for ever",
    )
    floor_score: float = Field(
        0.6,
        ge=-1,
        le=1,
        description="With max_error_rate: lowest cosine similarity that is ever served, or learned from",
    )
    hold_back_share: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="With max_error_rate: share of the semantic hits that are answered as misses instead, so that the "
        "fresh answers tell how often hits are wrong",
    )
    audit_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Least share of the semantic hits for which clients are asked for a fresh answer",
    )
    max_audit_share: float = Field(
        0.2, ge=0, le=1, description="Largest such share, while little is known of the namespace"
    )
    max_false_hit_rate: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="When the share of wrong hits among the semantic hits is credibly above, the brake tightens. Unset: 0.05, "
        "or ten times max_error_rate where that is more, which counts wrong hits among all requests",
    )
    quarantine_after: int = Field(
        3,
        ge=1,
        le=1000,
        description="Wrong verdicts, each of another request, after which an entry is served no more",
    )
    compare: Literal["auto", "text", "json", "embedding", "off"] = Field(
        "auto",
        description="How fresh answers are compared with stored ones. auto: JSON as JSON, equal texts are the same, "
        "others by their embeddings. off: nothing is learned from misses",
    )
    compare_min_score: float = Field(
        0.85,
        ge=0,
        le=1,
        description="Cosine similarity of two answers' embeddings from which they count as the same",
    )
    verify_min_score: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Candidates from this score up to the threshold get a second opinion (section verifier)",
    )

    @field_validator("gates")
    @classmethod
    def _gates_exist(cls, names: list[str]) -> list[str]:
        known = {gate.label for gate in Gate}
        for name in names:
            if name not in known:
                raise ValueError(f"has no gate {name!r}; there are {', '.join(sorted(known))}")
        return names

    def _usual_false_hit_rate(self) -> float:
        return max(TrustTerms().max_false_hit_rate, min(10 * (self.max_error_rate or 0.0), 0.5))

    def policy(self) -> Policy:
        """As the engine takes it."""
        return Policy(
            mode=Mode(self.mode),
            canary_share=self.canary_share,
            semantic=self.semantic,
            store_prompts=self.store_prompts,
            min_score=self.min_score,
            candidate_count=self.candidate_count,
            ttl_ms=int(self.ttl_s * 1000),
            max_ttl_ms=int(self.max_ttl_s * 1000),
            sliding_ttl=self.sliding_ttl,
            quota=Quota(self.max_entries or None, self.max_bytes or None),
            gates=frozenset(Gate[name.upper()] for name in self.gates),
            trust=TrustTerms(
                max_error_rate=self.max_error_rate,
                floor_score=self.floor_score,
                hold_back_share=self.hold_back_share,
                audit_share=self.audit_share,
                max_audit_share=self.max_audit_share,
                max_false_hit_rate=self.max_false_hit_rate or self._usual_false_hit_rate(),
                quarantine_after=self.quarantine_after,
                compare=self.compare,
                compare_min_score=self.compare_min_score,
                verify_min_score=self.verify_min_score,
            ),
        )
