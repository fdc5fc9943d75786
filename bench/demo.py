"""`make demo`: the real server answers a stream of real, labelled prompts, and what it did is shown.

Starts `cachesvc serve` on an embedded store in a temporary directory, replays the requests through
`cachesvc.Client` as an application would (lookup; after a miss call the model and store its answer),
and ends with tables. Leaves no process and no file behind, whatever ends it.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from bench.demo_server import DemoError, Server
from bench.demo_traffic import (
    CALL_S,
    CALLERS,
    CHARACTERS_PER_TOKEN,
    INPUT_USD_PER_MILLION,
    OUTPUT_USD_PER_MILLION,
    ZIPF_EXPONENT,
    LabelledPrompt,
    Replay,
    Tally,
    WrongHit,
    draw_requests,
    load_prompts,
)
from cachesvc import Client

MODEL = "simulated-model"
PROGRESS_LINES = 10  # without a terminal
WIDTH = 76
SHOWN_EXAMPLES = 5
SHOW_LOWER = 0.85  # the threshold that is suggested for comparison
MAX_REQUESTS = 1_000_000
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the demo; 0 when every request was answered, 1 with the reason when not, 130 when interrupted."""
    options = _options()
    console = Console(highlight=False)
    # make, a closing terminal or a CI runner end it like Ctrl-C: everything is cleaned up.
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        prompts = load_prompts()
        with tempfile.TemporaryDirectory(prefix="cachesvc-demo-") as directory:
            began_s = time.perf_counter()
            tally = _serve_and_replay(Path(directory), prompts, options, console)
            took_s = time.perf_counter() - began_s
    except DemoError as error:
        console.print(f"\nThe demo failed: {error}", style="bold red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; the server is stopped and its files are removed.")
        return 130
    report(console, tally, options, took_s)
    return 0


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller chose."""

    request_count: int
    min_score: float
    seed: int


def _serve_and_replay(
    directory: Path, prompts: Sequence[LabelledPrompt], options: Options, console: Console
) -> Tally:
    with Server(directory, options.min_score) as server:
        try:
            console.print("Starting cachesvc on an empty store in a temporary directory …")
            server.await_serving(console)
            console.print(
                f"Serving at {server.address}: {options.request_count:,} requests, {CALLERS} callers."
            )
            with Client(server.address, model=MODEL, timeout_s=CALL_S, store_timeout_s=CALL_S) as client:
                requests = draw_requests(prompts, options.request_count, options.seed)
                replay = Replay(client, prompts, requests)
                replay.run(lambda: _watch(replay, console))
            server.stop()
        except DemoError as error:
            raise DemoError(f"{error}\n\nThe end of the server's log:\n{server.log_tail()}") from error
        return replay.tally


def _watch(replay: Replay, console: Console) -> None:
    """Show live progress until all callers are done; plain lines where there is no terminal."""
    if not console.is_terminal:
        step = max(replay.request_count // PROGRESS_LINES, 1)
        due = step
        while replay.wait(0.05):
            done, line = replay.progress()
            if done >= due:
                console.print(f"  {done:>6,} of {replay.request_count:,}   {line}")
                due = (done // step + 1) * step
        return
    columns = (TextColumn("  "), BarColumn(24), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=replay.request_count)
        running = True
        while running:
            running = replay.wait(0.1)
            done, line = replay.progress()
            bar.update(task, completed=done, description=line)


# ------------------------------------------------------------------ the report


def report(console: Console, tally: Tally, options: Options, took_s: float) -> None:
    """The tables at the end."""
    console.print()
    console.print(_tiers_table(tally, options))
    console.print(_sums_table(tally, took_s))
    if tally.wrong:
        console.print(_wrong_table(tally.wrong))
    if options.min_score > SHOW_LOWER:
        console.print(
            f"More hits, and more wrong ones: .venv/bin/python -m bench.demo --min-score {SHOW_LOWER}"
        )


def _tiers_table(tally: Tally, options: Options) -> Table:
    table = Table(
        title=f"{options.request_count:,} requests, min_score {options.min_score:g}",
        caption=(
            "Real prompts (BANKING77, CLINC150; bench/data/README.md). How often each comes back is drawn: "
            f"Zipf-like popularity, exponent {ZIPF_EXPONENT}, seed {options.seed}. The model is simulated and "
            f"answers at once. Times are the caller's; {CALLERS} callers and the server share "
            f"{len(os.sched_getaffinity(0))} cores."
        ),
        caption_justify="left",
        min_width=WIDTH,
    )
    table.add_column("")
    for heading in ("calls", "share", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right")
    total = len(tally.tier_ms())
    tiers = {
        "exact hits": "HIT_EXACT",
        "semantic hits": "HIT_SEMANTIC",
        "misses": "MISS",
        "bypassed": "BYPASS",
    }
    for name, prefix in tiers.items():
        times_ms = tally.tier_ms(prefix)
        if times_ms or prefix != "BYPASS":
            table.add_row(name, f"{len(times_ms):,}", f"{len(times_ms) / total:.1%}", *_percentiles(times_ms))
    table.add_section()
    table.add_row("all lookups", f"{total:,}", "", *_percentiles(tally.tier_ms()))
    table.add_row("stores, durable", f"{len(tally.stores_ms):,}", "", *_percentiles(tally.stores_ms))
    return table


def _sums_table(tally: Tally, took_s: float) -> Table:
    semantic, hits = len(tally.tier_ms("HIT_SEMANTIC")), len(tally.tier_ms("HIT"))
    saved, paid = tally.saved, tally.paid
    saved_tokens = saved.input_tokens + saved.output_tokens
    tokens = saved_tokens + paid.input_tokens + paid.output_tokens
    table = Table(
        show_header=False,
        caption=(
            "A hit is wrong when the answer served has another label than the prompt. Labels are the data sets' intents, "
            "which is lenient, and some are doubtful. Tokens are characters ÷ "
            f"{CHARACTERS_PER_TOKEN}; assumed prices per million: ${INPUT_USD_PER_MILLION:.2f} in, "
            f"${OUTPUT_USD_PER_MILLION:.2f} out."
        ),
        caption_justify="left",
        min_width=WIDTH,
    )
    table.add_row(
        "hits", f"{hits:,} of {len(tally.tier_ms()):,} requests ({_share(hits, len(tally.tier_ms()))})"
    )
    table.add_row(
        "wrong hits",
        f"{len(tally.wrong):,}: {_share(len(tally.wrong), hits)} of all hits, "
        f"{_share(len(tally.wrong), semantic)} of the semantic ones",
    )
    table.add_row("tokens saved", f"{saved_tokens:,} of {tokens:,} ({_share(saved_tokens, tokens)})")
    money = saved.cost_usd + paid.cost_usd
    table.add_row("money saved", f"${saved.cost_usd:.2f} of ${money:.2f} ({_share(saved.cost_usd, money)})")
    rate = len(tally.tier_ms()) / tally.took_s
    table.add_row("time", f"{tally.took_s:.1f} s of traffic ({rate:,.0f} requests/s), {took_s:.1f} s in all")
    return table


def _wrong_table(wrong: Sequence[WrongHit]) -> Table:
    times = Counter((hit.asked.text, hit.served_prompt) for hit in wrong)
    distinct = {(hit.asked.text, hit.served_prompt): hit for hit in wrong}
    table = Table(
        title=f"Wrong hits: {min(len(distinct), SHOWN_EXAMPLES)} of {len(distinct)} distinct ones",
        min_width=WIDTH,
    )
    for heading in ("asked", "answered with the answer to", "score", "times"):
        table.add_column(heading, justify="right" if heading in ("score", "times") else "left")
    for pair, count in times.most_common(SHOWN_EXAMPLES):
        hit = distinct[pair]
        table.add_row(
            Text.assemble(hit.asked.text, (f"\n{_label(hit.asked.answer_id)}", "dim")),
            Text.assemble(hit.served_prompt, (f"\n{_label(hit.served_answer_id)}", "dim")),
            f"{hit.score:.3f}",
            f"{count}",
        )
    return table


def _label(answer_id: str) -> str:
    return answer_id.partition(":")[2]


def _percentiles(times_ms: Sequence[float]) -> tuple[str, str]:
    if not times_ms:
        return "–", "–"
    p50, p99 = np.percentile(times_ms, (50, 99))
    return f"{p50:.2f}", f"{p99:.2f}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "none"


# ------------------------------------------------------------------ the command


def _options() -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m bench.demo",
        description="Replay real, labelled prompts against a real cachesvc server and show what it did.",
    )
    parser.add_argument(
        "--requests",
        type=_positive,
        default=4000,
        metavar="N",
        help="requests to make (default: %(default)s)",
    )
    parser.add_argument(
        "--min-score",
        type=_score,
        default=0.95,
        metavar="X",
        help="lowest cosine similarity of a semantic hit (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=_seed, default=1, metavar="N", help="which prompts are popular (default: %(default)s)"
    )
    given = parser.parse_args()
    return Options(given.requests, given.min_score, given.seed)


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_REQUESTS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {MAX_REQUESTS}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a whole number, 0 or more")
    return int(text)


def _score(text: str) -> float:
    with contextlib.suppress(ValueError):
        if -1 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError("must be a cosine similarity from -1 to 1")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End, once: a second signal must not stop the cleaning up."""
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
