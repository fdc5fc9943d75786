"""The thresholds that other caches have where nobody sets one, as cosines, to be marked beside ours.

Read from their code and manuals in 2026. GPTCache's 0.8 is a share of its evaluator's range and RedisVL's 0.1 a
distance; the others are similarities.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peer:
    """A cache, and the cosine from which it serves."""

    name: str
    threshold: float


PEERS = (
    Peer("GPTCache", 0.8),
    Peer("bifrost", 0.8),
    Peer("AWS guidance", 0.8),
    Peer("RedisVL", 0.9),
    Peer("Upstash", 0.9),
    Peer("Portkey", 0.95),
)
