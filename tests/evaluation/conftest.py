"""Streams of made vectors, so that every score is known."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from cachesvc.evaluation.data import Asked, Stream

Made = Callable[..., Stream]


@pytest.fixture
def made() -> Made:
    """Makes a stream of (prompt, answer, angle in degrees): the cosine of two is that of the angle between them."""

    def make(rows: Sequence[tuple[str, str, float]], **more: object) -> Stream:
        angles = np.radians([angle for _, _, angle in rows])
        vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        asked = [Asked(prompt, answer, **more) for prompt, answer, _ in rows]  # type: ignore[arg-type]  # as the test says
        return Stream("made", asked, vectors, np.ones(len(rows), np.bool_))

    return make
