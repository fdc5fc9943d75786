"""What is shown of trust by namespace: bounded, and those of which something is known before mere names."""

from dataclasses import replace

from prometheus_client import CollectorRegistry

from cachesvc.core.events import TrustStands
from cachesvc.core.trust.state import Brake
from cachesvc.observe.trust import TrustMetrics

KNOWN_OF_NONE = TrustStands(
    namespace="",
    threshold=0.95,
    rule_version=0,
    brake=Brake.OPEN,
    audited=0,
    audited_wrong=0,
    false_hit_rate=None,
    false_hit_rate_low=None,
    false_hit_rate_high=None,
    max_false_hit_rate=0.05,
)


def shown(registry: CollectorRegistry) -> set[str]:
    return {
        sample.labels["namespace"]
        for metric in registry.collect()
        if metric.name == "cachesvc_brake"
        for sample in metric.samples
    }


def test_names_do_not_hide_what_is_known() -> None:
    """Callers choose names: as many as there are, a namespace that was audited, or is braked, is shown."""
    registry = CollectorRegistry()
    metrics = TrustMetrics(registry, 3)
    for name in ("a", "b", "c", "d"):
        metrics.on(replace(KNOWN_OF_NONE, namespace=name))
    assert shown(registry) == {"a", "b", "c"}
    metrics.on(replace(KNOWN_OF_NONE, namespace="audited", audited=1, false_hit_rate=0.0))
    metrics.on(replace(KNOWN_OF_NONE, namespace="braked", brake=Brake.TIGHT))
    metrics.on(replace(KNOWN_OF_NONE, namespace="e"))
    assert {"audited", "braked"} < shown(registry)
    assert len(shown(registry)) == 3
    metrics.on(replace(KNOWN_OF_NONE, namespace="f", audited=1))
    metrics.on(replace(KNOWN_OF_NONE, namespace="g", audited=1))
    assert shown(registry) == {"audited", "braked", "f"}
    metrics.on(replace(KNOWN_OF_NONE, namespace="braked"))
    assert shown(registry) == {"audited", "braked", "f"}


def test_none_may_be_shown() -> None:
    """A bound of none shows none."""
    registry = CollectorRegistry()
    metrics = TrustMetrics(registry, 0)
    metrics.on(replace(KNOWN_OF_NONE, namespace="a", audited=1))
    assert shown(registry) == set()
