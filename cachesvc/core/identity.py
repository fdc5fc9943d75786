r"""Request → Identity: what must be equal for two requests to be the same, as digests.

Canonical form: text in Unicode NFC with ``\n`` line endings, maps in key order; nothing else is
touched, so case, digits, code and white space all count. A single prompt is a chat of one user
message. The last user message is the query text; its place in the conversation and every other
turn belong to the context, so that a follow-up never meets another conversation's answer.
"""

import json
import unicodedata
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

from cachesvc.core.errors import CacheError
from cachesvc.core.types import Identity, Message, Request

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

# Stands in the context where the query text was. Not a role, so no turn can spell it.
_QUERY_PLACE = "\u0000query"
_REMEMBERED_LENGTH = 4096
_PAIR_LENGTH = 128  # what a pair of strings holds besides their characters
_Pairs: TypeAlias = tuple[tuple[str, str], ...]
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


def identify(request: Request, fingerprint: str) -> Identity:
    """Canonicalise a request.

    ``fingerprint`` is the embedder's. Raises INVALID naming the field when the request has no user
    message, a blank query, or two ``vary`` keys that are one after canonicalisation.
    """
    place = _query_place(request.messages)
    text = canonical_text(request.messages[place].content)
    if not text.strip():
        raise CacheError.invalid(request.query_field, "is blank; the text that is asked must not be")
    model = canonical_text(request.model)
    turns = tuple(
        (_QUERY_PLACE, "") if n == place else (message.role, canonical_text(message.content))
        for n, message in enumerate(request.messages)
    )
    vary = canonical_vary(request)
    if len(vary) != len(request.vary):
        raise CacheError.invalid("vary", "two keys are equal after Unicode normalisation; keep one")

    context, scope = _wall(request.namespace, model, tuple(sorted(vary.items())), turns, fingerprint)
    return Identity(
        namespace=request.namespace,
        model=model,
        context=context,
        scope=scope,
        exact_key=_digest(b"exact", scope, text.encode()),
        text=text,
    )


def carried(namespace: str, model: str, context: bytes, text: str, fingerprint: str) -> Identity:
    """The identity of a request that was canonicalised before, with this embedder or another."""
    scope = _digest(b"scope", context, fingerprint.encode())
    return Identity(namespace, model, context, scope, _digest(b"exact", scope, text.encode()), text)


def canonical_vary(request: Request) -> dict[str, str]:
    """The further values that must match, canonical."""
    return {canonical_text(key): canonical_text(value) for key, value in request.vary.items()}


def canonical_text(text: str) -> str:
    r"""NFC, with ``\r\n`` and ``\r`` as ``\n``. Idempotent."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _query_place(messages: tuple[Message, ...]) -> int:
    for n in range(len(messages) - 1, -1, -1):
        if messages[n].role == "user":
            return n
    raise CacheError.invalid("chat.messages", "holds no user message; the last one is what is asked")


def _wall(namespace: str, model: str, vary: _Pairs, turns: _Pairs, fingerprint: str) -> tuple[bytes, bytes]:
    """Context and scope. Applications repeat them far more than prompts, so small ones are remembered."""
    size = 0
    for key, value in vary + turns:
        size += _PAIR_LENGTH + len(key) + len(value)
    digests = _remembered if size <= _REMEMBERED_LENGTH else _wall_digests
    return digests(namespace, model, vary, turns, fingerprint)


def _wall_digests(
    namespace: str, model: str, vary: _Pairs, turns: _Pairs, fingerprint: str
) -> tuple[bytes, bytes]:
    # Canonical JSON, injective on these values: keys sorted, no white space.
    context = _digest(b"context", _encode([namespace, model, dict(vary), turns]).encode())
    return context, _digest(b"scope", context, fingerprint.encode())


_remembered = lru_cache(maxsize=1024)(_wall_digests)  # at most about 8 MB


def _digest(kind: bytes, *parts: bytes) -> bytes:
    """BLAKE2b-256 (RFC 7693), a domain of its own per kind. Only the last part varies in length."""
    digest = blake2b(digest_size=32, person=kind)
    for part in parts:
        digest.update(part)
    return digest.digest()
