"""How far a veto may reach: of the reuses near a wrong one, how many are wrong, too. ``python -m bench.vetoes``.

A reuse is a prompt with an earlier one of a cosine of .85 or more. For 400 wrong ones of each stream, drawn by chance: all
other reuses whose prompts are both as near to theirs as the row says. ADR 0033 has the table.
"""

import sys

import numpy as np

from bench.labelled import find, stream
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings

STREAMS = ("mix", "t2s_atis", "t2s_advising", "qqp", "banking77", "clinc150")
_REACHES = (0.98, 0.97, 0.95, 0.9, 0.85)
_LEAST_SCORE = 0.85
_DRAWN = 400
_MOST = 6000  # prompts of a stream: all their cosines are held at once


def main() -> int:
    """See the module."""
    embedder = make_embedder(EmbedderSettings(), lambda _: None)
    random = np.random.default_rng(0)
    for name in STREAMS:
        file = find(f"stream_{name}")
        if file is None:
            continue
        told = stream(embedder, file)
        vectors = told.vectors[:_MOST]
        answers = np.unique(np.asarray(told.answers[:_MOST]), return_inverse=True)[1]
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, 1.0)
        ours, theirs = np.nonzero(np.tril(scores, -1) >= _LEAST_SCORE)
        wrong = answers[ours] != answers[theirs]
        drawn = random.permutation(np.nonzero(wrong)[0])[:_DRAWN]
        sys.stdout.write(f"{name}: {len(ours)} reuses, {wrong.mean():.0%} wrong\n")
        for reach in _REACHES:
            caught = bad = 0
            for place in drawn:
                near = (scores[ours, ours[place]] >= reach) & (scores[theirs, theirs[place]] >= reach)
                near[place] = False
                caught += int(near.sum())
                bad += int(wrong[near].sum())
            share = f"{bad / caught:.0%}" if caught else "–"
            sys.stdout.write(f"  {reach}: {caught / len(drawn):.1f} caught by each, {share} wrong\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
