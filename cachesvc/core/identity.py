r"""Request → Identity: what must be equal for two requests to be the same, as digests.

Canonical form: text in Unicode NFC with ``\n`` line endings, maps in key order; nothing else is
touched, so case, digits, code and white space all count. A single prompt is a chat of one user
message. The last user message is the query text; its place in the conversation and every other
turn belong to the context, so that a follow-up never meets another conversation's answer.
"""

import json
import unicodedata
from hashlib import blake2b

from cachesvc.core.errors import CacheError
from cachesvc.core.types import Identity, Message, Request

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

# Stands in the context where the query text was. Not a role, so no turn can spell it.
_QUERY_PLACE = "\u0000query"
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
    turns = [
        (_QUERY_PLACE, "") if n == place else (message.role, canonical_text(message.content))
        for n, message in enumerate(request.messages)
    ]
    vary = {canonical_text(key): canonical_text(value) for key, value in request.vary.items()}
    if len(vary) != len(request.vary):
        raise CacheError.invalid("vary", "two keys are equal after Unicode normalisation; keep one")

    context = _digest(b"context", _json([request.namespace, request.model, vary, turns]))
    scope = _digest(b"scope", context, fingerprint.encode())
    return Identity(
        namespace=request.namespace,
        model=request.model,
        context=context,
        scope=scope,
        exact_key=_digest(b"exact", scope, text.encode()),
        text=text,
    )


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


def _json(value: object) -> bytes:
    """Canonical JSON: keys sorted, no white space. Injective on the values used here."""
    return _encode(value).encode()


def _digest(kind: bytes, *parts: bytes) -> bytes:
    """BLAKE2b-256 (RFC 7693), a domain of its own per kind. Only the last part varies in length."""
    digest = blake2b(digest_size=32, person=kind)
    for part in parts:
        digest.update(part)
    return digest.digest()
