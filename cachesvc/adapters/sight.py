"""What a tokenizer lets its model see of a text; both embedders ask it before they embed."""

import tokenizers

from cachesvc.core.types import Unseen
from cachesvc.core.visibility import unseen_characters


class Sight:
    """What a tokenizer lets its model see."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        special = [token for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        self._special = tuple(token.content for token in special)
        unknown = getattr(tokenizer.model, "unk_token", None)
        self._unknown_id = None if unknown is None else tokenizer.token_to_id(unknown)
        # A mark that composes with nothing: the tokenizer either keeps it or strips it.
        normalizer = tokenizer.normalizer
        self._sees_marks = normalizer is None or "\u0332" in normalizer.normalize_str("q\u0332")

    def before(self, text: str) -> Unseen | None:
        """Judge the characters."""
        if any(token in text for token in self._special):
            return Unseen.SPECIAL_TOKENS
        return unseen_characters(text, sees_marks=self._sees_marks)

    def after(self, ids: list[int], window_tokens: int) -> Unseen | None:
        """Judge the tokens."""
        if len(ids) > window_tokens:
            return Unseen.PAST_WINDOW
        if self._unknown_id is not None and self._unknown_id in ids:
            return Unseen.UNKNOWN_TOKENS
        return None
