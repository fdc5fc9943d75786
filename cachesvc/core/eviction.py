"""What an entry is worth keeping, as one number: entries of the least rank are evicted first.

``gdsf`` is Greedy-Dual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance with
Greedy-Dual-Size-Frequency Caching Policy", HP Labs 1998): the money that a KiB has saved and is likely to
save again, on top of an inflation that rises to the rank of whatever was evicted last, so that what was
once worth much and is not asked for any more grows old. Other than there, storing does not count as a use: most
of what is stored is never asked for again, so an entry without a hit counts a quarter of one (measured by
``bench/eviction.py``; docs/adr/0026). Entries of equal rank go in the order of use.
"""

from typing import Literal, TypeAlias, assert_never

from cachesvc.core.types import Payload, Vector

EvictionPolicy: TypeAlias = Literal["gdsf", "lru", "lfu"]

_KIB = 1024
_OVERHEAD_BYTES = 512  # digests, heads and secondary keys
# Where the caller told no cost: roughly what small models take for a token. Only the proportions count.
_INPUT_TOKEN_USD = 0.5e-6
_OUTPUT_TOKEN_USD = 2e-6
_UNKNOWN_USD = 1e-4
# Hits that an entry is given beforehand. With 1 what nobody asks for pushes out too much that somebody does; with 0
# money would not count for new entries at all.
_HITS_AHEAD = 0.25


def worth_usd(payload: Payload) -> float:
    """Money that a hit saves: as told, else estimated from the tokens, else a small constant."""
    if payload.cost_usd > 0:
        return payload.cost_usd
    estimated = payload.input_tokens * _INPUT_TOKEN_USD + payload.output_tokens * _OUTPUT_TOKEN_USD
    return estimated or _UNKNOWN_USD


def size_bytes(prompt: str, payload: Payload, vector: Vector | None) -> int:
    """What an entry counts for: its parts as they were given, not as compressed, and its rows' overhead."""
    texts = [
        prompt,
        payload.content_type,
        *payload.metadata.keys(),
        *payload.metadata.values(),
        *payload.tags,
    ]
    for source in payload.sources:
        texts += (source.id, source.version)
    vector_bytes = 0 if vector is None else vector.nbytes
    return _OVERHEAD_BYTES + len(payload.response) + vector_bytes + sum(len(text.encode()) for text in texts)


def rank(policy: EvictionPolicy, worth_usd: float, size_bytes: int, hits: int, inflation: float) -> float:
    """Never negative; higher is kept longer. ``inflation`` is the rank that was evicted last."""
    match policy:
        case "gdsf":
            return inflation + (hits + _HITS_AHEAD) * worth_usd / max(size_bytes / _KIB, 1.0)
        case "lfu":
            return float(hits)
        case "lru":
            return 0.0
        case _:
            assert_never(policy)
