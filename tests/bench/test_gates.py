"""The worth of gates is counted as it says."""

import pytest

from bench.gates import Share


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        pytest.param(0, 0, 0.0, 1.0, id="nothing counted, nothing known"),
        pytest.param(0, 10, 0.0, 0.2775, id="none of ten"),
        pytest.param(10, 10, 0.7225, 1.0, id="all of ten"),
        pytest.param(50, 100, 0.4038, 0.5962, id="half"),
    ],
)
def test_shares_have_wilson_intervals(count: int, total: int, low: float, high: float) -> None:
    """Intervals are those of Wilson's score method at 95 %."""
    share = Share.of(count, total)
    assert (share.low, share.high) == pytest.approx((low, high), abs=1e-3)
