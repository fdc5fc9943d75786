"""Decorated model calls: how a function's arguments become an identity, and its answer bytes. No I/O.

Both clients' ``cached`` are made of this.
"""

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cachesvc.calls import (
    BYTES,
    JSON,
    TEXT,
    UNANSWERED,
    CachedEntry,
    LookupOptions,
    LookupReply,
    Prompt,
    StoreOptions,
    Usage,
    canonical_json,
    refuse_unknown,
)
from cachesvc.judging import AUDIT
from cachesvc.v1 import cache_pb2 as pb


class CachedOptions(LookupOptions, total=False):
    """Of ``cached``: what a lookup takes, and of a store what does not depend on the answer."""

    ttl_s: float
    tags: Sequence[str]
    sources: Sequence[tuple[str, str]]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a lookup came to for a decorated call: its outcome, and the answer of a hit."""

    outcome: str
    hit: bool = False
    answer: Any = None
    lookup_id: str = ""
    may_store: bool = True
    audit: bool = False


class CachedCall:
    """How a decorated function's calls become lookups and stores.

    The argument called ``prompt`` (or the first) is the prompt. Every other argument must match
    exactly, so it goes into ``vary``, unless it is in ``ignore``; and so does the function, by
    ``name`` or else by its module and qualified name, unless the caller's ``vary`` says another.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        prompt: str,
        ignore: Collection[str],
        usage: Callable[[Any], Usage] | None,
        name: str,
        options: CachedOptions,
    ) -> None:
        self._signature = inspect.signature(function)
        self._name = getattr(function, "__qualname__", "the function")
        names = [name for name in self._signature.parameters if name not in ignore]
        self._prompt = prompt or ("prompt" if "prompt" in names else next(iter(names), ""))
        if self._prompt not in names:
            raise TypeError(f"{self._name} has no argument {self._prompt!r} to take the prompt from")
        self._ignore = frozenset(ignore)
        self._usage = usage
        refuse_unknown(options, CachedOptions)
        self._lookup = cast("LookupOptions", {k: v for k, v in options.items() if k not in _STORE_ONLY})
        self._store = cast("StoreOptions", {k: v for k, v in options.items() if k not in _LOOKUP_ONLY})
        self._store.pop("vary", None)  # each call has its own
        self._vary = {_FUNCTION: name or _full_name(function), **self._lookup.get("vary", {})}

    def identity(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Prompt, LookupOptions]:
        """The prompt and the options of one call. Raises TypeError for an argument that is not JSON."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = {name: value for name, value in bound.arguments.items() if name not in self._ignore}
        prompt: Prompt = arguments.pop(self._prompt)
        vary = dict(self._vary)
        for name, value in arguments.items():
            try:
                vary[name] = canonical_json(value)
            except (TypeError, ValueError):
                raise TypeError(
                    f"argument {name!r} of {self._name} is not JSON and so cannot be part of what must match; "
                    f"if the answer does not depend on it, decorate with ignore=({name!r},)"
                ) from None
        return prompt, {**self._lookup, "vary": vary}

    def recall(self, reply: LookupReply) -> Recalled:
        """Read a lookup's reply. A hit that cannot be read is no answer, and is to be stored over."""
        if reply.entry is None:
            may_store = reply.outcome not in UNANSWERED  # a cache that is down costs one budget, not two
            return Recalled(reply.outcome, lookup_id=reply.lookup_id, may_store=may_store)
        try:
            answer = decode(reply.entry)
            return Recalled(reply.outcome, True, answer, reply.lookup_id, audit=reply.audit)
        except (ValueError, RecursionError):
            return Recalled("BYPASS_ERROR")

    def storing(self, answer: Any, recalled: Recalled, looked_up: LookupOptions) -> "Storing | None":
        """The store that follows; None when there is to be none or the answer is not text, bytes or JSON."""
        encoded = encode(answer) if recalled.may_store else None
        if encoded is None:
            return None
        usage = self._usage(answer) if self._usage is not None else Usage()
        options = StoreOptions(
            vary=looked_up.get("vary", {}),
            lookup_id=recalled.lookup_id,
            content_type=encoded[1],
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=usage.cost_usd,
        )
        options.update(self._store)
        return Storing(encoded[0], options)

    def report(self, answer: Any, recalled: Recalled) -> pb.SubmitFeedbackRequest | None:
        """What to tell the service of a fresh answer that it asked for; None for one that is not text, bytes or JSON."""
        encoded = encode(answer)
        if encoded is None:
            return None
        request = pb.SubmitFeedbackRequest(
            namespace=self._lookup.get("namespace", ""), lookup_id=recalled.lookup_id, source=AUDIT
        )
        request.fresh.response, request.fresh.content_type = encoded
        return request


@dataclass(frozen=True, slots=True)
class Storing:
    """A store about to be made."""

    response: bytes
    options: StoreOptions


_STORE_ONLY = ("ttl_s", "tags", "sources", "metadata")
_LOOKUP_ONLY = ("min_score", "max_age_s", "exact_only", "bypass", "current_sources")
_FUNCTION = "cachesvc.function"  # no argument can be called so


def _full_name(function: Callable[..., Any]) -> str:
    try:
        return f"{function.__module__}.{function.__qualname__}"
    except AttributeError:
        raise TypeError("a callable without a name of its own needs one: decorate with name=") from None


def encode(answer: Any) -> tuple[bytes, str] | None:
    """An answer as bytes and content type: text, bytes, or JSON; None for anything else."""
    if isinstance(answer, bytes):
        return answer, BYTES
    try:
        if isinstance(answer, str):
            return answer.encode(), TEXT
        return canonical_json(answer).encode(), JSON
    except (TypeError, ValueError, RecursionError):
        return None


def decode(entry: CachedEntry) -> Any:
    """What ``encode`` was given. Raises ValueError or RecursionError for bytes that are not their type."""
    if entry.content_type == JSON:
        return json.loads(entry.response)
    return entry.response.decode() if entry.content_type.startswith("text/") else entry.response
