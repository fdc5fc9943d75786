"""Reads a server's /metrics, for ``cachesvc stats``."""

from http.client import HTTPConnection

from prometheus_client.parser import text_string_to_metric_families


def scrape(address: str, timeout_s: float) -> dict[str, float]:
    """Every sample but histogram buckets and creation times, by name and labels. Raises OSError."""
    host, _, port = address.rpartition(":")
    connection = HTTPConnection(host.strip("[]"), int(port), timeout=timeout_s)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.endswith(("_bucket", "_created", "_info")):
                continue
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            values[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return values
