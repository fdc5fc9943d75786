"""Lines of a warm-up file: a prompt, its response and, where wanted, options of a store."""

from typing import Annotated, Any, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from cachesvc.calls import StoreOptions

_Seconds = Annotated[float, Meta(gt=0)]
_Dollars = Annotated[float, Meta(ge=0)]
_Tokens = Annotated[int, Meta(ge=0, le=1 << 53)]


class Pair(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One line. What it leaves out is left to the command's options, and to the policy."""

    prompt: str | list[dict[str, Any]]
    response: Annotated[str, Meta(min_length=1)]
    namespace: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    vary: dict[str, Any] | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    sources: list[tuple[str, str]] | UnsetType = UNSET
    content_type: str | UnsetType = UNSET
    ttl_s: _Seconds | UnsetType = UNSET
    input_tokens: _Tokens | UnsetType = UNSET
    output_tokens: _Tokens | UnsetType = UNSET
    cost_usd: _Dollars | UnsetType = UNSET

    def options(self) -> StoreOptions:
        """What it says beside prompt and response."""
        said = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not UNSET}
        del said["prompt"], said["response"]
        return cast("StoreOptions", said)


_decode = msgspec.json.Decoder(Pair).decode


def pair_of(line: bytes) -> Pair:
    """Read a line. Raises ValueError, naming the field that is wrong."""
    pair = _decode(line)  # its errors are ValueErrors
    if isinstance(pair.prompt, list):
        for n, turn in enumerate(pair.prompt):
            if not isinstance(turn.get("role"), str):
                raise ValueError(f"prompt[{n}].role: must be a text")  # noqa: TRY004 - as the decoder's
    return pair
