"""The texts that are measured with: realistic prompts, answers of about 1 KB, and paraphrases that should hit.

Everything is deterministic, so that runs can be compared.
"""

import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
DEMO_PROMPTS = ROOT / "bench" / "data" / "demo_prompts.jsonl"
SOURCES = ("stream_banking77.jsonl", "stream_clinc150.jsonl")
MODEL = "bench-model"
RESPONSE_BYTES = 1024

_STARTS = (
    "How do I",
    "Can I",
    "What happens if I",
    "Why can I not",
    "When should I",
    "Please explain how to",
)
_VERBS = ("cancel", "renew", "change", "track", "return", "verify", "share", "pause", "upgrade", "report")
_THINGS = (
    "my card payment", "a flight booking", "the monthly plan", "an insurance claim", "my delivery address",
    "a bank transfer", "the hotel reservation", "my phone contract", "a gift voucher", "the tax form",
    "my library loan", "a parking permit",
)  # fmt: skip
_CASES = (
    "from another country", "after the due date", "without a receipt", "with two accounts", "on a weekend",
    "before it is confirmed", "when the app is offline", "for a family member", "with a new email address",
    "if the price went up", "after I moved house", "using a company name", "in the first month", "by letter",
)  # fmt: skip


def load(count: int) -> tuple[list[str], str]:
    """``count`` distinct prompts, and where they are from."""
    files = [SHARED / name for name in SOURCES]
    if all(file.is_file() for file in files):
        prompts = _distinct(row["prompt"] for file in files for row in rows_of(file))
        named = "BANKING77 and CLINC150"
    else:
        sentences = product(_STARTS, _VERBS, _THINGS, _CASES)
        prompts = _distinct(
            f"{start} {verb} {thing} {case}?" for case, thing, verb, start in _mixed(sentences)
        )
        named = "generated sentences"
    if len(prompts) < count:
        raise SystemExit(f"there are {len(prompts)} prompts, {count} are needed")
    return prompts[:count], named


def rows_of(file: Path) -> list[dict[str, str]]:
    """The rows of a file of JSON lines."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def variant(prompt: str) -> str:
    """The same question put a little differently: no final question mark, or a polite word more."""
    if prompt.endswith("?"):
        return prompt[:-1]
    return f"{prompt.rstrip('.!')} please"


def answer(number: int) -> bytes:
    """A response of RESPONSE_BYTES that belongs to this prompt only; compresses like prose."""
    text = f"Answer {number}. " + " ".join(
        f"Step {step}: open section {(number * 7 + step * 13) % 97}, choose option {(number + step) % 31} and confirm."
        for step in range(24)
    )
    return text.encode()[:RESPONSE_BYTES]


def _distinct(prompts: Iterable[str]) -> list[str]:
    """In order, each once whatever its case or outer white space."""
    return list({prompt.strip().casefold(): prompt.strip() for prompt in prompts}.values())


def _mixed(sentences: Iterable[tuple[str, str, str, str]]) -> Iterable[tuple[str, str, str, str]]:
    """Neighbours of the product are alike; a stride that shares no factor with the count spreads them."""
    ordered = list(sentences)
    for n in range(len(ordered)):
        start, verb, thing, case = ordered[n * 7919 % len(ordered)]
        yield case, thing, verb, start
