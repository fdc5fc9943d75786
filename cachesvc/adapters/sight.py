"""What a tokenizer lets its model see of a text; both embedders ask it before they embed."""

import json
from functools import lru_cache

import tokenizers

from cachesvc.core.types import Unseen
from cachesvc.core.visibility import unseen_characters


class Sight:
    """What a tokenizer lets its model see. ``prefix`` goes before each text and counts in the window."""

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, *, prefix: str, window_tokens: int, max_text_length: int
    ) -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._window_tokens = window_tokens
        self._max_text_length = max_text_length
        special = [token for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        self._special = tuple(token.content for token in special)
        self._unknown_id = _unknown_id(tokenizer)
        self._normalizer = tokenizer.normalizer
        self._drops = lru_cache(maxsize=4096)(self._drops_uncached)
        # A mark that composes with nothing: the tokenizer either keeps it or strips it.
        self._sees_marks = not self._drops("\u0332")

    def read(self, text: str) -> list[int] | Unseen:
        """The token ids of a text, or why it cannot be fully seen."""
        # A long text is tokenised whole before it could be cut (0.5 s per megabyte), so its length goes first.
        if len(text) > self._max_text_length:
            return Unseen.PAST_WINDOW
        unseen = self._judge_characters(text)
        if unseen is not None:
            return unseen
        ids: list[int] = self._tokenizer.encode(self._prefix + text).ids
        return self._judge_tokens(ids) or ids

    def _judge_characters(self, text: str) -> Unseen | None:
        if any(token in text for token in self._special):
            return Unseen.SPECIAL_TOKENS
        unseen = unseen_characters(text, sees_marks=self._sees_marks)
        if unseen is None and not text.isascii() and any(map(self._drops, set(text))):
            return Unseen.INVISIBLE_CHARACTERS
        return unseen

    def _judge_tokens(self, ids: list[int]) -> Unseen | None:
        if len(ids) > self._window_tokens:
            return Unseen.PAST_WINDOW
        if self._unknown_id is not None and self._unknown_id in ids:
            return Unseen.UNKNOWN_TOKENS
        return None

    def _drops_uncached(self, character: str) -> bool:
        """Whether the tokenizer's normalizer leaves nothing of a character between two letters."""
        if self._normalizer is None:
            return False
        return bool(self._normalizer.normalize_str(f"q{character}q") == self._normalizer.normalize_str("qq"))


def _unknown_id(tokenizer: tokenizers.Tokenizer) -> int | None:
    """The id that stands for what the vocabulary lacks: by name for WordPiece and BPE, by id for Unigram."""
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    unknown = model.get("unk_token")
    return None if unknown is None else tokenizer.token_to_id(unknown)
